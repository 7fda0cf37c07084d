"""What a server was seen to have: the instances of every application, by full reads and by deltas (pure).

A delta repeats for three minutes what changed, each instance with its state of the moment (EU3), so it is applied
idempotently; and as the server keeps what it answers for up to 30 s (EU4), it may be older than what is known. The
versions of an instance tell: an older state never replaces a newer one, and what is gone does not come back by it.

A full answer may be older than a delta, too: a server keeps the two apart, and one that it made up while an instance
registered lacks it until it is made anew, up to three minutes later. So what a delta told outweighs a full read for
a while, on one connection: another server, or the same one restarted, counts by itself.
Times are monotonic seconds, passed in.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from msgspec import Struct

from isthmus.adapters.eureka.records import bounded

if TYPE_CHECKING:
    from collections.abc import Iterable

    from isthmus.adapters.eureka.records import Member, Reading
    from isthmus.registry.model import Refusal

# As long as a delta may still speak of an instance: three minutes, and what the server's two caches add.
GONE_KEPT_SECONDS = 300.0
# As long as a full answer may be older than a delta: three minutes in one cache, and 30 s in the other.
TOLD_KEPT_SECONDS = 240.0
_Version = tuple[int, int]
_Place = tuple[str, str]


class Change(Struct, frozen=True):
    """One instance before and after; None: it was not there, or is not any more."""

    application: str
    key: str
    before: Member | None
    after: Member | None


class _Gone(Struct, frozen=True):
    """What was gone when; told: a delta said so."""

    version: _Version
    at: float
    told: bool


class Registry:
    """The instances of one Eureka cluster, whatever their status."""

    def __init__(self) -> None:
        self._applications: dict[str, dict[str, Member]] = {}
        self._refused: dict[str, tuple[Refusal, ...]] = {}
        self._statuses: Counter[str] = Counter()
        self._gone: dict[_Place, _Gone] = {}
        self._told: dict[_Place, float] = {}

    def __len__(self) -> int:
        return self._statuses.total()

    @property
    def hashcode(self) -> str:
        """`STATUS_count_` for each status that an instance has, sorted: as a server computes it (EU2)."""
        return "".join(f"{status}_{count}_" for status, count in sorted(self._statuses.items()) if count and status)

    @property
    def applications(self) -> Iterable[str]:
        return self._applications.keys()

    @property
    def serving(self) -> int:
        """How many instances are endpoints."""
        return sum(member.serves for known in self._applications.values() for member in known.values())

    def instances(self, application: str) -> dict[str, Member]:
        """Return the instances of an application, by their keys. Read only."""
        return self._applications.get(application, {})

    def refused(self, application: str) -> tuple[Refusal, ...]:
        """Return what of an application belongs to no service, the first of it."""
        unplaced = (one.refused for one in self.instances(application).values() if one.refused is not None)
        return bounded((*self._refused.get(application, ()), *unplaced))

    def lost(self, readings: Iterable[Reading]) -> int:
        """Return how many serving instances are known that a full read lacks, or has in a form that cannot be read."""
        readings = list(readings)
        partial = {one.name for one in readings if not one.whole}
        listed = {(one.name, member.key): member for one in readings for member in one.members}

        def is_lost(place: _Place) -> bool:
            found = listed.get(place)
            return place not in self._told if found is None else found.refused is not None

        return sum(
            member.serves and is_lost((name, key))
            for name, known in self._applications.items()
            if name not in partial
            for key, member in known.items()
        )

    def evicted(self, readings: Iterable[Reading]) -> int:
        """Return how many serving instances a delta says to have gone because their leases were over (EU6)."""
        return sum(
            member.evicted and self._serves(one.name, member.key) and self._is_news(one.name, member)
            for one in readings
            for member in one.members
        )

    def forget_told(self) -> None:
        """Let the next full read outweigh all that deltas told: another server tells, or too much was missed."""
        self._told.clear()
        self._gone.clear()

    def replace(self, readings: Iterable[Reading], now: float) -> list[Change]:
        """Take a full read: what it does not list is gone, but for what a delta told of lately."""
        self._expire(now)
        changes: list[Change] = []
        listed: dict[str, set[str]] = {}
        self._refused = {}
        for one in readings:
            keys = listed.setdefault(one.name, set())
            if not one.whole:
                keys.update(self.instances(one.name))
            for member in one.members:
                keys.add(member.key)
                if not self._is_outweighed(one.name, member):
                    self._put(one.name, member, changes)
            if one.refused:
                self._refused[one.name] = (*self._refused.get(one.name, ()), *one.refused)
        for name, known in list(self._applications.items()):
            for key in known.keys() - listed.get(name, set()):
                if (name, key) not in self._told:
                    self._remove(name, key, _Gone(known[key].version, now, told=False), changes)
        return changes

    def apply(self, readings: Iterable[Reading], now: float) -> list[Change]:
        """Take a delta; applied again, or after a later one, it changes nothing."""
        self._expire(now)
        changes: list[Change] = []
        for one in readings:
            for member in one.members:
                if not self._is_news(one.name, member):
                    continue
                if member.deleted:
                    self._remove(one.name, member.key, _Gone(member.version, now, told=True), changes)
                else:
                    self._put(one.name, member, changes)
                    self._told[one.name, member.key] = now
        return changes

    def _expire(self, now: float) -> None:
        self._gone = {place: gone for place, gone in self._gone.items() if now - gone.at <= GONE_KEPT_SECONDS}
        self._told = {place: at for place, at in self._told.items() if now - at <= TOLD_KEPT_SECONDS}

    def _serves(self, application: str, key: str) -> bool:
        known = self.instances(application).get(key)
        return known is not None and known.serves

    def _is_news(self, application: str, member: Member) -> bool:
        known = self.instances(application).get(member.key)
        if known is not None:
            return member.version >= known.version
        # Of two states of one time the deletion is the later one.
        gone = self._gone.get((application, member.key))
        return gone is None or member.version > gone.version

    def _is_outweighed(self, application: str, member: Member) -> bool:
        """Tell whether a delta said something newer than a full read does."""
        place = (application, member.key)
        gone = self._gone.get(place)
        return (place in self._told or (gone is not None and gone.told)) and not self._is_news(application, member)

    def _put(self, application: str, member: Member, changes: list[Change]) -> None:
        instances = self._applications.setdefault(application, {})
        before = instances.get(member.key)
        instances[member.key] = member
        self._gone.pop((application, member.key), None)
        self._statuses[member.status] += 1
        if before is not None:
            self._statuses[before.status] -= 1
        if before is None or not member.says_the_same(before):
            changes.append(Change(application, member.key, before, member))

    def _remove(self, application: str, key: str, gone: _Gone, changes: list[Change]) -> None:
        self._gone[application, key] = gone
        self._told.pop((application, key), None)
        instances = self._applications.get(application, {})
        before = instances.pop(key, None)
        if before is None:
            return
        self._statuses[before.status] -= 1
        if not instances:
            del self._applications[application]
        changes.append(Change(application, key, before, None))
