"""1,000 changes a second, spread over sixteen shards, on their way through a real istiod to a real Envoy.

Each change marks an endpoint with its time, as its weight. istiod waits for 100 ms of quiet before it tells an Envoy
anything, ten seconds at most: whoever pushes without rests starves the mesh.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from bench.figures import cpu_seconds, summary
from bench.xds_bridge import ANSWER_S, XdsBridge
from bench.xds_process import marked_now
from tests.rig import build
from tests.rig.envoy import Envoy
from tests.rig.istiod import Istiod
from tests.rig.wait import wait_for_async

if TYPE_CHECKING:
    from pathlib import Path

SHARDS = 16
SERVICES = 320
INSTANCES = 2
RATE = 1_000
SECONDS = 40
# What a mark is worth: less is an endpoint that never changed.
_LEAST_MARK = 10_000
_LOOK_S = 0.2


async def measure(directory: Path, gap_ms: int) -> dict[str, object]:
    """Return how old what Envoy used was, each time that it was looked at; with a rest of `gap_ms` between rounds."""
    for part in ("istiod-1.31", "envoy"):
        build.part(part)
    with (
        XdsBridge(directory / "bridge", SERVICES, INSTANCES, SHARDS, gap_ms=gap_ms) as bridge,
        Istiod(directory / "istiod", bridge.addresses) as istiod,
        Envoy(directory / "envoy", istiod.xds_port) as envoy,
    ):
        await _until_known(envoy)
        ages: list[float] = []
        cpu = cpu_seconds(istiod.pid)
        async with asyncio.TaskGroup() as tasks:
            looking = tasks.create_task(_look(envoy, ages))
            made = await bridge.ask(f"storm {RATE} {SECONDS}")
            looking.cancel()
        used = (cpu_seconds(istiod.pid) - cpu) / SECONDS
        return {
            "gap_ms": gap_ms,
            **made,
            "age_s": summary(ages),
            "looks": len(ages),
            "istiod_cpu_share": round(used, 2),
        }


async def _until_known(envoy: Envoy) -> None:
    await wait_for_async(
        lambda: len(_weights(envoy)) == SERVICES * INSTANCES, ANSWER_S, "an Envoy that knows every endpoint"
    )


async def _look(envoy: Envoy, ages: list[float]) -> None:
    """Note the age of the oldest update that Envoy had not got yet, again and again, once all services changed."""
    began = time.monotonic()
    while True:
        await asyncio.sleep(_LOOK_S)
        now = marked_now()
        marks = [weight for weight in await asyncio.to_thread(_weights, envoy) if weight > _LEAST_MARK]
        # Each service changes every so often; until its next change what Envoy has is not old.
        period = SERVICES / RATE
        if len(marks) == SERVICES:
            ages.append(max(0.0, (now - min(marks)) / 1000 - period))
        elif marks or time.monotonic() - began > period:
            ages.append(time.monotonic() - began)


def _weights(envoy: Envoy) -> list[int]:
    clusters: list[dict[str, Any]] = envoy.admin("clusters?format=json").get("cluster_statuses", [])
    ours = [cluster for cluster in clusters if cluster["name"].endswith("-service.mesh")]
    return [status.get("weight", 1) for cluster in ours for status in cluster.get("host_statuses", [])]
