"""When to push: at once after quiet, then in rounds with a rest between them (DESIGN, Publication and shards).

istiod debounces over all of its sources: changes that keep coming closer together than its 100 ms starve the whole
mesh of updates for 10 s at a time. So all streams of one subscriber, whatever shards they are of, are pushed to in one
short round and then rest together, long enough for it to come to quiet. The other way round a stream that sends more
than any client needs is read no faster than it is allowed (X51).
"""

from __future__ import annotations

DEFAULT_GAP = 0.25
# More than the 100 ms that istiod waits for quiet before it tells its proxies (PILOT_DEBOUNCE_AFTER).
_QUIET = 0.15
# Who takes a second to take a round has half a second for everything else before the next one.
_REST_SHARE = 0.5
_LONGEST_REST = 1.0
# One stream that does not acknowledge holds up the others of its subscriber for so long (its own next response: X50).
_PATIENCE = 2.0


class Rounds:
    """The rounds of one subscriber; times are monotonic seconds.

    gap: the shortest time from the beginning of a round to that of the next. begun: when the last one began.
    """

    def __init__(self, gap: float = DEFAULT_GAP) -> None:
        self.gap = gap
        self.begun = float("-inf")
        self._rested = float("-inf")
        self._under_way = False

    def opens_at(self, *, outstanding: bool) -> float:
        """Return the earliest time of the next round; `outstanding`: a response is not acknowledged yet."""
        if outstanding and self._under_way:
            return self.begun + max(self.gap, _PATIENCE if self.gap else 0.0)
        return max(self.begun + self.gap, self._rested)

    def begin(self, now: float) -> None:
        """Note that a round begins."""
        self.begun = now
        self._under_way = True

    def settle(self, now: float) -> None:
        """Note that all is acknowledged: what the round changed has been taken, and the rest begins."""
        if self._under_way:
            self._under_way = False
            if self.gap:
                self._rested = now + min(_LONGEST_REST, max(_QUIET, _REST_SHARE * (now - self.begun)))


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
