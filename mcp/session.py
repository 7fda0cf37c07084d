"""What both forms of an xDS stream share: who asks, what was sent, what was acknowledged. No I/O, no clock.

A session is fed with requests and asked what is due. It serves any type: what it knows of one is a `ResourceSet`, found
by the lookup that a subscriber is given once it said who it is, which gives None for a type that is held back and must
stay silent (G2). Rules carry the numbers of reference/xds-conformance.md.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from google.protobuf.json_format import MessageToDict
from msgspec import Struct

from isthmus.mcp.frames import field, sotw_response, text
from isthmus.registry.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from isthmus.mcp.limits import Limits
    from isthmus.mcp.resources import ResourceSet
    from isthmus.protos import xds_pb2

    Lookup = Callable[[str], ResourceSet | None]
    DebugPages = Callable[[str, Sequence[str]], "DebugAnswer"]

_log = logging.getLogger("isthmus.mcp")

CONTROL_PLANE = text(1, "isthmus")
# What istioctl asks for, and what begins with it and a slash; istiod asks for none of them.
DEBUG_TYPE = "istio.io/debug"


# What a client says is kept while its stream lives, and shown; istiod's node has 300 bytes, an Envoy's some thousands.
WORD_LENGTH = 1_024
METADATA_BYTES = 64 * 1024


class Response(Struct, frozen=True):
    """One encoded response and what it holds, for the pages and the metrics."""

    type_url: str
    version: str
    nonce: str
    count: int
    removed: int
    data: bytes


class DebugAnswer(Struct, frozen=True):
    """A debug page as xDS carries it: each resource an encoded Any; `control_plane` is the JSON that istioctl shows."""

    resources: Sequence[bytes]
    control_plane: str


class Subscriber(Struct, frozen=True):
    """Who opened the stream, by the node of its first request."""

    node_id: str
    metadata: dict[str, object]

    @property
    def revision(self) -> str:
        """The Istio revision that the client names, or nothing."""
        said = self.metadata.get("ISTIO_REVISION", "")
        return ",".join(map(str, said)) if isinstance(said, list) else str(said)


class Watch:
    """One type on one stream. Times are monotonic seconds."""

    def __init__(self, type_url: str) -> None:
        self.type_url = type_url
        self.must_answer = True
        self.awaiting: str | None = None
        self.last_nonce: str | None = None
        self.sent_version: str | None = None
        self.sent_at = float("-inf")
        self.sent_count = 0
        self.acked_version: str | None = None
        self.ack_seconds = 0.0
        self.nack: str | None = None
        self.nacks = 0
        self.unanswered = 0

    def answered(self, request: xds_pb2.DiscoveryRequest | xds_pb2.DeltaDiscoveryRequest, now: float) -> None:
        """Take a request that carries the nonce of the last response."""
        error = request.error_detail.message or "no reason given"
        self.settle(error if request.HasField("error_detail") else None, now)

    def settle(self, error: str | None, now: float) -> None:
        """Take the answer to the last response: an ACK, or with `error` a NACK (X04, X08)."""
        if self.awaiting is not None:
            self.ack_seconds = now - self.sent_at
        self.awaiting = None
        self.nack = None if error is None else error[:WORD_LENGTH]
        if error is None:
            self.acked_version = self.sent_version
        else:
            self.nacks += 1

    def sent(self, nonce: str, version: str, now: float) -> None:
        """Note a response that goes out now; a push over an unacknowledged response counts that as unanswered (X50)."""
        if self.awaiting is not None and not self.must_answer:
            self.unanswered += 1
        self.awaiting = self.last_nonce = nonce
        self.sent_version = version
        self.sent_at = now
        self.must_answer = False

    def opens_at(self, ack_timeout: float) -> float:
        """Return when an unasked response may go out: the last one is acknowledged, or is given up (X50)."""
        return float("-inf") if self.awaiting is None else self.sent_at + ack_timeout


W = TypeVar("W", bound=Watch)


class Session(ABC, Generic[W]):
    """The state of one stream, for either form of the protocol."""

    def __init__(
        self, admit: Callable[[Subscriber], Lookup], limits: Limits, debug_pages: DebugPages | None = None
    ) -> None:
        self._admit = admit
        self._lookup: Lookup = _nothing_yet
        self._limits = limits
        self._debug_pages = debug_pages
        self._debug_asked: dict[str, Sequence[str]] = {}
        self._nonces = 0
        self._node_changed = False
        self.subscriber: Subscriber | None = None
        self.watches: dict[str, W] = {}

    def _identify(self, node: xds_pb2.Node, type_url: str) -> None:
        """Take the node of the first request, and of no other (X22, X24). Raises ProtocolError (X23, X25)."""
        if len(type_url) > WORD_LENGTH or len(node.id) > WORD_LENGTH:
            raise ProtocolError("INVALID_ARGUMENT", f"type_url and node.id may have {WORD_LENGTH} characters")
        if self.subscriber is None:
            if not node.id:
                raise ProtocolError("INVALID_ARGUMENT", "the first request of a stream must carry a node with an id")
            subscriber = _subscriber(node)
            self._lookup = self._admit(subscriber)
            self.subscriber = subscriber
        elif node.id not in ("", self.subscriber.node_id) and not self._node_changed:
            self._node_changed = True
            _log.warning("a stream of %r now says that it is %r: it stays the first", self.subscriber.node_id, node.id)
        if not type_url:
            raise ProtocolError("INVALID_ARGUMENT", "a request must carry a type_url")

    def _bound(self, names: int) -> None:
        """Raises ProtocolError: so many names of one type are more than a stream may ask for (X55)."""
        if names > self._limits.names:
            raise ProtocolError("RESOURCE_EXHAUSTED", f"more than {self._limits.names} names of one type")

    def _bound_types(self) -> None:
        """Raises ProtocolError: one type more is too many (X54)."""
        if len(self.watches) + len(self._debug_asked) >= self._limits.types:
            raise ProtocolError("INVALID_ARGUMENT", f"more than {self._limits.types} types on one stream")

    def _add(self, watch: W) -> W:
        self._bound_types()
        self.watches[watch.type_url] = watch
        return watch

    def _ask_debug(self, type_url: str, names: Sequence[str]) -> None:
        """Note that a debug page is asked for. Raises ProtocolError: there are none on this port."""
        if self._debug_pages is None:
            raise ProtocolError(
                "PERMISSION_DENIED",
                "the debug pages are not given on this port: ask on one of this machine or with a client certificate, "
                "or set `debug: always` of the listener",
            )
        self._bound_types()
        self._debug_asked[type_url] = names

    def _debug_answers(self) -> Iterator[Response]:
        """Yield the pages that were asked for: each once, never acknowledged and never pushed."""
        while self._debug_pages is not None and self._debug_asked:
            type_url = next(iter(self._debug_asked))
            answer = self._debug_pages(type_url, self._debug_asked.pop(type_url))
            body = b"".join(field(2, resource) for resource in answer.resources)
            nonce = self._next_nonce()
            data = sotw_response(type_url, nonce, nonce, body, text(1, answer.control_plane))
            yield Response(type_url, nonce, nonce, len(answer.resources), 0, data)

    def _next_nonce(self) -> str:
        self._nonces += 1
        return f"{self._nonces:x}"

    def _ready(self, watch: W, now: float, *, push: bool) -> ResourceSet | None:
        """Return the resources of a watch where it may be sent something now, else None."""
        if not (watch.must_answer or (push and now >= watch.opens_at(self._limits.ack))):
            return None
        return self._lookup(watch.type_url)

    def opens_at(self) -> float | None:
        """Return from when on there are unsent changes that may be pushed; None: there are none."""
        times = [watch.opens_at(self._limits.ack) for watch in self.watches.values() if self.behind(watch)]
        return min(times, default=None)

    def awaits(self, since: float = float("-inf")) -> bool:
        """Tell whether the answer to a response that was sent since then is outstanding."""
        return any(watch.awaiting is not None and watch.sent_at >= since for watch in self.watches.values())

    def written(self, response: Response, now: float) -> None:
        """Note that a response is with the client's side: from now on it can be acknowledged (X50)."""
        watch = self.watches.get(response.type_url)
        if watch is not None and watch.awaiting == response.nonce:
            watch.sent_at = now

    @abstractmethod
    def receive(self, request: Any, now: float) -> None:
        """Take one request. Raises ProtocolError: the stream is to be ended with its status."""

    @abstractmethod
    def due(self, now: float, *, push: bool) -> Iterator[Response]:
        """Yield the responses to send now: answers always, changes when `push` says that it is time for a round."""

    @abstractmethod
    def behind(self, watch: W) -> bool:
        """Tell whether a watch was not yet sent the present state."""


def is_debug(type_url: str) -> bool:
    """Tell whether a type is none of resources but asks for a debug page."""
    return type_url == DEBUG_TYPE or type_url.startswith(f"{DEBUG_TYPE}/")


def _nothing_yet(type_url: str) -> ResourceSet | None:
    """Stand for the lookup of a stream that has not said who it is."""
    raise LookupError(type_url)


def _subscriber(node: xds_pb2.Node) -> Subscriber:
    """Read who asks. Raises ProtocolError: the metadata holds a number that JSON has no word for (X56), or too much."""
    if node.metadata.ByteSize() > METADATA_BYTES:
        raise ProtocolError("INVALID_ARGUMENT", f"the metadata of a node may have {METADATA_BYTES} bytes")
    try:
        return Subscriber(node.id, MessageToDict(node.metadata))
    except ValueError as error:
        raise ProtocolError("INVALID_ARGUMENT", "the metadata of the node is not JSON") from error
