"""What both forms of an xDS stream share: who asks, what was sent, what was acknowledged. No I/O, no clock.

A session is fed with requests and asked what is due; it never calls anybody. It serves any type: what it knows of one
is a `ResourceSet`, found by `lookup`, which gives None for a type that is held back and must stay silent (G2).
Rules carry the numbers of reference/xds-conformance.md.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from google.protobuf.json_format import MessageToDict
from msgspec import Struct

from isthmus.mcp.frames import text
from isthmus.registry.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from isthmus.mcp.limits import Limits
    from isthmus.mcp.shards import ResourceSet
    from isthmus.protos import xds_pb2

    Lookup = Callable[[str], ResourceSet | None]

_log = logging.getLogger("isthmus.mcp")

CONTROL_PLANE = text(1, "isthmus")


class Response(Struct, frozen=True):
    """One encoded response and what it holds, for the pages and the metrics."""

    type_url: str
    version: str
    nonce: str
    count: int
    removed: int
    data: bytes


class Subscriber(Struct, frozen=True):
    """Who opened the stream, by the node of its first request."""

    node_id: str
    metadata: dict[str, object]

    @property
    def revision(self) -> str:
        """The Istio revision that the client names, or nothing."""
        return str(self.metadata.get("ISTIO_REVISION", ""))


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

    def settle(self, error: str | None, now: float) -> None:
        """Take the answer to the last response: an ACK, or with `error` a NACK (X04, X08)."""
        if self.awaiting is not None:
            self.ack_seconds = now - self.sent_at
        self.awaiting = None
        self.nack = error
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

    def opens_at(self, gap: float, ack_timeout: float) -> float:
        """Return when an unasked response may go out: the last one is acknowledged, or given up, and has had its rest.

        A client that takes long to acknowledge gets a longer rest than `gap`, so that it is never busy with us for
        more than half of its time.
        """
        if self.awaiting is not None:
            return self.sent_at + ack_timeout
        return self.sent_at + max(gap, 2 * self.ack_seconds)


W = TypeVar("W", bound=Watch)


class Session(ABC, Generic[W]):
    """The state of one stream, for either form of the protocol."""

    def __init__(self, lookup: Lookup, limits: Limits) -> None:
        self._lookup = lookup
        self._limits = limits
        self._nonces = 0
        self._node_changed = False
        self.subscriber: Subscriber | None = None
        self.watches: dict[str, W] = {}

    def _identify(self, node: xds_pb2.Node, type_url: str) -> None:
        """Take the node of the first request, and of no other (X22, X24). Raises ProtocolError (X23, X25)."""
        if self.subscriber is None:
            if not node.id:
                raise ProtocolError("INVALID_ARGUMENT", "the first request of a stream must carry a node with an id")
            self.subscriber = _subscriber(node)
        elif node.id not in ("", self.subscriber.node_id) and not self._node_changed:
            self._node_changed = True
            _log.warning("a stream of %r now says that it is %r: it stays the first", self.subscriber.node_id, node.id)
        if not type_url:
            raise ProtocolError("INVALID_ARGUMENT", "a request must carry a type_url")

    def _add(self, watch: W) -> W:
        if len(self.watches) >= self._limits.types:
            raise ProtocolError("INVALID_ARGUMENT", f"more than {self._limits.types} types on one stream")
        self.watches[watch.type_url] = watch
        return watch

    def _next_nonce(self) -> str:
        self._nonces += 1
        return f"{self._nonces:x}"

    def _ready(self, watch: W, now: float, gap: float, *, push: bool) -> ResourceSet | None:
        """Return the resources of a watch where it may be sent something now, else None."""
        if not (watch.must_answer or (push and now >= watch.opens_at(gap, self._limits.ack))):
            return None
        return self._lookup(watch.type_url)

    def retry_at(self, now: float, gap: float) -> float | None:
        """Return when a stream that has unsent changes should be looked at again without being woken; None: no need."""
        times = [watch.opens_at(gap, self._limits.ack) for watch in self.watches.values() if self.behind(watch)]
        return max(now, min(times)) if times else None

    @abstractmethod
    def receive(self, request: Any, now: float) -> None:
        """Take one request. Raises ProtocolError: the stream is to be ended with its status."""

    @abstractmethod
    def due(self, now: float, gap: float, *, push: bool) -> Iterator[Response]:
        """Yield the responses to send now: answers always, changes when `push` says that it is time for a burst."""

    @abstractmethod
    def behind(self, watch: W) -> bool:
        """Tell whether a watch was not yet sent the present state."""


def _subscriber(node: xds_pb2.Node) -> Subscriber:
    """Read who asks. Raises ProtocolError: the metadata holds a number that JSON has no word for (X56)."""
    try:
        return Subscriber(node.id, MessageToDict(node.metadata))
    except ValueError as error:
        raise ProtocolError("INVALID_ARGUMENT", "the metadata of the node is not JSON") from error
