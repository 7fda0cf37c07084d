"""10,000 services x 10 endpoints without a registry: what a change costs on the wire, at an istiod, and in a storm."""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics
import sys
import time
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from bench import xds_envoy
from bench.figures import cpu_seconds, rss_mib, say, summary
from bench.subscriber import subscriber
from bench.xds_bridge import ANSWER_S, DEFAULT_GAP_MS, XdsBridge
from tests.rig import build
from tests.rig.adsprobe import AdsProbe
from tests.rig.istiod import Istiod
from tests.rig.lines import LineProcess
from tests.rig.proxy import proxy_to

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from pathlib import Path

    from bench.subscriber import RawSubscriber

SHARDS = (1, 16)
SUBSCRIBERS = 100
STORM_PER_SECOND = 1_000
STORM_SECONDS = 60
QUIET_SECONDS = 180
IDLE_SECONDS = 20
# Twenty times as often as by default: three minutes hold the pings of an hour.
QUICK_KEEPALIVE_S = 1
# Longer than any rest, so that each change meets quiet, and not in step with anything.
_BETWEEN_CHANGES = (1.2, 1.6)


class Crowd(LineProcess):
    """`bench/xds_crowd.py`, running."""

    def __init__(self, directory: Path, address: str, count: int) -> None:
        super().__init__("crowd", [sys.executable, "-m", "bench.xds_crowd", address, str(count)], directory)

    def greeted(self) -> None:
        self.next_line(ANSWER_S)

    async def report(self) -> dict[str, Any]:
        """Return the states of all subscribers and the ages of what came."""
        self.say("report")
        answer: dict[str, Any] = json.loads(await asyncio.to_thread(self.next_line, ANSWER_S))
        return answer


async def measure(directory: Path, services: int, instances: int, changes: int) -> dict[str, object]:
    """Measure all that is promised of the right-hand side."""
    build.part("istiod-1.31")
    build.part("adsprobe-1.31")
    size = (services, instances)
    result: dict[str, object] = {"services": services, "instances": instances, "load": os.getloadavg()[0]}
    for shards in SHARDS:
        place = directory / f"k{shards}"
        result[f"wire_k{shards}"] = await _wire(place / "wire", size, shards, changes)
        say(f"K={shards}: {result[f'wire_k{shards}']}")
        result[f"istiod_k{shards}"] = await _istiod(place / "istiod", size, shards, changes)
        say(f"K={shards}: {result[f'istiod_k{shards}']}")
    result["delta"] = await _delta(directory / "delta", size, changes)
    say(f"delta: {result['delta']}")
    result["storm"] = await _storm(directory / "storm", size)
    say(f"storm: {result['storm']}")
    for gap_ms in (DEFAULT_GAP_MS, 0):
        result[f"envoy_gap_{gap_ms}"] = await xds_envoy.measure(directory / f"envoy-{gap_ms}", gap_ms)
        say(f"envoy: {result[f'envoy_gap_{gap_ms}']}")
    result["quiet"] = await _quiet(directory / "quiet", size)
    result["failover"] = await _failover(directory / "failover", size)
    return result


async def _wire(directory: Path, size: tuple[int, int], shards: int, changes: int) -> dict[str, object]:
    """One endpoint changes: until its whole response is in the hands of a subscriber that asks as istiod does."""
    with XdsBridge(directory, *size, shards) as bridge:
        async with _subscribed(bridge.addresses, delta=False) as streams:
            return await _changes(bridge, streams, changes)


async def _delta(directory: Path, size: tuple[int, int], changes: int) -> dict[str, object]:
    """The same for a delta subscriber."""
    with XdsBridge(directory, *size, 1) as bridge:
        async with _subscribed(bridge.addresses, delta=True) as streams:
            return await _changes(bridge, streams, changes)


@asynccontextmanager
async def _subscribed(addresses: Sequence[str], *, delta: bool) -> AsyncIterator[list[RawSubscriber]]:
    async with AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(subscriber(one, delta=delta)) for one in addresses]
        for stream in streams:
            await stream.until(bool)
        yield streams


async def _changes(bridge: XdsBridge, streams: list[RawSubscriber], changes: int) -> dict[str, object]:
    times, sizes = [], []
    for number in _random_services(changes):
        await asyncio.sleep(random.uniform(*_BETWEEN_CHANGES))
        before = [stream.last for stream in streams]
        at = (await bridge.ask(f"change {number}"))["at"]
        received = await _first_news(streams, before)
        times.append((received.at - at) * 1000)
        sizes.append(received.size)
    return {"socket_ms": _with_p99(times), "bytes": max(sizes)}


async def _first_news(streams: list[RawSubscriber], before: list[Any]) -> Any:
    while True:
        for stream, known in zip(streams, before, strict=True):
            if stream.last is not known:
                return stream.last
        await asyncio.sleep(0.0005)


