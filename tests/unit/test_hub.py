"""Who is pushed to when: all streams of a subscriber together, and none because of another subscriber."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING

import pytest

from isthmus.mcp import pacing
from isthmus.mcp.hub import Hub
from isthmus.mcp.limits import Limits
from isthmus.mcp.session import Response
from isthmus.mcp.shards import Publication, shard_index
from isthmus.mcp.sotw import SotwSession
from isthmus.mcp.views import Door, Part
from isthmus.protos import xds_pb2
from isthmus.registry.catalog import Change
from isthmus.registry.errors import ProtocolError
from isthmus.registry.model import ServiceEntry
from tests.rig.wait import wait_for_async
from tests.unit.xds_model import TYPE, listed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from isthmus.mcp.session import Lookup, Subscriber

WITHIN_S = 120.0
# Longer than any test.
NEVER = 3600.0
HERE, THERE = "ipv4:10.0.0.1:40001", "ipv4:10.0.0.2:40001"


class Client:
    """One stream with its subscriber, without sockets: what the server's tasks would do is done when a test says so."""

    def __init__(self, hub: Hub, peer: str = HERE, node: str = "istiod", part: Part | None = None) -> None:
        door = Door(part=part) if part else Door()
        self.hub = hub
        self.stream = hub.add(peer, door, delta=False)
        self.stream.session = SotwSession(self._admit, hub.limits)
        self.node = node
        self.nonce = ""

    def _admit(self, subscriber: Subscriber) -> Lookup:
        return self.hub.admit(self.stream, subscriber)

    def send(self, type_url: str = TYPE) -> None:
        """Send a request: an acknowledgement of what was taken last, if anything was."""
        node = xds_pb2.Node(id=self.node)
        request = xds_pb2.DiscoveryRequest(node=node, type_url=type_url, response_nonce=self.nonce)
        self.stream.session.receive(request, asyncio.get_running_loop().time())
        self.hub.heard(self.stream)
        self.stream.wake.set()

    def take(self) -> list[str] | None:
        """Do what the writer does when woken; return the names of the response, None where nothing is due."""
        push, self.stream.round = self.stream.round, False
        self.stream.wake.clear()
        responses = list(self.stream.session.due(asyncio.get_running_loop().time(), push=push))
        if not responses:
            return None
        self.nonce = responses[-1].nonce
        return listed(responses[-1].data, delta=False).names

    def subscribe(self) -> None:
        """Ask, take the answer and acknowledge it."""
        self.send()
        assert self.take() is not None
        self.send()
        self.stream.wake.clear()

    async def woken(self) -> None:
        """Wait for a round of this stream."""
        await wait_for_async(lambda: self.stream.round, WITHIN_S, "a round")


def opened(gap: float, limits: Limits | None = None) -> Hub:
    hub = Hub(Publication(limits=limits), gap, limits)
    hub.open()
    return hub


def publish(hub: Hub, *names: str, host: str = "a.example") -> None:
    """Publish resources; another host is another content."""
    assert hub.publication.publish(Change(f"reg/{name}", ServiceEntry("reg", name, (host,))) for name in names)
    hub.changed()


@pytest.fixture
def hub() -> Iterator[Hub]:
    """Give a hub whose rounds come once, and then not again within a test."""
    made = opened(NEVER)
    yield made
    made.close()


async def test_a_change_after_quiet_goes_out_at_once_and_the_next_after_the_gap(hub: Hub) -> None:
    client = Client(hub)
    client.subscribe()
    publish(hub, "a")
    assert client.stream.round
    assert client.take() == ["reg/a"]
    client.send()
    publish(hub, "b")
    publish(hub, "c")
    assert not client.stream.round


async def test_the_streams_of_one_subscriber_are_pushed_to_together(hub: Hub) -> None:
    shards = [Client(hub, part=Part(4, index)) for index in range(4)]
    for shard in shards:
        shard.subscribe()
    publish(hub, *map(str, range(40)))
    assert all(shard.stream.round for shard in shards)
    names = [name for shard in shards for name in shard.take() or []]
    assert len(names) == 40
    for shard in shards:
        shard.send()
    # They rest together as well, whichever of them something is for.
    publish(hub, *map(str, range(40)), host="b.example")
    assert not any(shard.stream.round for shard in shards)


