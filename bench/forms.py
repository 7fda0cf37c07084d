"""What every bench of services by name does with a bridge: start it, wait until all are served, then change things."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bench.figures import cpu_seconds, rss_mib, say
from bench.subscriber import subscriber
from tests.rig.bridge import Bridge

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from bench.subscriber import RawSubscriber


async def measure_form(
    directory: Path,
    source: Mapping[str, object],
    services: int,
    form: str,
    change: Callable[[RawSubscriber], Awaitable[tuple[dict[str, object], int]]],
) -> dict[str, object]:
    """Return what the bridge costs until all services are served, and what `change` finds.

    services: how many hosts end with `-service.mesh`. form: `delta` or `sotw`.
    change: changes things; returns figures, and how many changes there were.
    """
    bridge = Bridge(directory, [source])
    started = time.monotonic()
    bridge.launch()
    try:
        async with subscriber(bridge.address, delta=form == "delta") as one:
            first = await one.until(lambda data: data.count(b"-service.mesh") >= services)
            served = {
                "served_seconds": round(first.at - started, 2),
                "first_response_bytes": first.size,
                "rss_mib": round(rss_mib(bridge.pid), 1),
                "cpu_seconds": round(cpu_seconds(bridge.pid), 2),
            }
            say(f"{form}: {served}")
            cpu = cpu_seconds(bridge.pid)
            figures, changes = await change(one)
            used = (cpu_seconds(bridge.pid) - cpu) / max(1, changes)
            more = {"rss_mib_after": round(rss_mib(bridge.pid), 1), "cpu_ms_per_change": round(used * 1000, 1)}
            return {**served, **figures, **more}
    finally:
        bridge.stop()
