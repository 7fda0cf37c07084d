"""Tasks of an adapter: many at once, and what they raise as one error."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

from isthmus.registry.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

Item = TypeVar("Item")


@asynccontextmanager
async def first_error() -> AsyncIterator[None]:
    """Let one error out of a TaskGroup's, so that it can be answered; a bug comes before a registry's fault."""
    try:
        yield
    except BaseExceptionGroup as group:
        expected, bugs = group.split(SourceError)
        raise (bugs or expected or group).exceptions[0] from None


async def for_each(items: Iterable[Item], at_once: int, work: Callable[[Item], Awaitable[None]]) -> None:
    """Do the work for each item, for at most `at_once` of them at the same time; the first error ends all."""
    waiting = iter(items)

    async def take_turns() -> None:
        for item in waiting:
            await work(item)

    async with first_error(), asyncio.TaskGroup() as tasks:
        for _ in range(at_once):
            tasks.create_task(take_turns())