async def _istiod(directory: Path, size: tuple[int, int], shards: int, changes: int) -> dict[str, object]:
    """One endpoint changes: until a real istiod has stored and acknowledged it, and what that costs istiod."""
    with XdsBridge(directory / "bridge", *size, shards) as bridge:
        started = time.monotonic()
        with Istiod(directory / "istiod", bridge.addresses) as istiod:
            ready = time.monotonic() - started
            await asyncio.sleep(5)
            idle = await _idle_share(istiod)
            acked, sizes = [], []
            cpu, began = cpu_seconds(istiod.pid), time.monotonic()
            for number in _random_services(changes):
                await asyncio.sleep(random.uniform(*_BETWEEN_CHANGES))
                answer = await bridge.ask(f"acked {number}")
                acked.append(answer["acked"] * 1000)
                sizes.append(answer["bytes"])
            used = cpu_seconds(istiod.pid) - cpu - idle * (time.monotonic() - began)
            return {
                "ready_seconds": round(ready, 1),
                "acknowledged_ms": _with_p99(acked),
                "bytes": max(sizes),
                "istiod_cpu_seconds_per_change": round(used / changes, 4),
                "istiod_idle_share": round(idle, 4),
                "istiod_rss_mib": round(rss_mib(istiod.pid)),
            }


async def _idle_share(istiod: Istiod) -> float:
    """Return what share of a core istiod takes while nothing changes."""
    cpu = cpu_seconds(istiod.pid)
    await asyncio.sleep(IDLE_SECONDS)
    return (cpu_seconds(istiod.pid) - cpu) / IDLE_SECONDS


async def _storm(directory: Path, size: tuple[int, int]) -> dict[str, object]:
    """1,000 changes a second for a minute to 100 delta subscribers: what they end with, and how old it was."""
    with ExitStack() as stack:
        bridge = stack.enter_context(XdsBridge(directory / "bridge", *size, 1))
        crowd = stack.enter_context(Crowd(directory / "crowd", bridge.addresses[0], SUBSCRIBERS))
        memory: list[float] = []
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(_watch_memory(bridge, memory))
            made = await bridge.ask(f"storm {STORM_PER_SECOND} {STORM_SECONDS}")
            watching.cancel()
        await asyncio.sleep(5)
        state = (await bridge.ask("state"))["state"]
        report = await crowd.report()
        # The first seconds fill buffers that are then kept.
        kept = memory[10:] or memory
        third = max(1, len(kept) // 3)
        return {
            **made,
            "exact": report["states"].get(state, 0),
            "subscribers": SUBSCRIBERS,
            "age_ms": _with_p99(report["ages_ms"]),
            "rss_mib": {
                "least": round(min(kept), 1),
                "most": round(max(kept), 1),
                "first_third": round(statistics.mean(kept[:third]), 1),
                "last_third": round(statistics.mean(kept[-third:]), 1),
            },
        }


async def _watch_memory(bridge: XdsBridge, memory: list[float]) -> None:
    while True:
        await asyncio.sleep(1)
        memory.append(rss_mib(bridge.process.pid))


async def _quiet(directory: Path, size: tuple[int, int]) -> dict[str, object]:
    """Nothing changes: what goes over the streams of a real istiod, with pings sixty times as often as they are."""
    with (
        XdsBridge(directory / "bridge", *size, SHARDS[-1], keepalive=QUICK_KEEPALIVE_S) as bridge,
        Istiod(directory / "istiod", bridge.addresses),
    ):
        before, cpu = await bridge.ask("pushes"), cpu_seconds(bridge.process.pid)
        await asyncio.sleep(QUIET_SECONDS)
        after = await bridge.ask("pushes")
        return {
            "seconds": QUIET_SECONDS,
            "pushes": after["pushes"] - before["pushes"],
            "streams": [before["streams"], after["streams"]],
            "bridge_cpu_share": round((cpu_seconds(bridge.process.pid) - cpu) / QUIET_SECONDS, 4),
        }


async def _failover(directory: Path, size: tuple[int, int]) -> dict[str, object]:
    """A replica with the same data takes over: what Istio's own client makes of it."""
    with ExitStack() as stack:
        replicas = [stack.enter_context(XdsBridge(directory / name, *size, 1)) for name in ("a", "b")]
        ports = [int(one.addresses[0].rpartition(":")[2]) for one in replicas]
        async with proxy_to("127.0.0.1", ports[0]) as proxy:
            # The proxy is in this loop, so waiting for the client must not hold it up.
            probe = await asyncio.to_thread(stack.enter_context, AdsProbe(directory / "probe", proxy.address))
            before = len(probe.events("add", "update", "remove"))
            proxy.cut()
            proxy.retarget("127.0.0.1", ports[1])
            proxy.heal()
            cut = time.monotonic()
            back = await _when_pushed(replicas[1]) - cut
            await asyncio.sleep(5)
            events = len(probe.events("add", "update", "remove")) - before
            return {"events": events, "back_seconds": round(back, 2), "held": before}


async def _when_pushed(bridge: XdsBridge) -> float:
    """Return when a bridge without subscribers has answered one."""
    while True:
        await asyncio.sleep(0.05)
        if (await bridge.ask("pushes"))["pushes"]:
            return time.monotonic()


def _random_services(count: int) -> Iterator[int]:
    return iter(random.sample(range(1_000), count))


def _with_p99(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {**summary(ordered), "p99": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 2)}
