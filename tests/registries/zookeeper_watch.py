"""Watching a real ZooKeeper with the adapter, into a sink that records."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from isthmus.adapters.zookeeper.adapter import ZookeeperAdapter
from isthmus.adapters.zookeeper.options import ZookeeperOptions
from tests.registries.recorder import Recorder
from tests.rig.wait import wait_for_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.rig.zookeeper import ZooKeeper

TIMEOUT = 120.0


@asynccontextmanager
async def watching(server: ZooKeeper, **options: object) -> AsyncIterator[Recorder]:
    """Run an adapter until the block ends; its failure fails the test."""
    recorder = Recorder()
    fields: dict[str, object] = {"name": "zk", "address": server.address, "session_timeout": 2.0, **options}
    adapter = ZookeeperAdapter(ZookeeperOptions(**fields))  # type: ignore[arg-type]
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(adapter.run(recorder))
        try:
            yield recorder
        finally:
            running.cancel()


async def until(recorder: Recorder, key: str, *expected: str) -> None:
    await wait_for_async(
        lambda: recorder.syncs and recorder.addresses(key) == sorted(expected),
        TIMEOUT,
        f"{key} at {expected}, seen {recorder.history[-5:]}",
    )


def sessions(server: ZooKeeper) -> int:
    """Return how many sessions the server keeps alive."""
    figures = dict(line.split("\t", 1) for line in server.ask("mntr").splitlines() if "\t" in line)
    return int(figures["zk_global_sessions"])
