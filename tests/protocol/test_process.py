"""A server's beginning and end, and who else knocks (reference/xds-conformance.md)."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import grpc
import grpc.aio
import pytest

from isthmus.protos import xds_pb2
from tests.protocol import http2
from tests.protocol.served import big_entries, entry, serving
from tests.protocol.stream import ANSWER_WITHIN_S, FORMS, NODE, SERVICE, SERVICE_ENTRIES, SOTW, connect, open_stream
from tests.rig.wait import wait_for_async

if TYPE_CHECKING:
    from tests.protocol.served import Served


async def test_X57_a_server_that_stops_ends_its_streams_and_empties_none(stack: AsyncExitStack, form: str) -> None:
    async with AsyncExitStack() as until_stopped:
        server = await until_stopped.enter_async_context(serving(drain_seconds=0.1))
        server.publish(entry("a"))
        stream = await stack.enter_async_context(server.stream(form))
        await stream.exchange(SERVICE_ENTRIES)
    assert not server.hub.streams
    # `end` fails where one more response comes.
    assert await stream.end() is grpc.StatusCode.UNAVAILABLE


async def test_X57_a_response_on_its_way_still_arrives(stack: AsyncExitStack, form: str) -> None:
    async with AsyncExitStack() as until_stopped:
        server = await until_stopped.enter_async_context(serving(drain_seconds=ANSWER_WITHIN_S))
        server.publish(*big_entries(17))
        stream = await stack.enter_async_context(server.stream(form))
        await stream.ask(SERVICE_ENTRIES)
        await server.subscribed()
        stopping = asyncio.create_task(until_stopped.aclose())
        assert len((await stream.read()).names) == 17
        await stream.call.done_writing()
        # Nobody is left, so that the stop waits no longer.
        await stopping
    assert await stream.end() is grpc.StatusCode.OK


async def test_X57_the_client_is_told_to_go_away_and_nobody_new_is_served() -> None:
    until_stopped = AsyncExitStack()
    server = await until_stopped.enter_async_context(serving(drain_seconds=ANSWER_WITHIN_S))
    async with http2.connect(server.address) as connection:
        await connection.open_stream()
        await connection.message(xds_pb2.DiscoveryRequest(node=NODE, type_url=SERVICE_ENTRIES).SerializeToString())
        await connection.read_until(http2.DATA)
        stopping = asyncio.create_task(until_stopped.aclose())
        frame = await connection.read_until(http2.DATA, http2.GOAWAY)
        assert (frame.kind, frame.error) == (http2.GOAWAY, http2.NO_ERROR)
        await wait_for_async(lambda: refuses(server.address), ANSWER_WITHIN_S, "a closed port")
    await stopping


async def refuses(address: str) -> bool:
    """Tell whether nobody listens any more."""
    host, port = address.split(":")
    try:
        _, writer = await asyncio.open_connection(host, int(port))
    except ConnectionError:
        return True
    writer.close()
    await writer.wait_closed()
    return False


async def test_X58_a_server_with_equal_data_says_the_same(server: Served, stack: AsyncExitStack, form: str) -> None:
    entries = [entry(f"service-{number}", f"10.0.0.{number + 1}") for number in range(50)]
    server.publish(*entries)
    again = await stack.enter_async_context(serving())
    for one in reversed(entries):
        again.publish(one)
    answers = []
    for served in (server, again):
        stream = await stack.enter_async_context(served.stream(form))
        answers.append(await stream.exchange(SERVICE_ENTRIES))
    # Byte for byte, the nonce too: both streams are at their first response.
    assert answers[0].data == answers[1].data
    assert answers[0].version == answers[1].version
    assert server.shard.service_entries.joined() == again.shard.service_entries.joined()


WRONG = [
    "/envoy.service.discovery.v3.ClusterDiscoveryService/StreamClusters",
    "/envoy.service.discovery.v2.AggregatedDiscoveryService/StreamAggregatedResources",
    f"/{SERVICE}/FetchAggregatedResources",
    "/",
]


@pytest.mark.parametrize("path", WRONG)
async def test_X63_a_method_that_is_not_ours(server: Served, path: str) -> None:
    async with connect(server.address) as channel:
        stream = open_stream(channel, SOTW, path)
        await stream.ask(SERVICE_ENTRIES)
        assert await stream.end() is grpc.StatusCode.UNIMPLEMENTED


FOREIGN = {
    "HTTP/1.1": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "gRPC-web": f"POST /{SERVICE}/{SOTW} HTTP/1.1\r\nHost: localhost\r\n"
    "Content-Type: application/grpc-web+proto\r\nContent-Length: 5\r\n\r\n\0\0\0\0\0".encode(),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(506),
}


@pytest.mark.parametrize("words", FOREIGN.values(), ids=FOREIGN)
async def test_X63_another_protocol_is_closed(server: Served, words: bytes) -> None:
    host, port = server.address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(words)
    async with asyncio.timeout(ANSWER_WITHIN_S):
        # gRPC's core says what it speaks, an HTTP/2 SETTINGS frame, and closes.
        answer = await reader.read()
    writer.close()
    assert not answer.startswith(b"HTTP/1")
    for form in FORMS:
        async with server.stream(form) as stream:
            await stream.exchange(SERVICE_ENTRIES)
