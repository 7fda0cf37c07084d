"""A raw xDS client for the tests: they say what is sent, and see everything that comes.

Unlike the product's client it acknowledges nothing by itself and keeps no store. Both forms of the protocol have one
face here, so that a test of what they share runs over both.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from msgspec import Struct

from isthmus.mcp.encode import RESOURCE_TYPE
from isthmus.protos import mcp_pb2, networking_pb2, xds_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from google.protobuf import any_pb2
    from google.protobuf.message import Message

SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
SOTW = "StreamAggregatedResources"
DELTA = "DeltaAggregatedResources"
FORMS = (SOTW, DELTA)

SERVICE_ENTRIES = "networking.istio.io/v1/ServiceEntry"
NODE = xds_pb2.Node(id="sidecar~10.0.0.1~istiod.istio-system~istio-system.svc.cluster.local")
NODE.metadata.update({"GENERATOR": "api"})
# Far beyond what any answer takes: who waits that long has found a fault.
ANSWER_WITHIN_S = 120.0

OPTIONS = {
    "grpc.max_receive_message_length": -1,
    "grpc.max_send_message_length": -1,
    # gRPC would share one connection between channels with equal options.
    "grpc.use_local_subchannel_pool": 1,
}


def node(**metadata: object) -> xds_pb2.Node:
    """Make a node like istiod's, with more metadata."""
    made = xds_pb2.Node()
    made.CopyFrom(NODE)
    made.metadata.update(metadata)  # type: ignore[arg-type]
    return made


class Answer(Struct, frozen=True):
    """One response of either form; `names` and `removed` stand as they were sent, duplicates and all."""

    type_url: str
    version: str
    nonce: str
    names: tuple[str, ...]
    removed: tuple[str, ...]
    resources: dict[str, mcp_pb2.Resource]
    data: bytes

    def version_of(self, name: str) -> str:
        """Return the version of one resource."""
        return self.resources[name].metadata.version

    def addresses(self, name: str) -> list[str]:
        """Return the addresses of the endpoints of one ServiceEntry."""
        entry = networking_pb2.ServiceEntry.FromString(self.resources[name].body.value)
        return [endpoint.address for endpoint in entry.endpoints]


class RawStream(ABC):
    """One open stream."""

    def __init__(self, call: grpc.aio.StreamStreamCall[bytes, bytes]) -> None:
        self.call = call
        self._node_sent = False
        self._fences = 0

    @abstractmethod
    async def ask(self, type_url: str, *names: str, node: xds_pb2.Node | None = None, nonce: str = "") -> None:
        """Subscribe to names of a type, none for all; the node goes with the first request only, or where given."""

    @abstractmethod
    async def ack(self, answer: Answer, *names: str, nonce: str | None = None) -> None:
        """Acknowledge an answer; the names are what the protocol wants repeated."""

    @abstractmethod
    async def nack(self, answer: Answer, *names: str) -> None:
        """Say that an answer is not taken."""

    @abstractmethod
    def decode(self, data: bytes) -> Answer:
        """Decode one response."""

    async def send(self, request: Message | bytes) -> None:
        """Send one request as it is; where the stream has ended already, `end` tells how."""
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await self.call.write(request if isinstance(request, bytes) else request.SerializeToString())

    async def read(self) -> Answer:
        """Return the next response."""
        async with asyncio.timeout(ANSWER_WITHIN_S):
            data = await self.call.read()
        assert isinstance(data, bytes), f"the stream ended: {await self.status()}"
        return self.decode(data)

    async def exchange(self, type_url: str, *names: str, node: xds_pb2.Node | None = None) -> Answer:
        """Subscribe, read the answer and acknowledge it."""
        await self.ask(type_url, *names, node=node)
        answer = await self.read()
        assert answer.type_url == type_url
        await self.ack(answer, *names)
        return answer

    async def fence(self) -> None:
        """Prove that nothing else is due now: what is asked for here, a type never asked for before, comes next.

        The server looks at the types in the order in which they were first asked for, so whatever else it had to say
        would come before.
        """
        self._fences += 1
        fence = f"fence/v1/Number{self._fences}"
        await self.ask(fence)
        answer = await self.read()
        assert answer.type_url == fence, f"instead of silence: {answer.type_url} {answer.names} {answer.removed}"
        await self.ack(answer)

    async def status(self) -> tuple[grpc.StatusCode, str]:
        """Wait for the end of the stream and return how it ended."""
        async with asyncio.timeout(ANSWER_WITHIN_S):
            return await self.call.code(), await self.call.details()

    async def end(self) -> grpc.StatusCode:
        """Read until the stream ends, expecting no further response, and return the status."""
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                data = await self.call.read()
            assert not isinstance(data, bytes), f"instead of the end: {self.decode(data)}"
        except grpc.aio.AioRpcError as error:
            return error.code()
        return (await self.status())[0]

    def _node(self, node: xds_pb2.Node | None) -> xds_pb2.Node | None:
        first, self._node_sent = not self._node_sent, True
        return node if node is not None or not first else NODE


