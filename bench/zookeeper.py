"""N interfaces x M providers in a real ZooKeeper: start, memory, CPU, and what one change costs."""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

from bench import load
from bench.figures import Timing, cpu_seconds, rss_mib, say, timed, timings_summary
from bench.subscriber import holds, lacks, subscriber
from tests.rig import build
from tests.rig.process import free_port
from tests.rig.zookeeper import ZooKeeper

if TYPE_CHECKING:
    from pathlib import Path

    from kazoo.client import KazooClient

    from bench.subscriber import RawSubscriber

# Longer than the gap between bursts, so that each change meets quiet, and not in step with anything.
_BETWEEN_CHANGES = (0.6, 1.0)


async def measure(directory: Path, interfaces: int, providers: int, changes: int) -> dict[str, object]:
    """Start a ZooKeeper, fill it, start the bridge, and measure."""
    build.part("zookeeper")
    with (
        ZooKeeper(directory / "zookeeper", heap="1g") as server,
        load.writer(server.address) as client,
    ):
        started = time.monotonic()
        load.fill(client, interfaces, providers)
        say(f"{interfaces} x {providers} registered in {time.monotonic() - started:.1f} s")
        result: dict[str, object] = {"interfaces": interfaces, "providers": providers, "load": os.getloadavg()[0]}
        for form in ("delta", "sotw"):
            result |= await _measure_form(server.address, client, interfaces, changes, form)
        return result


async def _measure_form(
    address: str, client: KazooClient, interfaces: int, changes: int, form: str
) -> dict[str, object]:
    listen = f"127.0.0.1:{free_port()}"
    arguments = ("--source", f"zookeeper://{address}", "--listen", listen, "--debug", f"127.0.0.1:{free_port()}")
    started = time.monotonic()
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "isthmus", "serve", *arguments)
    try:
        async with subscriber(listen, delta=form == "delta") as one:
            first = await one.until(lambda data: data.count(b".dubbo") >= interfaces)
            served = {
                "served_seconds": round(first.at - started, 2),
                "first_response_bytes": first.size,
                "rss_mib": round(rss_mib(process.pid), 1),
                "cpu_seconds": round(cpu_seconds(process.pid), 2),
            }
            say(f"{form}: {served}")
            cpu = cpu_seconds(process.pid)
            figures = await _change(client, one, interfaces, changes)
            used = (cpu_seconds(process.pid) - cpu) / max(1, 2 * changes)
            more = {"rss_mib_after": round(rss_mib(process.pid), 1), "cpu_ms_per_change": round(used * 1000, 1)}
            return {form: {**served, **figures, **more}}
    finally:
        process.terminate()
        await process.wait()


async def _change(client: KazooClient, one: RawSubscriber, interfaces: int, changes: int) -> dict[str, object]:
    """Add and remove a provider again and again.

    Times are until the whole response is there, from just before the write to ZooKeeper and from ZooKeeper's answer.
    """
    chance = random.Random(7)
    adds: list[Timing] = []
    removals: list[Timing] = []
    sizes = []
    for index in range(changes):
        name = load.interface(chance.randrange(interfaces))
        address = f"10.250.{index >> 8}.{index & 255}"
        marker = address.encode() + b"\x12"  # the address, and the tag of the next field
        path = f"/dubbo/{name}/providers/{load.provider_node(name, address, 20990)}"
        await asyncio.sleep(chance.uniform(*_BETWEEN_CHANGES))
        create = partial(client.create, path, ephemeral=True)
        received = await timed(create, one, partial(holds, marker), adds)
        sizes.append(received.size)
        await asyncio.sleep(chance.uniform(*_BETWEEN_CHANGES))
        await timed(partial(client.delete, path), one, partial(lacks, marker), removals)
    return {
        "add": timings_summary(adds),
        "remove": timings_summary(removals),
        "bytes_per_change": statistics.median(sizes),
    }
