"""Many delta subscribers in one process, which keep what they are told and say in the end whether all have the same.

Arguments: the address, and how many. On stdout JSON, a line each: `subscribed` once all have everything; then, for each
line that is read, the digest of every subscriber's state, and how old what came was.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from typing import Any

import grpc
import grpc.aio

from bench.xds_process import digest, marked_now
from isthmus.mcp.client import SERVICE_ENTRY_URL
from isthmus.mcp.published import ADS
from isthmus.protos import mcp_pb2, networking_pb2, xds_pb2

# Of each so many subscribers one looks into what it is told, for the age of it.
_LOOKING = 50


class Subscriber:
    """One delta stream and its state."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.versions: dict[str, str] = {}
        self.ages_ms: list[int] = []
        self._answered = False

    async def run(self, address: str, ready: asyncio.Semaphore) -> None:
        """Subscribe, keep and acknowledge, until the server ends."""
        options = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(address, options=options) as channel:
            opened: Any = channel.stream_stream(f"/{ADS}/DeltaAggregatedResources", None, None)
            call = opened()
            node = xds_pb2.Node(id=f"sidecar~10.9.0.{self.number}~bench-{self.number}.bench~bench.svc.cluster.local")
            first = xds_pb2.DeltaDiscoveryRequest(node=node, type_url=SERVICE_ENTRY_URL)
            await call.write(first.SerializeToString())
            while isinstance(data := await call.read(), bytes):
                response = xds_pb2.DeltaDiscoveryResponse.FromString(data)
                self._take(response)
                answer = xds_pb2.DeltaDiscoveryRequest(type_url=SERVICE_ENTRY_URL, response_nonce=response.nonce)
                await call.write(answer.SerializeToString())
                if not self._answered:
                    self._answered = True
                    ready.release()

    def _take(self, response: xds_pb2.DeltaDiscoveryResponse) -> None:
        for one in response.resources:
            self.versions[one.name] = one.version
        for name in response.removed_resources:
            self.versions.pop(name, None)
        if self._answered and self.number % _LOOKING == 0:
            now = marked_now()
            self.ages_ms += [now - _mark(one.resource.value) for one in response.resources]


def _mark(data: bytes) -> int:
    body = mcp_pb2.Resource.FromString(data).body.value
    return max(endpoint.weight for endpoint in networking_pb2.ServiceEntry.FromString(body).endpoints)


async def main() -> None:
    """Subscribe, and report when asked."""
    address, count = sys.argv[1], int(sys.argv[2])
    ready = asyncio.Semaphore(0)
    subscribers = [Subscriber(number) for number in range(count)]
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(one.run(address, ready)) for one in subscribers]
        for _ in subscribers:
            await ready.acquire()
        print(json.dumps({"subscribed": count}), flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            states = Counter(digest(one.versions) for one in subscribers)
            ages = [age for one in subscribers for age in one.ages_ms]
            print(json.dumps({"states": states, "ages_ms": ages}), flush=True)
        for task in running:
            task.cancel()


if __name__ == "__main__":
    asyncio.run(main())
