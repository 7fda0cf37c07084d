"""State of the world, case by case (reference/xds-conformance.md): what each request is answered with, and what not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from isthmus.mcp.client import ISTIOD_TYPES
from isthmus.mcp.encode import encode_service_entry
from isthmus.mcp.resources import ResourceSet
from tests.protocol.served import entry, serving
from tests.protocol.stream import SERVICE_ENTRIES, Answer, SotwStream

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from tests.protocol.served import Served

# A type whose responses need not be complete, as Envoy's endpoints are.
PARTIAL = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"


async def test_X01_the_first_request_subscribes_to_all(server: Served, sotw: SotwStream) -> None:
    server.publish(entry("b"), entry("a"))
    answer = await sotw.exchange(SERVICE_ENTRIES)
    assert answer.names == ("reg/a", "reg/b")
    assert answer.nonce
    assert answer.version
    server.publish(entry("c"))
    assert (await sotw.read()).names == ("reg/a", "reg/b", "reg/c")


async def test_X01_the_first_request_is_answered_once_synced(stack: AsyncExitStack) -> None:
    server = await stack.enter_async_context(serving(held=True))
    sotw = await stack.enter_async_context(server.stream())
    await sotw.ask(SERVICE_ENTRIES)
    server.publish(entry("a"))
    await server.assert_silent(sotw)
    server.hub.open()
    assert (await sotw.read()).names == ("reg/a",)


async def test_X02_istiod_asks_for_all_its_types_with_nonces_that_nobody_sent(server: Served, sotw: SotwStream) -> None:
    server.publish(entry("a"))
    for number, type_url in enumerate(ISTIOD_TYPES):
        await sotw.ask(type_url, nonce=f"2026-11-21 09:54:40.60920710{number} +0000 UTC m=+0.403045445")
    answers = [await sotw.read() for _ in ISTIOD_TYPES]
    assert sorted(answer.type_url for answer in answers) == sorted(ISTIOD_TYPES)
    assert {answer.type_url: answer.names for answer in answers if answer.names} == {SERVICE_ENTRIES: ("reg/a",)}


async def test_X03_a_version_from_an_earlier_stream_is_answered(
    server: Served, sotw: SotwStream, stack: AsyncExitStack
) -> None:
    server.publish(entry("a"))
    before = await sotw.exchange(SERVICE_ENTRIES)
    again = await stack.enter_async_context(server.stream())
    assert isinstance(again, SotwStream)
    await again.ask(SERVICE_ENTRIES, version=before.version)
    answer = await again.read()
    assert (answer.version, answer.names) == (before.version, ("reg/a",))


async def test_X04_an_acknowledgement_is_met_with_silence(server: Served, sotw: SotwStream) -> None:
    server.publish(entry("a"))
    answer = await sotw.exchange(SERVICE_ENTRIES)
    await server.assert_silent(sotw)
    await sotw.ack(answer)
    await server.assert_silent(sotw)


async def second_answer(server: Served, sotw: SotwStream) -> tuple[Answer, Answer]:
    """Have two responses, of which only the first is acknowledged, by names."""
    server.publish(entry("a"), entry("b"))
    first = await sotw.exchange(SERVICE_ENTRIES, "reg/a")
    server.publish(entry("a", "10.0.0.2"))
    return first, await sotw.read()


async def test_X05_an_older_nonce_acknowledges_nothing(server: Served, sotw: SotwStream) -> None:
    older, newest = await second_answer(server, sotw)
    await sotw.ack(older, "reg/a")
    await sotw.fence()
    # Still unacknowledged: a change waits for the right nonce.
    server.publish(entry("a", "10.0.0.3"))
    await server.assert_waits(sotw)
    await sotw.ack(newest, "reg/a")
    assert (await sotw.read()).addresses("reg/a") == ["10.0.0.3"]


async def test_X06_names_that_come_with_an_older_nonce_are_ignored(server: Served, sotw: SotwStream) -> None:
    older, newest = await second_answer(server, sotw)
    await sotw.ack(older, "reg/a", "reg/b")
    await server.assert_silent(sotw)
    await sotw.ack(newest, "reg/a", "reg/b")
    assert (await sotw.read()).names == ("reg/a", "reg/b")


async def test_X07_an_empty_nonce_begins_anew(server: Served, sotw: SotwStream) -> None:
    server.publish(entry("a"), entry("b"))
    first = await sotw.exchange(SERVICE_ENTRIES, "reg/a")
    await sotw.ask(SERVICE_ENTRIES)
    again = await sotw.read()
    assert again.names == ("reg/a", "reg/b")
    assert again.nonce != first.nonce
    await sotw.ack(again)
    await server.assert_silent(sotw)


async def test_X08_what_is_refused_is_not_sent_again(server: Served, sotw: SotwStream) -> None:
    server.publish(entry("a"))
    await sotw.ask(SERVICE_ENTRIES)
    await sotw.nack(await sotw.read())
    await server.assert_silent(sotw)
    server.hub.changed()
    await server.assert_silent(sotw)
    (stream,) = server.hub.streams.values()
    watch = stream.session.watches[SERVICE_ENTRIES]
    assert (watch.nack, watch.nacks, watch.acked_version) == ("not to our taste", 1, None)


async def test_X09_after_a_refusal_a_new_version_is_pushed(server: Served, sotw: SotwStream) -> None:
    server.publish(entry("a"))
    await sotw.ask(SERVICE_ENTRIES)
    refused = await sotw.read()
    await sotw.nack(refused)
    await server.assert_silent(sotw)
    server.publish(entry("a", "10.0.0.2"))
    better = await sotw.read()
    assert better.version != refused.version
    assert better.addresses("reg/a") == ["10.0.0.2"]


async def test_X10_another_version_without_an_error_is_an_acknowledgement(server: Served, sotw: SotwStream) -> None:
    server.publish(entry("a"))
    await sotw.ask(SERVICE_ENTRIES)
    answer = await sotw.read()
    await sotw.ask(SERVICE_ENTRIES, nonce=answer.nonce, version="an older one")
    await server.assert_silent(sotw)
    (stream,) = server.hub.streams.values()
    watch = stream.session.watches[SERVICE_ENTRIES]
    assert (watch.nacks, watch.awaiting, watch.acked_version) == (0, None, answer.version)


async def test_X11_added_names_are_answered_though_nothing_changed(server: Served, sotw: SotwStream) -> None:
    server.publish(entry("a"), entry("b"), entry("c"))
    answer = await sotw.exchange(SERVICE_ENTRIES, "reg/a")
    assert answer.names == ("reg/a",)
    await sotw.ack(answer, "reg/a", "reg/b")
    assert (await sotw.read()).names == ("reg/a", "reg/b")


@pytest.mark.parametrize("full_state", [True, False])
async def test_X12_removed_names_hear_no_more(stack: AsyncExitStack, *, full_state: bool) -> None:
    resources = ResourceSet(full_state=full_state)
    server = await stack.enter_async_context(serving(others={PARTIAL: resources}))
    sotw = await stack.enter_async_context(server.stream())
    set_entries(server, resources, "a", "b")
    answer = await sotw.exchange(PARTIAL, "reg/a", "reg/b")
    await sotw.ack(answer, "reg/a")
    await server.assert_silent(sotw)
    set_entries(server, resources, "b", address="10.0.0.2")
    await server.assert_silent(sotw)
    set_entries(server, resources, "a", address="10.0.0.3")
    assert (await sotw.read()).names == ("reg/a",)


def set_entries(server: Served, resources: ResourceSet, *names: str, address: str = "10.0.0.1") -> None:
    """Set resources of another type."""
    frames = [encode_service_entry(entry(name, address)) for name in names]
    if resources.update((frame.name, frame) for frame in frames):
        server.hub.changed()


async def test_X13_no_names_after_some_unsubscribe(server: Served, sotw: SotwStream) -> None:
    server.publish(entry("a"), entry("b"))
    answer = await sotw.exchange(SERVICE_ENTRIES, "reg/a")
    await sotw.ack(answer)
    await server.assert_silent(sotw)
    server.publish(entry("a", "10.0.0.2"), entry("c"))
    await server.assert_silent(sotw)
    await sotw.ack(answer, "reg/c")
    assert (await sotw.read()).names == ("reg/c",)


async def test_X13_no_names_after_an_explicit_wildcard_unsubscribe(server: Served, sotw: SotwStream) -> None:
    server.publish(entry("a"))
    answer = await sotw.exchange(SERVICE_ENTRIES, "*")
    await sotw.ack(answer)
    await server.assert_silent(sotw)
    server.publish(entry("b"))
    await server.assert_silent(sotw)


async def test_X14_wildcard_with_and_without_names(server: Served, sotw: SotwStream) -> None:
    server.publish(entry("a"), entry("b"))
    everything = await sotw.exchange(SERVICE_ENTRIES, "*")
    assert everything.names == ("reg/a", "reg/b")
    # A name beside the wildcard takes nothing away,
    await sotw.ack(everything, "*", "reg/a")
    await server.assert_silent(sotw)
    server.publish(entry("c"))
    everything = await sotw.read()
    assert everything.names == ("reg/a", "reg/b", "reg/c")
    # and without the wildcard it is all that is left.
    await sotw.ack(everything, "reg/a")
    only = await sotw.read()
    assert only.names == ("reg/a",)
    await sotw.ack(only, "reg/a")
    server.publish(entry("b", "10.0.0.2"))
    await server.assert_silent(sotw)
    await sotw.ack(only, "*")
    assert (await sotw.read()).names == ("reg/a", "reg/b", "reg/c")


async def test_X15_a_name_that_does_not_exist_yet(server: Served, sotw: SotwStream) -> None:
    server.publish(entry("a"))
    answer = await sotw.exchange(SERVICE_ENTRIES, "reg/later")
    assert answer.names == ()
    await server.assert_silent(sotw)
    server.publish(entry("later"))
    assert (await sotw.read()).names == ("reg/later",)


async def test_X16_one_change_sends_all_of_a_full_state_type(server: Served, sotw: SotwStream) -> None:
    server.publish(entry("a"), entry("b"), entry("c"))
    before = await sotw.exchange(SERVICE_ENTRIES)
    server.publish(entry("b", "10.0.0.2"))
    after = await sotw.read()
    assert after.names == ("reg/a", "reg/b", "reg/c")
    assert [name for name in after.names if after.version_of(name) != before.version_of(name)] == ["reg/b"]


@pytest.mark.parametrize(("full_state", "expected"), [(True, ("reg/a", "reg/b")), (False, ("reg/b",))])
async def test_X16_one_change_among_names(
    stack: AsyncExitStack, *, full_state: bool, expected: tuple[str, ...]
) -> None:
    resources = ResourceSet(full_state=full_state)
    server = await stack.enter_async_context(serving(others={PARTIAL: resources}))
    sotw = await stack.enter_async_context(server.stream())
    set_entries(server, resources, "a", "b", "c")
    await sotw.exchange(PARTIAL, "reg/a", "reg/b")
    set_entries(server, resources, "b", address="10.0.0.2")
    assert (await sotw.read()).names == expected


async def test_X16_a_partial_type_has_no_word_for_what_is_gone(stack: AsyncExitStack) -> None:
    resources = ResourceSet(full_state=False)
    server = await stack.enter_async_context(serving(others={PARTIAL: resources}))
    sotw = await stack.enter_async_context(server.stream())
    set_entries(server, resources, "a", "b")
    await sotw.exchange(PARTIAL, "reg/a", "reg/b")
    resources.update([("reg/a", None)])
    server.hub.changed()
    await server.assert_silent(sotw)
    set_entries(server, resources, "b", address="10.0.0.2")
    assert (await sotw.read()).names == ("reg/b",)


@pytest.mark.parametrize("names", [(), ("reg/a", "reg/b")])
async def test_X17_what_is_gone_is_missing(server: Served, sotw: SotwStream, names: tuple[str, ...]) -> None:
    server.publish(entry("a"), entry("b"))
    await sotw.exchange(SERVICE_ENTRIES, *names)
    server.withdraw("reg/a")
    answer = await sotw.read()
    assert answer.names == ("reg/b",)
    await sotw.ack(answer, *names)
    server.withdraw("reg/b")
    assert (await sotw.read()).names == ()


async def test_X18_equal_content_is_no_change(server: Served, sotw: SotwStream) -> None:
    server.publish(entry("a"))
    answer = await sotw.exchange(SERVICE_ENTRIES)
    assert not server.publish(entry("a"))
    server.hub.changed()
    await server.assert_silent(sotw)
    assert server.shard.service_entries.version == answer.version


async def test_X19_there_and_back_before_the_push_is_no_change(server: Served, sotw: SotwStream) -> None:
    server.publish(entry("a"))
    answer = await sotw.exchange(SERVICE_ENTRIES)
    await server.assert_silent(sotw)
    # In one turn of the loop, so that no push can come between.
    server.publish(entry("a", "10.0.0.2"), entry("b"))
    server.publish(entry("a"))
    server.withdraw("reg/b")
    await server.assert_silent(sotw)
    assert server.shard.service_entries.version == answer.version


async def test_X26_an_unknown_type_is_answered_empty_once(server: Served, sotw: SotwStream) -> None:
    server.publish(entry("a"))
    answer = await sotw.exchange("networking.istio.io/v1/Gateway")
    assert (answer.names, answer.type_url) == ((), "networking.istio.io/v1/Gateway")
    await sotw.ack(answer)
    server.publish(entry("b"))
    server.hub.changed()
    await server.assert_silent(sotw)


@pytest.mark.parametrize("version", ["v1", "v1beta1", "v1alpha3"])
async def test_X65_every_version_of_the_type_url(server: Served, sotw: SotwStream, version: str) -> None:
    server.publish(entry("a", "10.0.0.7"))
    type_url = f"networking.istio.io/{version}/ServiceEntry"
    answer = await sotw.exchange(type_url)
    assert answer.type_url == type_url
    body = answer.resources["reg/a"].body
    assert body.type_url == "type.googleapis.com/istio.networking.v1alpha3.ServiceEntry"
    assert answer.addresses("reg/a") == ["10.0.0.7"]
    assert server.shard.service_entries.joined() in answer.data


async def test_X65_the_versions_of_a_type_are_types_of_their_own(server: Served, sotw: SotwStream) -> None:
    server.publish(entry("a"))
    old, new = "networking.istio.io/v1alpha3/ServiceEntry", SERVICE_ENTRIES
    assert (await sotw.exchange(old)).version == (await sotw.exchange(new)).version
    server.publish(entry("b"))
    assert {(await sotw.read()).type_url, (await sotw.read()).type_url} == {old, new}
