"""A Nacos that says what a test wants, over real gRPC.

For what a real one cannot be brought to: pushes that are lost, late or say nothing, lists that slip a service, answers
that are garbled or too large. What a healthy Nacos says is tested on real ones.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from isthmus.adapters.nacos.wire import encode, envelope
from isthmus.protos.nacos_pb2 import Payload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

GROUP = "DEFAULT_GROUP"


def host(address: str, port: int = 8080, **fields: object) -> dict[str, Any]:
    """Return an instance as Nacos writes it."""
    return {"ip": address, "port": port, "weight": 1.0, "healthy": True, "enabled": True, "metadata": {}, **fields}


def info(name: str, hosts: list[dict[str, Any]] | None, made_at: int = 1_000, **fields: object) -> dict[str, Any]:
    """Return a service as Nacos writes it; `made_at`: milliseconds."""
    return {"name": name, "groupName": GROUP, "hosts": hosts, "lastRefTime": made_at, **fields}


class FakeNacos:
    """What it holds is open to the tests.

    listed: the names in the list. services: what subscriptions and queries are answered, by name.
    bodies: whole answers, as bytes, that go out in their place, by message type and name.
    page: how many names a page of the list holds at most.
    asked: (message type, service name or "") of all questions so far; "Unsubscribe" is a type of its own.
    headers: those of all questions so far.
    """

    def __init__(self) -> None:
        self.port = 0
        self.listed: list[str] = []
        self.page = 1_000
        self.services: dict[str, dict[str, Any]] = {}
        self.bodies: dict[tuple[str, str], bytes] = {}
        self.asked: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.replies: list[str] = []
        self._streams: list[asyncio.Queue[bytes]] = []

    def hold(self, name: str, *addresses: str, made_at: int = 1_000) -> None:
        """Have a service, listed, with an instance at each address."""
        self.services[name] = info(name, [host(address) for address in addresses], made_at)
        if name not in self.listed:
            self.listed.append(name)

    def push(self, info: dict[str, Any], kind: str = "NotifySubscriberRequest") -> None:
        """Send something to all clients."""
        message = encode(kind, {"requestId": str(len(self.replies)), "serviceInfo": info})
        for stream in self._streams:
            stream.put_nowait(message)

    def count(self, kind: str, name: str = "") -> int:
        """Return how often something was asked."""
        return self.asked.count((kind, name))

    async def request(self, raw: bytes, _: object) -> bytes:
        """Answer a question."""
        kind, text = envelope(raw)
        body = json.loads(text)
        name = body.get("serviceName") or ""
        self.asked.append(("Unsubscribe" if body.get("subscribe") is False else kind, name))
        self.headers.append(dict(Payload.FromString(raw).metadata.headers))
        if (told := self.bodies.get((kind, name))) is not None:
            return _enveloped(kind, told)
        answer: dict[str, Any] = {"resultCode": 200}
        match kind:
            case "ServiceListRequest":
                first = (body["pageNo"] - 1) * self.page
                answer |= {"count": len(self.listed), "serviceNames": self.listed[first : first + self.page]}
            case "SubscribeServiceRequest" | "ServiceQueryRequest":
                answer["serviceInfo"] = self.services.get(name) or info(name, [])
        return _enveloped(kind, json.dumps(answer).encode())

    async def stream(self, requests: AsyncIterator[bytes], context: Any) -> None:
        """Serve one client's stream."""
        pushes: asyncio.Queue[bytes] = asyncio.Queue(100)
        self._streams.append(pushes)

        async def take() -> None:
            async for raw in requests:
                self.replies.append(envelope(raw)[0])

        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(take())
                while True:
                    await context.write(await pushes.get())
        finally:
            self._streams.remove(pushes)


def _enveloped(kind: str, body: bytes) -> bytes:
    payload = Payload()
    # The query's answer is the one that is called otherwise.
    payload.metadata.type = kind.replace("Request", "Response").replace("ServiceQuery", "QueryService")
    payload.body.value = body
    return bytes(payload.SerializeToString())


@asynccontextmanager
async def fake_nacos() -> AsyncIterator[FakeNacos]:
    """Serve a fake on a free port, without HTTP: its gRPC port is the one to name, with `grpcPortOffset` 0."""
    fake = FakeNacos()
    server = grpc.aio.server(options=[("grpc.max_send_message_length", -1)])
    unary: Any = grpc.unary_unary_rpc_method_handler(fake.request)
    stream: Any = grpc.stream_stream_rpc_method_handler(fake.stream)
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler("Request", {"request": unary}),
            grpc.method_handlers_generic_handler("BiRequestStream", {"requestBiStream": stream}),
        )
    )
    fake.port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield fake
    finally:
        await server.stop(None)
