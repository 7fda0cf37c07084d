"""Health, reflection and channelz over real connections (X64)."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_channelz.v1 import channelz_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from isthmus.mcp import services
from isthmus.mcp.published import ADS
from isthmus.mcp.services import CHANNELZ, HEALTH, REFLECTION, Health, add_services
from isthmus.protos import mcp_pb2, networking_pb2, xds_pb2
from tests.protocol import http2
from tests.protocol.stream import ANSWER_WITHIN_S, connect
from tests.rig.wait import wait_for_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
# HTTP/2's setting of how much may be sent on each stream at first.
INITIAL_WINDOW_SIZE = 4


@asynccontextmanager
async def serving(health: Health, *, channelz: bool = False, listener: str = "") -> AsyncIterator[str]:
    """Give the address of a server that has the standard services and nothing else."""
    server = grpc.aio.server()
    add_services(server, health, channelz=channelz, listener=listener)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)
        await health.ended()


@pytest.fixture
def health() -> Health:
    """Give the health of a process that has not read its sources."""
    return Health()


@pytest.fixture
async def server(health: Health) -> AsyncIterator[str]:
    """Give the address of a server without channelz."""
    async with serving(health, listener="xds") as address:
        yield address


@pytest.fixture
async def channel(server: str) -> AsyncIterator[grpc.aio.Channel]:
    """Give a connection to that server."""
    async with connect(server) as opened:
        yield opened


async def check(channel: grpc.aio.Channel, service: str = "") -> int:
    """Ask for the health of a service."""
    method = channel.unary_unary(f"/{HEALTH}/Check", _bytes, health_pb2.HealthCheckResponse.FromString)
    answer: Any = await method(health_pb2.HealthCheckRequest(service=service), timeout=ANSWER_WITHIN_S)
    status: int = answer.status
    return status


def watch(channel: grpc.aio.Channel, service: str = "") -> Any:
    """Watch the health of a service."""
    method = channel.unary_stream(f"/{HEALTH}/Watch", _bytes, health_pb2.HealthCheckResponse.FromString)
    return method(health_pb2.HealthCheckRequest(service=service))


async def next_of(call: Any) -> int:
    """Return the next status that who watches is told."""
    async with asyncio.timeout(ANSWER_WITHIN_S):
        status: int = (await call.read()).status
    return status


def _bytes(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data


class Reflection:
    """A client as grpcurl is one: it knows nothing of the services but what it is told."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        method: Any = channel.stream_stream(
            f"/{REFLECTION}/ServerReflectionInfo", _bytes, reflection_pb2.ServerReflectionResponse.FromString
        )
        self.call: Any = method()

    async def ask(self, **question: str) -> Any:
        """Ask one question and return the answer."""
        async with asyncio.timeout(ANSWER_WITHIN_S):
            await self.call.write(reflection_pb2.ServerReflectionRequest(**question))
            return await self.call.read()

    async def services(self) -> list[str]:
        """Return the names of the services."""
        answer = await self.ask(list_services="")
        return [service.name for service in answer.list_services_response.service]

    async def describe(self, symbol: str) -> DescriptorPool:
        """Return a pool with nothing in it but what the server sends of a symbol."""
        answer = await self.ask(file_containing_symbol=symbol)
        files = [FileDescriptorProto.FromString(data) for data in answer.file_descriptor_response.file_descriptor_proto]
        pool = DescriptorPool()
        while files:
            names = {file.name for file in files}
            ready = [file for file in files if names.isdisjoint(file.dependency)]
            assert ready, "a file without those that it needs"
            for file in ready:
                pool.Add(file)
                files.remove(file)
        return pool


async def test_X64_health_is_serving_only_when_synced_and_not_while_the_process_ends(health: Health) -> None:
    async with AsyncExitStack() as stack:
        addresses = [await stack.enter_async_context(serving(health)) for _ in range(2)]
        channels = [await stack.enter_async_context(connect(address)) for address in addresses]

        async def checked() -> set[int]:
            return {await check(channel, service) for channel in channels for service in ("", ADS)}

        assert await checked() == {NOT_SERVING}
        health.set(True)
        assert await checked() == {SERVING}
        health.set(False)
        assert await checked() == {NOT_SERVING}
        health.set(True)
        health.stop()
        assert await checked() == {NOT_SERVING}
        health.set(True)
        assert await checked() == {NOT_SERVING}


@pytest.mark.parametrize("service", ["", ADS])
async def test_X64_who_watches_health_is_told_of_each_change(
    health: Health, channel: grpc.aio.Channel, service: str
) -> None:
    call = watch(channel, service)
    assert await next_of(call) == NOT_SERVING
    health.set(False)
    health.set(True)
    assert await next_of(call) == SERVING
    health.set(True)
    health.stop()
    assert await next_of(call) == NOT_SERVING
    call.cancel()


async def test_health_of_a_service_that_is_not_here_is_unknown(channel: grpc.aio.Channel) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await check(channel, "no.such.Service")
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND
    call = watch(channel, "no.such.Service")
    assert await next_of(call) == UNKNOWN
    call.cancel()


async def test_health_of_all_services_is_listed(channel: grpc.aio.Channel) -> None:
    method = channel.unary_unary(f"/{HEALTH}/List", _bytes, health_pb2.HealthListResponse.FromString)
    answer: Any = await method(health_pb2.HealthListRequest(), timeout=ANSWER_WITHIN_S)

    assert {name: one.status for name, one in answer.statuses.items()} == {"": NOT_SERVING, ADS: NOT_SERVING}


