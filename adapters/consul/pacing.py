"""How often Consul is asked: buckets of tokens (CO4; pure, time is passed in)."""

from __future__ import annotations

from typing import Final

# An answer of so many bytes is asked for once a second under churn, and one that took long at a tenth of the time.
_BYTES_A_SECOND: Final = 1_000_000
_SHARE: Final = 0.1
LONGEST_REST: Final = 15.0
# That an answer may take which nothing holds back.
PLAIN_SECONDS: Final = 10.0
SHORTEST_REST: Final = 0.01
# So many seconds after the server had enough of us, or after the last time, one more is asked for at once.
WIDEN_AFTER: Final = 5.0
# From a wake that is explained to its sweep, and in which wakes have no more than two of them.
SWEEP_REST = 15.0


def longest_answer(wait: float) -> float:
    """Return how many seconds an answer may take that Consul holds back for `wait`, and a sixteenth more (CO5)."""
    return wait * 17 / 16 + PLAIN_SECONDS


class Bucket:
    """Holds up to `burst` tokens; one comes back in each interval. Times are monotonic seconds."""

    def __init__(self, burst: int) -> None:
        self._burst = burst
        self._full_at = float("-inf")

    def wait(self, now: float, interval: float) -> float:
        """Take a token; return in how many seconds it is there, and one is back after `interval` more."""
        there_at = self._full_at - (self._burst - 1) * interval
        self._full_at = max(self._full_at, now) + interval
        return max(0.0, there_at - now)


class Width:
    """How many are asked for at once: half as many when the server has had enough, and slowly more (CO4)."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._changed_at = float("-inf")
        self._narrowed_at = float("-inf")
        self.now = most

    def narrow(self, asked_at: float, now: float) -> None:
        """Note that the server had enough of what was asked at a time; what went out together counts but once."""
        if asked_at >= self._narrowed_at:
            self.now = max(1, self.now // 2)
            self._changed_at = self._narrowed_at = now

    def widen(self, now: float) -> None:
        """Note that the server answered."""
        if self.now < self._most and now >= self._changed_at + WIDEN_AFTER:
            self.now += 1
            self._changed_at = now


def rest_after(size: int) -> float:
    """Return the seconds between two answers of so many bytes under churn."""
    return _bounded(size / _BYTES_A_SECOND)


def rest_after_work(took: float) -> float:
    """Return the seconds between two answers that took so many seconds to make under churn."""
    return _bounded(took / _SHARE)


def _bounded(rest: float) -> float:
    return min(max(rest, SHORTEST_REST), LONGEST_REST)


class Sweeps:
    """When all services are read again: because wakes ask for it, or behind the watches (G6).

    at: when the next sweep is due, in monotonic seconds.
    """

    def __init__(self, at: float) -> None:
        self.at = at
        self._asked = False
        self._last_two = (float("-inf"), float("-inf"))

    def ask(self, now: float, *, soon: bool, lasts: float) -> None:
        """Have a sweep, which lasts so many seconds: soon, or when it has waited for others to join it."""
        # As a bucket of two: the second one follows at once, the third waits (CO4).
        due = max(self._last_two[0] + max(SWEEP_REST, 2 * lasts), now if soon else now + SWEEP_REST)
        self.at = min(self.at, due)
        self._asked = True

    def confirm(self, at: float) -> None:
        """Have one at a time, when the guard needs it."""
        self.at = min(self.at, at)

    def begin(self, now: float, reconcile: float) -> bool:
        """Begin one; the next is due in `reconcile` seconds. Return whether a wake asked for this one."""
        asked, self._asked = self._asked, False
        self._last_two = (self._last_two[1], now)
        self.at = now + reconcile
        return asked
