"""adapters/supervise.py: a failure is marked and tried again, and never reaches another adapter."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.adapters.supervise import FIRST_PAUSE, GOOD_AFTER, LONGEST_PAUSE, Backoff, supervise
from isthmus.adapters.web import CONNECT_SECONDS, TOTAL_SECONDS
from isthmus.registry.errors import SourceDenied, SourceUnavailable
from tests.registries.recorder import Recorder
from tests.rig.wait import wait_for_async

if TYPE_CHECKING:
    from isthmus.adapters.base import Sink

TIMEOUT = 60.0


class Highest(random.Random):
    """Chance that always takes the most."""

    def uniform(self, a: float, b: float) -> float:
        return max(a, b)


def test_G10_the_pause_doubles_up_to_a_cap_and_begins_anew_after_a_good_run() -> None:
    backoff = Backoff(Highest())

    pauses = [backoff.pause(0.1) for _ in range(9)]
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert backoff.pause(GOOD_AFTER) == FIRST_PAUSE


def test_G10_a_run_that_waited_for_an_answer_in_vain_was_not_good() -> None:
    backoff = Backoff(Highest())

    assert [backoff.pause(TOTAL_SECONDS + CONNECT_SECONDS) for _ in range(3)] == [0.5, 1, 2]


@given(st.lists(st.floats(0, 100)), st.integers())
def test_G10_the_pause_is_jittered_over_the_whole_span(runs: list[float], seed: int) -> None:
    backoff = Backoff(random.Random(seed))

    assert all(0 <= backoff.pause(run) <= LONGEST_PAUSE for run in runs)


class Failing:
    """An adapter that reports and then fails, as often as it is run."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.runs = 0

    async def run(self, sink: Sink) -> None:
        self.runs += 1
        sink.sync(sink.connected(), [])
        raise self.error


class Steady:
    """An adapter that works."""

    def __init__(self) -> None:
        self.cancelled = False

    async def run(self, sink: Sink) -> None:
        sink.sync(sink.connected(), [])
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise


class Impatient(random.Random):
    """Chance that always takes the least."""

    def uniform(self, a: float, b: float) -> float:
        return min(a, b)


@pytest.mark.parametrize("error", [SourceDenied("refused: check the password"), ValueError("a bug")])
async def test_G11_one_adapters_failure_stops_no_other_and_is_tried_again(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "isthmus")
    failing, steady = Failing(error), Steady()
    broken, good = Recorder(), Recorder()
    async with asyncio.TaskGroup() as tasks:
        running = [
            tasks.create_task(supervise("broken", failing, broken, Backoff(Impatient()))),
            tasks.create_task(supervise("good", steady, good, Backoff(Impatient()))),
        ]
        await wait_for_async(lambda: failing.runs >= 3, TIMEOUT, "three runs")
        for task in running:
            task.cancel()

    assert any(one.startswith("stale") and str(error) in one for one in broken.history)
    assert good.history == ["sync"]
    assert steady.cancelled
    # What the source tells of itself is logged where it is told; a bug is logged here, with its traceback.
    assert any(record.exc_info for record in caplog.records) is not isinstance(error, SourceDenied)


class EndsBadly:
    """An adapter that fails in the moment in which it is cancelled, as a TaskGroup can."""

    def __init__(self) -> None:
        self.runs = 0

    async def run(self, sink: Sink) -> None:
        sink.connected()
        self.runs += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise SourceUnavailable("lost") from None


async def test_a_cancellation_is_not_lost_where_the_run_fails_at_that_moment() -> None:
    adapter = EndsBadly()
    task = asyncio.create_task(supervise("bad", adapter, Recorder(), Backoff(random.Random(1))))
    await wait_for_async(lambda: adapter.runs, 60, "the first run")

    task.cancel()
    async with asyncio.timeout(60):
        await asyncio.wait((task,))

    assert task.cancelled()
    assert adapter.runs == 1


async def test_a_run_that_is_cancelled_from_within_is_tried_again() -> None:
    failing, seen = Failing(asyncio.CancelledError()), Recorder()
    task = asyncio.create_task(supervise("bad", failing, seen, Backoff(Impatient())))
    await wait_for_async(lambda: failing.runs >= 2, TIMEOUT, "a second run")
    task.cancel()
    await asyncio.wait((task,))

    assert any("cancelled from within" in one for one in seen.history)
