"""A random client of Slime's kind against the stream machine: it holds what increments tell it, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from isthmus.mcp.resources import ResourceSet
from isthmus.mcp.slime import SlimeSession
from isthmus.protos import mcp_pb2, xds_pb2
from isthmus.registry.errors import ProtocolError
from tests.unit.xds_model import LIMITS, NODE, REFUSED, TYPE, Listed, RandomClient, frame


class SlimeClient(RandomClient):
    """A client that resets itself with the first response of a stream; `reset` is whether that is still to come."""

    def begin_stream(self) -> None:
        super().begin_stream()
        self.reset = True
        self.told: set[str] = set()

    def open_session(self) -> SlimeSession:
        return SlimeSession(self.admit, LIMITS)

    # What the client sends.

    @initialize()
    def begin(self) -> None:
        self.ask(TYPE, "")

    @rule(replica=st.booleans())
    def reconnect(self, *, replica: bool) -> None:
        if replica:
            self.move_to_replica()
        self.begin_stream()
        self.ask(TYPE, "")

    @rule()
    def begin_again(self) -> None:
        """Begin anew on the open stream (X07)."""
        self.reset = True
        self.settled = True
        self.ask(TYPE, "")

    @precondition(lambda self: self.sent)
    @rule(refuse=st.booleans())
    def answer(self, *, refuse: bool) -> None:
        # Slime's client refuses nothing; one that did would not be sent the same again (X08).
        self.settled = True
        self.send(TYPE, self.sent[-1], REFUSED if refuse else None)

    def ask(self, type_url: str, nonce: str) -> None:
        self.send(type_url, nonce)

    def acknowledge_last(self) -> None:
        self.answer(refuse=False)

    def send(self, type_url: str, nonce: str, error: xds_pb2.Status | None = None) -> None:
        request = xds_pb2.DiscoveryRequest(node=NODE, type_url=type_url, response_nonce=nonce, error_detail=error)
        self.session.receive(request, self.now)

    # What the server says.

    def hear(self, said: Listed, *, asked: bool) -> None:
        assert self.reset == asked
        if self.reset:
            assert self.told.issuperset(said.removed), "only what this client was told of can be gone for it"
            self.store.clear()
        else:
            assert said.names or said.removed, "no increment with nothing in it"
        for name, version in said.resources:
            assert self.store.get(name) != version, "only news"
            self.store[name] = version
        for name in said.removed:
            assert self.store.pop(name, None) is not None or self.reset, "told once"
        self.told.update(name for name, _ in said.resources)
        self.reset = False

    # What must be so in the end.

    def expected(self) -> dict[str, str]:
        return {name: one.version for name, one in self.resources.frames.items()}


TestSlimeClient = SlimeClient.TestCase
TestSlimeClient.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def session_of(resources: ResourceSet, *revision: str) -> SlimeSession:
    """Open a session and a stream of a client that names a revision, or none."""
    session = SlimeSession(lambda _: lambda _: resources, LIMITS)
    node = xds_pb2.Node(id=NODE.id)
    if revision:
        node.metadata.update({"ISTIO_REVISION": revision[0]})
    session.receive(xds_pb2.DiscoveryRequest(node=node, type_url=TYPE), 0.0)
    return session


@pytest.mark.parametrize(
    ("revision", "label"),
    [((), None), (("",), None), (("canary",), "canary"), (("rev2,rev1",), "rev2"), ((" rev2 , rev1",), "rev2")],
)
def test_a_removal_passes_the_filter_of_the_client(revision: tuple[str, ...], label: str | None) -> None:
    resources = ResourceSet()
    resources.update([("reg/a", frame("reg/a", 1))])
    session = session_of(resources, *revision)
    (first,) = session.due(0.0, push=False)
    session.receive(xds_pb2.DiscoveryRequest(type_url=TYPE, response_nonce=first.nonce), 0.0)
    resources.update([("reg/a", None)])
    (second,) = session.due(0.0, push=True)
    (gone,) = xds_pb2.DiscoveryResponse.FromString(second.data).resources
    resource = mcp_pb2.Resource.FromString(gone.value)
    assert resource.metadata.name == "reg/a"
    assert not resource.HasField("body")
    assert dict(resource.metadata.labels) == ({"istio.io/rev": label} if label else {})
    assert (second.count, second.removed) == (0, 1)


def test_names_are_refused_since_such_a_client_names_none() -> None:
    session = session_of(ResourceSet())
    with pytest.raises(ProtocolError, match="whole types") as raised:
        session.receive(xds_pb2.DiscoveryRequest(type_url=TYPE, resource_names=["reg/a"]), 0.0)
    assert raised.value.status == "INVALID_ARGUMENT"
