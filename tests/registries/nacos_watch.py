"""A Nacos adapter under test, with a sink that records."""

from __future__ import annotations

import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from isthmus.adapters.nacos.adapter import NacosAdapter
from isthmus.adapters.nacos.options import NacosOptions
from tests.registries.recorder import Recorder
from tests.registries.watching import TIMEOUT, Quick, supervised, until_stale
from tests.rig.wait import wait_for_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["TIMEOUT", "Quick", "until", "until_stale", "watching"]


@asynccontextmanager
async def watching(address: str, **options: object) -> AsyncIterator[Recorder]:
    """Run an adapter, as the bridge does, until the block ends."""
    recorder = Recorder()
    fields: dict[str, object] = {"name": "nacos", "address": address, "listing": 0.2, "timeout": 30.0, **options}
    adapter = NacosAdapter(NacosOptions(**fields))  # type: ignore[arg-type]
    async with supervised("nacos", adapter, recorder, Quick(random.Random())):
        yield recorder


async def until(recorder: Recorder, key: str, *expected: str) -> None:
    """Wait until a service that was read has exactly these endpoints, as `address:port`."""
    await wait_for_async(
        lambda: recorder.syncs and recorder.addresses(key) == sorted(expected),
        TIMEOUT,
        f"{key} at {expected}, seen {recorder.services.keys()} {recorder.history[-5:]}",
    )
