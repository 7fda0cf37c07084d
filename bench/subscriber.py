"""A subscriber that does as little as it can, in a process of its own, so that what is measured is the bridge.

It notes when each response of ServiceEntry is there, which of the sought markers it holds, and acknowledges it.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from msgspec import Struct

from isthmus.mcp.client import ISTIOD_TYPES, SERVICE_ENTRY_URL
from isthmus.mcp.published import ADS
from isthmus.protos import xds_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


# The first response must not wait for the client's back-off while the bridge starts.
_RECONNECT_AT_ONCE = [(f"grpc.{which}_reconnect_backoff_ms", 20) for which in ("initial", "min", "max")]


class Received(Struct, frozen=True):
    """One response of ServiceEntry; `at` is monotonic seconds."""

    at: float
    size: int
    data: bytes


class RawSubscriber:
    """Keeps the newest response and wakes who waits for one."""

    def __init__(self, call: Any, *, delta: bool) -> None:
        self._call = call
        self._delta = delta
        self._arrived = asyncio.Event()
        self.last: Received | None = None

    async def subscribe(self) -> None:
        """Ask for what istiod asks for."""
        node = xds_pb2.Node(id="sidecar~127.0.0.1~bench.istio-system~istio-system.svc.cluster.local")
        request: Any = xds_pb2.DeltaDiscoveryRequest if self._delta else xds_pb2.DiscoveryRequest
        # Only state of the world looks at what comes as istiod's first nonce, which nobody sent.
        for type_url in ISTIOD_TYPES:
            first = request(node=node, type_url=type_url, response_nonce="never sent by a server")
            await self._call.write(first.SerializeToString())

    async def run(self) -> None:
        """Take responses until cancelled."""
        parse: Any = xds_pb2.DeltaDiscoveryResponse if self._delta else xds_pb2.DiscoveryResponse
        acknowledge: Any = xds_pb2.DeltaDiscoveryRequest if self._delta else xds_pb2.DiscoveryRequest
        while isinstance(data := await self._call.read(), bytes):
            at = time.monotonic()
            response = parse.FromString(data)
            if response.type_url == SERVICE_ENTRY_URL:
                self.last = Received(at, len(data), data)
                self._arrived.set()
            answer = acknowledge(type_url=response.type_url, response_nonce=response.nonce)
            await self._call.write(answer.SerializeToString())

    async def until(self, wanted: Callable[[bytes], bool]) -> Received:
        """Return the first response from now on that is as wanted, or the last one if it is."""
        async with asyncio.timeout(60):
            while self.last is None or not wanted(self.last.data):
                self._arrived.clear()
                await self._arrived.wait()
        return self.last


@asynccontextmanager
async def subscriber(address: str, *, delta: bool) -> AsyncIterator[RawSubscriber]:
    """Open a stream and keep it read."""
    options = [("grpc.max_receive_message_length", -1), *_RECONNECT_AT_ONCE]
    method = "DeltaAggregatedResources" if delta else "StreamAggregatedResources"
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        open_stream: Any = channel.stream_stream(f"/{ADS}/{method}", None, None)
        call = open_stream(wait_for_ready=True)
        one = RawSubscriber(call, delta=delta)
        await one.subscribe()
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(one.run())
            try:
                yield one
            finally:
                reading.cancel()
                call.cancel()


def holds(marker: bytes, data: bytes) -> bool:
    """Tell whether a response has a marker."""
    return marker in data


def lacks(marker: bytes, data: bytes) -> bool:
    """Tell whether a response lacks a marker."""
    return marker not in data
