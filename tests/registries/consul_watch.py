"""An adapter that watches a Consul for a test."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from isthmus.adapters.consul.adapter import ConsulAdapter
from isthmus.adapters.consul.options import ConsulOptions
from tests.registries.recorder import Recorder
from tests.registries.watching import TIMEOUT, addresses, guarded_source, supervised, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from isthmus.registry.catalog import SourceState

__all__ = ["TIMEOUT", "addresses", "guarded", "options", "until", "watching"]


def options(address: str, **more: object) -> ConsulOptions:
    """Return settings for a test."""
    return ConsulOptions(**{"name": "consul", "address": address, **more})  # type: ignore[arg-type]


@asynccontextmanager
async def watching(address: str, **more: object) -> AsyncIterator[Recorder]:
    """Run an adapter under its supervisor until the block ends."""
    recorder = Recorder()
    async with supervised("consul", ConsulAdapter(options(address, **more)), recorder):
        yield recorder


@asynccontextmanager
async def guarded(address: str, settle: float, **more: object) -> AsyncIterator[SourceState]:
    """Run an adapter that reports to a catalog, whose guard settles for so many seconds; give the source's state."""
    async with guarded_source(options(address, settle=settle, **more)) as source:
        yield source
