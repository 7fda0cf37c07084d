"""What to do about a server that has had enough of us, or stumbles: ask again, ask less at once, give up (CO4, CO6)."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final, TypeVar

from isthmus.adapters.consul.pacing import Width
from isthmus.adapters.web import HttpError
from isthmus.registry.errors import SourceUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")

TOO_MANY_REQUESTS: Final = 429
# By which Consul's limits answer; the second is for what no other server would do either.
_BUSY: Final = (TOO_MANY_REQUESTS, 503)
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 2.0
# Nothing at all was answered for so long: it is the server.
_PATIENCE: Final = 10.0
# One is not answered for so long while others are: it is this one.
_PATIENCE_WITH_ONE: Final = 30.0


class NotReadable(SourceUnavailable):
    """One service cannot be read, for what its name or its content is. Others can (G8)."""


class Patience:
    """Asks for services, for as many at once as the server bears; times are the loop's."""

    def __init__(self, at_once: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._width = Width(at_once)
        self._asking = 0
        self._room = asyncio.Condition()
        self._answered_at = float("-inf")

    async def ask(self, question: Callable[[], Awaitable[T]]) -> T:
        """Ask until there is an answer.

        Raises SourceUnavailable: nothing was answered for long. NotReadable: this was not, and others were. What else
        the question raises is raised at once.
        """
        async with self._room:
            await self._room.wait_for(lambda: self._asking < self._width.now)
            self._asking += 1
        try:
            return await self._ask(question)
        finally:
            self._asking -= 1
            async with self._room:
                self._room.notify_all()

    async def _ask(self, question: Callable[[], Awaitable[T]]) -> T:
        began = self._loop.time()

        async def once() -> T:
            asked_at = self._loop.time()
            try:
                answer = await question()
            except HttpError as error:
                if error.status in _BUSY:
                    self._width.narrow(asked_at, self._loop.time())
                raise
            except NotReadable:
                self._answered()
                raise
            self._answered()
            return answer

        return await persist(once, lambda error: self._bear(error, began))

    def _answered(self) -> None:
        self._answered_at = self._loop.time()
        self._width.widen(self._answered_at)

    def _bear(self, error: SourceUnavailable, began: float) -> None:
        now = self._loop.time()
        if isinstance(error, NotReadable) or now - max(began, self._answered_at) > _PATIENCE:
            raise error
        if now - began > _PATIENCE_WITH_ONE and not is_busy(error):
            raise NotReadable(str(error)) from error


async def persist(question: Callable[[], Awaitable[T]], bear: Callable[[SourceUnavailable], None]) -> T:
    """Ask until there is an answer, ever more seldom; `bear` is shown each fault and raises to end it."""
    pause = _FIRST_PAUSE
    while True:
        try:
            return await question()
        except SourceUnavailable as error:
            bear(error)
        await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 (jitter)
        pause = min(pause * 2, _LONGEST_PAUSE)


def is_busy(error: SourceUnavailable) -> bool:
    """Tell whether a server says that there are too many requests, and no more than that."""
    return isinstance(error, HttpError) and error.status == TOO_MANY_REQUESTS
