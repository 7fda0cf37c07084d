"""An adapter that watches a Consul for a test, and what to wait for."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from isthmus.adapters.consul.adapter import ConsulAdapter
from isthmus.adapters.consul.options import ConsulOptions
from isthmus.adapters.supervise import Backoff, supervise
from isthmus.app import CatalogSink
from isthmus.registry.catalog import Catalog, SourceState
from isthmus.registry.policy import Policy
from tests.registries.recorder import Recorder
from tests.rig.wait import wait_for_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from isthmus.adapters.base import Sink

TIMEOUT = 120.0


def options(address: str, **more: object) -> ConsulOptions:
    """Return settings for a test."""
    return ConsulOptions(**{"name": "consul", "address": address, **more})  # type: ignore[arg-type]


@asynccontextmanager
async def watching(address: str, **more: object) -> AsyncIterator[Recorder]:
    """Run an adapter under its supervisor until the block ends."""
    recorder = Recorder()
    async with _supervised(options(address, **more), recorder):
        yield recorder


@asynccontextmanager
async def guarded(address: str, settle: float, **more: object) -> AsyncIterator[SourceState]:
    """Run an adapter that reports to a catalog, whose guard settles for so many seconds; give the source's state."""
    catalog = Catalog()
    source = catalog.add_source(Policy("consul", settle=settle), required=True, now=time.monotonic())
    async with _supervised(options(address, settle=settle, **more), CatalogSink(catalog, "consul")):
        yield source


@asynccontextmanager
async def _supervised(settings: ConsulOptions, sink: Sink) -> AsyncIterator[None]:
    backoff = Backoff(random.Random(7))
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(supervise("consul", ConsulAdapter(settings), sink, backoff))
        try:
            yield
        finally:
            running.cancel()


async def until(recorder: Recorder, key: str, *expected: str) -> None:
    await wait_for_async(
        lambda: recorder.syncs and key in recorder.services and recorder.addresses(key) == sorted(expected),
        TIMEOUT,
        f"{key} at {expected}, seen {recorder.history[-5:]}",
    )


def addresses(source: SourceState, key: str) -> list[str]:
    service = source.services.get(key)
    return sorted(one.workload.address for one in service.endpoints) if service else []
