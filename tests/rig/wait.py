"""Waiting for a condition, never for a fixed time.

A test must not fail because a machine is slow: the timeouts are far beyond what is expected, and cost nothing
when the condition comes true early.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import TYPE_CHECKING, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")

SHORTEST_PAUSE_S = 0.005
LONGEST_PAUSE_S = 0.1


class NotInTimeError(AssertionError):
    """A condition did not come true within its time."""


class _Attempts:
    """Counts down to the deadline; the pause between two looks grows with the time already waited."""

    def __init__(self, timeout: float, what: str) -> None:
        self.start = time.monotonic()
        self.timeout = timeout
        self.what = what
        self.error: OSError | None = None

    def pause(self) -> float:
        """Return the seconds to pause before the next look; raise `NotInTimeError` when there is none."""
        waited = time.monotonic() - self.start
        if waited >= self.timeout:
            why = f" (last error: {self.error!r})" if self.error else ""
            raise NotInTimeError(f"{self.what}: not within {self.timeout:g} s{why}")
        return min(max(waited / 10, SHORTEST_PAUSE_S), LONGEST_PAUSE_S)


def wait_for(condition: Callable[[], T | None], timeout: float, what: str) -> T:
    """Return the first true value of the condition.

    Raises `NotInTimeError`, which names `what`, after `timeout` seconds. An OSError of the condition (nobody
    listens yet) counts as "not yet".
    """
    attempts = _Attempts(timeout, what)
    while True:
        try:
            if value := condition():
                return value
            attempts.error = None
        except OSError as error:
            attempts.error = error
        time.sleep(attempts.pause())


@overload
async def wait_for_async(condition: Callable[[], Awaitable[T | None]], timeout: float, what: str) -> T: ...
@overload
async def wait_for_async(condition: Callable[[], T | None], timeout: float, what: str) -> T: ...
async def wait_for_async(
    condition: Callable[[], T | None] | Callable[[], Awaitable[T | None]], timeout: float, what: str
) -> T:
    """Do what `wait_for` does and leave the event loop free; the condition may be a coroutine function."""
    attempts = _Attempts(timeout, what)
    while True:
        try:
            value = condition()
            if inspect.isawaitable(value):
                value = await value
            if value:
                return value
            attempts.error = None
        except OSError as error:
            attempts.error = error
        await asyncio.sleep(attempts.pause())
