"""N services x M keys in a real etcd, as gRPC's naming writes them: start, memory, CPU, and what one change costs."""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics
import time
from functools import partial
from typing import TYPE_CHECKING

from bench.figures import Timing, say, timed, timings_summary
from bench.forms import measure_form
from bench.load import host
from bench.subscriber import holds, lacks
from tests.rig import build
from tests.rig.etcd import Etcd

if TYPE_CHECKING:
    from pathlib import Path

    from bench.subscriber import RawSubscriber

# Longer than the gap between bursts, so that each change meets quiet, and not in step with anything.
_BETWEEN_CHANGES = (0.6, 1.0)
_PREFIX = "services/"


async def measure(directory: Path, services: int, instances: int, changes: int) -> dict[str, object]:
    """Start an etcd, fill it, start the bridge, and measure."""
    build.part("etcd-3.6")
    with Etcd(directory / "etcd") as server:
        started = time.monotonic()
        server.gateway.fill(_keys(services, instances))
        say(f"{services} x {instances} registered in {time.monotonic() - started:.1f} s")
        result: dict[str, object] = {"services": services, "instances": instances, "load": os.getloadavg()[0]}
        source = {"kind": "etcd", "name": "etcd", "address": server.url, "prefixes": {_PREFIX: {"format": "grpc"}}}
        for form in ("delta", "sotw"):
            change = partial(_change, server, services, changes)
            result[form] = await measure_form(directory / form, source, services, form, change)
        return result


def _keys(services: int, instances: int) -> dict[str, str]:
    return {
        _key(service, address): _value(address)
        for service in range(services)
        for each in range(instances)
        for address in [f"{host(service * instances + each)}:{50051 + each}"]
    }


def _key(service: int, address: str) -> str:
    return f"{_PREFIX}example-{service:05}-service/{address}"


def _value(address: str) -> str:
    return json.dumps({"Op": 0, "Addr": address, "Metadata": {"version": "v1", "zone": "z1", "weight": 100}})


async def _change(server: Etcd, services: int, changes: int, one: RawSubscriber) -> tuple[dict[str, object], int]:
    """Add and remove an instance again and again."""
    chance = random.Random(7)
    adds: list[Timing] = []
    removals: list[Timing] = []
    sizes = []
    for index in range(changes):
        address = f"10.250.{index >> 8}.{index & 255}"
        marker = address.encode() + b"\x12"  # the address, and the tag of the next field
        key = _key(chance.randrange(services), f"{address}:50990")
        await asyncio.sleep(chance.uniform(*_BETWEEN_CHANGES))
        put = partial(server.gateway.put, key, _value(f"{address}:50990"))
        received = await timed(put, one, partial(holds, marker), adds)
        sizes.append(received.size)
        await asyncio.sleep(chance.uniform(*_BETWEEN_CHANGES))
        delete = partial(server.gateway.delete, key)
        await timed(delete, one, partial(lacks, marker), removals)
    bytes_per_change = statistics.median(sizes) if sizes else 0
    figures: dict[str, object] = {
        "add": timings_summary(adds),
        "remove": timings_summary(removals),
        "bytes_per_change": bytes_per_change,
    }
    return figures, len(adds) + len(removals)
