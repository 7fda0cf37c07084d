"""Shards and views over real connections: what each port offers, and what a subscriber makes of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc
import pytest

from isthmus.mcp import pacing
from isthmus.mcp.limits import Limits
from isthmus.mcp.shards import shard_index
from isthmus.mcp.views import Door, Part, View
from isthmus.registry.audience import Audience
from isthmus.registry.policy import Policy
from tests.protocol.served import Served, entry, serving
from tests.protocol.sources import Sources, on
from tests.protocol.stream import ANSWER_WITHIN_S, SERVICE_ENTRIES, SOTW, Answer, RawStream, node
from tests.rig.wait import wait_for_async

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AsyncExitStack


WORKLOADS = "networking.istio.io/v1/WorkloadEntry"
FOUR = tuple(Door(f"four-{index}", Part(4, index)) for index in range(4))
THREE = tuple(Door(f"three-{index}", Part(3, index)) for index in range(3))
NAMES = [f"service-{number}" for number in range(40)]


async def open_all(stack: AsyncExitStack, server: Served, form: str) -> list[RawStream]:
    """Open a stream to every port."""
    ports = range(len(server.addresses))
    return [await stack.enter_async_context(server.stream(form, port=port)) for port in ports]


def names_of(answers: Sequence[Answer]) -> list[str]:
    return [name for answer in answers for name in answer.names]


async def test_two_layouts_at_once_hold_every_resource_once_each(stack: AsyncExitStack, form: str) -> None:
    server = await stack.enter_async_context(serving(doors=(*FOUR, *THREE)))
    server.publish(*map(entry, NAMES))
    streams = await open_all(stack, server, form)
    answers = [await stream.exchange(SERVICE_ENTRIES) for stream in streams]
    everything = sorted(f"reg/{name}" for name in NAMES)
    assert sorted(names_of(answers[:4])) == sorted(names_of(answers[4:])) == everything
    assert all(answer.names for answer in answers)
    # Whatever shard it came from, it is the same resource.
    versions = {(name, answer.version_of(name)) for answer in answers for name in answer.names}
    assert len(versions) == len(NAMES)


async def test_a_change_is_said_by_its_shard_alone(stack: AsyncExitStack, form: str) -> None:
    server = await stack.enter_async_context(serving(doors=(*FOUR, *THREE)))
    server.publish(*map(entry, NAMES))
    streams = await open_all(stack, server, form)
    for stream in streams:
        await stream.exchange(SERVICE_ENTRIES)
    server.publish(entry("service-7", "10.0.0.7"))
    concerned = {shard_index("reg/service-7", 4), 4 + shard_index("reg/service-7", 3)}
    for number in concerned:
        answer = await streams[number].read()
        assert answer.addresses("reg/service-7") == ["10.0.0.7"]
        await streams[number].ack(answer)
    for stream in streams:
        await server.assert_silent(stream)
    assert len(await server.pushes(SERVICE_ENTRIES, len(streams) + 2)) == len(streams) + 2


async def test_all_shards_of_a_subscriber_rest_together(
    stack: AsyncExitStack, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A machine that stands still must not be taken for a client that does not acknowledge.
    monkeypatch.setattr(pacing, "_PATIENCE", 3600.0)
    server = await stack.enter_async_context(serving(doors=FOUR, gap=0.05))
    server.publish(*map(entry, NAMES))
    streams = await open_all(stack, server, form)
    for stream in streams:
        await stream.exchange(SERVICE_ENTRIES)
    busy, idle = ("service-7", "service-8")
    busy_shard, idle_shard = (shard_index(f"reg/{name}", 4) for name in (busy, idle))
    assert busy_shard != idle_shard
    server.publish(entry(busy, "10.0.0.2"))
    first = await streams[busy_shard].read()
    server.publish(entry(idle, "10.0.0.2"))
    (waiting,) = [one for one in server.hub.streams.values() if one.door.part.index == idle_shard]
    await streams[idle_shard].fence()
    assert waiting.session.opens_at() is not None, "what the one shard says has to wait for the other's round"
    acknowledged_at = asyncio.get_running_loop().time()
    await streams[busy_shard].ack(first)
    second = await streams[idle_shard].read()
    assert second.addresses(f"reg/{idle}") == ["10.0.0.2"]
    assert waiting.session.watches[SERVICE_ENTRIES].sent_at >= acknowledged_at + pacing._QUIET


async def test_one_shard_that_does_not_acknowledge_stops_no_other(
    stack: AsyncExitStack, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacing, "_PATIENCE", 0.2)
    server = await stack.enter_async_context(serving(doors=FOUR, gap=0.05))
    server.publish(*map(entry, NAMES))
    streams = await open_all(stack, server, form)
    for stream in streams:
        await stream.exchange(SERVICE_ENTRIES)
    stuck = shard_index("reg/service-7", 4)
    server.publish(*(entry(name, "10.0.0.2") for name in NAMES))
    for number, stream in enumerate(streams):
        answer = await stream.read()
        if number != stuck:
            await stream.ack(answer)
    server.publish(*(entry(name, "10.0.0.3") for name in NAMES))
    for number, stream in enumerate(streams):
        if number != stuck:
            answer = await stream.read()
            assert {address for name in answer.names for address in answer.addresses(name)} == {"10.0.0.3"}


# Views.

TWO = (Policy("zk"), Policy("eureka"))


def say_of_both(server: Served) -> Sources:
    """Have two sources with a service each and one that both know."""
    sources = Sources(server, *TWO)
    sources.say(on("only-zk.reg"), on("both.reg", address="10.0.0.1"))
    sources.say(on("only-eureka.reg"), on("both.reg", address="10.0.0.2"), source="eureka")
    return sources


BOTH, ONLY_ZK, ONLY_EUREKA = "legacy/both.reg", "legacy/only-zk.reg", "legacy/only-eureka.reg"
ZK_DOOR = Door("zk", view=View(audience=Audience(sources=frozenset({"zk"}))))


async def test_a_view_of_one_source_shows_nothing_of_another(stack: AsyncExitStack, form: str) -> None:
    server = await stack.enter_async_context(serving(doors=(Door(), ZK_DOOR)))
    sources = say_of_both(server)
    whole, zk = await open_all(stack, server, form)
    by_metadata = await stack.enter_async_context(server.stream(form))
    everything = await whole.exchange(SERVICE_ENTRIES)
    assert everything.names == (BOTH, ONLY_EUREKA, ONLY_ZK)
    assert everything.addresses(BOTH) == ["10.0.0.1", "10.0.0.2"]
    seen = await zk.exchange(SERVICE_ENTRIES)
    assert seen.names == (BOTH, ONLY_ZK)
    assert seen.addresses(BOTH) == ["10.0.0.1"]
    assert b"10.0.0.2" not in seen.data
    seen = await by_metadata.exchange(SERVICE_ENTRIES, node=node(ISTHMUS_SOURCES="eureka"))
    assert seen.names == (BOTH, ONLY_EUREKA)
    assert seen.addresses(BOTH) == ["10.0.0.2"]
    # And hears nothing of what another says of the same host.
    sources.say(on("both.reg", address="10.0.0.9"), source="eureka")
    assert (await by_metadata.read()).addresses(BOTH) == ["10.0.0.9"]
    assert (await whole.read()).addresses(BOTH) == ["10.0.0.1", "10.0.0.9"]
    await server.assert_silent(zk)


async def test_what_one_of_two_sources_withdraws_is_gone_for_who_sees_only_that_one(
    stack: AsyncExitStack, form: str
) -> None:
    server = await stack.enter_async_context(serving(doors=(Door(), ZK_DOOR)))
    sources = Sources(server, *TWO)
    # Both say the same, so that the whole is the same with one of them or with both.
    sources.say(on("both.reg"), on("rest.reg"))
    sources.say(on("both.reg"), source="eureka")
    whole, zk = await open_all(stack, server, form)
    await whole.exchange(SERVICE_ENTRIES)
    assert (await zk.exchange(SERVICE_ENTRIES)).names == (BOTH, "legacy/rest.reg")
    sources.drop("both.reg")
    answer = await zk.read()
    expected = (("legacy/rest.reg",), ()) if form == SOTW else ((), (BOTH,))
    assert (answer.names, answer.removed) == expected
    await server.assert_silent(whole)


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ("zk, eureka", (BOTH, ONLY_ZK)),
        (["zk"], (BOTH, ONLY_ZK)),
        ("eureka", ()),
        ("", (BOTH, ONLY_ZK)),
    ],
)
async def test_metadata_only_narrows_what_the_port_offers(
    stack: AsyncExitStack, form: str, asked: object, names: tuple[str, ...]
) -> None:
    server = await stack.enter_async_context(serving(doors=(ZK_DOOR,)))
    say_of_both(server)
    stream = await stack.enter_async_context(server.stream(form))
    assert (await stream.exchange(SERVICE_ENTRIES, node=node(ISTHMUS_SOURCES=asked))).names == names


async def test_types_and_namespaces_by_port_and_by_metadata(stack: AsyncExitStack, form: str) -> None:
    offer = View(kinds=frozenset({"ServiceEntry"}), namespaces=frozenset({"reg", "other"}))
    server = await stack.enter_async_context(serving(doors=(Door(view=offer),), held=True))
    server.publish(entry("a"))
    Sources(server).say(on("hidden.reg"))
    stream = await stack.enter_async_context(server.stream(form))
    narrow = await stack.enter_async_context(server.stream(form))
    # A type that is not offered is one that we have nothing of: answered though its like is held.
    assert (await stream.exchange(WORKLOADS)).names == ()
    request = node(ISTHMUS_TYPES="WorkloadEntry", ISTHMUS_NAMESPACES=["reg"])
    assert (await narrow.exchange(SERVICE_ENTRIES, node=request)).names == ()
    server.hub.open()
    assert (await stream.exchange(SERVICE_ENTRIES)).names == ("reg/a",)
    server.publish(entry("b"))
    Sources(server).say(on("hidden-too.reg"))
    assert "reg/b" in (await stream.read()).names
    await server.assert_silent(narrow)


@pytest.mark.parametrize("key", ["ISTHMUS_TYPES", "ISTHMUS_NAMESPACES", "ISTHMUS_SOURCES", "ISTIO_REVISION"])
async def test_metadata_that_is_no_list_of_words(server: Served, stream: RawStream, key: str) -> None:
    await stream.ask(SERVICE_ENTRIES, node=node(**{key: 7}))
    assert await stream.end() is grpc.StatusCode.INVALID_ARGUMENT
    assert key in (await stream.status())[1]
    assert server.hub.refused == {"INVALID_ARGUMENT": 1}


async def test_views_are_bounded_and_those_of_nobody_make_room(stack: AsyncExitStack, form: str) -> None:
    server = await stack.enter_async_context(serving(limits=Limits(views=2)))
    server.publish(entry("a"))
    old = [await stack.enter_async_context(server.stream(form)) for _ in range(3)]
    for number, stream in enumerate(old):
        await stream.exchange(SERVICE_ENTRIES, node=node(ISTIO_REVISION=f"rev-{number % 2}"))
    async with server.stream(form) as new:
        await new.ask(SERVICE_ENTRIES, node=node(ISTIO_REVISION="rev-9"))
        assert await new.end() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "views" in (await new.status())[1]
    assert server.hub.refused == {"RESOURCE_EXHAUSTED": 1}
    server.publish(entry("b"))
    for stream in old:
        answer = await stream.read()
        assert "reg/b" in answer.names
        await stream.ack(answer)
    old[1].call.cancel()
    await wait_for_async(lambda: len(server.hub.streams) == 2, ANSWER_WITHIN_S, "the end of a stream")
    async with server.stream(form) as new:
        answer = await new.exchange(SERVICE_ENTRIES, node=node(ISTIO_REVISION="rev-9"))
        assert answer.names == ("reg/a", "reg/b")


async def test_a_closed_port_says_why_and_the_others_serve(stack: AsyncExitStack, form: str) -> None:
    doors = (Door("closed", closed="the shards were 4 and are 8: run isthmus reshard"), Door("open"))
    server = await stack.enter_async_context(serving(doors=doors))
    server.publish(entry("a"))
    closed, other = await open_all(stack, server, form)
    await closed.ask(SERVICE_ENTRIES)
    assert await closed.end() is grpc.StatusCode.FAILED_PRECONDITION
    assert "isthmus reshard" in (await closed.status())[1]
    assert (await other.exchange(SERVICE_ENTRIES)).names == ("reg/a",)
    assert server.hub.refused == {"FAILED_PRECONDITION": 1}


async def test_the_debug_pages_are_refused_where_they_are_not_given(server: Served) -> None:
    async with server.stream(SOTW) as stream:
        await stream.ask("istio.io/debug/syncz")
        assert await stream.end() is grpc.StatusCode.PERMISSION_DENIED
    assert server.hub.refused == {"PERMISSION_DENIED": 1}
