"""What of a Consul was reported, and what each read changes of it (pure but for the calls of the sink).

An answer that is in doubt may add and takes nothing away (CO7, CO8): what it lacks is kept. Nothing that was noted is
lost where a connection ends half-way: what is dirty stays so until it is reported. Times are monotonic seconds.
"""

from __future__ import annotations

from enum import Enum
from heapq import nsmallest
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from isthmus.adapters.consul.health import MAINTENANCE, Tally, status_of
from isthmus.adapters.consul.records import PassedBy, Reading
from isthmus.adapters.consul.services import is_healthy, is_taken, service_of, tally_of
from isthmus.adapters.kept import Kept
from isthmus.registry.names import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from collections.abc import Set as AbstractSet

    from isthmus.adapters.base import Sink
    from isthmus.adapters.consul.records import ConsulRules, Instance
    from isthmus.adapters.consul.wire import Check, Checked, Key
    from isthmus.registry.model import Refusal, Service

# So many services are built in a few milliseconds.
_AT_ONCE: Final = 200
_MOST_SAID: Final = 5


class Doubt(Enum):
    """What a read may not take away: nothing is in doubt; what ACLs may hide; all, since it may be of another time."""

    NONE = "none"
    HIDDEN = "hidden"
    OLD = "old"


class Taken(Struct, frozen=True):
    """What a read of a service changed: whether anything, and how many endpoints are gone, less those that came."""

    changed: bool
    gone: int


class _Known(Struct, frozen=True):
    """A service as it was read last; newcomers: who has not been healthy since it came."""

    reading: Reading = Reading()
    newcomers: frozenset[Key] = frozenset()
    tally: Tally = Tally()


