"""Keeps what a registry seems to have lost while it comes back (G4, ZK5).

A registry that was away ends its clients' sessions when it returns: for some seconds thousands of live endpoints are
not registered, and come again as their owners reconnect. So within a settling time after a reconnect nothing is
withdrawn; what is new is taken at once. When the time is over the adapter reads everything once more, and that read is
believed. Outside of it a single instance, also the last of its service, leaves at once.

A registry that fails again before the time is over begins it anew, and one that keeps failing would so keep the dead
for ever: what every read has lacked for several settling times is let go even then. Of the time between two reads no
more than one settling time counts, as in an outage nobody could come back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from isthmus.registry.model import PortMap

if TYPE_CHECKING:
    from isthmus.registry.model import Endpoint, Service

# After so many settling times an endpoint that no read has shown is gone, however often contact was lost.
PATIENCE = 5
_Place = tuple[str, PortMap]


class _Held(Struct, frozen=True):
    """What is held of a service: where, and for how many seconds reads have lacked it; at: the last of them."""

    at: float
    lacked: dict[_Place, float]


class Guard:
    """The settling time of one source, and what it holds. Times are monotonic seconds."""

    def __init__(self, settle: float) -> None:
        """Hold for `settle` seconds after each reconnect; 0: never."""
        self._settle = settle
        self._until = float("-inf")
        self._held: dict[str, _Held] = {}

    @property
    def held(self) -> int:
        """How many endpoints are served although the last read lacked them."""
        return sum(len(one.lacked) for one in self._held.values())

    def reconnected(self, now: float) -> None:
        """Begin a settling time, or begin it anew."""
        self._until = now + self._settle

    def seconds_left(self, now: float) -> float:
        """Return how much of the settling time is left, 0 outside of it."""
        return max(0.0, self._until - now)

    def read_again_in(self, now: float) -> float | None:
        """Return after how many seconds a complete read could release something; None: outside of a settling time."""
        left = self.seconds_left(now)
        if not left:
            return None
        longest = max((seconds for one in self._held.values() for seconds in one.lacked.values()), default=0.0)
        return min(left, PATIENCE * self._settle - longest)

    def judge(self, key: str, known: Service | None, read: Service | None, now: float) -> Service | None:
        """Return what is to be believed of a service: the read, within the settling time with what was known before."""
        before = self._held.pop(key, None)
        if known is None or not self.seconds_left(now) or (read and read.ports != known.ports):
            return read
        if read is None and not known.endpoints:
            return known
        present = {_place(one) for one in read.endpoints} if read else set()
        lacked = self._lacked([place for one in known.endpoints if (place := _place(one)) not in present], before, now)
        if not lacked:
            return read
        self._held[key] = _Held(now, lacked)
        held = tuple(one for one in known.endpoints if _place(one) in lacked)
        return replace(read, endpoints=(*read.endpoints, *held)) if read else replace(known, endpoints=held)

    def _lacked(self, places: list[_Place], before: _Held | None, now: float) -> dict[_Place, float]:
        """Return which of the places that a read lacks are held, and for how many seconds they have been lacking."""
        known = before.lacked if before else {}
        passed = min(now - before.at, self._settle) if before else 0.0
        counted = {place: known[place] + passed if place in known else 0.0 for place in places}
        return {place: seconds for place, seconds in counted.items() if seconds < PATIENCE * self._settle}


def _place(endpoint: Endpoint) -> _Place:
    return endpoint.workload.address, endpoint.workload.ports
