"""Whether so much goes at once that it tells more of the registry than of what went (G4; pure).

Times are monotonic seconds, passed in.
"""

from __future__ import annotations

from collections import deque

# The share of instances that a registry in good health does not lose at once: Eureka's own figure (G4).
LOST_SHARE = 0.15


def looks_lost(gone: int, known: int) -> bool:
    """Tell whether of so many instances so many are lacking that the registry may have lost them: several, and 15 %."""
    return gone > 1 and gone > known * LOST_SHARE


class Losses:
    """The instances that went lately, less those that came."""

    def __init__(self, window: float) -> None:
        """window: seconds in which what goes counts as going at once."""
        self._window = window
        self._lately: deque[tuple[float, int]] = deque()
        self._sum = 0

    def are_many(self, count: int, serving: int, now: float) -> bool:
        """Note that of so many serving ones `count` go (below 0: come); tell whether that is too much to be believed.

        Each is counted once: after a True it takes as many again.
        """
        while self._lately and now - self._lately[0][0] > self._window:
            self._sum -= self._lately.popleft()[1]
        earlier = self._sum
        if count > 0 and looks_lost(earlier + count, serving + earlier):
            self._lately.clear()
            self._sum = 0
            return True
        if count:
            self._lately.append((now, count))
            self._sum += count
        return False
