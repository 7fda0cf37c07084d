"""N services x M instances in a real Consul: start, memory, what each kind of change costs, and how many requests."""

from __future__ import annotations

import asyncio
import os
import random
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from bench.figures import Timing, cpu_seconds, say, timed, timings_summary
from bench.forms import measure_form
from bench.subscriber import holds, lacks
from tests.rig import build
from tests.rig.bridge import Bridge
from tests.rig.consul import Consul
from tests.rig.consul_records import service_name

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from bench.subscriber import RawSubscriber

# Longer than the gap between bursts and than the rest after a wake, so that each change meets quiet; not in step.
_BETWEEN_CHANGES = (1.5, 2.5)
_INSTANCES_OF_A_NODE = 20
_SPARE_NODE = "bench-node"
_REST_SECONDS = 30.0
_CHURN_SECONDS = 60.0
_CHURN_A_SECOND = 20


async def measure(directory: Path, services: int, instances: int, changes: int) -> dict[str, object]:
    """Start a Consul, fill it, start the bridge, and measure."""
    build.part("consul")
    with Consul(directory / "consul", settings={"telemetry": {"disable_hostname": True}}) as server:
        started = time.monotonic()
        server.fill(services, instances, max(1, services * instances // _INSTANCES_OF_A_NODE))
        server.put_node(_SPARE_NODE, "10.49.0.1")
        say(f"{services} x {instances} registered in {time.monotonic() - started:.1f} s")
        result: dict[str, object] = {"services": services, "instances": instances, "load": os.getloadavg()[0]}
        source = {"kind": "consul", "name": "consul", "address": server.url}
        for form in ("delta", "sotw"):
            change = partial(_change, server, services, changes)
            result[form] = await measure_form(directory / form, source, services, form, change)
        result["requests"] = await _requests(directory / "requests", server, services)
        return result


async def _change(server: Consul, services: int, changes: int, one: RawSubscriber) -> tuple[dict[str, object], int]:
    """Register an instance, change it in every way, and take it away, again and again."""
    chance = random.Random(7)
    timings: dict[str, list[Timing]] = {}
    for index in range(changes):
        name = service_name(chance.randrange(services))
        address = f"10.250.{index >> 8}.{index & 255}"
        put = partial(server.put, _SPARE_NODE, name, f"bench-{index}", address=address)
        here, moved = _marker(address, 8080), _marker(address, 8081)
        steps: list[tuple[str, Callable[[], object], Callable[[bytes], bool]]] = [
            ("registered, passing", put, partial(holds, here)),
            ("critical", partial(put, status="critical"), partial(lacks, here)),
            ("passing", put, partial(holds, here)),
            ("other port", partial(put, port=8081), partial(holds, moved)),
            ("deregistered", partial(server.remove, _SPARE_NODE, f"bench-{index}"), partial(lacks, moved)),
        ]
        for what, write, wanted in steps:
            await asyncio.sleep(chance.uniform(*_BETWEEN_CHANGES))
            await timed(write, one, wanted, timings.setdefault(what, []))
    return {what: timings_summary(those) for what, those in timings.items()}, sum(map(len, timings.values()))


def _marker(address: str, port: int) -> bytes:
    """Return how an endpoint is on the wire: the address, then the map of its ports."""
    number = bytes([port & 127 | 128, port >> 7])
    entry = b"\x0a\x04http\x10" + number
    return address.encode() + b"\x12" + bytes([len(entry)]) + entry


async def _requests(directory: Path, server: Consul, services: int) -> dict[str, object]:
    """Return how many requests a second the bridge makes, by Consul's own count: at rest, and while much changes."""
    with Bridge(directory, [{"kind": "consul", "name": "consul", "address": server.url}]) as bridge:
        at_rest = await _counted(server, bridge, asyncio.sleep(_REST_SECONDS))
        say(f"at rest: {at_rest}")
        churn = await _counted(server, bridge, _churn(server, services))
        say(f"while {_CHURN_A_SECOND} instances a second change: {churn}")
        return {"at_rest": at_rest, f"{_CHURN_A_SECOND}_changes_a_second": churn}


async def _churn(server: Consul, services: int) -> None:
    """Register instances of any services, and take away those of before, at a steady pace."""
    chance = random.Random(11)
    began = asyncio.get_running_loop().time()
    for index in range(int(_CHURN_SECONDS * _CHURN_A_SECOND)):
        await asyncio.sleep(began + index / _CHURN_A_SECOND - asyncio.get_running_loop().time())
        name, address = service_name(chance.randrange(services)), f"10.251.{index >> 8 & 255}.{index & 255}"
        if index % 2:
            await asyncio.to_thread(server.remove, _SPARE_NODE, f"churn-{index - 1}")
        else:
            await asyncio.to_thread(server.put, _SPARE_NODE, name, f"churn-{index}", address=address)


async def _counted(server: Consul, bridge: Bridge, meanwhile: Awaitable[None]) -> dict[str, float]:
    """Return what reading costs while something goes on: requests a second by page, and shares of a core.

    Consul counts whole intervals of ten seconds, at the end of each; those that began or ended outside are left out.
    """
    began, cpu = time.monotonic(), (cpu_seconds(server.pid), cpu_seconds(bridge.pid))
    intervals: dict[str, dict[str, int]] = {}

    async def collect() -> None:
        while True:
            stamp, counts = await asyncio.to_thread(_last_interval, server)
            intervals[stamp] = counts
            await asyncio.sleep(2)

    async with asyncio.TaskGroup() as tasks:
        collecting = tasks.create_task(collect())
        await meanwhile
        collecting.cancel()
    took = time.monotonic() - began
    shares = {
        "consul_core_percent": round((cpu_seconds(server.pid) - cpu[0]) / took * 100, 1),
        "bridge_core_percent": round((cpu_seconds(bridge.pid) - cpu[1]) / took * 100, 1),
    }
    # The first may hold what was before, of the start of the bridge for one.
    whole = [intervals[stamp] for stamp in sorted(intervals)][2:]
    pages = sorted({page for counts in whole for page in counts})
    rates = {page: round(sum(one.get(page, 0) for one in whole) / (10 * len(whole)), 2) for page in pages}
    return {"all_pages": round(sum(rates.values()), 2), **rates, **shares}


def _last_interval(server: Consul) -> tuple[str, dict[str, int]]:
    """Return the time of the last interval that Consul counted, and how often each page was read in it."""
    metrics: Mapping[str, Any] = server.ask("GET", "agent/metrics").json()
    read = [one for one in metrics["Samples"] if one["Name"] == "consul.api.http" and one["Labels"]["method"] == "GET"]
    counts = {one["Labels"]["path"]: int(one["Count"]) for one in read if "agent" not in one["Labels"]["path"]}
    return metrics["Timestamp"], counts
