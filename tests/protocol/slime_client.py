"""A client as Slime's modified istiod is one (reference/slime.md section 2), which is nowhere to be had as a program.

It is a fake, written from that description: it begins with an empty nonce, takes the first response of a type on a
stream for all there is and every later one for what changed, filters by revision once more itself, and acknowledges
everything but a response with an empty nonce.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from isthmus.protos import mcp_pb2, networking_pb2, xds_pb2
from tests.protocol.stream import SERVICE_ENTRIES, node

if TYPE_CHECKING:
    from tests.protocol.stream import Answer, RawStream

REVISION_LABEL = "istio.io/rev"


class SlimeClient:
    """One stream; `store` is what the client holds of each type, `log` what a response of ServiceEntry did to it.

    revision: one, several with commas, or none, which takes everything.
    """

    def __init__(self, stream: RawStream, revision: str = "") -> None:
        self.stream = stream
        self.store: dict[str, dict[str, mcp_pb2.Resource]] = {}
        self.log: list[tuple[set[str], set[str]]] = []
        self._revisions = {one.strip() for one in revision.split(",") if one.strip()}
        self._node = node(ISTIO_REVISION=revision) if revision else node()

    @property
    def names(self) -> set[str]:
        """The ServiceEntries that it holds."""
        return set(self.store.get(SERVICE_ENTRIES, {}))

    def addresses(self, name: str) -> list[str]:
        """Return the addresses of the endpoints of one ServiceEntry."""
        body = networking_pb2.ServiceEntry.FromString(self.store[SERVICE_ENTRIES][name].body.value)
        return [endpoint.address for endpoint in body.endpoints]

    async def begin(self, *type_urls: str) -> None:
        """Ask for types, ServiceEntry if none is given, and take the first response of each."""
        for type_url in type_urls or (SERVICE_ENTRIES,):
            await self.stream.send(xds_pb2.DiscoveryRequest(node=self._node, type_url=type_url))
        for _ in type_urls or (SERVICE_ENTRIES,):
            await self.take()

    async def take(self, *, acknowledge: bool = True) -> Answer:
        """Take one response."""
        answer = await self.stream.read()
        self._apply(answer)
        if acknowledge:
            await self.acknowledge(answer)
        return answer

    async def acknowledge(self, answer: Answer) -> None:
        """Acknowledge a response, with the node again and without names."""
        if not answer.nonce:
            return
        request = xds_pb2.DiscoveryRequest(
            node=self._node, type_url=answer.type_url, version_info=answer.version, response_nonce=answer.nonce
        )
        await self.stream.send(request)

    def _apply(self, answer: Answer) -> None:
        first = answer.type_url not in self.store
        held = self.store.setdefault(answer.type_url, {})
        put, deleted = set(), set()
        for name, resource in answer.resources.items():
            if not self._passes(resource):
                continue
            if resource.HasField("body"):
                held[name] = resource
                put.add(name)
            else:
                assert not first, "in a first response there is nothing to delete"
                del held[name]
                deleted.add(name)
        if answer.type_url == SERVICE_ENTRIES:
            self.log.append((put, deleted))

    def _passes(self, resource: mcp_pb2.Resource) -> bool:
        label = resource.metadata.labels.get(REVISION_LABEL, "")
        return not self._revisions or not label or bool(self._revisions.intersection(label.split(",")))