async def test_a_watcher_that_takes_nothing_holds_up_nobody(
    health: Health, server: str, channel: grpc.aio.Channel
) -> None:
    async with http2.connect(server) as shut:
        nothing = INITIAL_WINDOW_SIZE.to_bytes(2) + (0).to_bytes(4)
        await shut.send(http2.SETTINGS, payload=nothing)
        await shut.ping(b"settings")
        await shut.open_stream(path=f"/{HEALTH}/Watch")
        await shut.send(http2.DATA, http2.END_STREAM, 1, b"\0" * 5)
        await wait_for_async(lambda: health._streams, ANSWER_WITHIN_S, "the watcher that takes nothing")
        other = watch(channel)
        assert await next_of(other) == NOT_SERVING

        health.set(True)

        assert await next_of(other) == SERVING
        assert await check(channel) == SERVING
        await shut.send(http2.WINDOW_UPDATE, 0, 1, (http2.WINDOW).to_bytes(4))
        told = [(await shut.read_until(http2.DATA)).payload for _ in range(2)]
        assert told == [
            b"\0\0\0\0\2" + _bytes(health_pb2.HealthCheckResponse(status=s)) for s in (NOT_SERVING, SERVING)
        ]
        other.cancel()


async def test_streams_are_bounded_and_those_that_ended_do_not_count(
    health: Health, channel: grpc.aio.Channel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refused: list[tuple[str, ...]] = []
    health.on_refused = lambda *told: refused.append(told)
    monkeypatch.setattr(services, "MOST_STREAMS", 2)
    first, second = watch(channel), watch(channel)
    assert [await next_of(call) for call in (first, second)] == [NOT_SERVING, NOT_SERVING]
    third = Reflection(channel)
    async with asyncio.timeout(ANSWER_WITHIN_S):
        assert await third.call.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    ((listener, peer, *why),) = refused
    assert (listener, peer.rpartition(":")[0]) == ("xds", "ipv4:127.0.0.1")
    assert why == ["RESOURCE_EXHAUSTED", "more than 2 streams of this kind"]

    first.cancel()
    await wait_for_async(lambda: len(health._streams) == 1, ANSWER_WITHIN_S, "end of the first stream")
    assert ADS in await Reflection(channel).services()
    assert await check(channel) == NOT_SERVING
    assert caplog.records == []
    second.cancel()


@pytest.mark.parametrize("method", [f"/{HEALTH}/Check", f"/{HEALTH}/Watch", f"/{REFLECTION}/ServerReflectionInfo"])
async def test_garbage_is_refused_and_leaves_no_traceback(
    channel: grpc.aio.Channel, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    opened: Any = channel
    call = opened.stream_stream(method)()
    await call.write(b"\xff\xff garbage")
    await call.done_writing()

    async with asyncio.timeout(ANSWER_WITHIN_S):
        assert await call.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert caplog.records == []


async def test_reflection_lists_the_services_of_the_port(channel: grpc.aio.Channel) -> None:
    assert await Reflection(channel).services() == [ADS, HEALTH, REFLECTION]


async def test_reflection_describes_discovery_as_it_is_on_the_wire(channel: grpc.aio.Channel) -> None:
    pool: Any = await Reflection(channel).describe(ADS)
    methods = pool.FindServiceByName(ADS).methods_by_name
    assert set(methods) == {"StreamAggregatedResources", "DeltaAggregatedResources"}

    request = GetMessageClass(methods["DeltaAggregatedResources"].input_type)(
        node={"id": "n"}, type_url="t", initial_resource_versions={"a": "1"}, error_detail={"code": 3}
    )
    read = xds_pb2.DeltaDiscoveryRequest.FromString(_bytes(request))
    assert (read.node.id, read.type_url, read.error_detail.code) == ("n", "t", 3)
    assert dict(read.initial_resource_versions) == {"a": "1"}
    response: Any = GetMessageClass(methods["StreamAggregatedResources"].output_type)()
    ours = xds_pb2.DiscoveryResponse(type_url="t", control_plane=xds_pb2.ControlPlane(identifier="us"))
    response.ParseFromString(_bytes(ours))
    assert response.control_plane.identifier == "us"


@pytest.mark.parametrize(
    ("symbol", "ours"),
    [
        ("envoy.config.core.v3.Node", xds_pb2.Node),
        ("google.rpc.Status", xds_pb2.Status),
        ("istio.mcp.v1alpha1.Resource", mcp_pb2.Resource),
        ("istio.networking.v1alpha3.ServiceEntry", networking_pb2.ServiceEntry),
        ("istio.networking.v1alpha3.WorkloadEntry", networking_pb2.WorkloadEntry),
    ],
)
async def test_reflection_knows_what_the_resources_are(channel: grpc.aio.Channel, symbol: str, ours: Any) -> None:
    pool: Any = await Reflection(channel).describe(symbol)
    found = pool.FindMessageTypeByName(symbol)

    assert {field.name: field.number for field in found.fields} == {
        field.name: field.number for field in ours.DESCRIPTOR.fields
    }


async def test_reflection_says_what_it_does_not_know_and_lives_on(channel: grpc.aio.Channel) -> None:
    reflection = Reflection(channel)
    unknown = await reflection.ask(file_containing_symbol="no.such.Message")

    assert unknown.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
    assert ADS in await reflection.services()


async def test_channelz_is_only_where_it_is_given(channel: grpc.aio.Channel) -> None:
    def servers(of: grpc.aio.Channel) -> Any:
        method = of.unary_unary(f"/{CHANNELZ}/GetServers", _bytes, channelz_pb2.GetServersResponse.FromString)
        return method(channelz_pb2.GetServersRequest(), timeout=ANSWER_WITHIN_S)

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await servers(channel)
    assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED

    async with serving(Health(), channelz=True) as address, connect(address) as other:
        assert CHANNELZ in await Reflection(other).services()
        seen = [server.data.calls_started for server in (await servers(other)).server]
        assert max(seen) > 0
