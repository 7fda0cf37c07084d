"""Keeps what a registry seems to have lost while it comes back (G4, ZK5).

A registry that was away ends its clients' sessions when it returns: for some seconds thousands of live endpoints are
not registered, and come again as their owners reconnect. So within a settling time after a reconnect nothing is
withdrawn; what is new is taken at once. When the time is over the adapter reads everything once more, and that read is
believed. Outside of it a single instance, also the last of its service, leaves at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

if TYPE_CHECKING:
    from isthmus.registry.model import Service


class Guard:
    """The settling time of one source, and what it holds. Times are monotonic seconds."""

    def __init__(self, settle: float) -> None:
        """Hold for `settle` seconds after each reconnect; 0: never."""
        self._settle = settle
        self._until = float("-inf")
        self._held: dict[str, int] = {}

    @property
    def held(self) -> int:
        """How many endpoints are served although the last read lacked them."""
        return sum(self._held.values())

    def reconnected(self, now: float) -> None:
        """Begin a settling time, or begin it anew."""
        self._until = now + self._settle

    def seconds_left(self, now: float) -> float:
        """Return how much of the settling time is left, 0 outside of it."""
        return max(0.0, self._until - now)

    def judge(self, key: str, known: Service | None, read: Service | None, now: float) -> Service | None:
        """Return what is to be believed of a service: the read, within the settling time with what was known before."""
        self._held.pop(key, None)
        if known is None or not self.seconds_left(now):
            return read
        if read is None:
            self._held[key] = len(known.endpoints)
            return known
        if read.ports != known.ports:
            return read
        present = {(one.workload.address, one.workload.ports) for one in read.endpoints}
        missing = tuple(one for one in known.endpoints if (one.workload.address, one.workload.ports) not in present)
        if not missing:
            return read
        self._held[key] = len(missing)
        return replace(read, endpoints=(*read.endpoints, *missing))
