"""Small resources, decoded responses, and what all random clients of the stream machine have in common."""

from __future__ import annotations

from abc import abstractmethod
from functools import cache
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from msgspec import Struct

from isthmus.mcp.encode import Frame, encode_resource
from isthmus.mcp.frames import any_message
from isthmus.mcp.limits import Limits
from isthmus.mcp.resources import ResourceSet
from isthmus.protos import mcp_pb2, xds_pb2

if TYPE_CHECKING:
    from isthmus.mcp.session import Lookup, Response, Session, Subscriber

TYPE = "networking.istio.io/v1/ServiceEntry"
NODE = xds_pb2.Node(id="sidecar~10.0.0.1~istiod.istio-system~istio-system.svc.cluster.local")
LIMITS = Limits(ack=30.0)
# More than the time after which an acknowledgement is given up.
LONG = 1_000.0

NAMES = st.sampled_from(["reg/a", "reg/b", "reg/c", "reg/d"])
CONTENTS = st.none() | st.integers(0, 2)
SUBSCRIPTIONS = st.lists(st.one_of(NAMES, st.just("*")), max_size=3)
CHANGES = st.lists(st.tuples(NAMES, CONTENTS), max_size=3)
WHICH = st.integers(0, 50)
REFUSED = xds_pb2.Status(code=3, message="no")


@cache
def frame(name: str, content: int) -> Frame:
    """Return a resource whose version follows from its name and content."""
    return encode_resource(mcp_pb2.Metadata(name=name), any_message("type.googleapis.com/test", str(content).encode()))


class Listed(Struct, frozen=True):
    """What a response of any form lists; `removed` of Slime's are the names that come without a body."""

    nonce: str
    resources: list[tuple[str, str]]
    removed: list[str]

    @property
    def names(self) -> list[str]:
        """The names of the resources, as they were sent."""
        return [name for name, _ in self.resources]


def listed(data: bytes, *, delta: bool) -> Listed:
    """Decode a response."""
    if delta:
        response = xds_pb2.DeltaDiscoveryResponse.FromString(data)
        return Listed(
            response.nonce,
            [(one.name, one.version) for one in response.resources],
            list(response.removed_resources),
        )
    answer = xds_pb2.DiscoveryResponse.FromString(data)
    resources = [mcp_pb2.Resource.FromString(one.value) for one in answer.resources]
    return Listed(
        answer.nonce,
        [(one.metadata.name, one.metadata.version) for one in resources if one.HasField("body")],
        [one.metadata.name for one in resources if not one.HasField("body")],
    )


