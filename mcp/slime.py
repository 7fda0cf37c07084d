"""The increments of Slime's istiod, in the messages that are state of the world elsewhere (slime.md section 2).

The first response of a type is full, each later one holds only what changed; a resource without a body is gone. Any
other istiod would delete whatever it does not find in such a response, and nothing in a request tells one from the
other: the operator marks the listener.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from isthmus.mcp.encode import encode_removal
from isthmus.mcp.frames import sotw_response
from isthmus.mcp.session import CONTROL_PLANE, Response, Session, Watch, is_debug
from isthmus.registry.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from isthmus.mcp.resources import ResourceSet
    from isthmus.protos import xds_pb2


class SlimeWatch(Watch):
    """One type: `client_has` is what was sent, `revision` since when the log of changes must be read."""

    def __init__(self, type_url: str) -> None:
        super().__init__(type_url)
        self.client_has: dict[str, str] = {}
        self.revision = -1


class SlimeSession(Session[SlimeWatch]):
    """One stream of StreamAggregatedResources on a listener that is marked for Slime."""

    def receive(self, request: xds_pb2.DiscoveryRequest, now: float) -> None:
        """Take one request. Raises ProtocolError: the stream is to be ended with its status."""
        self._identify(request.node, request.type_url)
        if is_debug(request.type_url):
            self._ask_debug(request.type_url, request.resource_names)
            return
        if request.resource_names:
            raise ProtocolError("INVALID_ARGUMENT", "a listener of the form `slime` serves whole types, not names")
        watch = self.watches.get(request.type_url)
        if watch is None:
            self._add(SlimeWatch(request.type_url))
        elif not request.response_nonce:
            # A client that begins anew on an open stream (X07) gets everything, and is told what has gone since.
            watch.client_has = dict.fromkeys(watch.client_has, "")
            watch.revision = -1
            watch.must_answer = True
        elif request.response_nonce == watch.last_nonce:
            watch.answered(request, now)

    def due(self, now: float, *, push: bool) -> Iterator[Response]:
        """Yield the responses to send now: answers always, changes when `push` says that it is time for a round."""
        yield from self._debug_answers()
        for watch in list(self.watches.values()):
            resources = self._ready(watch, now, push=push)
            if resources is None:
                continue
            changed, removed = _differences(watch, resources)
            watch.revision = resources.revision
            # Slime's own server sends increments with nothing in them to whom a change does not concern; ours does not.
            due = changed or removed or watch.must_answer
            watch.must_answer = False
            if due:
                yield self._respond(watch, resources, changed, removed, now)

    def behind(self, watch: SlimeWatch) -> bool:
        """Tell whether a watch was not yet sent the present state."""
        resources = self._lookup(watch.type_url)
        return resources is not None and watch.revision != resources.revision

    def _respond(
        self, watch: SlimeWatch, resources: ResourceSet, changed: list[str], removed: list[str], now: float
    ) -> Response:
        nonce = self._next_nonce()
        # Of several that the client takes, any will do.
        revision = self.subscriber.revision.partition(",")[0].strip() if self.subscriber else ""
        bodies = [resources.frames[name].sotw for name in changed]
        bodies += [encode_removal(name, revision) for name in removed]
        watch.client_has.update((name, resources.frames[name].version) for name in changed)
        for name in removed:
            del watch.client_has[name]
        watch.sent(nonce, resources.version, now)
        watch.sent_count = len(watch.client_has)
        data = sotw_response(watch.type_url, resources.version, nonce, b"".join(bodies), CONTROL_PLANE)
        return Response(watch.type_url, resources.version, nonce, len(changed), len(removed), data)


def _differences(watch: SlimeWatch, resources: ResourceSet) -> tuple[list[str], list[str]]:
    """Return (names to send, names to report as gone), each in order."""
    logged = resources.changed_since(watch.revision) if watch.revision >= 0 else None
    names = sorted(logged if logged is not None else resources.frames.keys() | watch.client_has.keys())
    present = {name: resources.frames.get(name) for name in names}
    changed = [name for name, frame in present.items() if frame and watch.client_has.get(name) != frame.version]
    removed = [name for name, frame in present.items() if frame is None and name in watch.client_has]
    return changed, removed
