"""The stream machine knows no type: Envoy's own, one of which need not be complete, and Envoy itself as the client."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.protocol.envoy_types import CLUSTERS, ENDPOINTS, cluster, endpoints, envoy_sets
from tests.protocol.served import Served, entry, serving
from tests.protocol.stream import DELTA, SERVICE_ENTRIES, SOTW, DeltaStream, RawStream, SotwStream
from tests.rig.envoy import Envoy
from tests.rig.wait import wait_for_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AsyncExitStack
    from pathlib import Path

    from isthmus.mcp.encode import Frame
    from tests.conftest import Parts

ENVOY_WITHIN_S = 120.0


class Control:
    """A server of clusters and endpoints."""

    def __init__(self, server: Served) -> None:
        self.server = server

    def set(self, type_url: str, *frames: Frame) -> None:
        """Set resources of a type."""
        self._update(type_url, [(frame.name, frame) for frame in frames])

    def drop(self, type_url: str, *names: str) -> None:
        """Take resources of a type away."""
        self._update(type_url, [(name, None) for name in names])

    def _update(self, type_url: str, changes: list[tuple[str, Frame | None]]) -> None:
        assert self.server.publication.others[type_url].update(changes)
        self.server.hub.changed()


@pytest.fixture
async def control() -> AsyncIterator[Control]:
    """Give a server of Envoy's types that has two of each."""
    async with serving(others=envoy_sets()) as server:
        control = Control(server)
        control.set(CLUSTERS, cluster("a"), cluster("b"))
        control.set(ENDPOINTS, endpoints("a", "10.0.0.1"), endpoints("b", "10.0.0.2"))
        yield control


@pytest.fixture
async def stream(control: Control, form: str, stack: AsyncExitStack) -> RawStream:
    """Give a stream of each form in turn."""
    return await stack.enter_async_context(control.server.stream(form))


async def test_X16_one_change_of_a_full_state_type(control: Control, stream: RawStream, form: str) -> None:
    assert (await stream.exchange(CLUSTERS)).names == ("a", "b")
    control.set(CLUSTERS, cluster("b", 2), cluster("c"))
    assert (await stream.read()).names == (("a", "b", "c") if form == SOTW else ("b", "c"))


async def test_X16_one_change_of_a_type_that_need_not_be_complete(control: Control, stream: RawStream) -> None:
    assert (await stream.exchange(ENDPOINTS, "a", "b")).names == ("a", "b")
    control.set(ENDPOINTS, endpoints("b", "10.0.0.3"), endpoints("c", "10.0.0.4"))
    answer = await stream.read()
    assert answer.names == ("b",)
    assert b"10.0.0.3" in answer.resources["b"].body.value
    assert b"10.0.0.4" not in answer.data


async def test_X17_X41_what_is_gone(control: Control, stream: RawStream, form: str) -> None:
    await stream.exchange(CLUSTERS)
    control.drop(CLUSTERS, "a")
    answer = await stream.read()
    assert (answer.names, answer.removed) == ((("b",), ()) if form == SOTW else ((), ("a",)))


async def test_a_type_that_need_not_be_complete_says_what_is_gone_by_delta_alone(
    control: Control, stream: RawStream, form: str
) -> None:
    await stream.exchange(ENDPOINTS, "a", "b")
    control.drop(ENDPOINTS, "a")
    if form == DELTA:
        answer = await stream.read()
        assert (answer.names, answer.removed) == ((), ("a",))
        await stream.ack(answer)
    await control.server.assert_silent(stream)


async def test_X12_endpoints_of_a_cluster_that_went_are_unsubscribed(
    control: Control, stream: RawStream, form: str
) -> None:
    answer = await stream.exchange(ENDPOINTS, "a", "b")
    if isinstance(stream, DeltaStream):
        await stream.change(ENDPOINTS, unsubscribe=["b"])
    else:
        await stream.ack(answer, "a")
    await control.server.assert_silent(stream)
    control.set(ENDPOINTS, endpoints("b", "10.0.0.9"))
    await control.server.assert_silent(stream)
    control.set(ENDPOINTS, endpoints("a", "10.0.0.9"))
    assert (await stream.read()).names == ("a",)


async def test_X11_added_names_of_a_type_that_need_not_be_complete(control: Control, stream: RawStream) -> None:
    answer = await stream.exchange(ENDPOINTS, "a")
    if isinstance(stream, SotwStream):
        await stream.ack(answer, "a", "b")
    else:
        await stream.ask(ENDPOINTS, "b")
    assert "b" in (await stream.read()).names


async def test_X27_types_of_both_kinds_on_one_stream(control: Control, stream: RawStream) -> None:
    control.server.publish(entry("a"))
    answers = [await stream.exchange(type_url) for type_url in (CLUSTERS, ENDPOINTS, SERVICE_ENTRIES)]
    assert [answer.names for answer in answers] == [("a", "b"), ("a", "b"), ("reg/a",)]
    assert len({answer.nonce for answer in answers}) == 3
    control.set(ENDPOINTS, endpoints("a", "10.0.0.5"))
    answer = await stream.read()
    assert answer.type_url == ENDPOINTS
    await stream.ack(answer)
    await control.server.assert_silent(stream)


ORDERS, BILLING = "outbound|80||orders.legacy", "outbound|80||billing.legacy"


@pytest.mark.parametrize("api", ["GRPC", "DELTA_GRPC"])
async def test_envoy_itself_is_served(
    control: Control, parts: Parts, tmp_path: Path, stack: AsyncExitStack, api: str
) -> None:
    parts.need("envoy")
    control.drop(CLUSTERS, "a", "b")
    control.set(CLUSTERS, cluster(ORDERS), cluster(BILLING))
    control.set(ENDPOINTS, endpoints(ORDERS, "10.0.0.1", "10.0.0.2"), endpoints(BILLING, "10.0.0.3"))
    envoy = Envoy(tmp_path / "envoy", int(control.server.address.partition(":")[2]))
    envoy._bootstrap["dynamic_resources"]["ads_config"]["api_type"] = api
    stack.callback(envoy.end)
    # Not `start`: it would hold up the loop that serves.
    envoy.launch()
    await wait_for_async(envoy.ready, ENVOY_WITHIN_S, "Envoy's start")

    async def holds(orders: set[str], billing: set[str]) -> None:
        await wait_for_async(
            lambda: (envoy.endpoints("orders.legacy"), envoy.endpoints("billing.legacy")) == (orders, billing),
            ENVOY_WITHIN_S,
            f"{orders} and {billing} in Envoy",
        )

    await holds({"10.0.0.1:80", "10.0.0.2:80"}, {"10.0.0.3:80"})
    control.set(ENDPOINTS, endpoints(ORDERS, "10.0.0.2"))
    await holds({"10.0.0.2:80"}, {"10.0.0.3:80"})
    control.drop(CLUSTERS, BILLING)
    await holds({"10.0.0.2:80"}, set())
    sessions = [stream.session for stream in control.server.hub.streams.values()]
    watches = [watch for session in sessions for watch in session.watches.values()]
    assert watches
    assert not [watch.nack for watch in watches if watch.nack], "Envoy refuses what it cannot take"
