"""A subscriber of our own: it behaves as istiod does, or speaks delta; for `watch`, the demo, the bench and the tests.

Like istiod's client it asks for all types at once with a nonce that nobody sent, takes each response as the whole
truth, leaves alone what comes with a version it has, and acknowledges everything.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from msgspec import Struct

from isthmus.mcp.published import ADS
from isthmus.mcp.shards import SERVICE_ENTRY_URLS
from isthmus.protos import mcp_pb2, networking_pb2, xds_pb2
from isthmus.registry.errors import SourceUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SERVICE_ENTRY_URL = SERVICE_ENTRY_URLS[0]
# What istiod 1.31 asks for, in its order (istiod-wire.md 1.2).
ISTIOD_TYPES = (
    "core/v1alpha1/MeshConfig",
    "security.istio.io/v1/AuthorizationPolicy",
    "networking.istio.io/v1/DestinationRule",
    "networking.istio.io/v1alpha3/EnvoyFilter",
    "networking.istio.io/v1/Gateway",
    "security.istio.io/v1/PeerAuthentication",
    "networking.istio.io/v1beta1/ProxyConfig",
    "security.istio.io/v1/RequestAuthentication",
    "networking.istio.io/v1/ServiceEntry",
    "networking.istio.io/v1/Sidecar",
    "telemetry.istio.io/v1/Telemetry",
    "extensions.istio.io/v1alpha1/TrafficExtension",
    "networking.istio.io/v1/VirtualService",
    "extensions.istio.io/v1alpha1/WasmPlugin",
    "networking.istio.io/v1/WorkloadEntry",
    "networking.istio.io/v1/WorkloadGroup",
)
NODE_ID = "sidecar~127.0.0.1~isthmus-watch.istio-system~istio-system.svc.cluster.local"

_OPTIONS: list[tuple[str, int]] = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Without this a server that hangs is not noticed, whatever the two above say (registries.md 3, etcd).
    ("grpc.http2.ping_timeout_ms", 10_000),
]

# All that gRPC says of a stream once a write to it failed: the status that the server sent is lost to us then.
_WRITE_FAILED = "Internal error from Core"
_AGAIN_SECONDS = 5.0


class Held(Struct, frozen=True):
    """One resource as the client holds it."""

    name: str
    version: str
    resource: mcp_pb2.Resource

    def service_entry(self) -> networking_pb2.ServiceEntry:
        """Decode the body."""
        return networking_pb2.ServiceEntry.FromString(self.resource.body.value)


class Event(Struct, frozen=True):
    """One thing that a response changed: `op` is add, update or remove; `held` is what stands now, None if removed."""

    op: str
    name: str
    held: Held | None


class Batch(Struct, frozen=True):
    """One response and what it changed; `size` in bytes, `first` for the first of its type on this stream."""

    type_url: str
    version: str
    nonce: str
    count: int
    size: int
    first: bool
    events: tuple[Event, ...]


class Client:
    """One stream and the store behind it."""

    def __init__(self, call: grpc.aio.StreamStreamCall[bytes, bytes], *, delta: bool) -> None:
        self._call = call
        self._delta = delta
        self.store: dict[str, dict[str, Held]] = {}
        self.answered: set[str] = set()

    def cancel(self) -> None:
        """End the stream."""
        self._call.cancel()

    async def subscribe(self, types: tuple[str, ...], revision: str = "") -> None:
        """Ask for all of these types at once; the node goes with the first request only, as istiod's does.

        Raises SourceUnavailable: nobody answers, or the server ended the stream.
        """
        async with self._told():
            for index, type_url in enumerate(types):
                await self._call.write(self._request(type_url, _node(revision) if index == 0 else None))

    def _request(self, type_url: str, node: xds_pb2.Node | None) -> bytes:
        if self._delta:
            return xds_pb2.DeltaDiscoveryRequest(node=node, type_url=type_url).SerializeToString()
        nonce = "never sent by a server"
        return xds_pb2.DiscoveryRequest(node=node, type_url=type_url, response_nonce=nonce).SerializeToString()

    async def batches(self) -> AsyncIterator[Batch]:
        """Yield what each response changed, acknowledging it. Raises SourceUnavailable: the stream broke."""
        async with self._told():
            while isinstance(data := await self._call.read(), bytes):
                yield await self._take(data)
        raise SourceUnavailable(f"the server ended the stream: {await self._status()}")

    @asynccontextmanager
    async def _told(self) -> AsyncIterator[None]:
        """Raise SourceUnavailable, with the server's own words, where the stream turns out to have ended."""
        try:
            yield
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            raise SourceUnavailable(await self._status()) from error

    async def _status(self) -> str:
        """Return how the stream ended, as the server says it, or gRPC where there is no connection to one."""
        code, details = await self._call.code(), await self._call.details()
        return f"{code.name}: {details}" if details else code.name

    async def _take(self, data: bytes) -> Batch:
        batch, acknowledgement = (self._take_delta if self._delta else self._take_sotw)(data)
        await self._call.write(acknowledgement)
        return batch

    def _take_sotw(self, data: bytes) -> tuple[Batch, bytes]:
        response = xds_pb2.DiscoveryResponse.FromString(data)
        listed = {held.name: held for held in map(_held, (one.value for one in response.resources))}
        store = self.store.setdefault(response.type_url, {})
        gone = [name for name in store if name not in listed]
        events = self._apply(store, listed, gone)
        batch = self._batch(response.type_url, response.version_info, response.nonce, len(listed), data, events)
        acknowledgement = xds_pb2.DiscoveryRequest(
            version_info=response.version_info, type_url=response.type_url, response_nonce=response.nonce
        )
        return batch, acknowledgement.SerializeToString()

    def _take_delta(self, data: bytes) -> tuple[Batch, bytes]:
        response = xds_pb2.DeltaDiscoveryResponse.FromString(data)
        listed = {held.name: held for held in map(_held, (one.resource.value for one in response.resources))}
        store = self.store.setdefault(response.type_url, {})
        gone = [name for name in response.removed_resources if name in store]
        events = self._apply(store, listed, gone)
        version, count = response.system_version_info, len(response.resources)
        batch = self._batch(response.type_url, version, response.nonce, count, data, events)
        acknowledgement = xds_pb2.DeltaDiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce)
        return batch, acknowledgement.SerializeToString()

    def _apply(self, store: dict[str, Held], listed: dict[str, Held], gone: list[str]) -> list[Event]:
        events = []
        for name, held in listed.items():
            known = store.get(name)
            if known is None or known.version != held.version:
                store[name] = held
                events.append(Event("update" if known else "add", name, held))
        for name in gone:
            del store[name]
            events.append(Event("remove", name, None))
        return events

    def _batch(self, type_url: str, version: str, nonce: str, count: int, data: bytes, events: list[Event]) -> Batch:
        first = type_url not in self.answered
        self.answered.add(type_url)
        return Batch(type_url, version, nonce, count, len(data), first, tuple(events))


