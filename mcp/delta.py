"""Delta: a response holds what changed and names what is gone; the client says what it has when it comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from isthmus.mcp.frames import delta_response
from isthmus.mcp.session import CONTROL_PLANE, Response, Session, Watch
from isthmus.mcp.sotw import WILDCARD

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from isthmus.mcp.resources import ResourceSet
    from isthmus.protos import xds_pb2


class DeltaWatch(Watch):
    """One type: all resources (`wildcard`), and names asked for by name; `client_has` is what it holds."""

    def __init__(self, type_url: str) -> None:
        super().__init__(type_url)
        self.wildcard = False
        self.names: set[str] = set()
        self.client_has: dict[str, str] = {}
        # Names whose state the client wants to hear even if it did not change.
        self.asked: set[str] = set()
        # What may differ between `client_has` and the resources follows from the log since this revision.
        self.revision = -1

    def wants(self, name: str) -> bool:
        """Tell whether a name is subscribed to."""
        return self.wildcard or name in self.names


class DeltaSession(Session[DeltaWatch]):
    """One stream of DeltaAggregatedResources."""

    def receive(self, request: xds_pb2.DeltaDiscoveryRequest, now: float) -> None:
        """Take one request. Raises ProtocolError: the stream is to be ended with its status."""
        self._identify(request.node, request.type_url)
        watch = self.watches.get(request.type_url)
        asked = len(request.resource_names_subscribe) + len(request.initial_resource_versions)
        self._bound(asked + (len(watch.names) if watch else 0))
        if watch is None:
            self._begin(self._add(DeltaWatch(request.type_url)), request)
            return
        if request.response_nonce and request.response_nonce == watch.last_nonce:
            watch.answered(request, now)
        # A subscription counts whatever the nonce (X31).
        self._subscribe(watch, request.resource_names_subscribe)
        self._unsubscribe(watch, request.resource_names_unsubscribe)

    def _begin(self, watch: DeltaWatch, request: xds_pb2.DeltaDiscoveryRequest) -> None:
        # A first request that names nothing means all (X28).
        watch.wildcard = not request.resource_names_subscribe
        self._subscribe(watch, request.resource_names_subscribe)
        self._unsubscribe(watch, request.resource_names_unsubscribe)
        known = request.initial_resource_versions
        watch.client_has = {name: version for name, version in known.items() if watch.wants(name)}
        # What the client brings along is compared, not sent again (X29).
        watch.asked -= watch.client_has.keys()

    def due(self, now: float, *, push: bool) -> Iterator[Response]:
        """Yield the responses to send now: answers always, changes when `push` says that it is time for a round."""
        # A copy: while one response is being written, requests may add types.
        for watch in list(self.watches.values()):
            resources = self._ready(watch, now, push=push)
            if resources is None:
                continue
            changed, removed = self._differences(watch, resources)
            watch.revision = resources.revision
            # Only the very first answer may be empty (X42).
            due = changed or removed or (watch.must_answer and watch.last_nonce is None)
            # Before the response is given out: while it is written, a request may ask for more.
            watch.must_answer = False
            if due:
                yield self._respond(watch, resources, changed, removed, now)

    def behind(self, watch: DeltaWatch) -> bool:
        """Tell whether a watch was not yet sent the present state."""
        resources = self._lookup(watch.type_url)
        return resources is not None and watch.revision != resources.revision

    def _subscribe(self, watch: DeltaWatch, names: Iterable[str]) -> None:
        for name in names:
            if name == WILDCARD:
                watch.wildcard = True
                watch.revision = -1
            else:
                watch.names.add(name)
                # To subscribe again is to ask again (X32).
                watch.asked.add(name)
            watch.must_answer = True

    def _unsubscribe(self, watch: DeltaWatch, names: Iterable[str]) -> None:
        for name in names:
            if name == WILDCARD:
                watch.wildcard = False
                self._forget(watch, [known for known in watch.client_has if known not in watch.names])
                watch.asked &= watch.names
            elif name in watch.names:
                watch.names.discard(name)
                if watch.wildcard:
                    # Still part of the wildcard: the client forgot it with the name and must be told (X35).
                    watch.asked.add(name)
                    watch.must_answer = True
                else:
                    self._forget(watch, [name])

    def _forget(self, watch: DeltaWatch, names: list[str]) -> None:
        for name in names:
            watch.client_has.pop(name, None)
            watch.asked.discard(name)

    def _differences(self, watch: DeltaWatch, resources: ResourceSet) -> tuple[list[str], list[str]]:
        """Return (names to send, names to report as gone), each in order."""
        logged = resources.changed_since(watch.revision) if watch.revision >= 0 else None
        candidates = set(logged) if logged is not None else self._all_names(watch, resources)
        changed, removed = [], []
        for name in sorted(candidates | watch.asked):
            frame = resources.frames.get(name)
            if frame is None:
                if name in watch.client_has or name in watch.asked:
                    removed.append(name)
            elif watch.wants(name) and (name in watch.asked or watch.client_has.get(name) != frame.version):
                changed.append(name)
        return changed, removed

    def _all_names(self, watch: DeltaWatch, resources: ResourceSet) -> set[str]:
        wanted = set(resources.frames) if watch.wildcard else watch.names & resources.frames.keys()
        return wanted | watch.client_has.keys()

    def _respond(
        self, watch: DeltaWatch, resources: ResourceSet, changed: list[str], removed: list[str], now: float
    ) -> Response:
        nonce = self._next_nonce()
        frames = resources.frames
        watch.client_has.update((name, frames[name].version) for name in changed)
        for name in removed:
            watch.client_has.pop(name, None)
        watch.asked.clear()
        watch.sent(nonce, resources.version, now)
        watch.sent_count = len(watch.client_has)
        body = resources.delta(changed)
        data = delta_response(watch.type_url, resources.version, nonce, body, removed, CONTROL_PLANE)
        return Response(watch.type_url, resources.version, nonce, len(changed), len(removed), data)
