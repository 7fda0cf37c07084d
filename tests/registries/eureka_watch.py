"""An adapter that watches a Eureka server for a test."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from isthmus.adapters.eureka.adapter import EurekaAdapter
from isthmus.adapters.eureka.options import EurekaOptions
from tests.registries.recorder import Recorder
from tests.registries.watching import TIMEOUT, addresses, guarded_source, supervised, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from isthmus.registry.catalog import SourceState

__all__ = ["POLL", "TIMEOUT", "addresses", "guarded", "options", "until", "watching"]

POLL = 0.1


def options(address: str, **more: object) -> EurekaOptions:
    """Return settings for a test: a server may be empty from the start, and is believed."""
    fields: dict[str, object] = {"name": "eureka", "address": address, "poll": POLL, "settle": 0.0, **more}
    return EurekaOptions(**fields)  # type: ignore[arg-type]


@asynccontextmanager
async def watching(address: str, **more: object) -> AsyncIterator[Recorder]:
    """Run an adapter under its supervisor until the block ends."""
    recorder = Recorder()
    async with supervised("eureka", EurekaAdapter(options(address, **more)), recorder):
        yield recorder


@asynccontextmanager
async def guarded(address: str, settle: float, **more: object) -> AsyncIterator[SourceState]:
    """Run an adapter that reports to a catalog, whose guard settles for so many seconds; give the source's state."""
    async with guarded_source(options(address, settle=settle, **more)) as source:
        yield source
