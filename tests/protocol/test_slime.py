"""Increments for Slime's istiod on a port that is marked for it, beside the standard forms on others."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import grpc
import pytest

from isthmus.mcp.client import ISTIOD_TYPES
from isthmus.mcp.views import Door, Part
from tests.protocol.served import Served, big_entries, entry, serving
from tests.protocol.slime_client import SlimeClient
from tests.protocol.sources import Sources, on
from tests.protocol.stream import DELTA, SERVICE_ENTRIES, SOTW, node

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AsyncExitStack

SLIME, STANDARD = Door("slime", form="slime"), Door("standard")
# What Slime's client takes at most (slime.md 2.2 rule 8).
SLIME_LIMIT = {"max_receive_message_length": 4 * 1024 * 1024}


@pytest.fixture
async def server() -> AsyncIterator[Served]:
    """Give a server with a port for Slime's istiod and one for any other."""
    async with serving(doors=(SLIME, STANDARD)) as served:
        yield served


@pytest.fixture
async def client(server: Served, stack: AsyncExitStack) -> SlimeClient:
    """Give a client of Slime's kind."""
    return SlimeClient(await stack.enter_async_context(server.stream(SOTW)))


async def test_the_first_response_is_whole_and_later_ones_are_increments(server: Served, client: SlimeClient) -> None:
    server.publish(entry("a"), entry("b"), entry("c"))
    await client.begin()
    assert client.log == [({"reg/a", "reg/b", "reg/c"}, set())]
    server.publish(entry("b", "10.0.0.2"), entry("d"))
    await client.take()
    assert client.log[1:] == [({"reg/b", "reg/d"}, set())]
    assert client.addresses("reg/b") == ["10.0.0.2"]
    server.withdraw("reg/a")
    answer = await client.take()
    assert client.log[2:] == [(set(), {"reg/a"})]
    # A removal is small, and no more than a name.
    (gone,) = answer.resources.values()
    assert not gone.HasField("body")
    assert client.names == {"reg/b", "reg/c", "reg/d"}
    await server.assert_silent(client.stream)


async def test_the_other_forms_beside_it_are_as_ever(
    server: Served, client: SlimeClient, stack: AsyncExitStack
) -> None:
    server.publish(entry("a"), entry("b"))
    plain = await stack.enter_async_context(server.stream(SOTW, port=1))
    delta = await stack.enter_async_context(server.stream(DELTA, port=1))
    # Nothing marks the client of a delta stream either, and nothing has to: delta is one form for all.
    delta_there = await stack.enter_async_context(server.stream(DELTA, port=0))
    await client.begin()
    for stream in (plain, delta, delta_there):
        assert (await stream.exchange(SERVICE_ENTRIES)).names == ("reg/a", "reg/b")
    server.withdraw("reg/a")
    server.publish(entry("b", "10.0.0.2"), entry("c"))
    await client.take()
    assert client.log[-1] == ({"reg/b", "reg/c"}, {"reg/a"})
    assert (await plain.read()).names == ("reg/b", "reg/c")
    for stream in (delta, delta_there):
        answer = await stream.read()
        assert (answer.names, answer.removed) == (("reg/b", "reg/c"), ("reg/a",))


async def test_every_type_is_answered_once_and_no_nonce_is_empty(server: Served, client: SlimeClient) -> None:
    # An empty nonce is not acknowledged, and its acknowledgement would look like a first request: a loop without end.
    await client.begin(*ISTIOD_TYPES)
    assert set(client.store) == set(ISTIOD_TYPES)
    await server.assert_silent(client.stream)
    pushes = list(server.hub.pushes)
    assert len([push for push in pushes if push.type_url in ISTIOD_TYPES]) == len(ISTIOD_TYPES)
    watches = [watch for stream in server.hub.streams.values() for watch in stream.session.watches.values()]
    assert all(watch.last_nonce for watch in watches)


async def test_there_and_back_is_no_increment(server: Served, client: SlimeClient) -> None:
    server.publish(entry("a"))
    await client.begin()
    await server.assert_silent(client.stream)
    server.publish(entry("a", "10.0.0.2"), entry("b"))
    server.publish(entry("a"))
    server.withdraw("reg/b")
    await server.assert_silent(client.stream)
    assert not server.publish(entry("a"))


async def test_X20_changes_while_unacknowledged_are_one_increment(server: Served, client: SlimeClient) -> None:
    server.publish(entry("a"), entry("b"))
    await client.begin()
    server.publish(entry("a", "10.0.0.2"))
    first = await client.take(acknowledge=False)
    for address in ("10.0.0.3", "10.0.0.4"):
        server.publish(entry("a", address))
        server.withdraw("reg/b")
        await server.assert_waits(client.stream)
        server.publish(entry("b", address))
    await client.acknowledge(first)
    await client.take()
    # b went and came again, and is another one now.
    assert client.log[-1] == ({"reg/a", "reg/b"}, set())
    assert client.addresses("reg/a") == client.addresses("reg/b") == ["10.0.0.4"]


