"""A random delta client against the stream machine, which has no clock and no socket of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from isthmus.mcp.delta import DeltaSession
from isthmus.mcp.shards import ResourceSet
from isthmus.protos import xds_pb2
from tests.unit.xds_model import GAP, LIMITS, LONG, NODE, TYPE, frame, listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

NAMES = st.sampled_from(["reg/a", "reg/b", "reg/c", "reg/d"])
CONTENTS = st.none() | st.integers(0, 2)
SUBSCRIPTIONS = st.lists(st.one_of(NAMES, st.just("*")), max_size=3)


class RandomClient(RuleBasedStateMachine):
    """The client, and what it must have heard."""

    def __init__(self) -> None:
        super().__init__()
        self.resources = ResourceSet()
        self.held = True
        self.now = 0.0
        self.store: dict[str, str] = {}
        self.begin_stream()

    def begin_stream(self) -> None:
        self.session = DeltaSession(lambda _: None if self.held else self.resources, LIMITS)
        self.wildcard = False
        self.names: set[str] = set()
        # Names whose state must be said, changed or not.
        self.awaited: set[str] = set()
        self.nonces: list[str] = []
        self.settled = True
        self.sent_at = 0.0

    # What happens to the resources.

    @rule(changes=st.lists(st.tuples(NAMES, CONTENTS), max_size=3))
    def change(self, changes: list[tuple[str, int | None]]) -> None:
        self.resources.update((name, None if content is None else frame(name, content)) for name, content in changes)

    @rule(count=st.sampled_from([1, 1200]))
    def come_and_go(self, count: int) -> None:
        """Fill the log with names that nobody heard of, until it forgets."""
        others = [f"reg/other-{number}" for number in range(count)]
        self.resources.update((name, frame("reg/other", 0)) for name in others)
        self.resources.update((name, None) for name in others)

    @rule()
    def open(self) -> None:
        self.held = False

    @rule(seconds=st.sampled_from([0.01, GAP, 1.0, LIMITS.ack]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    # What the client sends.

    @initialize(subscribe=SUBSCRIPTIONS)
    def begin(self, subscribe: list[str]) -> None:
        self.begin_type(subscribe, {})

    @rule(subscribe=SUBSCRIPTIONS, replica=st.booleans())
    def reconnect(self, subscribe: list[str], *, replica: bool) -> None:
        """Come back with what the client has, also to another server that came to the same resources differently."""
        if replica:
            frames = self.resources.frames
            self.resources = ResourceSet()
            for name in sorted(frames, reverse=True):
                self.resources.update([(name, frames[name])])
        self.begin_stream()
        self.begin_type(subscribe, dict(self.store))

    def begin_type(self, subscribe: list[str], initial: dict[str, str]) -> None:
        self.wildcard = not subscribe or "*" in subscribe
        self.names = set(subscribe) - {"*"}
        self.awaited = self.names - initial.keys()
        self.forget_unwanted()
        self.send(subscribe, (), initial=initial)

    @rule(subscribe=SUBSCRIPTIONS, unsubscribe=SUBSCRIPTIONS, which=st.integers(0, 50))
    def resubscribe(self, subscribe: list[str], unsubscribe: list[str], which: int) -> None:
        """Change the subscription, with any nonce or none (X31); the additions are read first."""
        nonce = self.nonces[which % len(self.nonces)] if self.nonces and which % 3 else ""
        self.settled = self.settled or nonce in self.nonces[-1:]
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

    @precondition(lambda self: self.nonces)
    @rule(refuse=st.booleans())
    def answer(self, *, refuse: bool) -> None:
        # What is refused is not sent again before it changes (X39): to this model it is as good as taken.
        self.settled = True
        self.send((), (), self.nonces[-1], error=xds_pb2.Status(code=3, message="no") if refuse else None)

    @precondition(lambda self: len(self.nonces) > 1)
    @rule(which=st.integers(0, 50), content=st.integers(0, 2))
    def answer_an_older_one(self, which: int, content: int) -> None:
        self.send((), (), self.nonces[which % (len(self.nonces) - 1)])
        # It acknowledges nothing: where the newest is awaited, a change still is.
        self.change([("reg/a", content)])
        self.wait(1.0)
        self.responses(push=True)

    def send(
        self,
        subscribe: Iterable[str],
        unsubscribe: Iterable[str],
        nonce: str = "",
        *,
        initial: Mapping[str, str] | None = None,
        error: xds_pb2.Status | None = None,
    ) -> None:
        request = xds_pb2.DeltaDiscoveryRequest(
            node=NODE,
            type_url=TYPE,
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

    @rule(push=st.booleans())
    def look(self, *, push: bool) -> None:
        self.responses(push=push)

    def responses(self, *, push: bool) -> int:
        """Have the server say what is due, check that it may, and return how many responses that were."""
        asked = self.session.watches[TYPE].must_answer
        count = 0
        for response in self.session.due(self.now, GAP, push=push):
            count += 1
            said = listed(response.data, delta=True)
            names = [name for name, _ in said.resources]
            assert not self.held
            assert count == 1, "one response of a type at a time"
            assert names == sorted(set(names)), "each name once (X21)"
            assert said.removed == sorted(set(said.removed))
            assert not set(names) & set(said.removed)
            assert names or said.removed or not self.nonces, "only the first may be empty (X42)"
            assert said.nonce not in self.nonces
            assert (response.count, response.removed) == (len(names), len(said.removed))
            if not asked:
                assert push
                assert self.settled or self.now >= self.sent_at + LIMITS.ack, "one unacknowledged push (X50)"
                assert self.now >= self.sent_at + GAP
            for name, version in said.resources:
                assert self.wants(name)
                assert name in self.awaited or self.store.get(name) != version, "only news"
                self.store[name] = version
            for name in said.removed:
                assert name in self.awaited or name in self.store, "what is gone is said once (X41)"
                self.store.pop(name, None)
            if asked:
                assert self.awaited <= {*names, *said.removed}, "what is asked for is answered (X32, X33, X35)"
            self.awaited.clear()
            self.nonces.append(said.nonce)
            self.settled = False
            self.sent_at = self.now
        return count

    # What must be so in the end.

    @rule()
    def settle(self) -> None:
        self.held = False
        for _ in range(3):
            self.now += LONG
            self.responses(push=True)
            if not self.settled:
                self.answer(refuse=False)
        self.now += LONG
        assert self.responses(push=True) == 0, "silence once all is said (X04)"
        assert self.session.retry_at(self.now, GAP) is None
        assert not self.awaited
        assert self.nonces, "the first request is always answered"
        present = self.resources.frames
        assert self.store == {name: present[name].version for name in present if self.wants(name)}

    def teardown(self) -> None:
        if self.session.watches:
            self.settle()


TestDeltaClient = RandomClient.TestCase
TestDeltaClient.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