def _held(data: bytes) -> Held:
    resource = mcp_pb2.Resource.FromString(data)
    return Held(resource.metadata.name, resource.metadata.version, resource)


def _node(revision: str) -> xds_pb2.Node:
    node = xds_pb2.Node(id=NODE_ID)
    node.metadata.update({"GENERATOR": "api", **({"ISTIO_REVISION": revision} if revision else {})})
    return node


class Security(Struct, frozen=True):
    """How a subscriber knows the server, and the server it: PEM, all optional but the first.

    ca: vouches for the server. server_name: what its certificate must name; empty: the host that is dialled.
    certificate, key: shown to a server that asks for one.
    """

    ca: bytes
    server_name: str = ""
    certificate: bytes = b""
    key: bytes = b""

    def channel(self, address: str) -> grpc.aio.Channel:
        """Open a connection over TLS."""
        named = [("grpc.ssl_target_name_override", self.server_name)] if self.server_name else []
        credentials = grpc.ssl_channel_credentials(self.ca, self.key or None, self.certificate or None)
        return grpc.aio.secure_channel(address, credentials, options=[*_OPTIONS, *named])


def _plaintext(address: str, authority: str) -> grpc.aio.Channel:
    named = [("grpc.default_authority", authority)] if authority else []
    return grpc.aio.insecure_channel(address, options=[*_OPTIONS, *named])


@asynccontextmanager
async def subscribe(
    address: str,
    types: tuple[str, ...] = ISTIOD_TYPES,
    *,
    delta: bool = False,
    revision: str = "",
    security: Security | None = None,
    authority: str = "",
) -> AsyncIterator[Client]:
    """Open a stream to `host:port`, in plaintext without `security`, and subscribe.

    authority: the name that plaintext calls the server by, as `shard-3-of-16`; empty: `address`. Over TLS it is the
        name in the certificate (`Security`).
    Raises SourceUnavailable: nobody answers there, or not to this one.
    """
    opened = security.channel(address) if security else _plaintext(address, authority)
    async with opened as channel:
        method = "DeltaAggregatedResources" if delta else "StreamAggregatedResources"
        open_stream: Any = channel.stream_stream(f"/{ADS}/{method}", None, None)
        async with _closing(Client(open_stream(), delta=delta)) as client:
            try:
                await client.subscribe(types, revision)
            except SourceUnavailable as error:
                if _WRITE_FAILED in str(error):
                    async with _closing(Client(open_stream(), delta=delta)) as again:
                        await _hear_why(again, types[:1], revision)
                raise
            yield client


@asynccontextmanager
async def _closing(client: Client) -> AsyncIterator[Client]:
    try:
        yield client
    finally:
        client.cancel()


async def _hear_why(client: Client, first: tuple[str, ...], revision: str) -> None:
    """Ask what a server refused once more, and for one type only: what is written before it answers is not lost.

    Raises SourceUnavailable: in its words.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(_AGAIN_SECONDS):
            await client.subscribe(first, revision)
            await anext(client.batches())
