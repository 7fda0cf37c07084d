"""Whether a server ends the leases of many at once, which tells more of the server than of them (EU6; pure).

A server without self-preservation that cannot be reached by its clients ends the leases of all of them, 15 % a round.
One that leaves says so itself, and is believed however many do; a lease that is over may as well be a partition.
Times are monotonic seconds, passed in.
"""

from __future__ import annotations

from collections import deque

# The share of instances that a server in good health does not lose at once: Eureka's own figure (G4).
LOST_SHARE = 0.15
# A server looks at leases every 60 s, and tells of it for three minutes.
_WINDOW = 180.0


class Evictions:
    """The serving instances whose leases a server ended lately."""

    def __init__(self) -> None:
        self._lately: deque[tuple[float, int]] = deque()

    def are_many(self, count: int, serving: int, now: float) -> bool:
        """Note that of so many serving ones `count` were evicted; tell whether that is too much to be believed.

        Each is counted once: after a True it takes as many again.
        """
        while self._lately and now - self._lately[0][0] > _WINDOW:
            self._lately.popleft()
        earlier = sum(before for _, before in self._lately)
        gone = earlier + count
        if count and gone > 1 and gone > (serving + earlier) * LOST_SHARE:
            self._lately.clear()
            return True
        if count:
            self._lately.append((now, count))
        return False
