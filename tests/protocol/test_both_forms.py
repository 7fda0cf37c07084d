"""What state of the world and delta share (reference/xds-conformance.md), run over both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest

from isthmus.mcp.limits import Limits
from isthmus.protos import xds_pb2
from tests.protocol.served import entry, serving
from tests.protocol.stream import NODE, SERVICE_ENTRIES, RawStream

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from tests.protocol.served import Served

GATEWAYS = "networking.istio.io/v1/Gateway"


async def test_X20_changes_while_unacknowledged_are_one_push_after_it(server: Served, stream: RawStream) -> None:
    server.publish(entry("a"))
    await stream.ask(SERVICE_ENTRIES)
    first = await stream.read()
    for address in ("10.0.0.2", "10.0.0.3", "10.0.0.4"):
        server.publish(entry("a", address))
        await server.assert_waits(stream)
    await stream.ack(first)
    latest = await stream.read()
    assert latest.addresses("reg/a") == ["10.0.0.4"]
    await stream.ack(latest)
    await server.assert_silent(stream)


async def test_X20_changes_within_the_gap_are_one_push_after_it(stack: AsyncExitStack, form: str) -> None:
    gap = 0.2
    server = await stack.enter_async_context(serving(gap=gap))
    stream = await stack.enter_async_context(server.stream(form))
    server.publish(entry("a"))
    await stream.exchange(SERVICE_ENTRIES)
    for address in ("10.0.0.2", "10.0.0.3", "10.0.0.4"):
        server.publish(entry("a", address))
    first = await stream.read()
    # The opening of the server was a burst, so these wait for the end of its rest, and the last one wins.
    assert first.addresses("reg/a") == ["10.0.0.4"]
    first_at = server.sent_at(SERVICE_ENTRIES)
    await stream.ack(first)
    server.publish(entry("a", "10.0.0.5"))
    second = await stream.read()
    assert second.addresses("reg/a") == ["10.0.0.5"]
    # The server's own times: when a response is here says nothing of when it was due.
    assert server.sent_at(SERVICE_ENTRIES) >= first_at + gap
    await stream.ack(second)
    await server.pushes(SERVICE_ENTRIES, 3)


async def test_X21_no_name_twice_in_one_response(server: Served, stream: RawStream) -> None:
    server.publish(entry("a"), entry("b"), entry("a", "10.0.0.2"))
    await stream.ask(SERVICE_ENTRIES, "reg/a", "reg/b", "reg/a")
    answer = await stream.read()
    assert answer.names == ("reg/a", "reg/b")
    assert answer.addresses("reg/a") == ["10.0.0.2"]


async def test_X22_the_node_of_the_first_request_holds_for_all(server: Served, stream: RawStream) -> None:
    await stream.exchange(SERVICE_ENTRIES)
    await stream.ask(GATEWAYS, node=xds_pb2.Node())
    assert (await stream.read()).type_url == GATEWAYS
    (opened,) = server.hub.streams.values()
    assert opened.session.subscriber is not None
    assert opened.session.subscriber.node_id == NODE.id
    assert opened.session.subscriber.metadata == {"GENERATOR": "api"}


@pytest.mark.parametrize("node", [xds_pb2.Node(), xds_pb2.Node(cluster="istiod")])
async def test_X23_a_first_request_without_a_node_id(server: Served, stream: RawStream, node: xds_pb2.Node) -> None:
    await stream.ask(SERVICE_ENTRIES, node=node)
    assert await stream.end() is grpc.StatusCode.INVALID_ARGUMENT
    assert "node" in (await stream.status())[1]


async def test_X24_a_node_that_changes_stays_the_first(
    server: Served, stream: RawStream, caplog: pytest.LogCaptureFixture
) -> None:
    await stream.exchange(SERVICE_ENTRIES)
    for number in range(3):
        await stream.ask(f"{GATEWAYS}{number}", node=xds_pb2.Node(id="somebody else"))
        await stream.ack(await stream.read())
    (opened,) = server.hub.streams.values()
    assert opened.session.subscriber is not None
    assert opened.session.subscriber.node_id == NODE.id
    told = [record.getMessage() for record in caplog.records if "somebody else" in record.getMessage()]
    assert len(told) == 1


@pytest.mark.parametrize("first", [True, False])
async def test_X25_a_request_without_a_type(server: Served, stream: RawStream, *, first: bool) -> None:
    if not first:
        await stream.exchange(SERVICE_ENTRIES)
    await stream.ask("")
    assert await stream.end() is grpc.StatusCode.INVALID_ARGUMENT
    assert "type_url" in (await stream.status())[1]


async def test_X27_two_types_with_acknowledgements_crossed(server: Served, stream: RawStream) -> None:
    server.publish(entry("a"))
    old = "networking.istio.io/v1alpha3/ServiceEntry"
    await stream.ask(SERVICE_ENTRIES)
    await stream.ask(old)
    answers = {answer.type_url: answer for answer in (await stream.read(), await stream.read())}
    assert len({answer.nonce for answer in answers.values()}) == 2
    # Each with the other's nonce: that acknowledges nothing.
    await stream.ack(answers[old], nonce=answers[SERVICE_ENTRIES].nonce)
    await stream.ack(answers[SERVICE_ENTRIES], nonce=answers[old].nonce)
    server.publish(entry("b"))
    await server.assert_waits(stream)
    await stream.ack(answers[old])
    assert (await stream.read()).type_url == old
    await stream.ack(answers[SERVICE_ENTRIES])
    assert (await stream.read()).type_url == SERVICE_ENTRIES


async def test_X27_no_nonce_comes_twice_on_a_stream(server: Served, stream: RawStream) -> None:
    nonces = []
    for number in range(20):
        server.publish(entry("a", f"10.0.0.{number + 1}"))
        answer = await (stream.read() if number else stream.exchange(SERVICE_ENTRIES))
        await stream.ack(answer)
        other = await stream.exchange(f"{GATEWAYS}{number}")
        nonces += [answer.nonce, other.nonce]
    assert len(set(nonces)) == len(nonces)


async def test_X50_without_an_acknowledgement_the_latest_is_pushed_after_a_time(
    stack: AsyncExitStack, form: str
) -> None:
    limits = Limits(ack=0.5)
    server = await stack.enter_async_context(serving(limits=limits))
    stream = await stack.enter_async_context(server.stream(form))
    server.publish(entry("a"))
    await stream.ask(SERVICE_ENTRIES)
    await stream.read()
    first_at = server.sent_at(SERVICE_ENTRIES)
    # What comes while nothing is awaited but the acknowledgement has to be thought of by itself.
    await server.assert_silent(stream)
    for address in ("10.0.0.2", "10.0.0.3"):
        server.publish(entry("a", address))
    latest = await stream.read()
    assert latest.addresses("reg/a") == ["10.0.0.3"]
    # It waited as long as it may, and no machine is too slow to show it: these are the server's own times.
    assert server.sent_at(SERVICE_ENTRIES) >= first_at + limits.ack
    await server.pushes(SERVICE_ENTRIES, 2)
    (opened,) = server.hub.streams.values()
    assert opened.session.watches[SERVICE_ENTRIES].unanswered == 1


async def test_X54_too_many_types_on_one_stream(stack: AsyncExitStack, form: str) -> None:
    server = await stack.enter_async_context(serving(limits=Limits(types=64)))
    stream = await stack.enter_async_context(server.stream(form))
    for number in range(64):
        await stream.exchange(f"{GATEWAYS}{number}")
    # A type that is already asked for is none too many.
    await stream.ask(f"{GATEWAYS}1", "one/more")
    await stream.read()
    await stream.ask(f"{GATEWAYS}64")
    assert await stream.end() is grpc.StatusCode.INVALID_ARGUMENT


GARBAGE = [
    b"\xff\xff\xff\xff",
    b"\x0a\x05ab",
    b"GET / HTTP/1.1\r\n\r\n",
    # type_url is not UTF-8: field 4 of the one form, field 2 of the other
    b"\x22\x02\xff\xfe\x12\x02\xff\xfe",
]


@pytest.mark.parametrize("garbage", GARBAGE)
async def test_X56_garbage_ends_its_stream_alone(
    server: Served, stream: RawStream, stack: AsyncExitStack, form: str, garbage: bytes
) -> None:
    other = await stack.enter_async_context(server.stream(form))
    await other.exchange(SERVICE_ENTRIES)
    await stream.send(garbage)
    assert await stream.end() is grpc.StatusCode.INVALID_ARGUMENT
    server.publish(entry("a"))
    assert (await other.read()).names == ("reg/a",)


async def test_X56_metadata_that_is_not_json_ends_its_stream_alone(
    server: Served, stream: RawStream, caplog: pytest.LogCaptureFixture
) -> None:
    node = xds_pb2.Node(id="a")
    node.metadata.update({"load": float("nan")})
    await stream.ask(SERVICE_ENTRIES, node=node)
    assert await stream.end() is grpc.StatusCode.INVALID_ARGUMENT
    assert not [record for record in caplog.records if record.exc_info]


async def test_X59_a_held_type_is_silent_and_others_are_answered(stack: AsyncExitStack, form: str) -> None:
    server = await stack.enter_async_context(serving(held=True))
    stream = await stack.enter_async_context(server.stream(form))
    await stream.ask(SERVICE_ENTRIES)
    await stream.ask("networking.istio.io/v1/WorkloadEntry")
    assert (await stream.exchange(GATEWAYS)).names == ()
    server.publish(entry("a"))
    server.hub.changed()
    await server.assert_silent(stream)
    server.hub.open()
    first, second = await stream.read(), await stream.read()
    assert (first.type_url, first.names) == (SERVICE_ENTRIES, ("reg/a",))
    assert (second.type_url, second.names) == ("networking.istio.io/v1/WorkloadEntry", ())


async def test_X62_what_cannot_be_encoded_leaves_the_last_good_bytes(
    server: Served, stream: RawStream, caplog: pytest.LogCaptureFixture
) -> None:
    server.publish(entry("a"), entry("b"))
    first = await stream.exchange(SERVICE_ENTRIES)
    server.publish(entry("a", "10.0.0.2\ud800"), entry("new\ud800"), entry("b", "10.0.0.2"))
    answer = await stream.read()
    assert answer.addresses("reg/b") == ["10.0.0.2"]
    assert answer.removed == ()
    assert "reg/new\ud800" not in answer.names
    kept = server.shard.service_entries.frames["reg/a"]
    assert kept.version == first.version_of("reg/a")
    assert set(server.shard.service_entries.frames) == {"reg/a", "reg/b"}
    told = [record.getMessage() for record in caplog.records if record.exc_info]
    assert len(told) == 2
    assert "reg/a" in told[0]