class RandomClient(RuleBasedStateMachine):
    """A client of one type that matters and some that we have nothing of, and what it must have heard.

    store: what the client holds. nonces: all of the stream; sent: those of the type that matters.
    settled: whether the last response of that type is answered; sent_at: when it came.
    """

    delta = False
    full_state = True

    def __init__(self) -> None:
        super().__init__()
        self.resources = ResourceSet(full_state=self.full_state)
        self.held = True
        self.now = 0.0
        self.store: dict[str, str] = {}
        self.begin_stream()

    def begin_stream(self) -> None:
        """Open another stream, on which nothing was said yet."""
        self.session = self.open_session()
        self.nonces: list[str] = []
        self.sent: list[str] = []
        self.unanswered: set[str] = set()
        self.settled = True
        self.sent_at = 0.0

    @abstractmethod
    def open_session(self) -> Session[Any]:
        """Return the server's side of a stream."""

    @abstractmethod
    def ask(self, type_url: str, nonce: str) -> None:
        """Send a request that subscribes to all of a type, or says again what is subscribed to."""

    @abstractmethod
    def hear(self, said: Listed, *, asked: bool) -> None:
        """Check a response, and take it; `asked`: whether it was asked for."""

    @abstractmethod
    def acknowledge_last(self) -> None:
        """Acknowledge the last response, with the subscription as it is."""

    @abstractmethod
    def expected(self) -> dict[str, str]:
        """Return what the client must hold once all is said."""

    def admit(self, subscriber: Subscriber) -> Lookup:
        """Let the client in."""
        assert subscriber.node_id == NODE.id
        return self.lookup

    def lookup(self, type_url: str) -> ResourceSet | None:
        """Return the resources of a type, nothing of those that nobody has."""
        if type_url != TYPE:
            return ResourceSet()
        return None if self.held else self.resources

    # What happens to the resources.

    @rule(changes=CHANGES)
    def change(self, changes: list[tuple[str, int | None]]) -> None:
        self.resources.update((name, None if content is None else frame(name, content)) for name, content in changes)

    @rule(changes=CHANGES)
    def change_and_hear(self, changes: list[tuple[str, int | None]]) -> None:
        """Let a change go all the way to the client, as most do."""
        self.held = False
        self.change(changes)
        for _ in range(2):
            if not self.settled:
                self.acknowledge_last()
            self.responses(push=True)

    @rule(count=st.sampled_from([1, 1200]))
    def come_and_go(self, count: int) -> None:
        """Fill the log with names that nobody heard of, until it forgets."""
        others = [f"reg/other-{number}" for number in range(count)]
        self.resources.update((name, frame("reg/other", 0)) for name in others)
        self.resources.update((name, None) for name in others)

    @rule()
    def open(self) -> None:
        self.held = False

    @rule(seconds=st.sampled_from([0.01, 1.0, LIMITS.ack]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    def move_to_replica(self) -> None:
        """Let another server go on, which came to the same resources in another way."""
        frames = self.resources.frames
        self.resources = ResourceSet(full_state=self.full_state)
        for name in sorted(frames, reverse=True):
            self.resources.update([(name, frame(name, 99)), (name, frames[name])])

    # What the client sends.

    @rule(which=st.integers(0, 2))
    def ask_for_another_type(self, which: int) -> None:
        type_url = f"networking.istio.io/v1/Other{which}"
        if type_url not in self.session.watches:
            self.unanswered.add(type_url)
            self.ask(type_url, "")

    @precondition(lambda self: self.stale_nonces())
    @rule(which=WHICH, content=st.integers(0, 2))
    def answer_another_nonce(self, which: int, content: int) -> None:
        """Answer an older response, or one of another type: that acknowledges nothing (X05, X27)."""
        stale = self.stale_nonces()
        self.ask(TYPE, stale[which % len(stale)])
        # Where the newest is awaited, a change still is; `responses` sees to it.
        self.change([("reg/a", content)])
        self.wait(1.0)
        self.responses(push=True)

    def stale_nonces(self) -> list[str]:
        """Return the nonces of the stream that are not the last one of the type that matters."""
        return [nonce for nonce in self.nonces if nonce not in self.sent[-1:]]

    # What the server says.

    @rule(push=st.booleans())
    def look(self, *, push: bool) -> None:
        self.responses(push=push)

    def responses(self, *, push: bool) -> int:
        """Have the server say what is due, check that it may, and return how many responses that were."""
        asked = self.session.watches[TYPE].must_answer
        types: list[str] = []
        for response in self.session.due(self.now, push=push):
            types.append(response.type_url)
            said = listed(response.data, delta=self.delta)
            self.check(response, said)
            self.nonces.append(said.nonce)
            if response.type_url == TYPE:
                self.check_timing(asked=asked, push=push)
                self.hear(said, asked=asked)
                self.sent.append(said.nonce)
                self.settled = False
                self.sent_at = self.now
            else:
                assert (said.resources, said.removed) == ([], [])
                self.unanswered.remove(response.type_url)
        assert len(types) == len(set(types)), "one response of a type at a time"
        assert not self.unanswered, "a type that nobody has is answered at once (X26, X59)"
        return len(types)

    def check(self, response: Response, said: Listed) -> None:
        """Check what no response may be."""
        assert said.names == sorted(set(said.names)), "each name once (X21)"
        assert said.removed == sorted(set(said.removed))
        assert not set(said.names) & set(said.removed)
        assert said.nonce
        assert said.nonce not in self.nonces, "a nonce of its own (X27)"
        assert response.nonce == said.nonce
        assert (response.count, response.removed) == (len(said.names), len(said.removed))

    def check_timing(self, *, asked: bool, push: bool) -> None:
        """Check that a response may come now."""
        assert not self.held, "not even an empty answer while held (G2)"
        if not asked:
            assert push
            assert self.settled or self.now >= self.sent_at + LIMITS.ack, "one unacknowledged push (X50)"

    # What must be so in the end.

    @rule()
    def settle(self) -> None:
        self.held = False
        for _ in range(3):
            self.now += LONG
            self.responses(push=True)
            if not self.settled:
                self.acknowledge_last()
        self.now += LONG
        assert self.responses(push=True) == 0, "silence once all is said (X04)"
        assert self.session.opens_at() is None
        self.compare()

    def compare(self) -> None:
        """Check that the client holds exactly what there is for it."""
        assert self.store == self.expected()

    def teardown(self) -> None:
        if TYPE in self.session.watches:
            self.settle()
