"""What a client may take and send (reference/xds-conformance.md): what is too much ends one stream, never two."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc
import grpc.aio
import pytest

from isthmus.mcp.hub import Hub
from isthmus.mcp.limits import Limits
from isthmus.mcp.server import Port, serve
from isthmus.mcp.shards import Publication
from isthmus.protos import xds_pb2
from isthmus.registry.errors import ConfigError
from tests.protocol.served import Served, big_entries, entry, serving
from tests.protocol.stream import (
    ANSWER_WITHIN_S,
    DELTA,
    FORMS,
    NODE,
    SERVICE_ENTRIES,
    SOTW,
    Answer,
    RawStream,
    connect,
    open_stream,
)
from tests.rig.wait import wait_for_async

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

GATEWAYS = "networking.istio.io/v1/Gateway"
MILLION = 1_000_000


async def test_X47_a_large_response_is_taken_and_told_of(
    server: Served, stream: RawStream, caplog: pytest.LogCaptureFixture
) -> None:
    server.publish(*big_entries(5))
    answer = await stream.exchange(SERVICE_ENTRIES)
    assert len(answer.data) > 4 * 1024 * 1024
    assert len(answer.names) == 5
    for number in range(3):
        server.publish(*big_entries(5, MILLION + number + 1))
        await stream.ack(await stream.read())
    await server.pushes(SERVICE_ENTRIES, 4)
    told = [record.getMessage() for record in caplog.records if "MiB" in record.getMessage()]
    assert told == [f"a response of {SERVICE_ENTRIES} has {len(answer.data)} bytes, more than 4 MiB"]


async def test_X47_a_client_with_gRPC_s_own_limit_refuses_it_and_others_live(
    server: Served, form: str, stack: AsyncExitStack
) -> None:
    server.publish(entry("a"), *big_entries(5))
    small = await stack.enter_async_context(server.stream(form, max_receive_message_length=4 * 1024 * 1024))
    other = await stack.enter_async_context(server.stream(form))
    await small.ask(SERVICE_ENTRIES)
    assert await small.end() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (await other.exchange(SERVICE_ENTRIES, "reg/a")).names == ("reg/a",)


async def test_X48_a_request_above_the_limit_ends_its_stream_alone(form: str, stack: AsyncExitStack) -> None:
    limits = Limits(request_bytes=1024 * 1024)
    server = await stack.enter_async_context(serving(limits=limits))
    # On one connection, where they are nearest to each other.
    channel = await stack.enter_async_context(connect(server.address))
    other, greedy = open_stream(channel, form), open_stream(channel, form)
    await other.exchange(SERVICE_ENTRIES)
    await greedy.ask(SERVICE_ENTRIES, "x" * limits.request_bytes)
    assert await greedy.end() is grpc.StatusCode.RESOURCE_EXHAUSTED
    await wait_for_async(lambda: len(server.hub.streams) == 1, ANSWER_WITHIN_S, "the end of the stream's state")
    server.publish(entry("a"))
    assert (await other.read()).names == ("reg/a",)
    other.call.cancel()


async def test_X48_a_delta_client_with_100_000_names_may_come_back(server: Served, stack: AsyncExitStack) -> None:
    names = {f"legacy-services/com.example.shop.service.number-{number}.dubbo": "0" * 16 for number in range(100_000)}
    delta = await stack.enter_async_context(server.stream(DELTA))
    request = xds_pb2.DeltaDiscoveryRequest(node=NODE, type_url=SERVICE_ENTRIES, initial_resource_versions=names)
    assert request.ByteSize() > 4 * 1024 * 1024
    await delta.send(request)
    assert len((await delta.read()).removed) == len(names)


async def test_X51_a_flood_of_acknowledgements_is_taken_at_our_speed(form: str, stack: AsyncExitStack) -> None:
    limits = Limits(requests_at_once=100, requests_per_second=200.0)
    too_many = 100
    server = await stack.enter_async_context(serving(limits=limits))
    flood = await stack.enter_async_context(server.stream(form))
    answer = await flood.exchange(SERVICE_ENTRIES)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await send_flood(flood, answer, limits.requests_at_once + too_many)
    assert (await flood.read()).type_url == GATEWAYS
    # That took as long as the allowance says; a slow machine only makes it longer.
    assert loop.time() - began >= too_many / limits.requests_per_second


async def test_X51_a_flood_of_acknowledgements_keeps_no_other_stream_waiting(form: str, stack: AsyncExitStack) -> None:
    # At this speed the flood outlives any test.
    server = await stack.enter_async_context(serving(limits=Limits(requests_at_once=100, requests_per_second=0.1)))
    flood = await stack.enter_async_context(server.stream(form))
    other = await stack.enter_async_context(server.stream(DELTA))
    server.publish(entry("live"), entry("quiet"))
    await other.exchange(SERVICE_ENTRIES, "reg/live")
    answer = await flood.exchange(SERVICE_ENTRIES, "reg/quiet")
    await send_flood(flood, answer, 400, "reg/quiet")
    last = asyncio.create_task(flood.read())
    for number in range(3):
        server.publish(entry("live", f"10.0.0.{number + 2}"))
        await other.ack(await other.read(), "reg/live")
    # The other stream had its answers while the flood stood in line.
    assert not last.done()
    last.cancel()
    await asyncio.wait([last])


async def send_flood(stream: RawStream, answer: Answer, count: int, *names: str) -> None:
    """Acknowledge one answer again and again, and then ask for another type."""
    for _ in range(count):
        await stream.ack(answer, *names)
    await stream.ask(GATEWAYS)


async def test_X52_streams_without_a_first_request_are_closed(stack: AsyncExitStack) -> None:
    # Enough for a client on a busy machine to send its first request in, and all that the others are waited for.
    server = await stack.enter_async_context(serving(limits=Limits(first_request=3.0)))
    others = [await stack.enter_async_context(server.stream(form)) for form in FORMS]
    for other in others:
        await other.exchange(SERVICE_ENTRIES)
    channel = await stack.enter_async_context(connect(server.address))
    idle = [open_stream(channel, form) for form in FORMS for _ in range(100)]
    assert {await stream.end() for stream in idle} == {grpc.StatusCode.DEADLINE_EXCEEDED}
    assert len(server.hub.streams) == len(others)
    assert server.hub.refused == {"DEADLINE_EXCEEDED": len(idle)}
    # One that did ask may be quiet for longer than that.
    server.publish(entry("a"))
    for other in others:
        assert (await other.read()).names == ("reg/a",)


async def test_X53_streams_above_the_limit_are_refused_and_the_old_ones_live(stack: AsyncExitStack, form: str) -> None:
    server = await stack.enter_async_context(serving(limits=Limits(streams=3)))
    old = [await stack.enter_async_context(server.stream(form)) for _ in range(3)]
    for stream in old:
        await stream.exchange(SERVICE_ENTRIES)
    async with server.stream(form) as new:
        assert await new.end() is grpc.StatusCode.RESOURCE_EXHAUSTED
    server.publish(entry("a"))
    for stream in old:
        assert (await stream.read()).names == ("reg/a",)
    old[0].call.cancel()
    await wait_for_async(lambda: len(server.hub.streams) == 2, ANSWER_WITHIN_S, "room for one more")
    async with server.stream(form) as new:
        assert (await new.exchange(SERVICE_ENTRIES)).names == ("reg/a",)


async def test_X55_a_million_names_are_refused(server: Served, form: str, stack: AsyncExitStack) -> None:
    server.publish(entry("live"))
    other = await stack.enter_async_context(server.stream(form))
    await other.exchange(SERVICE_ENTRIES, "reg/live")
    stream = await stack.enter_async_context(server.stream(form))
    await stream.ask(SERVICE_ENTRIES, *(f"reg/{number}" for number in range(MILLION)))
    assert await stream.end() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert server.hub.refused == {"RESOURCE_EXHAUSTED": 1}
    server.publish(entry("live", "10.0.0.2"))
    assert (await other.read()).addresses("reg/live") == ["10.0.0.2"]


async def test_X55_as_many_names_as_are_allowed(server: Served, form: str) -> None:
    most = server.hub.limits.names
    server.publish(entry("7"), entry("live"))
    async with server.stream(form) as stream:
        await stream.ask(SERVICE_ENTRIES, *(f"reg/{number}" for number in range(most)))
        answer = await stream.read()
        assert answer.names == ("reg/7",)
        assert len(answer.removed) == (0 if form == SOTW else most - 1)


async def test_X55_names_that_come_one_after_the_other_are_counted_together(stack: AsyncExitStack) -> None:
    server = await stack.enter_async_context(serving(limits=Limits(names=10)))
    stream = await stack.enter_async_context(server.stream(DELTA))
    for number in range(10):
        await stream.ask(SERVICE_ENTRIES, f"reg/{number}")
        await stream.ack(await stream.read())
    await stream.ask(SERVICE_ENTRIES, "reg/10")
    assert await stream.end() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    ("node", "type_url"),
    [
        (xds_pb2.Node(id="n" * 2_000), SERVICE_ENTRIES),
        (NODE, "t" * 2_000),
        (xds_pb2.Node(id="n", metadata={"filler": "x" * 70_000}), SERVICE_ENTRIES),
    ],
    ids=["node id", "type url", "metadata"],
)
async def test_X56_longer_words_than_anybody_needs_are_refused(
    server: Served, form: str, node: xds_pb2.Node, type_url: str
) -> None:
    async with server.stream(form) as stream:
        await stream.ask(type_url, node=node)
        assert await stream.end() is grpc.StatusCode.INVALID_ARGUMENT
    assert server.hub.refused == {"INVALID_ARGUMENT": 1}


async def test_an_address_that_is_taken_is_named(server: Served) -> None:
    with pytest.raises(ConfigError, match=server.address):
        async with serve(Hub(Publication()), [Port(server.address)]):
            pytest.fail("two servers share one address")