async def test_a_round_is_only_for_those_that_something_changed_for(hub: Hub) -> None:
    shards = [Client(hub, part=Part(4, index)) for index in range(4)]
    for shard in shards:
        shard.subscribe()
    publish(hub, "a")
    concerned = [shard for shard in shards if shard.stream.round]
    assert len(concerned) == 1
    assert concerned[0].take() == ["reg/a"]
    assert not any(shard.stream.wake.is_set() for shard in shards)


@pytest.mark.parametrize(("peer", "node"), [(HERE, "another"), (THERE, "istiod")])
async def test_subscribers_wait_for_nobody_else(hub: Hub, peer: str, node: str) -> None:
    # The same node id from another address is another: it is only what somebody says.
    resting, other = Client(hub), Client(hub, peer, node)
    resting.subscribe()
    publish(hub, "a")
    assert resting.take() == ["reg/a"]
    other.subscribe()
    publish(hub, "b")
    assert not resting.stream.round
    assert other.stream.round


async def test_another_port_of_one_address_is_the_same_subscriber(hub: Hub) -> None:
    one, same = Client(hub), Client(hub, HERE.replace("40001", "40002"))
    one.subscribe()
    same.subscribe()
    publish(hub, "a")
    assert one.take() == same.take() == ["reg/a"]
    publish(hub, "b")
    assert not same.stream.round


async def test_rounds_are_common_and_keep_their_distance() -> None:
    gap, changes = 0.05, 10
    hub = opened(gap)
    clients = [Client(hub, part=Part(3, index)) for index in range(3)]
    for client in clients:
        client.subscribe()
    (party,) = hub._parties.values()
    begun: list[float] = []

    async def serve(client: Client) -> None:
        while True:
            await client.stream.wake.wait()
            if client.stream.round:
                # When it was said, not when this task had its turn.
                begun.append(party.rounds.begun)
            if client.take() is not None:
                client.send()

    async with asyncio.TaskGroup() as tasks:
        serving = [tasks.create_task(serve(client)) for client in clients]
        for number in range(changes):
            publish(hub, *map(str, range(30)), host=f"host-{number}.example")
            await asyncio.sleep(gap / 5)

        def all_told() -> bool:
            return party.timer is None and all(client.stream.session.opens_at() is None for client in clients)

        await wait_for_async(all_told, WITHIN_S, "the last round")
        for task in serving:
            task.cancel()
    hub.close()
    rounds = sorted(set(begun))
    assert len(begun) == len(rounds) * len(clients), "each was a round of all"
    assert 2 <= len(rounds) < changes
    # asyncio may call back early by the resolution of its clock, and a clock that has run for months has a coarse sum.
    tolerance = time.get_clock_info("monotonic").resolution + 1e-6
    for earlier, later in itertools.pairwise(rounds):
        assert later - earlier >= gap - tolerance


async def test_one_that_does_not_acknowledge_holds_up_the_others_for_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "_PATIENCE", 0.3)
    hub = opened(0.01)
    slow, quick = Client(hub, part=Part(2, 0)), Client(hub, part=Part(2, 1))
    for client in (slow, quick):
        client.subscribe()
    names = list(map(str, range(20)))
    publish(hub, *names)
    (party,) = hub._parties.values()
    first = party.rounds.begun
    assert slow.take() is not None
    assert quick.take() is not None
    quick.send()
    publish(hub, *names, host="b.example")
    await quick.woken()
    assert party.rounds.begun - first >= 0.3 - 1e-3
    assert not slow.stream.round, "its own next response waits for the acknowledgement (X50)"
    hub.close()


async def test_the_last_acknowledgement_ends_the_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "_PATIENCE", NEVER)
    hub = opened(0.01)
    one, other = Client(hub, part=Part(2, 0)), Client(hub, part=Part(2, 1))
    names = list(map(str, range(20)))
    for client in (one, other):
        client.subscribe()
    publish(hub, *names)
    for client in (one, other):
        assert client.take() is not None
    publish(hub, *names, host="b.example")
    one.send()
    (party,) = hub._parties.values()
    assert party.opens_at > asyncio.get_running_loop().time() + WITHIN_S
    other.send()
    await one.woken()
    assert other.stream.round
    hub.close()


async def test_an_acknowledgement_of_before_does_not_end_a_round() -> None:
    hub = opened(0.0)
    pushed, late = Client(hub, part=Part(2, 0)), Client(hub, part=Part(2, 1))
    pushed.subscribe()
    late.send()
    assert late.take() == []
    name = next(str(number) for number in range(20) if shard_index(f"reg/{number}", 2) == 0)
    publish(hub, name)
    (party,) = hub._parties.values()
    assert pushed.stream.round
    late.send()
    assert party.outstanding
    assert party.rounds._under_way
    hub.close()


