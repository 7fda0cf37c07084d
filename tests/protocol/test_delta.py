"""Delta, case by case (reference/xds-conformance.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.protocol.served import Served, entry, serving
from tests.protocol.stream import DELTA, SERVICE_ENTRIES, Answer, DeltaStream

if TYPE_CHECKING:
    from contextlib import AsyncExitStack


async def reconnect(stack: AsyncExitStack, server: Served, versions: dict[str, str], *names: str) -> Answer:
    """Open another stream that brings along what a client has, and return the answer."""
    again = await stack.enter_async_context(server.stream(DELTA))
    assert isinstance(again, DeltaStream)
    await again.change(SERVICE_ENTRIES, subscribe=names, initial=versions)
    return await again.read()


def versions_of(answer: Answer) -> dict[str, str]:
    return {name: answer.version_of(name) for name in answer.names}


async def test_X28_the_first_request_without_names_means_all(server: Served, delta: DeltaStream) -> None:
    server.publish(entry("b"), entry("a"))
    assert (await delta.exchange(SERVICE_ENTRIES)).names == ("reg/a", "reg/b")
    server.publish(entry("c"))
    assert (await delta.read()).names == ("reg/c",)


@pytest.mark.parametrize("names", [(), ("*",), ("reg/equal", "reg/other", "reg/extinct")])
async def test_X29_what_a_client_brings_along_is_compared(
    server: Served, delta: DeltaStream, stack: AsyncExitStack, names: tuple[str, ...]
) -> None:
    server.publish(entry("equal"), entry("other"), entry("extinct"))
    has = versions_of(await delta.exchange(SERVICE_ENTRIES))
    server.withdraw("reg/extinct")
    server.publish(entry("other", "10.0.0.2"))
    answer = await reconnect(stack, server, has, *names)
    assert (answer.names, answer.removed) == (("reg/other",), ("reg/extinct",))


async def test_X29_a_name_of_another_subscription_is_nothing_to_this_one(
    server: Served, delta: DeltaStream, stack: AsyncExitStack
) -> None:
    server.publish(entry("a"), entry("b"))
    has = versions_of(await delta.exchange(SERVICE_ENTRIES))
    again = await stack.enter_async_context(server.stream(DELTA))
    assert isinstance(again, DeltaStream)
    await again.change(SERVICE_ENTRIES, subscribe=["reg/a"], initial=has)
    await again.ack(await again.read())
    server.withdraw("reg/b")
    await server.assert_silent(again)


@pytest.mark.parametrize("names", [(), ("reg/a", "reg/b")])
async def test_X30_another_replica_with_equal_content_sends_nothing_again(
    server: Served, delta: DeltaStream, stack: AsyncExitStack, names: tuple[str, ...]
) -> None:
    server.publish(entry("a"), entry("b", "10.0.0.9"))
    has = versions_of(await delta.exchange(SERVICE_ENTRIES))
    replica = await stack.enter_async_context(serving())
    # Another history, and the same content.
    replica.publish(entry("b"), entry("c"))
    replica.publish(entry("b", "10.0.0.9"))
    replica.withdraw("reg/c")
    replica.publish(entry("a"))
    answer = await reconnect(stack, replica, has, *names)
    # Empty, as only the first answer of a type may be (X42).
    assert (answer.names, answer.removed) == ((), ())


async def test_X31_a_subscription_counts_with_a_stale_nonce(server: Served, delta: DeltaStream) -> None:
    server.publish(entry("a"), entry("b"))
    older = await delta.exchange(SERVICE_ENTRIES, "reg/a")
    server.publish(entry("a", "10.0.0.2"))
    newest = await delta.read()
    await delta.change(SERVICE_ENTRIES, subscribe=["reg/b"], nonce=older.nonce)
    answer = await delta.read()
    assert answer.names == ("reg/b",)
    await delta.change(SERVICE_ENTRIES, unsubscribe=["reg/a"], nonce=newest.nonce)
    await delta.ack(answer)
    server.publish(entry("a", "10.0.0.3"))
    await server.assert_silent(delta)


@pytest.mark.parametrize("first", [(), ("reg/a",)])
async def test_X32_a_known_name_is_sent_again_when_asked_for(
    server: Served, delta: DeltaStream, first: tuple[str, ...]
) -> None:
    server.publish(entry("a"), entry("b"))
    await delta.exchange(SERVICE_ENTRIES, *first)
    await delta.change(SERVICE_ENTRIES, subscribe=["reg/a"])
    assert (await delta.read()).names == ("reg/a",)


async def test_X33_a_missing_name_is_reported_and_sent_when_it_comes(server: Served, delta: DeltaStream) -> None:
    server.publish(entry("a"))
    await delta.ask(SERVICE_ENTRIES, "reg/a", "reg/later")
    answer = await delta.read()
    assert (answer.names, answer.removed) == (("reg/a",), ("reg/later",))
    await delta.ack(answer)
    server.publish(entry("later"))
    answer = await delta.read()
    assert (answer.names, answer.removed) == (("reg/later",), ())


async def test_X34_to_unsubscribe_an_unknown_name_does_nothing(server: Served, delta: DeltaStream) -> None:
    server.publish(entry("a"), entry("b"))
    await delta.exchange(SERVICE_ENTRIES, "reg/a")
    await delta.change(SERVICE_ENTRIES, unsubscribe=["reg/b", "reg/never-heard-of"])
    await server.assert_silent(delta)
    server.publish(entry("a", "10.0.0.2"))
    assert (await delta.read()).names == ("reg/a",)


async def test_X35_a_name_that_falls_back_to_the_wildcard_is_answered(server: Served, delta: DeltaStream) -> None:
    server.publish(entry("a"))
    await delta.exchange(SERVICE_ENTRIES, "*", "reg/a", "reg/missing")
    await delta.change(SERVICE_ENTRIES, unsubscribe=["reg/a"])
    answer = await delta.read()
    assert (answer.names, answer.removed) == (("reg/a",), ())
    await delta.ack(answer)
    await delta.change(SERVICE_ENTRIES, unsubscribe=["reg/missing"])
    answer = await delta.read()
    assert (answer.names, answer.removed) == ((), ("reg/missing",))


async def test_X36_without_the_wildcard_only_names_are_left(server: Served, delta: DeltaStream) -> None:
    server.publish(entry("a"), entry("b"))
    await delta.exchange(SERVICE_ENTRIES, "*", "reg/a")
    await delta.change(SERVICE_ENTRIES, unsubscribe=["*"])
    await server.assert_silent(delta)
    server.publish(entry("b", "10.0.0.2"), entry("c"))
    await server.assert_silent(delta)
    server.withdraw("reg/b")
    await server.assert_silent(delta)
    server.publish(entry("a", "10.0.0.2"))
    assert (await delta.read()).names == ("reg/a",)


async def test_X36_a_name_given_back_with_the_wildcard_is_not_spoken_of_again(
    server: Served, delta: DeltaStream
) -> None:
    await delta.exchange(SERVICE_ENTRIES, "*", "reg/a")
    # Both in one message: the wildcard would have wanted to hear of the name, and is gone.
    await delta.change(SERVICE_ENTRIES, unsubscribe=["reg/a", "*"])
    await server.assert_silent(delta)
    server.publish(entry("a"))
    await server.assert_silent(delta)
    server.withdraw("reg/a")
    await server.assert_silent(delta)


async def test_X37_a_name_beside_the_unspoken_wildcard_takes_nothing_away(server: Served, delta: DeltaStream) -> None:
    server.publish(entry("a"), entry("b"))
    await delta.exchange(SERVICE_ENTRIES)
    await delta.change(SERVICE_ENTRIES, subscribe=["reg/a"])
    await delta.ack(await delta.read())
    server.publish(entry("b", "10.0.0.2"))
    assert (await delta.read()).names == ("reg/b",)


async def test_X38_after_the_last_name_there_is_nothing(server: Served, delta: DeltaStream) -> None:
    server.publish(entry("a"), entry("b"))
    await delta.exchange(SERVICE_ENTRIES, "reg/a")
    await delta.change(SERVICE_ENTRIES, unsubscribe=["reg/a"])
    await server.assert_silent(delta)
    server.publish(entry("a", "10.0.0.2"), entry("c"))
    server.withdraw("reg/b")
    await server.assert_silent(delta)


async def test_X39_a_refused_version_is_not_sent_again_and_not_acknowledged(server: Served, delta: DeltaStream) -> None:
    server.publish(entry("a"))
    good = await delta.exchange(SERVICE_ENTRIES)
    server.publish(entry("a", "10.0.0.2"))
    await delta.nack(await delta.read())
    await server.assert_silent(delta)
    server.hub.changed()
    await server.assert_silent(delta)
    (stream,) = server.hub.streams.values()
    watch = stream.session.watches[SERVICE_ENTRIES]
    assert (watch.nacks, watch.acked_version) == (1, good.version)
    # What was there before the refusal is a new version too.
    server.publish(entry("a"))
    answer = await delta.read()
    assert answer.version_of("reg/a") == good.version_of("reg/a")


async def test_X40_changes_while_a_response_is_unacknowledged_become_one(server: Served, delta: DeltaStream) -> None:
    server.publish(entry("a"), entry("b"), entry("c"))
    await delta.ask(SERVICE_ENTRIES)
    first = await delta.read()
    server.withdraw("reg/a")
    await server.assert_waits(delta)
    server.publish(entry("a", "10.0.0.2"), entry("b", "10.0.0.2"))
    await server.assert_waits(delta)
    server.publish(entry("b"))
    server.withdraw("reg/c")
    await server.assert_waits(delta)
    await delta.ack(first)
    answer = await delta.read()
    # a went and came again: one resource; b is as before: none.
    assert (answer.names, answer.removed) == (("reg/a",), ("reg/c",))
    assert answer.addresses("reg/a") == ["10.0.0.2"]


async def test_X41_what_is_gone_is_reported_once(server: Served, delta: DeltaStream) -> None:
    server.publish(entry("a"), entry("b"))
    await delta.exchange(SERVICE_ENTRIES)
    server.withdraw("reg/a")
    answer = await delta.read()
    assert (answer.names, answer.removed) == ((), ("reg/a",))
    await delta.ack(answer)
    assert not server.withdraw("reg/a")
    server.publish(entry("b", "10.0.0.2"))
    answer = await delta.read()
    assert (answer.names, answer.removed) == (("reg/b",), ())


async def test_X42_only_the_first_answer_may_be_empty(server: Served, delta: DeltaStream) -> None:
    first = await delta.exchange(SERVICE_ENTRIES)
    assert (first.names, first.removed) == ((), ())
    await delta.change(SERVICE_ENTRIES, subscribe=["*"])
    await server.assert_silent(delta)
    server.publish(entry("a"))
    answer = await delta.read()
    assert answer.names == ("reg/a",)
    server.publish(entry("a", "10.0.0.2"), entry("b"))
    server.publish(entry("a"))
    server.withdraw("reg/b")
    await delta.ack(answer)
    await server.assert_silent(delta)


async def test_X42_an_unknown_type_is_answered_empty_once(server: Served, delta: DeltaStream) -> None:
    answer = await delta.exchange("networking.istio.io/v1/Gateway")
    assert (answer.names, answer.removed) == ((), ())
    server.publish(entry("a"))
    await server.assert_silent(delta)