class View:
    """Keeps the instances of each name, and the services made of them."""

    def __init__(self, rules: ConsulRules) -> None:
        self._rules = rules
        self._known: dict[str, _Known] = {}
        self._by_node: dict[str, dict[str, str]] = {}
        # The instances that have a check of their own: node, id, and the service.
        self._checked: set[tuple[str, str, str]] = set()
        self._total = Tally()
        self._passed_by = PassedBy()
        self._served = 0
        self._panicking: set[str] = set()
        # The services of which it is foreseen that few are healthy, and not read yet.
        self._foreseen: set[str] = set()
        self._panics = False
        self._was_read = False
        self._kept: Kept[str] = Kept()
        self._dirty: set[str] = set()
        self._changed: dict[str, Service] = {}
        # The nodes that ACLs let us see, how often they were told, and how often they had been when an answer in which
        # ACLs hide something first lacked an instance.
        self._nodes: AbstractSet[str] = frozenset()
        self._nodes_told = 0
        self._lacking: dict[str, dict[Key, int]] = {}
        # The services there are; None: some may be hidden.
        self._listed: AbstractSet[str] | None = None
        self._unread: dict[str, Refusal] = {}
        self._told_unread: dict[str, Refusal] = {}

    @property
    def names(self) -> AbstractSet[str]:
        """The services of which anything is known."""
        return self._known.keys()

    @property
    def served(self) -> int:
        """How many instances are endpoints."""
        return self._served

    def has_instances(self, name: str) -> bool:
        """Tell whether any instance of a service is known."""
        return bool(self._of(name).reading.instances)

    def served_of(self, names: Iterable[str]) -> int:
        """Return how many endpoints these services have."""
        return sum(len(self._taken(self._of(name))) for name in names)

    def served_on(self, nodes: Iterable[str]) -> int:
        """Return how many endpoints are on these nodes."""
        here = [(node, one) for node in nodes for one in self._by_node.get(node, {})]
        taken = {name: self._taken(self._of(name)) for name in {self._name(key) for key in here}}
        return sum(key in taken[self._name(key)] for key in here)

    def concerned(self, check: Check) -> set[str]:
        """Return the services that a check speaks of: its own, or all on its node."""
        return {check.service_name.lower()} if check.service_id else self.on_node(check.node)

    def on_node(self, node: str) -> set[str]:
        """Return the services that have an instance on a node."""
        return set(self._by_node.get(node, {}).values())

    def differing(self, checks: Iterable[Checked]) -> set[str]:
        """Return the services of which these, all checks there are, show an instance more or less than is known."""
        listed = {(check.node, check.service_id, check.service_name.lower()) for check in checks if check.service_id}
        return {name for _, _, name in listed ^ self._checked}

    def foresee(self, unhealthy: Iterable[Check]) -> None:
        """Take what a page says of all checks that do not pass, before the services are read.

        Where an agent's outage turns many critical, those that are read first would else leave before it shows in the
        whole (CO10). It counts until the services that it is news of have been read.
        """
        meant: set[Key] = set()
        failing: set[Key] = set()
        for check in unhealthy:
            group = meant if status_of((check,), check.service_id) == MAINTENANCE else failing
            group.update(key for key in self._keys(check) if self._counts(key))
        failing -= meant
        news = {key for key in failing | meant if is_healthy(self._instance(key), self._rules)}
        after = Tally(self._total.counted - len(meant), self._total.healthy - len(news))
        self._foreseen = {self._name(key) for key in news} if after.panics(self._rules.threshold) else set()

    def _counts(self, key: Key) -> bool:
        return not self._instance(key).in_maintenance and key not in self._of(self._name(key)).newcomers

    def _instance(self, key: Key) -> Instance:
        return self._of(self._name(key)).reading.instances[key]

    def _name(self, key: Key) -> str:
        return self._by_node[key[0]][key[1]]

    def _keys(self, check: Check) -> Iterator[Key]:
        here = self._by_node.get(check.node, {})
        if not check.service_id:
            yield from ((check.node, one) for one in here)
        elif check.service_id in here:
            yield check.node, check.service_id

    def take(self, name: str, read: Reading, doubt: Doubt = Doubt.NONE) -> Taken:
        """Take a read of one service."""
        known = self._of(name)
        reading = read if doubt is Doubt.NONE else self._merged(name, known.reading, read, doubt)
        newcomers = self._newcomers(known, reading)
        after = _Known(reading, newcomers, tally_of(reading.instances, newcomers, self._rules))
        served_before, served_after = self._taken(known), self._taken(after)
        self._put(name, known, after)
        self._served += len(served_after) - len(served_before)
        self._unread.pop(name, None)
        if doubt is Doubt.NONE:
            self._lacking.pop(name, None)
        self._foreseen.discard(name)
        gone = len(served_before - reading.instances.keys()) - len(served_after - known.reading.instances.keys())
        return Taken(reading != known.reading, gone)

    def cannot_read(self, name: str, refusal: Refusal) -> None:
        """Note why a service cannot be read; what was known of it stays. Of one that is gone nothing is noted."""
        if self._listed is not None and name not in self._listed and not self.has_instances(name):
            return
        self._known.setdefault(name, _Known())
        self._unread[name] = refusal
        self._foreseen.discard(name)

    def see_nodes(self, names: AbstractSet[str]) -> None:
        """Take the names of the nodes that can be seen now (CO8)."""
        self._nodes = names
        self._nodes_told += 1

    def see_names(self, listed: AbstractSet[str] | None) -> None:
        """Take the names of all services there are; None: some may be missing.

        By this alone is known that one is gone which cannot be read.
        """
        self._listed = listed
        for name in [] if listed is None else self._unread.keys() - listed:
            self.take(name, Reading())

    def build(self, now: float) -> Iterator[None]:
        """Build the services that the reads concern, which a report needs; it stops between some and the next."""
        self._settle_panic()
        for count, name in enumerate(sorted(self._dirty), start=1):
            # Between some and the next others may build as well.
            if name in self._dirty:
                self._dirty.discard(name)
                for service in self._kept.take(name, self._services(name), now):
                    self._changed[service.key] = service
            if count % _AT_ONCE == 0:
                yield

    def report(self, sink: Sink, generation: int) -> None:
        """Report what changed since the last report, or that nothing did."""
        if not self._changed:
            sink.contact(generation)
        for service in self._changed.values():
            sink.put(generation, service)
        self._changed.clear()
        self._report_unread(sink, generation)

    def report_all(self, sink: Sink, generation: int, now: float) -> float | None:
        """Report everything as complete; return after how many seconds that is to be done again (Sink.sync)."""
        self._was_read = True
        self._changed.clear()
        # What has been empty for long is left out, and so withdrawn.
        self._kept.drop_long_empty(now)
        nothing = Reading()
        for name in [name for name, known in self._known.items() if known.reading == nothing]:
            if name not in self._unread and not self._kept.services(name):
                self._kept.forget(name)
                del self._known[name]
        self._report_unread(sink, generation)
        return sink.sync(generation, self._kept.everything())

    def notes(self) -> Iterable[str]:
        """Return what is worth knowing of health and of what is passed by."""
        return [*self._notes_of_health(), *self._notes_of_passed_by()]

    # Inside.

    def _of(self, name: str) -> _Known:
        return self._known.get(name, _NOTHING)

    def _merged(self, name: str, known: Reading, read: Reading, doubt: Doubt) -> Reading:
        """Return what was known with what a read in doubt adds, less what ACLs cannot have hidden."""
        gone: frozenset[Key] = self._gone(name, known, read) if doubt is Doubt.HIDDEN else frozenset()
        added = {
            key: one
            for key, one in read.instances.items()
            # What ACLs leave over is true. What is old may be what it was before.
            if doubt is Doubt.HIDDEN or key not in known.instances or not self._serves(known.instances[key])
        }
        kept = {key: one for key, one in known.instances.items() if key not in gone}
        instances = dict(sorted({**kept, **added}.items()))
        return Reading(instances, read.refused, read.passed_by, (known.checked - gone) | read.checked)

    def _gone(self, name: str, known: Reading, read: Reading) -> frozenset[Key]:
        """Return what is gone though ACLs hide something (CO8).

        What is left shows that the service can be seen; what it lacks is gone if its node can be seen: in the same
        answer, or in a list of nodes that was told later, since a token may have lost a right meanwhile.
        """
        shown = read.instances.keys() | read.checked
        if not shown:
            return frozenset()
        before = self._lacking.get(name, {})
        lacking = {key: before.get(key, self._nodes_told) for key in (known.instances.keys() | known.checked) - shown}
        nodes = {node for node, _ in shown}
        gone = frozenset(
            key
            for key, told in lacking.items()
            if key[0] in nodes or (told < self._nodes_told and key[0] in self._nodes)
        )
        self._lacking[name] = {key: told for key, told in lacking.items() if key not in gone}
        return gone

    def _serves(self, instance: Instance) -> bool:
        return instance.fault is None and is_healthy(instance, self._rules)

    def _newcomers(self, known: _Known, reading: Reading) -> frozenset[Key]:
        """Return who has not been healthy since it came. Of who was there from the start that is not known."""
        if not self._was_read:
            return frozenset()
        return frozenset(
            key
            for key, one in reading.instances.items()
            if not is_healthy(one, self._rules) and (key in known.newcomers or key not in known.reading.instances)
        )

    def _taken(self, known: _Known) -> set[Key]:
        panics = self._panics or known.tally.panics(self._rules.threshold)
        instances, newcomers = known.reading.instances, known.newcomers
        return {key for key, one in instances.items() if is_taken(key, one, newcomers, self._rules, panics=panics)}

    def _put(self, name: str, known: _Known, after: _Known) -> None:
        if name not in self._known or (after.reading, after.newcomers) != (known.reading, known.newcomers):
            self._dirty.add(name)
        self._known[name] = after
        self._total = self._total.plus(after.tally).minus(known.tally)
        self._passed_by = self._passed_by.plus(after.reading.passed_by).minus(known.reading.passed_by)
        (self._panicking.add if after.tally.panics(self._rules.threshold) else self._panicking.discard)(name)
        self._checked.difference_update((*key, name) for key in known.reading.checked - after.reading.checked)
        self._checked.update((*key, name) for key in after.reading.checked - known.reading.checked)
        for node, one in known.reading.instances.keys() - after.reading.instances.keys():
            self._leave(name, node, one)
        for node, one in after.reading.instances:
            self._by_node.setdefault(node, {})[one] = name

    def _leave(self, name: str, node: str, one: str) -> None:
        here = self._by_node.get(node, {})
        # It may have been registered under another name meanwhile.
        if here.get(one) == name:
            del here[one]
        if not here:
            self._by_node.pop(node, None)

    def _settle_panic(self) -> None:
        panics = bool(self._foreseen) or self._total.panics(self._rules.threshold)
        if panics != self._panics:
            self._panics = panics
            self._dirty.update(self._known)
            self._served = self.served_of(self._known)

    def _services(self, name: str) -> dict[str, Service]:
        known = self._of(name)
        if not known.reading.instances and not known.reading.refused:
            return {}
        service = service_of(
            name,
            known.reading.instances,
            known.reading.refused,
            known.newcomers,
            self._rules,
            panics=self._panics or name in self._panicking,
        )
        return {service.key: service}

    def _report_unread(self, sink: Sink, generation: int) -> None:
        for name in self._told_unread.keys() - self._unread.keys():
            sink.refuse(generation, name, ())
        for name, refusal in self._unread.items():
            if self._told_unread.get(name) != refusal:
                sink.refuse(generation, name, (refusal,))
        self._told_unread = dict(self._unread)

    def _notes_of_health(self) -> Iterator[str]:
        share = f"fewer than {self._rules.threshold:.0%}"
        if self._panics:
            yield (
                f"{self._total.healthy} of {self._total.counted} instances are healthy, {share}: that is more likely a "
                "fault of the checks, and all are kept but those in maintenance"
            )
        elif self._panicking:
            said = ", ".join(
                f"{self._known[name].tally.healthy} of {self._known[name].tally.counted} of {printable(name)}"
                for name in nsmallest(_MOST_SAID, self._panicking)
            )
            more = len(self._panicking) - _MOST_SAID
            others = f" and {more} more services" if more > 0 else ""
            yield f"{said}{others} are healthy, {share}: all of each are kept but those in maintenance"

    def _notes_of_passed_by(self) -> Iterator[str]:
        if self._passed_by.kubernetes:
            yield f"{self._passed_by.kubernetes} instances that Kubernetes put there are passed by"
        if self._passed_by.proxies:
            yield f"{self._passed_by.proxies} proxies and gateways of Consul's own mesh are passed by"


_NOTHING = _Known()
