"""What a server was seen to have: the instances of every application, by full reads and by deltas (pure).

A delta repeats for three minutes what changed, each instance with its state of the moment (EU3), so it is applied
idempotently; and as the server keeps what it answers for up to 30 s (EU4), it may be older than what is known. The
versions of an instance tell: an older state never replaces a newer one, and what is gone does not come back by it.
Times are monotonic seconds, passed in.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterable

    from isthmus.adapters.eureka.records import Member, Reading
    from isthmus.registry.model import Refusal

# As long as a delta may still speak of an instance: three minutes, and what the server's two caches add.
GONE_KEPT_SECONDS = 300.0
_Version = tuple[int, int]


class Change(Struct, frozen=True):
    """One instance before and after; None: it was not there, or is not any more."""

    application: str
    key: str
    before: Member | None
    after: Member | None


class Registry:
    """The instances of one Eureka cluster, whatever their status."""

    def __init__(self) -> None:
        self._applications: dict[str, dict[str, Member]] = {}
        self._refused: dict[str, tuple[Refusal, ...]] = {}
        self._statuses: Counter[str] = Counter()
        self._gone: dict[tuple[str, str], tuple[_Version, float]] = {}

    def __len__(self) -> int:
        return self._statuses.total()

    @property
    def hashcode(self) -> str:
        """`STATUS_count_` for each status that an instance has, sorted: as a server computes it (EU2)."""
        return "".join(f"{status}_{count}_" for status, count in sorted(self._statuses.items()) if count and status)

    @property
    def applications(self) -> Iterable[str]:
        return self._applications.keys()

    def instances(self, application: str) -> dict[str, Member]:
        """Return the instances of an application, by their keys. Read only."""
        return self._applications.get(application, {})

    def refused(self, application: str) -> tuple[Refusal, ...]:
        """Return what of an application belongs to no service."""
        unplaced = (one.refused for one in self.instances(application).values() if one.refused is not None)
        return (*self._refused.get(application, ()), *unplaced)

    def vanished(self, readings: Iterable[Reading]) -> int:
        """Return how many instances are known that a full read lacks."""
        listed = {(one.name, member.key) for one in readings for member in one.members}
        return sum((name, key) not in listed for name, known in self._applications.items() for key in known)

    def replace(self, readings: Iterable[Reading], now: float) -> list[Change]:
        """Take a full read: what it does not list is gone."""
        changes: list[Change] = []
        listed: dict[str, set[str]] = {}
        self._refused = {}
        for one in readings:
            keys = listed.setdefault(one.name, set())
            for member in one.members:
                keys.add(member.key)
                self._put(one.name, member, changes)
            if one.refused:
                self._refused[one.name] = (*self._refused.get(one.name, ()), *one.refused)
        for name, known in list(self._applications.items()):
            for key in known.keys() - listed.get(name, set()):
                member = known[key]
                self._remove(name, key, member.version, now, changes)
        return changes

    def apply(self, readings: Iterable[Reading], now: float) -> list[Change]:
        """Take a delta; applied again, or after a later one, it changes nothing."""
        self._gone = {place: gone for place, gone in self._gone.items() if now - gone[1] <= GONE_KEPT_SECONDS}
        changes: list[Change] = []
        for one in readings:
            for member in one.members:
                if self._is_news(one.name, member):
                    if member.deleted:
                        self._remove(one.name, member.key, member.version, now, changes)
                    else:
                        self._put(one.name, member, changes)
        return changes

    def _is_news(self, application: str, member: Member) -> bool:
        known = self.instances(application).get(member.key)
        if known is not None:
            return member.version >= known.version
        # Of two states of one time the deletion is the later one.
        gone = self._gone.get((application, member.key))
        return gone is None or member.version > gone[0]

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

    def _remove(self, application: str, key: str, version: _Version, now: float, changes: list[Change]) -> None:
        self._gone[application, key] = (version, now)
        instances = self._applications.get(application, {})
        before = instances.pop(key, None)
        if before is None:
            return
        self._statuses[before.status] -= 1
        if not instances:
            del self._applications[application]
        changes.append(Change(application, key, before, None))
