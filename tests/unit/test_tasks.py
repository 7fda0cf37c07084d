"""Many tasks at once, and what they raise as one error."""

from __future__ import annotations

import asyncio

import pytest

from isthmus.adapters.tasks import first_error, for_each
from isthmus.registry.errors import SourceUnavailable


async def test_every_item_is_worked_on_and_never_more_than_allowed_at_once() -> None:
    done: list[int] = []
    running = most = 0

    async def work(item: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        done.append(item)

    await for_each(range(20), 3, work)

    assert sorted(done) == list(range(20))
    assert most == 3


async def test_the_first_error_ends_the_others() -> None:
    started: list[int] = []

    async def work(item: int) -> None:
        started.append(item)
        if item == 1:
            raise SourceUnavailable("gone")
        await asyncio.Event().wait()

    with pytest.raises(SourceUnavailable, match="gone"):
        await for_each(range(10), 3, work)
    assert started == [0, 1, 2]


async def test_a_bug_comes_before_a_registrys_fault() -> None:
    with pytest.raises(ZeroDivisionError):
        async with first_error():
            raise BaseExceptionGroup("two", [SourceUnavailable("gone"), ZeroDivisionError()])
