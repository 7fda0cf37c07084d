"""The bridge without a registry, in a process of its own: its services change at the bench's word.

Arguments: services, instances, shards, how often in seconds connections are pinged, and the gap of rounds in ms. What
it says is JSON, a line each: `ports` once it serves, then an answer to each line that it reads:

    change N            one endpoint of service N gets another address: the monotonic time just before
    acked N             how long after that time the subscriber had acknowledged it, in seconds, and the bytes sent
    storm RATE SECONDS  RATE changes a second, spread over all services, each marked with the time: how many were made
    state               a digest of all names and versions
    pushes              how many responses went out, and how many streams there are
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import sys
import time
from typing import Any

from isthmus.app import Bridge, CatalogSink
from isthmus.config import Config, PushOptions
from isthmus.mcp.limits import Limits
from isthmus.registry.model import Endpoint, Port, Service, WorkloadEntry
from isthmus.registry.policy import Policy

SOURCE = "bench"
NAMESPACE = "legacy"
# Without iptables an Envoy binds the port of a service on loopback.
PORT = 28_081
_TICK = 0.01
_LOOK_S = 0.005


def host(number: int) -> str:
    """Return the host of a service."""
    return f"example-{number:05}-service.mesh"


def marked_now() -> int:
    """Return the time as an endpoint's weight can carry it: monotonic milliseconds."""
    return round(time.monotonic() * 1000)


class Bench:
    """The services, and what is done with them."""

    def __init__(self, bridge: Bridge, services: int, instances: int) -> None:
        self._bridge = bridge
        self._services = services
        self._instances = instances
        self._sink = CatalogSink(bridge.catalog, SOURCE)
        self._generation = 0
        self._turn = itertools.count(1)

    def fill(self) -> None:
        """Report all services."""
        self._bridge.catalog.add_source(Policy(source=SOURCE), required=True, now=time.monotonic())
        self._generation = self._sink.connected()
        self._sink.sync(self._generation, [self._service(number) for number in range(self._services)])

    async def obey(self, line: str) -> dict[str, object]:
        """Do what a line says, and return the answer."""
        command, *numbers = line.split()
        values = [int(number) for number in numbers]
        if command == "change":
            return self._change(values[0])
        if command == "acked":
            return await self._acked(values[0])
        if command == "storm":
            return await self._storm(*values)
        if command == "state":
            return {"state": digest({name: one.frame.version for name, one in self._publication.items()})}
        return {"pushes": sum(self._bridge.hub.pushed.values()), "streams": len(self._bridge.hub.streams)}

    @property
    def _publication(self) -> Any:
        return self._bridge.hub.publication.resources

    def _change(self, number: int) -> dict[str, object]:
        at = time.monotonic()
        self._sink.put(self._generation, self._service(number, last=200 + next(self._turn) % 50))
        return {"at": at}

    async def _acked(self, number: int) -> dict[str, object]:
        """Change, and wait for the acknowledgement of every stream that the change concerned."""
        at = time.monotonic()
        before = self._bridge.hub.pushed_bytes
        self._sink.put(self._generation, self._service(number, last=200 + next(self._turn) % 50))
        while True:
            await asyncio.sleep(_LOOK_S)
            sessions = [stream.session for stream in self._bridge.hub.streams.values()]
            idle = not any(one.awaits() or one.opens_at() is not None for one in sessions)
            if idle and self._bridge.hub.pushed_bytes > before:
                watches = [watch for one in sessions for watch in one.watches.values() if watch.sent_at >= at]
                acked = max(watch.sent_at + watch.ack_seconds for watch in watches) - at
                return {"acked": acked, "bytes": self._bridge.hub.pushed_bytes - before}

    async def _storm(self, rate: int, seconds: int) -> dict[str, object]:
        loop = asyncio.get_running_loop()
        begun, made, late = loop.time(), 0, 0.0
        while made < rate * seconds:
            due = min(rate * seconds, int((loop.time() - begun) * rate))
            for _ in range(due - made):
                number = (made * 7_919) % self._services
                self._sink.put(self._generation, self._service(number, weight=marked_now()))
                made += 1
            before = loop.time()
            await asyncio.sleep(_TICK)
            late = max(late, loop.time() - before - _TICK)
        return {"changes": made, "seconds": round(loop.time() - begun, 2), "loop_late_s": round(late, 3)}

    def _service(self, number: int, *, last: int = 0, weight: int = 100) -> Service:
        """Return a service; `last` is the last byte of its first address, `weight` that endpoint's."""
        places = [f"10.{number // 250 % 250}.{number % 250}.{each + 1}" for each in range(self._instances)]
        if last:
            places[0] = f"10.{number // 250 % 250}.{number % 250}.{last}"
        weights = [weight, *[100] * (self._instances - 1)]
        endpoints = tuple(
            Endpoint(WorkloadEntry(place, (("http", 8080),), weight=worth), place)
            for place, worth in zip(places, weights, strict=True)
        )
        name = host(number)
        return Service(name, f"app:{name}", NAMESPACE, name, (Port(PORT, "http", "HTTP"),), endpoints)


def digest(versions: dict[str, str]) -> str:
    """Return a short word for a state: names and versions."""
    return hashlib.sha256("\n".join(f"{name} {versions[name]}" for name in sorted(versions)).encode()).hexdigest()[:16]


async def main() -> None:
    """Serve until stdin ends."""
    services, instances, shards, keepalive, gap_ms = (int(word) for word in sys.argv[1:])
    push = PushOptions(gap=gap_ms / 1000)
    bridge = Bridge(Config(sources=(), listen="127.0.0.1:0", shards=shards, debug="", push=push))
    bridge.hub.limits = Limits(keepalive=float(keepalive))
    bench = Bench(bridge, services, instances)
    async with bridge.running():
        bench.fill()
        say({"ports": bridge.listening[0].addresses})
        while line := await asyncio.to_thread(sys.stdin.readline):
            say(await bench.obey(line))


def say(answer: dict[str, object]) -> None:
    """Answer."""
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
