"""N apps x M instances in a real Eureka: start, memory, requests, and how long a change takes.

Eureka pushes nothing, so a change waits for the bridge's next poll, and on a server with Spring's defaults for the
server's own cache before that. The clocks of the two are not in step, so changes come at any time in the period.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import time
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from bench.figures import cpu_seconds, rss_mib, say, summary
from bench.subscriber import holds, lacks, subscriber
from tests.rig import build
from tests.rig.bridge import Bridge
from tests.rig.eureka import Eureka, app_name
from tests.rig.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.subscriber import RawSubscriber
    from tests.rig.eureka import Request

_HEAP = "512m"
_DELTA = "/eureka/apps/delta"
_FULL = "/eureka/apps"
_SERVER_CACHE_S = 30.0
_SLOW_CHANGES = 3
# Else each delta would hold the whole registry for the first three minutes after it was filled.
_SHORT_DELTAS = {
    "eureka.server.retention-time-in-m-s-in-delta-queue": "10000",
    "eureka.server.delta-retention-timer-interval-in-ms": "1000",
}


class _Setting(NamedTuple):
    """form: how the subscriber asks; poll: the bridge's; cache: how old the server's answers can be; seconds."""

    form: str
    poll: float
    cache: float
    changes: int


class _Timing(NamedTuple):
    """When a write began, and when the subscriber had it; monotonic seconds."""

    began: float
    received: float

    @property
    def seconds(self) -> float:
        return self.received - self.began


async def measure(directory: Path, apps: int, instances: int, changes: int) -> dict[str, object]:
    """Start a Eureka, fill it, start the bridge, and measure; then with a server as Spring Cloud ships it."""
    build.part("eureka")
    result: dict[str, object] = {"apps": apps, "instances": instances, "load": os.getloadavg()[0]}
    with Eureka(directory / "fast", heap=_HEAP, properties=_SHORT_DELTAS) as server:
        _fill(server, apps, instances)
        wait_for(lambda: not server.page("apps/delta")["applications"]["application"], 120, "an empty delta")
        for form in ("delta", "sotw"):
            setting = _Setting(form, poll=1.0, cache=0.0, changes=changes)
            result[form] = await _measure_bridge(directory / form, server, apps, setting)
    with Eureka(directory / "defaults", profile="defaults", heap=_HEAP) as server:
        _fill(server, apps, instances)
        setting = _Setting("delta", poll=20.0, cache=_SERVER_CACHE_S, changes=min(changes, _SLOW_CHANGES))
        result["delta, server with its defaults"] = await _measure_bridge(directory / "slow", server, apps, setting)
    return result


def _fill(server: Eureka, apps: int, instances: int) -> None:
    started = time.monotonic()
    server.fill(apps, instances)
    say(f"{apps} x {instances} registered in {time.monotonic() - started:.1f} s")
    wait_for(lambda: len(server.page("apps")["applications"]["application"]) == apps, 120, "all apps in the cache")


async def _measure_bridge(directory: Path, server: Eureka, apps: int, setting: _Setting) -> dict[str, object]:
    bridge = Bridge(directory, [{"kind": "eureka", "name": "eureka", "address": server.address, "poll": setting.poll}])
    started = time.monotonic()
    bridge.launch()
    try:
        async with subscriber(bridge.address, delta=setting.form == "delta") as one:
            first = await one.until(lambda data: _apps_in(data) == apps)
            result: dict[str, object] = {
                "served_seconds": round(first.at - started, 2),
                "first_response_bytes": first.size,
                "rss_mib": round(rss_mib(bridge.pid), 1),
                "cpu_seconds": round(cpu_seconds(bridge.pid), 2),
            }
            say(f"{setting}: {result}")
            began, cpu = time.time(), cpu_seconds(bridge.pid)
            result |= {"poll_seconds": setting.poll, **await _change(server, one, apps, setting)}
            polled = [request for request in server.requests() if request.at >= began * 1000]
            result |= _requests(polled, (time.time() - began) / setting.poll)
            used = (cpu_seconds(bridge.pid) - cpu) / max(1, _count(polled, _DELTA))
            return {**result, "cpu_ms_per_poll": round(used * 1000, 1), "rss_mib_after": round(rss_mib(bridge.pid), 1)}
    finally:
        bridge.stop()


def _apps_in(data: bytes) -> int:
    return len(set(re.findall(rb"example-\d{5}-service", data)))


async def _change(server: Eureka, one: RawSubscriber, apps: int, setting: _Setting) -> dict[str, object]:
    """Add and remove an instance again and again."""
    chance = random.Random(7)
    adds: list[_Timing] = []
    removals: list[_Timing] = []
    for index in range(setting.changes):
        app, ip = app_name(chance.randrange(apps)), f"10.250.{index >> 8}.{index & 255}"
        marker = ip.encode() + b"\x12"  # the address, and the tag of the next field
        await asyncio.sleep(chance.uniform(0, setting.poll))
        adds.append(await _timed(partial(server.register, app, ip, ip=ip), one, partial(holds, marker)))
        await asyncio.sleep(chance.uniform(0, setting.poll))
        removals.append(await _timed(partial(server.cancel, app, ip), one, partial(lacks, marker)))
        say(f"change {index + 1}: {adds[-1].seconds:.2f} s added, {removals[-1].seconds:.2f} s removed")
    asked = [_monotonic(request) for request in server.requests()]
    return {
        "poll_and_cache_seconds": setting.poll * 1.1 + setting.cache,
        "add": _summaries(adds, asked),
        "remove": _summaries(removals, asked),
    }


async def _timed(write: Callable[[], object], one: RawSubscriber, wanted: Callable[[bytes], bool]) -> _Timing:
    began = time.monotonic()
    await asyncio.to_thread(write)
    received = await one.until(wanted)
    return _Timing(began, received.at)


def _monotonic(request: Request) -> float:
    return request.at / 1000 - time.time() + time.monotonic()


def _summaries(timings: list[_Timing], asked: list[float]) -> dict[str, dict[str, float]]:
    """Sum up the times from just before each write, and from the last request before the change was there."""
    return {
        "from_write_seconds": summary(one.seconds for one in timings),
        "from_request_ms": summary(1000 * (one.received - max(filter(one.received.__gt__, asked))) for one in timings),
    }


def _requests(polled: list[Request], periods: float) -> dict[str, object]:
    """Count what the bridge asked; a period is a poll's."""
    deltas = sorted(request.at for request in polled if request.path == _DELTA)
    return {
        "delta_requests_per_period": round(len(deltas) / periods, 2),
        "full_requests_per_period": round(_count(polled, _FULL) / periods, 2),
        "shortest_gap_between_deltas_seconds": min(after - before for before, after in pairwise(deltas)) / 1000,
    }


def _count(polled: list[Request], path: str) -> int:
    return sum(request.path == path for request in polled)
