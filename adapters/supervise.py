"""Runs one adapter for ever: a failure is logged, marked, and tried again with back-off (G10, G11)."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from isthmus.registry.errors import SourceError, SourceUnavailable

if TYPE_CHECKING:
    import random

    from isthmus.adapters.base import Adapter, Sink

_log = logging.getLogger("isthmus.adapters")

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
# Longer than an answer is waited for: a run that only waited for one was not good.
GOOD_AFTER = 60.0


class Backoff:
    """Exponential with full jitter; begins anew once a run has been good for 60 s (G10). Pure: randomness is given."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._ceiling = FIRST_PAUSE

    def pause(self, ran_for: float) -> float:
        """Return how many seconds to wait after a run that lasted `ran_for` seconds."""
        if ran_for >= GOOD_AFTER:
            self._ceiling = FIRST_PAUSE
        ceiling, self._ceiling = self._ceiling, min(self._ceiling * 2, LONGEST_PAUSE)
        return self._chance.uniform(0, ceiling)


async def supervise(name: str, adapter: Adapter, sink: Sink, backoff: Backoff) -> None:
    """Run an adapter again and again until cancelled; it keeps what it knew, so that a new run can compare (G1)."""
    loop = asyncio.get_running_loop()
    while True:
        started = loop.time()
        try:
            await _run_once(adapter, sink)
            reason = "the adapter ended"
        except SourceError as error:
            reason = str(error)
        except Exception as error:  # noqa: BLE001
            # The border that keeps one adapter's bug from the others (G11): loud in the log, and tried again.
            reason = f"{type(error).__name__}: {error}"
            _log.exception("source %s: a bug, please report it", name)
        sink.stale(sink.connected(), reason)
        await asyncio.sleep(backoff.pause(loop.time() - started))


async def _run_once(adapter: Adapter, sink: Sink) -> None:
    """Run an adapter in a task of its own, so that a cancellation of ours is never lost.

    A TaskGroup that fails at the moment of its cancellation raises what it failed of, and not the cancellation.
    """
    run = asyncio.create_task(adapter.run(sink))
    try:
        await asyncio.wait((run,))
    except asyncio.CancelledError:
        run.cancel()
        await asyncio.wait((run,))
        if not run.cancelled():
            _log.debug("ended with %r", run.exception())
        raise
    if run.cancelled():
        raise SourceUnavailable("the run was cancelled from within")
    run.result()
