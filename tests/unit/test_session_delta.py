"""A random delta client against the stream machine, which has no clock and no socket of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from isthmus.mcp.delta import DeltaSession
from isthmus.protos import xds_pb2
from tests.unit.xds_model import LIMITS, NODE, REFUSED, SUBSCRIPTIONS, TYPE, WHICH, Listed, RandomClient

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class DeltaClient(RandomClient):
    """The client, and what it must have heard; `awaited` are the names whose state must be said, changed or not."""

    delta = True

    def begin_stream(self) -> None:
        super().begin_stream()
        self.wildcard = False
        self.names: set[str] = set()
        self.awaited: set[str] = set()

    def open_session(self) -> DeltaSession:
        return DeltaSession(self.admit, LIMITS)

    # What the client sends.

    @initialize(subscribe=SUBSCRIPTIONS)
    def begin(self, subscribe: list[str]) -> None:
        self.begin_type(subscribe, {})

    @rule(subscribe=SUBSCRIPTIONS, replica=st.booleans())
    def reconnect(self, subscribe: list[str], *, replica: bool) -> None:
        """Come back with what the client has, also to another server (X29, X30)."""
        if replica:
            self.move_to_replica()
        self.begin_stream()
        self.begin_type(subscribe, dict(self.store))

    def begin_type(self, subscribe: list[str], initial: dict[str, str]) -> None:
        self.wildcard = not subscribe or "*" in subscribe
        self.names = set(subscribe) - {"*"}
        self.awaited = self.names - initial.keys()
        self.forget_unwanted()
        self.send(subscribe, (), initial=initial)

    @rule(subscribe=SUBSCRIPTIONS, unsubscribe=SUBSCRIPTIONS, which=WHICH)
    def resubscribe(self, subscribe: list[str], unsubscribe: list[str], which: int) -> None:
        """Change the subscription, with any nonce or none (X31); the additions are read first."""
        nonce = self.nonces[which % len(self.nonces)] if self.nonces and which % 3 else ""
        self.settled = self.settled or nonce in self.sent[-1:]
        for name in subscribe:
            if name == "*":
                self.wildcard = True
            else:
                self.names.add(name)
                self.awaited.add(name)
        for name in unsubscribe:
            if name == "*":
                self.wildcard = False
                self.awaited &= self.names
            elif name in self.names:
                self.names.discard(name)
                self.awaited.discard(name)
                if self.wildcard:
                    self.awaited.add(name)
        self.forget_unwanted()
        self.send(subscribe, unsubscribe, nonce)

    @precondition(lambda self: self.sent)
    @rule(refuse=st.booleans())
    def answer(self, *, refuse: bool) -> None:
        # What is refused is not sent again before it changes (X39): to this model it is as good as taken.
        self.settled = True
        self.send((), (), self.sent[-1], error=REFUSED if refuse else None)

    def ask(self, type_url: str, nonce: str) -> None:
        self.send((), (), nonce, type_url=type_url)

    def acknowledge_last(self) -> None:
        self.answer(refuse=False)

    def send(
        self,
        subscribe: Iterable[str],
        unsubscribe: Iterable[str],
        nonce: str = "",
        *,
        type_url: str = TYPE,
        initial: Mapping[str, str] | None = None,
        error: xds_pb2.Status | None = None,
    ) -> None:
        request = xds_pb2.DeltaDiscoveryRequest(
            node=NODE,
            type_url=type_url,
            resource_names_subscribe=subscribe,
            resource_names_unsubscribe=unsubscribe,
            initial_resource_versions=initial,
            response_nonce=nonce,
            error_detail=error,
        )
        self.session.receive(request, self.now)

    def wants(self, name: str) -> bool:
        return self.wildcard or name in self.names

    def forget_unwanted(self) -> None:
        for name in [name for name in self.store if not self.wants(name)]:
            del self.store[name]

    # What the server says.

    def hear(self, said: Listed, *, asked: bool) -> None:
        assert said.names or said.removed or not self.sent, "only the first may be empty (X42)"
        for name, version in said.resources:
            assert self.wants(name)
            assert name in self.awaited or self.store.get(name) != version, "only news"
            self.store[name] = version
        for name in said.removed:
            assert name in self.awaited or name in self.store, "what is gone is said once (X41)"
            self.store.pop(name, None)
        if asked:
            assert self.awaited <= {*said.names, *said.removed}, "what is asked for is answered (X32, X33, X35)"
        self.awaited.clear()

    # What must be so in the end.

    def compare(self) -> None:
        super().compare()
        assert not self.awaited
        assert self.sent, "the first request is always answered"

    def expected(self) -> dict[str, str]:
        present = self.resources.frames
        return {name: present[name].version for name in present if self.wants(name)}


class PartialDeltaClient(DeltaClient):
    """A type whose responses of state of the world need not be complete: to delta that makes no difference."""

    full_state = False


TestDeltaClient = DeltaClient.TestCase
TestDeltaClient.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestPartialDeltaClient = PartialDeltaClient.TestCase
TestPartialDeltaClient.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
