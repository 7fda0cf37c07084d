"""How streams end, live and stall (reference/xds-conformance.md): over real sockets, with other streams beside them."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
import weakref
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import grpc
import grpc.aio
import pytest

from isthmus.mcp.hub import Hub
from isthmus.mcp.limits import Limits
from isthmus.mcp.server import _handlers, _Tasks
from isthmus.mcp.shards import Publication
from isthmus.mcp.views import Door
from isthmus.protos import xds_pb2
from tests.protocol import http2
from tests.protocol.proxy import Proxy
from tests.protocol.served import Served, big_entries, entry, serving
from tests.protocol.stream import (
    ANSWER_WITHIN_S,
    DELTA,
    FORMS,
    NODE,
    SERVICE_ENTRIES,
    SOTW,
    RawStream,
    connect,
    open_stream,
)
from tests.rig.wait import wait_for_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AsyncExitStack

    from isthmus.mcp.hub import Stream

# A client that takes 64 KiB of what it does not read, where gRPC's would make room for megabytes on a fast network.
NARROW = {"http2.bdp_probe": 0, "http2.lookahead_bytes": 65_536}


def faults(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged with a traceback or as an error, by us or by gRPC."""
    return [record.getMessage() for record in caplog.records if record.exc_info or record.levelname == "ERROR"]


async def assert_freed(server: Served, freed: weakref.ref[Stream]) -> None:
    """Wait until the server holds nothing of a stream any more."""

    def gone() -> bool:
        gc.collect()
        return freed() is None

    await wait_for_async(gone, ANSWER_WITHIN_S, "the end of a stream's state")


async def test_X43_a_half_closed_stream_ends_well(
    server: Served, stream: RawStream, caplog: pytest.LogCaptureFixture
) -> None:
    server.publish(entry("a"))
    await stream.exchange(SERVICE_ENTRIES)
    freed = weakref.ref(await server.subscribed())
    await stream.call.done_writing()
    assert await stream.end() is grpc.StatusCode.OK
    await assert_freed(server, freed)
    server.publish(entry("b"))
    assert not faults(caplog)