async def test_a_random_history_ends_in_what_is_there(server: Served, client: SlimeClient) -> None:
    chance = random.Random(6)
    await client.begin()
    for step in range(60):
        names = chance.sample("abcdefgh", chance.randint(1, 4))
        if chance.random() < 0.4:
            server.withdraw(*(f"reg/{name}" for name in names))
        else:
            server.publish(*(entry(name, f"10.0.0.{chance.randint(1, 3)}") for name in names))
        if step % 5 == 4:
            server.publish(entry("last", f"10.1.0.{step}"))
            while "reg/last" not in client.names or client.addresses("reg/last") != [f"10.1.0.{step}"]:
                await client.take()
    await server.assert_silent(client.stream)
    frames = server.shard.service_entries.frames
    held = {name: resource.metadata.version for name, resource in client.store[SERVICE_ENTRIES].items()}
    assert held == {name: frame.version for name, frame in frames.items()}
    assert all(put or deleted for put, deleted in client.log[1:]), "no increment with nothing in it"


async def test_a_client_that_comes_back_is_given_all_again(server: Served, client: SlimeClient) -> None:
    server.publish(entry("a"), entry("b"))
    await client.begin()
    client.stream.call.cancel()
    async with server.stream(SOTW) as stream:
        again = SlimeClient(stream)
        await again.begin()
        assert again.log == [({"reg/a", "reg/b"}, set())]


@pytest.mark.parametrize(
    ("revision", "names"),
    [
        ("rev1", {"legacy/all.reg", "legacy/one.reg"}),
        ("rev2,rev1", {"legacy/all.reg", "legacy/one.reg", "legacy/two.reg"}),
        ("rev9", {"legacy/all.reg"}),
        # Otherwise than for istiod as it is: no revision is every revision.
        ("", {"legacy/all.reg", "legacy/one.reg", "legacy/two.reg", "legacy/three.reg"}),
    ],
)
async def test_X60_revisions_as_slimes_client_names_them(
    server: Served, stack: AsyncExitStack, revision: str, names: set[str]
) -> None:
    Sources(server).say(on("all.reg"), on("one.reg", "rev1"), on("two.reg", "rev2"), on("three.reg", "rev3"))
    client = SlimeClient(await stack.enter_async_context(server.stream(SOTW)), revision)
    await client.begin()
    assert client.names == names


@pytest.mark.parametrize("revision", ["rev1", "rev2,rev1"])
async def test_X61_a_resource_that_moves_away_is_deleted_and_one_that_comes_is_put(
    server: Served, stack: AsyncExitStack, revision: str
) -> None:
    sources = Sources(server)
    sources.say(on("all.reg"), on("moved.reg", "rev1"))
    client = SlimeClient(await stack.enter_async_context(server.stream(SOTW)), revision)
    other = SlimeClient(await stack.enter_async_context(server.stream(SOTW)), "rev3")
    await client.begin()
    await other.begin()
    sources.say(on("moved.reg", "rev3"))
    await client.take()
    await other.take()
    assert client.log[-1] == (set(), {"legacy/moved.reg"})
    assert other.log[-1] == ({"legacy/moved.reg"}, set())
    sources.say(on("moved.reg", "rev3", address="10.0.0.9"))
    await other.take()
    # What concerns only others is none of the client's: Slime's own server would send it an empty increment.
    await server.assert_silent(client.stream)
    assert len(client.log) == 2


async def test_X47_a_first_response_above_its_limit_is_told_of_and_shards_make_it_fit(
    stack: AsyncExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    shards = tuple(Door(f"slime-{index}", Part(4, index), form="slime") for index in range(4))
    server = await stack.enter_async_context(serving(doors=(SLIME, *shards)))
    server.publish(*big_entries(16, 300_000))
    whole = await stack.enter_async_context(server.stream(SOTW, **SLIME_LIMIT))
    await whole.ask(SERVICE_ENTRIES)
    assert await whole.end() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "more than 4 MiB" in caplog.text
    names: set[str] = set()
    for port in range(1, 5):
        client = SlimeClient(await stack.enter_async_context(server.stream(SOTW, port=port, **SLIME_LIMIT)))
        await client.begin()
        names |= client.names
    assert len(names) == 16


async def test_an_increment_is_as_large_as_the_change(server: Served, client: SlimeClient) -> None:
    server.publish(entry("a"), *big_entries(3))
    await client.begin()
    server.publish(entry("a", "10.0.0.2"))
    assert len((await client.take()).data) < 1_000
    assert len(client.names) == 4


async def test_names_are_refused(server: Served, client: SlimeClient) -> None:
    await client.stream.ask(SERVICE_ENTRIES, "reg/a")
    assert await client.stream.end() is grpc.StatusCode.INVALID_ARGUMENT
    assert server.hub.refused == {"INVALID_ARGUMENT": 1}


async def test_X23_the_node_is_wanted_here_too(server: Served, client: SlimeClient) -> None:
    unnamed = node()
    unnamed.id = ""
    await client.stream.ask(SERVICE_ENTRIES, node=unnamed)
    assert await client.stream.end() is grpc.StatusCode.INVALID_ARGUMENT


async def test_X59_a_held_type_is_silent(stack: AsyncExitStack) -> None:
    server = await stack.enter_async_context(serving(doors=(SLIME,), held=True))
    client = SlimeClient(await stack.enter_async_context(server.stream(SOTW)))
    await client.stream.ask(SERVICE_ENTRIES)
    await server.assert_silent(client.stream)
    server.publish(entry("a"))
    server.hub.open()
    await client.take()
    assert client.log == [({"reg/a"}, set())]