class SotwStream(RawStream):
    """State of the world."""

    async def ask(
        self, type_url: str, *names: str, node: xds_pb2.Node | None = None, nonce: str = "", version: str = ""
    ) -> None:
        request = xds_pb2.DiscoveryRequest(
            node=self._node(node),
            type_url=type_url,
            resource_names=names,
            response_nonce=nonce,
            version_info=version,
        )
        await self.send(request)

    async def ack(self, answer: Answer, *names: str, nonce: str | None = None) -> None:
        nonce = answer.nonce if nonce is None else nonce
        await self.ask(answer.type_url, *names, nonce=nonce, version=answer.version)

    async def nack(self, answer: Answer, *names: str, version: str = "") -> None:
        request = xds_pb2.DiscoveryRequest(
            type_url=answer.type_url,
            resource_names=names,
            response_nonce=answer.nonce,
            version_info=version,
            error_detail=xds_pb2.Status(code=3, message="not to our taste"),
        )
        await self.send(request)

    def decode(self, data: bytes) -> Answer:
        response = xds_pb2.DiscoveryResponse.FromString(data)
        resources = [_resource(one) for one in response.resources]
        return Answer(
            response.type_url,
            response.version_info,
            response.nonce,
            tuple(resource.metadata.name for resource in resources),
            (),
            {resource.metadata.name: resource for resource in resources},
            data,
        )


class DeltaStream(RawStream):
    """Delta."""

    async def ask(self, type_url: str, *names: str, node: xds_pb2.Node | None = None, nonce: str = "") -> None:
        await self.change(type_url, subscribe=names, node=node, nonce=nonce)

    async def change(
        self,
        type_url: str,
        *,
        subscribe: Iterable[str] = (),
        unsubscribe: Iterable[str] = (),
        initial: Mapping[str, str] | None = None,
        node: xds_pb2.Node | None = None,
        nonce: str = "",
    ) -> None:
        """Change a subscription."""
        request = xds_pb2.DeltaDiscoveryRequest(
            node=self._node(node),
            type_url=type_url,
            resource_names_subscribe=subscribe,
            resource_names_unsubscribe=unsubscribe,
            initial_resource_versions=initial,
            response_nonce=nonce,
        )
        await self.send(request)

    async def ack(self, answer: Answer, *names: str, nonce: str | None = None) -> None:  # noqa: ARG002 (none repeated)
        await self.change(answer.type_url, nonce=answer.nonce if nonce is None else nonce)

    async def nack(self, answer: Answer, *names: str) -> None:  # noqa: ARG002 (none repeated)
        error = xds_pb2.Status(code=3, message="not to our taste")
        request = xds_pb2.DeltaDiscoveryRequest(
            type_url=answer.type_url, response_nonce=answer.nonce, error_detail=error
        )
        await self.send(request)

    def decode(self, data: bytes) -> Answer:
        response = xds_pb2.DeltaDiscoveryResponse.FromString(data)
        resources = {one.name: _resource(one.resource) for one in response.resources}
        for one in response.resources:
            metadata = resources[one.name].metadata
            assert (one.name, one.version) == (metadata.name, metadata.version or one.version)
        return Answer(
            response.type_url,
            response.system_version_info,
            response.nonce,
            tuple(one.name for one in response.resources),
            tuple(response.removed_resources),
            resources,
            data,
        )


def _resource(outer: any_pb2.Any) -> mcp_pb2.Resource:
    """Decode a resource of istiod's, or name one of Envoy's own, which says its name first and has no version."""
    if outer.type_url == RESOURCE_TYPE:
        return mcp_pb2.Resource.FromString(outer.value)
    name = outer.value[2 : 2 + outer.value[1]].decode()
    return mcp_pb2.Resource(metadata=mcp_pb2.Metadata(name=name), body=outer)


@asynccontextmanager
async def connect(address: str, **options: int) -> AsyncIterator[grpc.aio.Channel]:
    """Give a connection of its own to `host:port`; options are gRPC's, without their prefix."""
    own = OPTIONS | {f"grpc.{name}": value for name, value in options.items()}
    async with grpc.aio.insecure_channel(address, options=list(own.items())) as channel:
        yield channel


def open_stream(channel: grpc.aio.Channel, form: str, path: str | None = None) -> RawStream:
    """Open a stream on a connection, under a path that is not the protocol's where one is given."""
    method: Any = channel.stream_stream(path or f"/{SERVICE}/{form}", None, None)
    return SotwStream(method()) if form == SOTW else DeltaStream(method())
