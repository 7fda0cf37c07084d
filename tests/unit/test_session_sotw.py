"""A random client of state of the world against the stream machine, which has no clock and no socket of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from isthmus.mcp.shards import ResourceSet
from isthmus.mcp.sotw import SotwSession
from isthmus.protos import xds_pb2
from isthmus.registry.errors import ProtocolError
from tests.unit.xds_model import GAP, LIMITS, LONG, NODE, TYPE, frame, listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from isthmus.mcp.encode import Frame

NAMES = st.sampled_from(["reg/a", "reg/b", "reg/c", "reg/d"])
CONTENTS = st.none() | st.integers(0, 2)
SUBSCRIPTIONS = st.lists(st.one_of(NAMES, st.just("*")), max_size=3)


class RandomClient(RuleBasedStateMachine):
    """The client, and what it must have heard."""

    full_state = True

    def __init__(self) -> None:
        super().__init__()
        self.resources = ResourceSet(full_state=self.full_state)
        self.held = True
        self.session = SotwSession(lambda _: None if self.held else self.resources, LIMITS)
        self.now = 0.0
        # None is all; what the client named since it last began, `*` included.
        self.wanted: set[str] | None = None
        self.ever_named = False
        self.nonces: list[str] = []
        self.settled = True
        self.sent_at = 0.0
        # What the server has said, and what of it the client took.
        self.told: dict[str, str] = {}
        self.store: dict[str, str] = {}
        self.refused_something = False

    # What happens to the resources.

    @rule(changes=st.lists(st.tuples(NAMES, CONTENTS), max_size=3))
    def change(self, changes: list[tuple[str, int | None]]) -> None:
        self.resources.update((name, None if content is None else frame(name, content)) for name, content in changes)

    @rule()
    def open(self) -> None:
        self.held = False

    @rule(seconds=st.sampled_from([0.01, GAP, 1.0, LIMITS.ack]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    # What the client sends.

    @initialize(names=SUBSCRIPTIONS, nonce=st.sampled_from(["", "never sent"]))
    def begin(self, names: list[str], nonce: str) -> None:
        self.begin_anew(names, nonce)

    @rule(names=SUBSCRIPTIONS)
    def begin_again(self, names: list[str]) -> None:
        self.begin_anew(names, "")

    def begin_anew(self, names: list[str], nonce: str) -> None:
        self.ever_named = False
        self.subscribe(names)
        self.settled = True
        self.send(names, nonce)

    @precondition(lambda self: self.nonces)
    @rule(names=SUBSCRIPTIONS)
    def acknowledge(self, names: list[str]) -> None:
        if not self.settled:
            self.take()
        self.settled = True
        self.subscribe(names)
        self.send(names, self.nonces[-1])

    @precondition(lambda self: self.nonces and not self.settled)
    @rule()
    def refuse(self) -> None:
        self.settled = True
        self.refused_something = True
        names = sorted(self.wanted) if self.wanted is not None else ["*"] if self.ever_named else []
        self.send(names, self.nonces[-1], xds_pb2.Status(code=3, message="no"))

    @precondition(lambda self: len(self.nonces) > 1)
    @rule(names=SUBSCRIPTIONS, which=st.integers(0, 50), content=st.integers(0, 2))
    def acknowledge_an_older_one(self, names: list[str], which: int, content: int) -> None:
        # Means nothing, names and all (X05, X06): where the newest is awaited, it still is.
        self.send(names, self.nonces[which % (len(self.nonces) - 1)])
        self.change([("reg/a", content)])
        self.wait(1.0)
        self.responses(push=True)

    def send(self, names: Iterable[str], nonce: str, error: xds_pb2.Status | None = None) -> None:
        request = xds_pb2.DiscoveryRequest(
            node=NODE, type_url=TYPE, resource_names=names, response_nonce=nonce, error_detail=error
        )
        self.session.receive(request, self.now)

    def subscribe(self, names: list[str]) -> None:
        self.ever_named = self.ever_named or bool(names)
        everything = "*" in names or not self.ever_named
        self.wanted = None if everything else set(names)
        # What a client has no interest in any more it forgets.
        for held in (self.told, self.store):
            for name in [name for name in held if not self.wants(name)]:
                del held[name]

    def wants(self, name: str) -> bool:
        return self.wanted is None or name in self.wanted

    # What the server says.

    @rule(push=st.booleans())
    def look(self, *, push: bool) -> None:
        self.responses(push=push)

    def responses(self, *, push: bool) -> int:
        """Have the server say what is due, check that it may, and return how many responses that were."""
        watch = self.session.watches[TYPE]
        asked = watch.must_answer
        count = 0
        for response in self.session.due(self.now, GAP, push=push):
            count += 1
            said = listed(response.data, delta=False)
            names = [name for name, _ in said.resources]
            assert not self.held
            assert count == 1, "one response of a type at a time"
            assert names == sorted(set(names)), "each name once (X21)"
            assert said.nonce not in self.nonces
            assert self.wanted is None or self.wanted, "nothing to who unsubscribed (X13)"
            assert all(self.wants(name) for name in names)
            assert response.count == len(names)
            if not asked:
                assert push
                assert self.settled or self.now >= self.sent_at + LIMITS.ack, "one unacknowledged push (X50)"
                assert self.now >= self.sent_at + GAP
                assert self.hears_news(dict(said.resources)), "a push brings news (X18)"
            self.hear(dict(said.resources))
            self.nonces.append(said.nonce)
            self.settled = False
            self.sent_at = self.now
        return count

    def hears_news(self, resources: dict[str, str]) -> bool:
        return resources != self.told

    def hear(self, resources: dict[str, str]) -> None:
        self.told = resources

    def take(self) -> None:
        self.store = dict(self.told)
        self.refused_something = False

    def expected(self) -> dict[str, str]:
        present = self.resources.frames
        return {name: present[name].version for name in present if self.wants(name)}

    # What must be so in the end.

    @rule()
    def settle(self) -> None:
        self.held = False
        for _ in range(3):
            self.now += LONG
            self.responses(push=True)
            if not self.settled:
                names = sorted(self.wanted) if self.wanted is not None else ["*"] if self.ever_named else []
                self.take()
                self.settled = True
                self.send(names, self.nonces[-1])
        self.now += LONG
        assert self.responses(push=True) == 0, "silence once all is said (X04)"
        assert self.session.retry_at(self.now, GAP) is None
        self.compare()

    def compare(self) -> None:
        assert self.told == self.expected()
        if not self.refused_something:
            assert self.store == self.told

    def teardown(self) -> None:
        if self.session.watches:
            self.settle()


class PartialClient(RandomClient):
    """A type whose responses need not be complete: what is gone is never said."""

    full_state = False

    def hears_news(self, resources: dict[str, str]) -> bool:
        return self.wanted is None or any(self.told.get(name) != version for name, version in resources.items())

    def hear(self, resources: dict[str, str]) -> None:
        self.told |= resources

    def compare(self) -> None:
        expected = self.expected()
        assert {name: version for name, version in self.told.items() if name in expected} == expected
        if not self.refused_something:
            assert self.store == self.told

    def take(self) -> None:
        # A refused resource may be missing for ever: it is not sent again.
        if not self.refused_something:
            self.store = dict(self.told)


TestSotwClient = RandomClient.TestCase
TestSotwClient.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestPartialClient = PartialClient.TestCase
TestPartialClient.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def test_X23_the_first_request_of_a_stream_names_who_asks() -> None:
    session = SotwSession(lambda _: ResourceSet(), LIMITS)
    with pytest.raises(ProtocolError, match="node") as raised:
        session.receive(xds_pb2.DiscoveryRequest(type_url=TYPE), 0.0)
    assert raised.value.status == "INVALID_ARGUMENT"


class WatchedResources(ResourceSet):
    """Counts how often anybody looked for resources."""

    looks = 0

    @property
    def frames(self) -> Mapping[str, Frame]:
        self.looks += 1
        return super().frames


def test_X55_to_see_that_nothing_changed_takes_no_look_at_the_names() -> None:
    resources = WatchedResources()
    session = SotwSession(lambda _: resources, LIMITS)
    names = [f"reg/{number}" for number in range(100)]
    session.receive(xds_pb2.DiscoveryRequest(node=NODE, type_url=TYPE, resource_names=names), 0.0)
    (first,) = session.due(0.0, GAP, push=False)
    acknowledgement = xds_pb2.DiscoveryRequest(type_url=TYPE, resource_names=names, response_nonce=first.nonce)
    resources.looks = 0
    for now in range(100):
        session.receive(acknowledgement, float(now))
        assert list(session.due(float(now), GAP, push=True)) == []
        assert session.retry_at(float(now), GAP) is None
    assert resources.looks == 0


def test_X20_a_client_that_takes_long_to_acknowledge_gets_a_longer_rest() -> None:
    resources = ResourceSet()
    session = SotwSession(lambda _: resources, LIMITS)
    session.receive(xds_pb2.DiscoveryRequest(node=NODE, type_url=TYPE), 0.0)
    (first,) = session.due(0.0, GAP, push=False)
    session.receive(xds_pb2.DiscoveryRequest(type_url=TYPE, response_nonce=first.nonce), 5.0)
    resources.update([("reg/a", frame("reg/a", 1))])
    assert session.retry_at(5.0, GAP) == 10.0
    assert list(session.due(9.9, GAP, push=True)) == []
    (second,) = session.due(10.0, GAP, push=True)
    assert second.count == 1
