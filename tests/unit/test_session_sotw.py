"""A random client of state of the world against the stream machine, which has no clock and no socket of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from isthmus.mcp.resources import ResourceSet
from isthmus.mcp.sotw import SotwSession
from isthmus.protos import xds_pb2
from isthmus.registry.errors import ProtocolError
from tests.unit.xds_model import LIMITS, NODE, REFUSED, SUBSCRIPTIONS, TYPE, Listed, RandomClient, frame

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from isthmus.mcp.encode import Frame


class SotwClient(RandomClient):
    """The client: `told` is what the server has said, `store` what of it the client took."""

    def begin_stream(self) -> None:
        super().begin_stream()
        # None is all; what the client named since it last began, `*` included.
        self.wanted: set[str] | None = None
        self.ever_named = False
        self.told: dict[str, str] = {}
        self.refused_something = False

    def open_session(self) -> SotwSession:
        return SotwSession(self.admit, LIMITS)

    # What the client sends.

    @initialize(names=SUBSCRIPTIONS, nonce=st.sampled_from(["", "never sent"]))
    def begin(self, names: list[str], nonce: str) -> None:
        self.begin_anew(names, nonce)

    @rule(names=SUBSCRIPTIONS)
    def begin_again(self, names: list[str]) -> None:
        self.begin_anew(names, "")

    @rule(names=SUBSCRIPTIONS, nonce=st.sampled_from(["", "never sent", "1"]), replica=st.booleans())
    def reconnect(self, names: list[str], nonce: str, *, replica: bool) -> None:
        """Come back with the version of another stream, also to another server: the answer is whole (X02, X03)."""
        if replica:
            self.move_to_replica()
        version = self.resources.version
        self.begin_stream()
        self.begin_anew(names, nonce, version)

    def begin_anew(self, names: list[str], nonce: str, version: str = "") -> None:
        self.ever_named = False
        self.subscribe(names)
        self.settled = True
        self.send(names, nonce, version=version)

    @precondition(lambda self: self.sent)
    @rule(names=SUBSCRIPTIONS)
    def acknowledge(self, names: list[str]) -> None:
        if not self.settled:
            self.take()
        self.settled = True
        self.subscribe(names)
        self.send(names, self.sent[-1])

    @precondition(lambda self: self.sent and not self.settled)
    @rule()
    def refuse(self) -> None:
        self.settled = True
        self.refused_something = True
        self.send(self.repeated(), self.sent[-1], error=REFUSED)

    @precondition(lambda self: self.stale_nonces())
    @rule(names=SUBSCRIPTIONS)
    def name_with_an_older_nonce(self, names: list[str]) -> None:
        """Change the subscription with a nonce that is not the last one: that means nothing (X06)."""
        self.send(names, self.stale_nonces()[-1])

    def ask(self, type_url: str, nonce: str) -> None:
        self.send(self.repeated() if type_url == TYPE else [], nonce, type_url=type_url)

    def acknowledge_last(self) -> None:
        self.take()
        self.settled = True
        self.send(self.repeated(), self.sent[-1])

    def repeated(self) -> list[str]:
        """Return the names by which a client says again what it is subscribed to."""
        if self.wanted is not None:
            return sorted(self.wanted)
        return ["*"] if self.ever_named else []

    def send(
        self,
        names: Iterable[str],
        nonce: str,
        *,
        type_url: str = TYPE,
        version: str = "",
        error: xds_pb2.Status | None = None,
    ) -> None:
        request = xds_pb2.DiscoveryRequest(
            node=NODE,
            type_url=type_url,
            resource_names=names,
            response_nonce=nonce,
            version_info=version,
            error_detail=error,
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

    def hear(self, said: Listed, *, asked: bool) -> None:
        resources = dict(said.resources)
        assert not said.removed
        assert self.wanted is None or self.wanted, "nothing to who unsubscribed (X13)"
        assert all(self.wants(name) for name in resources)
        assert asked or self.is_news(resources), "a push brings news (X18)"
        self.remember(resources)

    def is_news(self, resources: dict[str, str]) -> bool:
        return resources != self.told

    def remember(self, resources: dict[str, str]) -> None:
        self.told = resources

    def take(self) -> None:
        self.store = dict(self.told)
        self.refused_something = False

    # What must be so in the end.

    def compare(self) -> None:
        assert self.told == self.expected()
        if not self.refused_something:
            assert self.store == self.told

    def expected(self) -> dict[str, str]:
        present = self.resources.frames
        return {name: present[name].version for name in present if self.wants(name)}


class PartialClient(SotwClient):
    """A type whose responses need not be complete: what is gone is never said."""

    full_state = False

    def is_news(self, resources: dict[str, str]) -> bool:
        return self.wanted is None or any(self.told.get(name) != version for name, version in resources.items())

    def remember(self, resources: dict[str, str]) -> None:
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


TestSotwClient = SotwClient.TestCase
TestSotwClient.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestPartialClient = PartialClient.TestCase
TestPartialClient.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def test_X23_the_first_request_of_a_stream_names_who_asks() -> None:
    session = SotwSession(lambda _: lambda _: ResourceSet(), LIMITS)
    with pytest.raises(ProtocolError, match="node") as raised:
        session.receive(xds_pb2.DiscoveryRequest(type_url=TYPE), 0.0)
    assert raised.value.status == "INVALID_ARGUMENT"
    assert session.subscriber is None


class WatchedResources(ResourceSet):
    """Counts how often anybody looked for resources."""

    looks = 0

    @property
    def frames(self) -> Mapping[str, Frame]:
        self.looks += 1
        return super().frames


def test_X55_to_see_that_nothing_changed_takes_no_look_at_the_names() -> None:
    resources = WatchedResources()
    session = SotwSession(lambda _: lambda _: resources, LIMITS)
    names = [f"reg/{number}" for number in range(100)]
    session.receive(xds_pb2.DiscoveryRequest(node=NODE, type_url=TYPE, resource_names=names), 0.0)
    (first,) = session.due(0.0, push=False)
    acknowledgement = xds_pb2.DiscoveryRequest(type_url=TYPE, resource_names=names, response_nonce=first.nonce)
    resources.looks = 0
    for now in range(100):
        session.receive(acknowledgement, float(now))
        assert list(session.due(float(now), push=True)) == []
        assert session.opens_at() is None
    assert resources.looks == 0


def test_X50_what_is_not_acknowledged_is_waited_for_and_then_given_up() -> None:
    resources = ResourceSet()
    session = SotwSession(lambda _: lambda _: resources, LIMITS)
    session.receive(xds_pb2.DiscoveryRequest(node=NODE, type_url=TYPE), 5.0)
    assert len(list(session.due(5.0, push=False))) == 1
    assert session.awaits()
    assert session.opens_at() is None
    resources.update([("reg/a", frame("reg/a", 1))])
    assert session.opens_at() == 5.0 + LIMITS.ack
    assert list(session.due(5.0 + LIMITS.ack - 0.1, push=True)) == []
    assert list(session.due(5.0 + LIMITS.ack, push=False)) == []
    (second,) = session.due(5.0 + LIMITS.ack, push=True)
    assert second.count == 1
