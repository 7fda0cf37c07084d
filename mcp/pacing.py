"""When to push: at once after quiet, then in bursts with a rest between them (DESIGN, Publication and shards).

istiod debounces over all of its sources: changes that keep coming closer together than its 100 ms starve the whole
mesh of updates for 10 s at a time. So all streams of a process push in one short burst and then rest together. The
other way round a stream that sends more than any client needs is read no faster than it is allowed (X51).
"""

from __future__ import annotations

DEFAULT_GAP = 0.25


class Pacer:
    """The rest between bursts; times are monotonic seconds."""

    def __init__(self, gap: float = DEFAULT_GAP) -> None:
        self.gap = gap
        self._last = float("-inf")

    def opens_at(self) -> float:
        """Return the earliest time of the next burst."""
        return self._last + self.gap

    def burst(self, now: float) -> None:
        """Note a burst."""
        self._last = now


class Allowance:
    """How fast one stream is read: `at_once` requests at any speed, what is more only at `per_second`."""

    def __init__(self, at_once: int, per_second: float) -> None:
        self._interval = 1 / per_second
        self._credit = at_once / per_second
        self._spent_until = float("-inf")

    def take(self, now: float) -> float:
        """Take one request; return the seconds to wait before the next one is read, most often 0."""
        self._spent_until = max(self._spent_until, now) + self._interval
        return max(0.0, self._spent_until - self._credit - now)
