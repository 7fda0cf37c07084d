"""A Nacos adapter under test, with a sink that records."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from isthmus.adapters.nacos.adapter import NacosAdapter
from isthmus.adapters.nacos.options import NacosOptions
from isthmus.adapters.supervise import Backoff, supervise
from tests.registries.recorder import Recorder
from tests.rig.wait import wait_for_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TIMEOUT = 120.0


class Quick(Backoff):
    """Starts an adapter anew after at most half a second: how long a real one waits is tested elsewhere."""

    def pause(self, ran_for: float) -> float:
        return super().pause(ran_for + 60.0)


@asynccontextmanager
async def watching(address: str, **options: object) -> AsyncIterator[Recorder]:
    """Run an adapter, as the bridge does, until the block ends."""
    recorder = Recorder()
    fields: dict[str, object] = {"name": "nacos", "address": address, "listing": 0.2, "timeout": 30.0, **options}
    adapter = NacosAdapter(NacosOptions(**fields))  # type: ignore[arg-type]
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(supervise("nacos", adapter, recorder, Quick(random.Random())))
        try:
            yield recorder
        finally:
            running.cancel()


async def until(recorder: Recorder, key: str, *expected: str) -> None:
    """Wait until a service that was read has exactly these endpoints, as `address:port`."""
    await wait_for_async(
        lambda: recorder.syncs and recorder.addresses(key) == sorted(expected),
        TIMEOUT,
        f"{key} at {expected}, seen {recorder.services.keys()} {recorder.history[-5:]}",
    )


async def until_stale(recorder: Recorder, *words: str) -> str:
    """Wait until contact is lost for a reason with these words; return the reason."""

    def reason() -> str | None:
        said = recorder.stale_reason
        return said if said and all(word in said for word in words) else None

    return await wait_for_async(reason, TIMEOUT, f"stale: {words}")
