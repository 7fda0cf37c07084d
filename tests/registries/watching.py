"""Runs any adapter for a test as the bridge does, and waits for what it reports."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from isthmus.adapters import open_adapter
from isthmus.adapters.supervise import Backoff, supervise
from isthmus.app import CatalogSink
from isthmus.registry.catalog import Catalog, SourceState
from isthmus.registry.policy import Policy
from tests.rig.wait import wait_for_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from isthmus.adapters.base import Adapter, Sink, SourceOptions
    from tests.registries.recorder import Recorder

TIMEOUT = 120.0


class Quick(Backoff):
    """Starts an adapter anew after at most half a second: how long a real one waits is tested elsewhere."""

    def pause(self, ran_for: float) -> float:
        return super().pause(ran_for + 60.0)


@asynccontextmanager
async def supervised(name: str, adapter: Adapter, sink: Sink, backoff: Backoff | None = None) -> AsyncIterator[None]:
    """Run an adapter under its supervisor until the block ends."""
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(supervise(name, adapter, sink, backoff or Backoff(random.Random(7))))
        try:
            yield
        finally:
            running.cancel()


@asynccontextmanager
async def guarded_source(settings: SourceOptions) -> AsyncIterator[SourceState]:
    """Run an adapter that reports to a catalog, whose guard settles as the settings say; give the source's state."""
    catalog = Catalog()
    policy = Policy(settings.name, settle=settings.settle)
    source = catalog.add_source(policy, required=True, now=time.monotonic())
    async with supervised(settings.name, open_adapter(settings), CatalogSink(catalog, settings.name)):
        yield source


async def until(recorder: Recorder, key: str, *expected: str) -> None:
    """Wait until a service that was read has exactly these endpoints, as `address:port`."""
    await wait_for_async(
        lambda: recorder.syncs and key in recorder.services and recorder.addresses(key) == sorted(expected),
        TIMEOUT,
        f"{key} at {expected}, seen {recorder.history[-5:]}",
    )


async def until_stale(recorder: Recorder, *words: str) -> str:
    """Wait until contact is lost for a reason with these words; return the reason."""

    def reason() -> str | None:
        said = recorder.stale_reason
        return said if said and all(word in said for word in words) else None

    return await wait_for_async(reason, TIMEOUT, f"stale: {words}")


def addresses(source: SourceState, key: str) -> list[str]:
    """Return the addresses of a source's service, in order; nothing where there is no such service."""
    service = source.services.get(key)
    return sorted(one.workload.address for one in service.endpoints) if service else []
