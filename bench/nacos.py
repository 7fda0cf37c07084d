"""N services x M instances in a real Nacos: start, memory, and how long a change takes after Nacos's own push.

Nacos collects changes for half a second before it pushes them. So a change is also measured from the moment at which
Nacos's own Java client, subscribed to the same service of the same server, was told of it.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from functools import partial
from typing import TYPE_CHECKING

from bench.figures import cpu_seconds, rss_mib, say, summary
from bench.subscriber import subscriber
from tests.rig import build
from tests.rig.bridge import Bridge
from tests.rig.nacos import Nacos
from tests.rig.nacos_writer import Instance, NacosWriter

if TYPE_CHECKING:
    from pathlib import Path

    from bench.subscriber import RawSubscriber
    from tests.rig.nacos import Version
    from tests.rig.nacos_writer import Push

_HEAP = "768m"
_PREFIX = "com.example.shop.service-"
_IDLE_S = 10.0
_VERSIONS: tuple[Version, ...] = ("2", "3")


async def measure(directory: Path, services: int, instances: int, changes: int) -> dict[str, object]:
    """Do all of it for Nacos 2 and for Nacos 3."""
    result: dict[str, object] = {"services": services, "instances": instances, "load": os.getloadavg()[0]}
    for version in _VERSIONS:
        build.part(f"nacos{version}")
        build.part("nacos-writer")
        with Nacos(directory / version, version=version, heap=_HEAP) as server:
            result[f"nacos {version}"] = await _measure_server(directory, server, services, instances, changes)
    return result


async def _measure_server(
    directory: Path, server: Nacos, services: int, instances: int, changes: int
) -> dict[str, object]:
    with NacosWriter(directory / f"fill-{server.version}", server) as fill:
        started = time.monotonic()
        fill.load(_PREFIX, services, [Instance(f"10.64.0.{number + 1}", 8080) for number in range(instances)])
        say(f"{services} x {instances} registered in {time.monotonic() - started:.1f} s")
        alone = await _idle_share(server.pid)
        result: dict[str, object] = {}
        for form in ("delta", "sotw"):
            result[form] = await _measure_bridge(directory, server, services, changes, form, alone)
        return result


async def _measure_bridge(
    directory: Path, server: Nacos, services: int, changes: int, form: str, alone: float
) -> dict[str, object]:
    bridge = Bridge(
        directory / f"{server.version}-{form}", [{"kind": "nacos", "name": "nacos", "address": server.address}]
    )
    started = time.monotonic()
    bridge.launch()
    try:
        async with subscriber(bridge.address, delta=form == "delta") as one:
            first = await one.until(lambda data: data.count(b"10.64.0.1") >= services)
            result: dict[str, object] = {
                "served_seconds": round(first.at - started, 2),
                "first_response_bytes": first.size,
                "rss_mib": round(rss_mib(bridge.pid), 1),
                "cpu_seconds": round(cpu_seconds(bridge.pid), 2),
            }
            say(f"nacos {server.version}, {form}: {result}")
            if form == "delta":
                result |= {"new_service_ms": await _new_services(directory, server, one, changes)}
                idle = [await _idle_share(pid) for pid in (bridge.pid, server.pid)]
                result |= {
                    "idle_bridge_cpu_percent": round(100 * idle[0], 1),
                    "idle_server_cpu_percent": round(100 * idle[1], 1),
                    "idle_server_cpu_percent_without_bridge": round(100 * alone, 1),
                }
            return {**result, **await _changes(directory, server, one, services, changes)}
    finally:
        bridge.stop()


async def _idle_share(pid: int) -> float:
    """Return the share of a core that a process uses while nothing changes."""
    began, before = time.monotonic(), cpu_seconds(pid)
    await asyncio.sleep(_IDLE_S)
    return (cpu_seconds(pid) - before) / (time.monotonic() - began)


async def _new_services(directory: Path, server: Nacos, one: RawSubscriber, count: int) -> dict[str, float]:
    """Register services that were never there, one at a time; return the time from the write to the subscriber."""
    taken: list[float] = []
    with NacosWriter(directory / f"new-{server.version}", server) as writer:
        for index in range(count):
            name, ip = f"new-{server.version}-{index}", f"10.251.0.{index}"
            began = time.monotonic()
            await asyncio.to_thread(writer.register, name, Instance(ip, 8080))
            received = await one.until(partial(_shows, ip, True))
            taken.append(1000 * (received.at - began))
    return summary(taken)


async def _changes(
    directory: Path, server: Nacos, one: RawSubscriber, services: int, count: int
) -> dict[str, dict[str, float]]:
    """Add an instance to a service and take it away, again and again."""
    chance = random.Random(7)
    totals: list[float] = []
    behind: list[float] = []
    sizes: list[float] = []
    with (
        NacosWriter(directory / f"change-{server.version}", server) as writer,
        NacosWriter(directory / f"listen-{server.version}", server) as listener,
    ):
        for index in range(count):
            service, ip = f"{_PREFIX}{chance.randrange(services)}", f"10.250.0.{index}"
            await asyncio.to_thread(listener.subscribe, service)
            for there in (True, False):
                change = writer.register if there else writer.deregister
                began, began_unix = time.monotonic(), time.time()
                await asyncio.to_thread(change, service, Instance(ip, 8080))
                received = await one.until(partial(_shows, ip, there))
                pushed = partial(_told, service, ip, there, began_unix)
                push = await asyncio.to_thread(listener.wait_for_push, pushed)
                totals.append(1000 * (received.at - began))
                behind.append(1000 * (received.at - began - (push.at - began_unix)))
                sizes.append(received.size)
    return {
        "change_ms": summary(totals),
        "change_ms_after_nacos_java_client": summary(behind),
        "change_bytes": summary(sizes),
    }


def _shows(ip: str, there: bool, data: bytes) -> bool:
    # The address, and the tag of the next field.
    return (ip.encode() + b"\x12" in data) == there


def _told(service: str, ip: str, there: bool, since: float, push: Push) -> bool:
    """Tell whether a push since then shows an instance of a service, or shows it gone."""
    if push.service != service or push.at < since:
        return False
    return any(host["ip"] == ip for host in push.instances) == there
