"""What no client should send: refused or bounded, counted, and no hindrance to the changes of the others."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, TypeAlias

import grpc
import pytest

from isthmus.mcp.limits import Limits
from isthmus.protos import xds_pb2
from tests.protocol import http2
from tests.protocol.served import Served, big_entries, entry, serving
from tests.protocol.stream import (
    ANSWER_WITHIN_S,
    DELTA,
    FORMS,
    NODE,
    SERVICE,
    SERVICE_ENTRIES,
    SOTW,
    RawStream,
    connect,
    node,
    open_stream,
)
from tests.rig.wait import wait_for_async

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from contextlib import AsyncExitStack

Start: TypeAlias = "Callable[..., Awaitable[Others]]"

GATEWAYS = "networking.istio.io/v1/Gateway"
NARROW = {"http2.bdp_probe": 0, "http2.lookahead_bytes": 65_536}
MILLION = 1_000_000


class Others:
    """A well-behaved stream beside those that are not."""

    def __init__(self, server: Served, stack: AsyncExitStack, stream: RawStream) -> None:
        self.server = server
        self.stack = stack
        self._stream = stream

    async def open(self, form: str, **options: int) -> RawStream:
        """Open a stream for what is bad."""
        return await self.stack.enter_async_context(self.server.stream(form, **options))

    async def live_through(self, bad: Coroutine[None, None, None]) -> None:
        """Do what is bad, and have changes arrive until it is over, and after it."""
        async with asyncio.TaskGroup() as tasks:
            doing = tasks.create_task(bad)
            while not doing.done():
                await self.server.assert_lives(self._stream, times=1)
        await self.server.assert_lives(self._stream)

    async def are_alone(self) -> None:
        """Wait until nothing is left of the bad streams."""
        await wait_for_async(lambda: len(self.server.hub.streams) == 1, ANSWER_WITHIN_S, "the end of all bad streams")


@pytest.fixture
def others(stack: AsyncExitStack) -> Start:
    """Give a function that starts a server with limits, and a good stream to it."""

    async def start(**limits: float) -> Others:
        server = await stack.enter_async_context(serving(limits=Limits(**limits)))  # type: ignore[arg-type]
        server.publish(entry("live"))
        good = await stack.enter_async_context(server.stream(DELTA))
        await good.exchange(SERVICE_ENTRIES, "reg/live", node=node(ISTIO_REVISION="good"))
        return Others(server, stack, good)

    return start


async def test_X56_garbage_requests(others: Start, form: str) -> None:
    beside = await others()
    chance = random.Random(56)

    async def bad() -> None:
        for _ in range(20):
            stream = await beside.open(form)
            await stream.send(b"\xff" + chance.randbytes(chance.randint(1, 200)))
            assert await stream.end() is grpc.StatusCode.INVALID_ARGUMENT

    await beside.live_through(bad())
    await beside.are_alone()
    assert beside.server.hub.refused == {"INVALID_ARGUMENT": 20}


async def test_X56_garbage_in_the_place_of_http2_frames(others: Start) -> None:
    beside = await others()
    chance = random.Random(56)

    async def bad() -> None:
        for number in range(20):
            async with http2.connect(beside.server.address) as connection:
                if number % 2:
                    await connection.open_stream()
                # A frame of a type that has rules, on a stream that has others.
                await connection.send(http2.WINDOW_UPDATE, 0xFF, 3, chance.randbytes(3))
                with pytest.raises((ConnectionResetError, BrokenPipeError)):
                    await connection.read_until()

    await beside.live_through(bad())
    await beside.are_alone()


@pytest.mark.parametrize(
    "message", [b"\x01\0\0\0\x05abcde", b"\0\xff\xff\xff\xff"], ids=["compressed by nothing", "4 GiB announced"]
)
async def test_X56_garbage_in_the_place_of_a_message(others: Start, form: str, message: bytes) -> None:
    beside = await others()

    async def bad() -> None:
        async with http2.connect(beside.server.address) as connection:
            await connection.open_stream(path=f"/{SERVICE}/{form}")
            await connection.send(http2.DATA, 0, 1, message)
            # gRPC's core ends the stream, by a status that nobody else is told of.
            await connection.read_until(http2.HEADERS)
            await beside.are_alone()

    await beside.live_through(bad())


async def test_X23_a_node_without_an_id(others: Start, form: str) -> None:
    beside = await others()

    async def bad() -> None:
        for _ in range(10):
            stream = await beside.open(form)
            await stream.ask(SERVICE_ENTRIES, node=xds_pb2.Node(cluster="istiod"))
            assert await stream.end() is grpc.StatusCode.INVALID_ARGUMENT

    await beside.live_through(bad())
    await beside.are_alone()
    assert beside.server.hub.refused == {"INVALID_ARGUMENT": 10}


async def test_X54_a_hundred_types_on_one_stream(others: Start, form: str) -> None:
    beside = await others()
    request = xds_pb2.DiscoveryRequest if form == SOTW else xds_pb2.DeltaDiscoveryRequest

    async def bad() -> None:
        # By hand: gRPC's client, writing to a stream that has ended meanwhile, may report an error of its own instead.
        async with http2.connect(beside.server.address) as connection:
            await connection.open_stream(path=f"/{SERVICE}/{form}")
            for number in range(100):
                await connection.message(request(node=NODE, type_url=f"{GATEWAYS}{number}").SerializeToString())
            await wait_for_async(lambda: beside.server.hub.refused, ANSWER_WITHIN_S, "a refusal")
            await beside.are_alone()

    await beside.live_through(bad())
    assert beside.server.hub.refused == {"INVALID_ARGUMENT": 1}


async def test_X55_a_million_names_again_and_again(others: Start, form: str) -> None:
    beside = await others(request_bytes=1024 * 1024)
    names = [str(number) for number in range(MILLION)]

    async def bad() -> None:
        for _ in range(2):
            stream = await beside.open(form)
            await stream.ask(SERVICE_ENTRIES, *names)
            assert await stream.end() is grpc.StatusCode.RESOURCE_EXHAUSTED

    await beside.live_through(bad())
    await beside.are_alone()


async def test_X53_a_flood_of_streams(others: Start, form: str) -> None:
    flood, room = 500, 50
    beside = await others(streams=room + 1, first_request=ANSWER_WITHIN_S)

    async def bad() -> None:
        channel = await beside.stack.enter_async_context(connect(beside.server.address))
        streams = [open_stream(channel, form) for _ in range(flood)]
        await wait_for_async(
            lambda: beside.server.hub.refused.total() == flood - room, ANSWER_WITHIN_S, "the refusal of the rest"
        )
        assert len(beside.server.hub.streams) == room + 1
        for stream in streams:
            stream.call.cancel()

    await beside.live_through(bad())
    await beside.are_alone()
    assert beside.server.hub.refused == {"RESOURCE_EXHAUSTED": flood - room}


async def test_X49_clients_that_stop_in_the_middle_of_17_megabytes(others: Start) -> None:
    # Enough for a good client on a busy machine to take a small response in.
    beside = await others(write=5.0)
    beside.server.publish(*big_entries(17))

    async def bad() -> None:
        for form in FORMS:
            stream = await beside.open(form, **NARROW)
            await stream.ask(SERVICE_ENTRIES)
        await wait_for_async(lambda: beside.server.hub.refused.total() == len(FORMS), ANSWER_WITHIN_S, "their end")
        await beside.are_alone()

    await beside.live_through(bad())
    assert beside.server.hub.refused == {"UNAVAILABLE": len(FORMS)}
