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
from isthmus.registry.errors import SourceDenied
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


@given(st.lists(st.floats(0, 100)), st.integers())
def test_G10_the_pause_is_jittered_over_the_whole_span(runs: list[float], seed: int) -> None:
    backoff = Backoff(random.Random(seed))

    assert all(0 <= backoff.pause(run) <= LONGEST_PAUSE for run in runs)


class Failing:
    """An adapter that reports and then fails, as often as it is run."""

    def __init__(self, error: Exception) -> None:
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

    assert str(error) in (broken.stale_reason or "")
    assert good.history == ["sync"]
    assert steady.cancelled
    # What the source tells of itself is logged where it is told; a bug is logged here, with its traceback.
    assert any(record.exc_info for record in caplog.records) is not isinstance(error, SourceDenied)