async def test_X50_a_stream_that_is_not_ready_is_woken_to_ask_again() -> None:
    hub = opened(0.0)
    client = Client(hub)
    client.send()
    assert client.take() == []
    publish(hub, "a")
    # It is told that there is something, and not that it may be sent.
    assert (client.stream.wake.is_set(), client.stream.round) == (True, False)
    assert client.take() is None
    assert client.stream.session.opens_at() is not None
    client.send()
    hub.ask(client.stream)
    assert client.stream.round
    hub.close()


async def test_what_changes_after_the_end_wakes_nobody(hub: Hub) -> None:
    client = Client(hub)
    client.subscribe()
    publish(hub, "a")
    assert client.take() == ["reg/a"]
    publish(hub, "b")
    assert [party.timer is None for party in hub._parties.values()] == [False]
    hub.close()
    assert [party.timer for party in hub._parties.values()] == [None]
    assert not client.stream.round


async def test_G2_to_open_is_a_round_and_answers_who_asked(hub: Hub) -> None:
    held = Hub(Publication(), NEVER)
    asked = Client(held)
    asked.send()
    assert asked.take() is None
    held.open()
    assert asked.stream.wake.is_set()
    assert asked.take() == []
    held.close()


async def test_X43_nothing_is_left_of_a_subscriber_that_left(hub: Hub) -> None:
    clients = [Client(hub), Client(hub), Client(hub, node="another")]
    for client in clients:
        client.subscribe()
    (shard,) = hub.publication.shards
    assert shard.users == 3
    for left, client in zip((2, 1, 0), clients, strict=True):
        hub.remove(client.stream)
        assert shard.users == left
    assert not hub.streams
    assert not hub._parties


async def test_X43_a_round_to_come_leaves_with_its_subscriber() -> None:
    hub = opened(NEVER)
    client = Client(hub)
    client.subscribe()
    publish(hub, "a")
    client.take()
    publish(hub, "b")
    (party,) = hub._parties.values()
    assert party.timer is not None
    hub.remove(client.stream)
    assert party.timer is None


async def test_X43_a_stream_that_never_asked_leaves_nothing(hub: Hub) -> None:
    hub.remove(Client(hub).stream)
    assert not hub.streams
    assert not hub.publication.shards


async def test_X53_streams_are_counted() -> None:
    hub = opened(0.0, Limits(streams=2))
    first, _ = Client(hub), Client(hub)
    with pytest.raises(ProtocolError) as raised:
        Client(hub)
    assert raised.value.status == "RESOURCE_EXHAUSTED"
    hub.remove(first.stream)
    assert Client(hub).stream.number == 3


async def test_a_closed_door_lets_no_stream_in(hub: Hub) -> None:
    with pytest.raises(ProtocolError, match="not now"):
        hub.add(HERE, Door(closed="not now"), delta=False)
    assert not hub.streams


async def test_one_view_too_many_is_refused_and_leaves_nothing() -> None:
    hub = opened(0.0, Limits(views=1))
    Client(hub).subscribe()
    refused = Client(hub)
    request = xds_pb2.DiscoveryRequest(node=xds_pb2.Node(id="a"), type_url=TYPE)
    request.node.metadata.update({"ISTIO_REVISION": "canary"})
    with pytest.raises(ProtocolError, match="different views"):
        refused.stream.session.receive(request, 0.0)
    hub.remove(refused.stream)
    (shard,) = hub.publication.shards
    assert shard.users == 1
    assert len(hub._parties) == 1


async def test_G9_types_that_are_clients_words_are_counted_as_one(hub: Hub) -> None:
    client = Client(hub)
    for number in range(5):
        response = Response(f"their/v1/Word{number}", "1", "1", 0, 0, b"1234")
        hub.note(client.stream, response, 1.0, 1.5)
    hub.note(client.stream, Response(TYPE, "1", "1", 0, 0, b"1234"), 1.0, 1.5)
    assert hub.pushed == {("other", "sotw"): 5, (TYPE, "sotw"): 1}
    assert hub.pushed_bytes == client.stream.sent_bytes == 6 * 4
    assert [push.type_url for push in hub.pushes][-1] == TYPE
