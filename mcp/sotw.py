"""State of the world: every response of a full-state type holds all resources; what is missing in it is deleted.

This is what istiod speaks. Its first request of a type carries a nonce that nobody sent, which must not be taken for
an answer (X02), and it acknowledges everything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from isthmus.mcp.frames import sotw_response
from isthmus.mcp.session import CONTROL_PLANE, Response, Session, Watch, is_debug

if TYPE_CHECKING:
    from collections.abc import Iterator

    from isthmus.mcp.resources import ResourceSet
    from isthmus.protos import xds_pb2

WILDCARD = "*"


class SotwWatch(Watch):
    """One type: subscribed to all (`names` is None) or to some names; no names at all is unsubscribed.

    `named` is whether the client ever named anything: only until then do no names mean all. What may differ between
    `sent_names` and the resources changed after `revision`.
    """

    def __init__(self, type_url: str) -> None:
        super().__init__(type_url)
        self.names: frozenset[str] | None = None
        self.named = False
        self.sent_names: dict[str, str] = {}
        self.revision = -1

    @property
    def subscribed(self) -> bool:
        return self.names is None or bool(self.names)


class SotwSession(Session[SotwWatch]):
    """One stream of StreamAggregatedResources."""

    def receive(self, request: xds_pb2.DiscoveryRequest, now: float) -> None:
        """Take one request. Raises ProtocolError: the stream is to be ended with its status."""
        self._identify(request.node, request.type_url)
        if is_debug(request.type_url):
            self._ask_debug(request.type_url, request.resource_names)
            return
        self._bound(len(request.resource_names))
        watch = self.watches.get(request.type_url)
        if watch is None:
            # The first request of a type subscribes, whatever its nonce and version say (X01 to X03).
            watch = self._add(SotwWatch(request.type_url))
            watch.names = _read_names(watch, request)
        elif not request.response_nonce:
            # A client that begins anew on an open stream (X07).
            watch.named = False
            watch.names = _read_names(watch, request)
            watch.must_answer = True
        elif request.response_nonce == watch.last_nonce:
            watch.answered(request, now)
            self._resubscribe(watch, _read_names(watch, request))
        # Any other nonce answers an older response and is ignored, with its names (X05, X06).

    def due(self, now: float, *, push: bool) -> Iterator[Response]:
        """Yield the responses to send now: answers always, changes when `push` says that it is time for a round."""
        yield from self._debug_answers()
        # A copy: while one response is being written, requests may add types.
        for watch in list(self.watches.values()):
            resources = self._ready(watch, now, push=push)
            if resources is None or not watch.subscribed:
                continue
            news = watch.must_answer or self._changed(watch, resources)
            watch.revision = resources.revision
            if news:
                yield self._respond(watch, resources, now)

    def behind(self, watch: SotwWatch) -> bool:
        """Tell whether a watch was not yet sent the present state."""
        resources = self._lookup(watch.type_url)
        return resources is not None and watch.subscribed and self._changed(watch, resources)

    def _resubscribe(self, watch: SotwWatch, names: frozenset[str] | None) -> None:
        before, watch.names = watch.names, names
        if names == before or (names is not None and before is not None and names <= before):
            # Names taken away only narrow what follows (X12, X13).
            return
        # New names are answered also where nothing changed (X11), as is a change from all to some or back (X14).
        watch.must_answer = watch.subscribed

    def _changed(self, watch: SotwWatch, resources: ResourceSet) -> bool:
        if watch.names is None:
            return resources.version != watch.sent_version
        if _untouched(watch, watch.names, resources):
            return False
        present = _versions(resources, watch.names)
        if resources.full_state:
            return present != {name: version for name, version in watch.sent_names.items() if name in watch.names}
        # A type that need not be complete has no word for a resource that is gone.
        return any(watch.sent_names.get(name) != version for name, version in present.items())

    def _respond(self, watch: SotwWatch, resources: ResourceSet, now: float) -> Response:
        nonce = self._next_nonce()
        if watch.names is None:
            body, count = resources.joined(), len(resources.frames)
        else:
            names = self._names_to_send(watch, resources)
            body, count = b"".join(resources.frames[name].sotw for name in names), len(names)
            watch.sent_names = _versions(resources, watch.names)
        watch.sent(nonce, resources.version, now)
        watch.sent_count = count
        data = sotw_response(watch.type_url, resources.version, nonce, body, CONTROL_PLANE)
        return Response(watch.type_url, resources.version, nonce, count, 0, data)

    def _names_to_send(self, watch: SotwWatch, resources: ResourceSet) -> list[str]:
        """All subscribed resources that exist (X16), or, for a type that need not be complete, those that changed."""
        present = _versions(resources, watch.names or frozenset())
        if resources.full_state or watch.must_answer:
            return sorted(present)
        return sorted(name for name, version in present.items() if watch.sent_names.get(name) != version)


def _read_names(watch: SotwWatch, request: xds_pb2.DiscoveryRequest) -> frozenset[str] | None:
    """Read a subscription: no names mean all where none were ever named, and none after that (X13, X14)."""
    names = frozenset(request.resource_names)
    watch.named = watch.named or bool(names)
    return None if WILDCARD in names or not watch.named else names


def _untouched(watch: SotwWatch, names: frozenset[str], resources: ResourceSet) -> bool:
    """Tell whether none of the names changed since they were looked at last, and note that: there may be many."""
    if resources.revision == watch.revision:
        return True
    logged = resources.changed_since(watch.revision) if watch.revision >= 0 else None
    if logged is None or not names.isdisjoint(logged):
        return False
    watch.revision = resources.revision
    return True


def _versions(resources: ResourceSet, names: frozenset[str]) -> dict[str, str]:
    return {name: frame.version for name in names if (frame := resources.frames.get(name)) is not None}
