"""The current truth: what every source said last, and the resources that follow from it.

Adapters report whole services per source; the catalog admits them (policy), merges them per (namespace, host), and
hands out the names that changed. A change to one service costs time for that service, whatever the number of the
others. It has no clock and does no I/O: `now` is monotonic seconds, given by whoever calls.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from isthmus.registry import codes
from isthmus.registry.acceptance import service_entry_reasons
from isthmus.registry.guard import Guard
from isthmus.registry.merge import Contribution, Merged, merge
from isthmus.registry.model import Refusal, Service, ServiceEntry
from isthmus.registry.policy import SERVICE_LIMIT, Policy, admit
from isthmus.registry.vips import Vips

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


class Change(NamedTuple):
    """A resource that changed, `entry` None for one that is gone.

    contributions: what `entry` is merged from, and address: its virtual address, for who may see a part of it only
    (`restrict`).
    """

    name: str
    entry: ServiceEntry | None
    contributions: tuple[Contribution, ...] = ()
    address: str | None = None


class SourceState:
    """What one source said last, and how fresh that is. Times are monotonic seconds; None: not yet."""

    def __init__(self, policy: Policy, order: int, *, required: bool) -> None:
        self.policy = policy
        self.order = order
        self.required = required
        self.generation = 0
        self.services: dict[str, Service] = {}
        self.added_at: float = 0.0
        self.synced_at: float | None = None
        self.contact_at: float | None = None
        self.stale_since: float | None = None
        self.last_error: str | None = None
        self.notes: tuple[str, ...] = ()
        self.reading: tuple[int, int] | None = None
        self.guard = Guard(policy.settle)
        self.mended = 0
        self.late = 0
        self.unplaced: dict[str, tuple[Refusal, ...]] = {}
        self.overflow: set[str] = set()
        self.refused_total: Counter[str] = Counter()

    @property
    def name(self) -> str:
        return self.policy.source

    @property
    def synced(self) -> bool:
        return self.synced_at is not None

    def refusals(self) -> Iterator[tuple[str, Refusal]]:
        """Yield (service key or registry node, refusal) for everything of this source that is not served now."""
        for scope, refusals in self.unplaced.items():
            for refusal in refusals:
                yield scope, refusal
        for key in self.overflow:
            yield key, Refusal(codes.TOO_MANY, f"a source may have {SERVICE_LIMIT} services", key)
        for key, service in self.services.items():
            for refusal in service.refused:
                yield key, refusal

    @property
    def phase(self) -> str:
        """READY, STALE (serving what was last known), READING (the first read is under way) or CONNECTING."""
        if self.stale_since is not None:
            return "STALE" if self.synced else "CONNECTING"
        if self.synced:
            return "READY"
        return "READING" if self.reading else "CONNECTING"


class Catalog:
    """Per-source state on one side, merged resources by name (`namespace/host`) on the other."""

    def __init__(self, vips: Vips | None = None) -> None:
        self._vips = vips or Vips()
        self._sources: dict[str, SourceState] = {}
        self._by_resource: dict[str, dict[tuple[int, str], str]] = {}
        self._entries: dict[str, ServiceEntry] = {}
        # What views may tell apart of a resource that is the same as a whole.
        self._visible: dict[str, object] = {}
        # Resource -> what each service (order of its source, key) said of it when istiod would last have taken it.
        self._good: dict[str, dict[tuple[int, str], Contribution]] = {}
        self._conflicts: dict[str, tuple[tuple[str, Refusal], ...]] = {}
        self._dirty: set[str] = set()
        self._listeners: list[Callable[[], None]] = []

    # What adapters say.

    def add_source(self, policy: Policy, *, required: bool, now: float) -> SourceState:
        """Make a source known; the order of these calls is the order of precedence in merging."""
        source = SourceState(policy, len(self._sources), required=required)
        source.added_at = now
        self._sources[policy.source] = source
        return source

    def connect(self, name: str, now: float) -> int:
        """Begin a new generation of a source and return its number; after the first read, a settling time too (G4)."""
        source = self._sources[name]
        source.generation += 1
        if source.synced:
            source.guard.reconnected(now)
        return source.generation

    def sync(self, name: str, generation: int, services: Iterable[Service], now: float) -> float | None:
        """Take a complete read: what the source no longer lists is withdrawn.

        Return after how many seconds another complete read is needed, since the guard may hold something of this one.
        """
        if not (source := self._current(name, generation)):
            return None
        listed = {service.key: service for service in services}
        source.overflow.clear()
        first = not source.synced
        for key in source.services.keys() - listed.keys():
            self._take(source, key, None, now)
        for key, service in listed.items():
            self._take(source, key, service, now)
        self._refresh(source, now)
        source.synced_at = now if source.synced_at is None else source.synced_at
        self._announce(even_if_clean=first)
        return source.guard.read_again_in(now)

    def put(self, name: str, generation: int, service: Service, now: float) -> None:
        """Take one service as a fresh read shows it."""
        if source := self._current(name, generation):
            self._take(source, service.key, service, now)
            self._refresh(source, now)
            self._announce()

    def drop(self, name: str, generation: int, key: str, now: float) -> None:
        """Take away one service that is really gone."""
        if source := self._current(name, generation):
            self._take(source, key, None, now)
            self._refresh(source, now)
            self._announce()

    def refuse(self, name: str, generation: int, scope: str, refusals: tuple[Refusal, ...]) -> None:
        """Note the records under one node of a registry that belong to no service."""
        if source := self._current(name, generation):
            known = set(source.unplaced.pop(scope, ()))
            source.refused_total.update(refusal.code for refusal in refusals if refusal not in known)
            if refusals:
                source.unplaced[scope] = refusals

    def contact(self, name: str, generation: int, now: float) -> None:
        """Note that a source answered, and had nothing new to say."""
        if source := self._current(name, generation):
            self._refresh(source, now)

    def note(self, name: str, generation: int, notes: tuple[str, ...]) -> None:
        """Take what is worth knowing of a source and is no failure, in the place of what was said before."""
        if source := self._current(name, generation):
            source.notes = notes

    def stale(self, name: str, generation: int, reason: str, now: float) -> None:
        """Mark a source as out of contact; what it said stays (G3)."""
        if source := self._current(name, generation):
            source.last_error = reason
            source.reading = None
            if source.stale_since is None:
                source.stale_since = now

    def progress(self, name: str, done: int, total: int) -> None:
        """Note how far a first read has come."""
        self._sources[name].reading = (done, total)

    def mended(self, name: str, count: int) -> None:
        """Count what only a reconcile found (G6)."""
        self._sources[name].mended += count

    # What the right-hand side asks.

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every report that may have changed a resource; it must only make a note."""
        self._listeners.append(listener)

    def take_changes(self) -> list[Change]:
        """Return the resources that changed since the last call, None for one that is gone; latest state wins.

        They come in the order of their names, and addresses are given in that order.
        """
        changes: list[Change] = []
        for name in sorted(self._dirty):
            change = self._rebuild(name)
            visible = _visible(change)
            if change.entry == self._entries.get(name) and visible == self._visible.get(name):
                continue
            changes.append(change)
            if change.entry is None:
                del self._entries[name]
                self._visible.pop(name)
            else:
                self._entries[name] = change.entry
                self._visible[name] = visible
        self._dirty.clear()
        return changes

    def missing(self, now: float, grace: float) -> list[SourceState]:
        """Return the sources that ServiceEntry still waits for (G2): a required one without end, others `grace` s."""
        return [
            source
            for source in self._sources.values()
            if not source.synced and (source.required or now - source.added_at < grace)
        ]

    @property
    def sources(self) -> list[SourceState]:
        """All sources, in the order of the configuration."""
        return list(self._sources.values())

    @property
    def entries(self) -> dict[str, ServiceEntry]:
        """The resources as last taken, by name. Read only."""
        return self._entries

    def explain(self, name: str) -> Merged | None:
        """Merge one resource again, to show where each endpoint comes from and what was refused."""
        contributions = self.contributions(name)
        # Looking gives no address away.
        addresses = self._entries[name].addresses if name in self._entries else ()
        return merge(contributions, next(iter(addresses), None)) if contributions else None

    def contributions(self, name: str) -> list[Contribution]:
        """Return what each source says of a resource, refused records included, in the order of the sources."""
        return [
            Contribution(source, self._sources[source].services[key])
            for (_, key), source in sorted(self._by_resource.get(name, {}).items())
        ]

    def conflicts(self) -> Iterator[tuple[str, str, Refusal]]:
        """Yield (resource, source, refusal) for what merging refused."""
        for name, refusals in self._conflicts.items():
            for source, refusal in refusals:
                yield name, source, refusal

    # Inside.

    def _current(self, name: str, generation: int) -> SourceState | None:
        source = self._sources[name]
        if generation < source.generation:
            source.late += 1
            return None
        source.generation = generation
        return source

    def _refresh(self, source: SourceState, now: float) -> None:
        source.contact_at = now
        source.stale_since = None
        source.last_error = None
        source.reading = None

    def _take(self, source: SourceState, key: str, read: Service | None, now: float) -> None:
        believed = source.guard.judge(key, source.services.get(key), read, now)
        if believed is None:
            self._remove(source, key)
        else:
            self._store(source, believed)

    def _store(self, source: SourceState, service: Service) -> None:
        known = source.services.get(service.key)
        if known is None and len(source.services) >= SERVICE_LIMIT:
            if service.key not in source.overflow:
                source.overflow.add(service.key)
                source.refused_total[codes.TOO_MANY] += 1
            return
        source.overflow.discard(service.key)
        admitted = admit(service, source.policy, known)
        if known == admitted:
            return
        if known is not None:
            self._unlink(source, known)
        source.services[service.key] = admitted
        seen = set(known.refused) if known and known.refused else ()
        source.refused_total.update(refusal.code for refusal in admitted.refused if refusal not in seen)
        if any(refusal.code == codes.INVALID_HOST for refusal in admitted.refused):
            return
        name = resource_name(admitted)
        self._by_resource.setdefault(name, {})[source.order, admitted.key] = source.name
        self._dirty.add(name)

    def _remove(self, source: SourceState, key: str) -> None:
        source.overflow.discard(key)
        if (service := source.services.pop(key, None)) is not None:
            self._unlink(source, service)

    def _unlink(self, source: SourceState, service: Service) -> None:
        name = resource_name(service)
        holders = self._by_resource.get(name)
        if holders and holders.pop((source.order, service.key), None):
            self._dirty.add(name)
            if not holders:
                del self._by_resource[name]

    def _announce(self, *, even_if_clean: bool = False) -> None:
        if self._dirty or even_if_clean:
            for listener in self._listeners:
                listener()

    def _rebuild(self, name: str) -> Change:
        contributions, unacceptable = self._acceptable(name)
        if not contributions:
            self._note_conflicts(name, unacceptable)
            self._vips.release(name)
            return Change(name, None)
        address = self._vip(name, contributions)
        merged = merge(contributions, address)
        self._note_conflicts(name, [*merged.refused, *unacceptable])
        return Change(name, merged.entry, tuple(contributions), address)

    def _note_conflicts(self, name: str, refused: list[tuple[str, Refusal]]) -> None:
        if refused:
            self._conflicts[name] = tuple(refused)
        else:
            self._conflicts.pop(name, None)

    def _acceptable(self, name: str) -> tuple[list[Contribution], list[tuple[str, Refusal]]]:
        """Return what each source says of a resource, and what was refused.

        What istiod would not take is left out; like istiod, we then keep what the same source said before (X62).
        """
        known, good = self._good.pop(name, {}), {}
        refused: list[tuple[str, Refusal]] = []
        for place, source in sorted(self._by_resource.get(name, {}).items()):
            said = Contribution(source, self._sources[source].services[place[1]])
            reasons = _why_unacceptable(said, known.get(place))
            refused += [(source, Refusal(codes.NOT_ACCEPTABLE, reason, said.service.key)) for reason in reasons]
            if (taken := known.get(place) if reasons else said) is not None:
                good[place] = taken
        if good:
            self._good[name] = good
        return list(good.values()), refused

    def _vip(self, name: str, contributions: list[Contribution]) -> str | None:
        wanted = any(self._sources[one.source].policy.vip for one in contributions)
        return self._vips.address(name) if wanted else None


def _why_unacceptable(said: Contribution, good: Contribution | None) -> list[str]:
    """Return why istiod would not take a resource that is made of this alone; of endpoints, that was judged before.

    good: what passed last; what differs from it in endpoints only passes again unlooked at.
    """
    if good is not None and _without_endpoints(good.service) == _without_endpoints(said.service):
        return []
    shell = replace(said.service, endpoints=())
    return list(service_entry_reasons(merge([Contribution(said.source, shell)], None).entry))


def _without_endpoints(service: Service) -> tuple[object, ...]:
    return service.identity, service.namespace, service.host, service.ports, service.export_to


def _visible(change: Change) -> object:
    """Return what decides who may see a resource, and what of it."""
    if change.entry is None:
        return None
    if len(change.contributions) > 1:
        return change.contributions
    return [(one.source, one.service.revisions) for one in change.contributions]


def resource_name(service: Service) -> str:
    """Return the name of the resource that a service goes into."""
    return f"{service.namespace}/{service.host}"