async def test_X43_a_stream_half_closed_in_the_middle_of_a_response_says_nothing_more(
    server: Served, form: str, stack: AsyncExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    server.publish(*big_entries(17))
    stream = await stack.enter_async_context(server.stream(form, **NARROW))
    await stream.ask(SERVICE_ENTRIES)
    await stream.ask("networking.istio.io/v1/Gateway")
    freed = weakref.ref(await server.subscribed())
    await stream.call.done_writing()
    # The state goes before the client has read anything.
    await assert_freed(server, freed)
    assert (await stream.read()).type_url == SERVICE_ENTRIES
    assert await stream.end() is grpc.StatusCode.OK
    assert not faults(caplog)


async def test_X44_a_client_that_leaves_in_the_middle_of_a_large_response(
    server: Served, form: str, stack: AsyncExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    other = await stack.enter_async_context(server.stream(DELTA))
    server.publish(entry("live"))
    await other.exchange(SERVICE_ENTRIES, "reg/live")
    server.publish(*big_entries(17))
    for number in range(2, 7):
        async with server.stream(form, **NARROW) as leaving:
            await leaving.ask(SERVICE_ENTRIES)
            freed = weakref.ref(await server.subscribed(number))
            leaving.call.cancel()
            await assert_freed(server, freed)
    await server.assert_lives(other)
    assert not faults(caplog)
    # One line each at most, and one about the size.
    assert len([record for record in caplog.records if record.name == "isthmus.mcp"]) <= 6


async def test_X44_clients_that_leave_at_any_moment_cause_no_flood_of_errors(
    server: Served, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    server.publish(*big_entries(17, 300_000))
    for number in range(100):
        async with connect(server.address) as channel:
            leaving = open_stream(channel, form)
            await leaving.ask(SERVICE_ENTRIES)
            # Nothing is waited for: this chooses the moment, from before the response begins to after it.
            await asyncio.sleep(number % 20 / 1000)
            if number % 2:
                await leaving.call.done_writing()
            leaving.call.cancel()
    await wait_for_async(lambda: not server.hub.streams, ANSWER_WITHIN_S, "the end of the streams")
    assert not faults(caplog)


async def test_X45_a_connection_that_the_network_swallowed_is_found(stack: AsyncExitStack) -> None:
    # The product's 20 s and 10 s, made short: the first passes in silence, then a ping goes unanswered for the second,
    # which a client on a busy machine must not need for its answers.
    server = await stack.enter_async_context(serving(limits=Limits(keepalive=0.3, keepalive_answer=5.0)))
    other = await stack.enter_async_context(server.stream(DELTA))
    server.publish(entry("live"))
    await other.exchange(SERVICE_ENTRIES, "reg/live")
    proxy = await stack.enter_async_context(Proxy(server.address))
    freed: list[weakref.ref[Stream]] = []
    for number, form in enumerate(FORMS, 2):
        swallowed = await stack.enter_async_context(Served(server.hub, [proxy.address]).stream(form))
        await swallowed.exchange(SERVICE_ENTRIES)
        freed.append(weakref.ref(await server.subscribed(number)))
    # Quiet for long: gRPC's default is to send two pings and then no more.
    quiet_since = proxy.forwarded
    await wait_for_async(lambda: proxy.forwarded >= quiet_since + 16, ANSWER_WITHIN_S, "four pings each, and answers")
    await proxy.freeze()
    for one in freed:
        await assert_freed(server, one)
    # A quiet stream whose client does answer pings lived through all of this.
    assert len(server.hub.streams) == 1
    await server.assert_lives(other)


PING_EVERY_S = 5.1
# gRPC's core takes a ping every 5 min, forgives two, and ends the connection at the third too many; data that it sends
# meanwhile earns a pardon.
PINGS_AT_MOST = 8


@asynccontextmanager
async def default_server() -> AsyncIterator[str]:
    """Give the address of a server that differs from ours in its options alone."""
    hub = Hub(Publication())
    hub.open()
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_handlers(hub, Door(), _Tasks()),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


async def open_quiet_stream(connection: http2.Connection) -> None:
    """Open a stream and subscribe; what comes is not acknowledged, so nothing follows."""
    request = xds_pb2.DiscoveryRequest(node=NODE, type_url=SERVICE_ENTRIES)
    await connection.open_stream()
    await connection.message(request.SerializeToString())
    await connection.read_until(http2.DATA)


async def test_X46_a_quiet_client_that_pings_stays(server: Served, stack: AsyncExitStack) -> None:
    # Only waiting can show that ours stays: it is pinged in step with a server with default options, until that one
    # has ended both of its connections; the one with a stream and the one without are counted apart by gRPC.
    default = await stack.enter_async_context(default_server())
    ours = [await stack.enter_async_context(http2.connect(server.address)) for _ in range(2)]
    theirs = [await stack.enter_async_context(http2.connect(default)) for _ in range(2)]
    await open_quiet_stream(ours[0])
    await open_quiet_stream(theirs[0])
    for number in range(PINGS_AT_MOST):
        payload = b"ping %03d" % number
        for frame in await asyncio.gather(*(connection.ping(payload) for connection in ours)):
            assert frame.kind == http2.PING
        answers = await asyncio.gather(*(connection.ping(payload) for connection in theirs))
        given_up = [frame.error for frame in answers if frame.kind == http2.GOAWAY]
        assert set(given_up) <= {http2.ENHANCE_YOUR_CALM}
        theirs = [one for one, frame in zip(theirs, answers, strict=True) if frame.kind == http2.PING]
        if not theirs:
            return
        await asyncio.sleep(PING_EVERY_S)
    pytest.fail("a server with default options takes these pings too: they prove nothing")


async def test_X49_a_reader_that_stalls_holds_one_response_and_hurts_nobody(
    server: Served, form: str, stack: AsyncExitStack
) -> None:
    other = await stack.enter_async_context(server.stream(DELTA))
    server.publish(entry("live"), *big_entries(5))
    await other.exchange(SERVICE_ENTRIES, "reg/live")
    slow = await stack.enter_async_context(server.stream(form, **NARROW))
    await slow.ask(SERVICE_ENTRIES)
    opened = await server.subscribed(2)
    tracemalloc.start()
    await server.assert_lives(other, times=20)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Twenty changes of five million bytes: a second copy would show.
    assert grown < 5_000_000
    assert opened.sent_responses == 0
    first = await slow.read()
    await slow.ack(first)
    last = await slow.read()
    assert last.addresses("reg/live") != first.addresses("reg/live")
    assert last.version_of("reg/live") == server.shard.service_entries.frames["reg/live"].version
    await slow.ack(last)
    await server.assert_silent(slow)


async def test_X49_a_reader_that_takes_nothing_is_given_up(stack: AsyncExitStack, form: str) -> None:
    server = await stack.enter_async_context(serving(limits=Limits(write=0.3)))
    server.publish(entry("a"), *big_entries(17))
    slow = await stack.enter_async_context(server.stream(form, **NARROW))
    await slow.ask(SERVICE_ENTRIES)
    freed = weakref.ref(await server.subscribed())
    await assert_freed(server, freed)
    # The status stands behind what was written before: gRPC offers a server no way to reset a stream.
    await slow.read()
    assert await slow.end() is grpc.StatusCode.UNAVAILABLE


async def test_X49_where_many_take_nothing_all_of_them_are_given_up_sooner(stack: AsyncExitStack, form: str) -> None:
    hurried = Limits(hurried_write=0.3, unread_bytes=20_000_000)
    server = await stack.enter_async_context(serving(limits=hurried))
    server.publish(entry("a"), *big_entries(17))
    first = await stack.enter_async_context(server.stream(form, **NARROW))
    await first.ask(SERVICE_ENTRIES)
    await server.subscribed()
    second = await stack.enter_async_context(server.stream(form, **NARROW))
    await second.ask(SERVICE_ENTRIES)
    await wait_for_async(lambda: not server.hub.streams, ANSWER_WITHIN_S, "both streams to be given up")
    assert server.hub.refused == {"UNAVAILABLE": 2}
    for stream in (first, second):
        await stream.read()
        assert await stream.end() is grpc.StatusCode.UNAVAILABLE


async def test_X49_a_client_that_opens_no_window_gets_no_more_than_its_window(server: Served) -> None:
    server.publish(*big_entries(17))
    async with http2.connect(server.address) as connection, server.stream(SOTW) as other:
        request = xds_pb2.DiscoveryRequest(node=NODE, type_url=SERVICE_ENTRIES)
        await connection.open_stream()
        await connection.message(request.SerializeToString())
        taken = 0
        while taken < http2.WINDOW:
            taken += len((await connection.read_until(http2.DATA)).payload)
        assert taken == http2.WINDOW
        assert len((await other.exchange(SERVICE_ENTRIES)).names) == 17
        (push,) = await server.pushes(SERVICE_ENTRIES, 1)
        assert push.stream == 2
