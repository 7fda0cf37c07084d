"""All streams of a process, and the rounds in which their subscribers are pushed to.

An istiod with sixteen configSources has sixteen streams and is one subscriber: they are pushed to together, and rest
together (mcp/pacing.py). Nothing here knows gRPC.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from isthmus.mcp.limits import Limits
from isthmus.mcp.pacing import DEFAULT_GAP, Rounds
from isthmus.mcp.writes import Writes
from isthmus.registry.errors import ProtocolError

if TYPE_CHECKING:
    from isthmus.mcp.session import DebugPages, Lookup, Response, Session, Subscriber
    from isthmus.mcp.shards import Publication, Shard
    from isthmus.mcp.views import Door, View

_log = logging.getLogger("isthmus.mcp")

_RECENT_PUSHES = 200
_RECENT_REFUSALS = 100
_REASON_LENGTH = 300
_MIB = 1024 * 1024
# Clients with gRPC's default options take no response above the first (istiod up to 1.11 is one); the second is where
# a mesh should be split into shards (X47).
_SIZES_TO_WARN_OF = (4 * _MIB, 64 * _MIB)


class Stream:
    """One open stream, for its writer task and for the pages that show it.

    door: what its port offers; shard: what it is shown of that, once it said who it is.
    """

    def __init__(self, number: int, peer: str, door: Door, *, delta: bool, now: float) -> None:
        self.number = number
        self.peer = peer
        self.door = door
        self.delta = delta
        self.opened_at = now
        self.session: Session[Any]
        self.shard: Shard | None = None
        self.wake = asyncio.Event()
        self.round = False
        self.sent_bytes = 0
        self.sent_responses = 0

    @property
    def party(self) -> tuple[str, str]:
        """Whose stream it is: the address of its other end, and the node id that it said, empty until it did.

        The address counts because a node id is only what somebody says, and would let him slow down somebody else.
        """
        subscriber = self.session.subscriber
        return self.peer.rpartition(":")[0], subscriber.node_id if subscriber else ""


class Push(Struct, frozen=True):
    """One response that went out; times are monotonic seconds."""

    at: float
    stream: int
    type_url: str
    version: str
    count: int
    removed: int
    size: int
    write_seconds: float


class TurnedAway(Struct, frozen=True):
    """A stream or a connection that was refused; `at` is monotonic seconds, `status` gRPC's or BROKEN."""

    at: float
    listener: str
    peer: str
    status: str
    reason: str


class _Party:
    """One subscriber with all of its streams."""

    def __init__(self, gap: float) -> None:
        self.streams: set[Stream] = set()
        self.rounds = Rounds(gap)
        self.timer: asyncio.TimerHandle | None = None

    @property
    def opens_at(self) -> float:
        return self.rounds.opens_at(outstanding=self.outstanding)

    @property
    def outstanding(self) -> bool:
        """Whether something of this round is still to be sent or acknowledged; older ones count no more."""
        begun = self.rounds.begun
        return any(stream.round or stream.session.awaits(begun) for stream in self.streams)

    def stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class Hub:
    """All streams of a process, by number, and what went out on them.

    refused: how often a stream or a request was refused, by the name of the reason.
    """

    def __init__(
        self,
        publication: Publication,
        gap: float = DEFAULT_GAP,
        limits: Limits | None = None,
        debug_pages: DebugPages | None = None,
    ) -> None:
        self.publication = publication
        self.limits = limits or Limits()
        self.gap = gap
        self.writes = Writes(self.limits)
        self.debug_pages = debug_pages
        self.streams: dict[int, Stream] = {}
        self.pushes: deque[Push] = deque(maxlen=_RECENT_PUSHES)
        self.pushed: dict[tuple[str, str], int] = {}
        self.pushed_bytes = 0
        self.refused: Counter[str] = Counter()
        self.turned_away: deque[TurnedAway] = deque(maxlen=_RECENT_REFUSALS)
        self._parties: dict[tuple[str, str], _Party] = {}
        self._warned_of: dict[str, int] = {}
        self._numbers = 0

    # What is published.

    def open(self) -> None:
        """Let the held types speak: the sources are read."""
        self.publication.open()
        for stream in self.streams.values():
            stream.wake.set()
        self.changed()

    def changed(self) -> None:
        """Push to every subscriber, at once after quiet, else when its rest is over; latest state wins (X20)."""
        for party in self._parties.values():
            if party.timer is None:
                self._schedule(party)

    def close(self) -> None:
        """Stop the timers of rounds to come."""
        for party in self._parties.values():
            party.stop_timer()

    # What streams do.

    def add(self, peer: str, door: Door, *, delta: bool) -> Stream:
        """Take a new stream. Raises ProtocolError: there are too many (X53), or its port refuses all."""
        if len(self.streams) >= self.limits.streams:
            raise ProtocolError("RESOURCE_EXHAUSTED", f"more than {self.limits.streams} streams")
        door.enter()
        self._numbers += 1
        stream = Stream(self._numbers, peer, door, delta=delta, now=asyncio.get_running_loop().time())
        self.streams[stream.number] = stream
        return stream

    def admit(self, stream: Stream, subscriber: Subscriber) -> Lookup:
        """Return what a stream may look up, now that it said who it is. Raises ProtocolError: it may not."""
        view = stream.door.view_of(subscriber.metadata)
        self._bound_views(stream, view)
        stream.shard = self.publication.enter(stream.door.part, view)
        key = stream.peer.rpartition(":")[0], subscriber.node_id
        self._parties.setdefault(key, _Party(self.gap)).streams.add(stream)
        return stream.shard.lookup

    def heard(self, stream: Stream) -> None:
        """Note that a request of a stream was read: it may have been the last acknowledgement of a round."""
        if (party := self._party_of(stream)) is not None:
            self._settle(party)

    def ask(self, stream: Stream) -> None:
        """Push what a stream missed, its client not being ready then, in the next round of its subscriber."""
        if (party := self._party_of(stream)) is not None and party.timer is None:
            self._schedule(party)

    def remove(self, stream: Stream) -> None:
        """Forget a stream that ended (X43)."""
        del self.streams[stream.number]
        if stream.shard is not None:
            self.publication.leave(stream.shard)
        if (party := self._party_of(stream)) is None:
            return
        party.streams.discard(stream)
        if party.streams:
            self._settle(party)
        else:
            party.stop_timer()
            del self._parties[stream.party]

    def warn_of_size(self, response: Response) -> None:
        """Warn once a type for each size that it passes (X47), before it goes out: who cannot take it breaks off."""
        type_url, size = response.type_url, len(response.data)
        passed = sum(size > mark for mark in _SIZES_TO_WARN_OF)
        if passed > self._warned_of.get(type_url, 0):
            self._warned_of[type_url] = passed
            mark = _SIZES_TO_WARN_OF[passed - 1]
            _log.warning("a response of %s has %d bytes, more than %d MiB", type_url, size, mark // _MIB)

    def refuse(self, listener: str, peer: str, status: str, reason: str) -> None:
        """Count a stream or a connection that is refused, and keep why for the pages."""
        self.refused[status] += 1
        now = asyncio.get_running_loop().time()
        self.turned_away.append(TurnedAway(now, listener, peer, status, reason[:_REASON_LENGTH]))

    def note(self, stream: Stream, response: Response, started: float, ended: float) -> None:
        """Count a response that was written."""
        size = len(response.data)
        stream.sent_bytes += size
        stream.sent_responses += 1
        self.pushed_bytes += size
        # Types that we have none of are clients' words, and would fill the table.
        type_url = response.type_url if self.publication.has(response.type_url) else "other"
        kind = (type_url, "delta" if stream.delta else "sotw")
        self.pushed[kind] = self.pushed.get(kind, 0) + 1
        self.pushes.append(
            Push(
                *(ended, stream.number, response.type_url, response.version),
                *(response.count, response.removed, size, ended - started),
            )
        )

    # Inside.

    def _bound_views(self, stream: Stream, view: View) -> None:
        """Raises ProtocolError: from one address come so many different views that others would find no room."""
        address = stream.party[0]
        views = {one.shard.view for one in self.streams.values() if one.shard is not None and one.party[0] == address}
        if len(views | {view}) > self.limits.views_of_address:
            most = self.limits.views_of_address
            raise ProtocolError("RESOURCE_EXHAUSTED", f"more than {most} different views from {address}")

    def _settle(self, party: _Party) -> None:
        """End the round if nothing of it is outstanding any more."""
        if party.outstanding:
            return
        party.rounds.settle(asyncio.get_running_loop().time())
        if party.timer is not None:
            self._schedule(party)

    def _schedule(self, party: _Party) -> None:
        loop = asyncio.get_running_loop()
        party.stop_timer()
        opens_at = party.opens_at
        if opens_at <= loop.time():
            self._round(party)
        else:
            party.timer = loop.call_at(opens_at, self._round, party)

    def _round(self, party: _Party) -> None:
        party.stop_timer()
        now = asyncio.get_running_loop().time()
        behind = [(stream, at) for stream in party.streams if (at := stream.session.opens_at()) is not None]
        ready = [stream for stream, opens_at in behind if opens_at <= now]
        if ready:
            party.rounds.begin(now)
        for stream in ready:
            stream.round = True
        for stream, _ in behind:
            # One that is not ready must see that it has to ask for a round later (X50).
            stream.wake.set()

    def _party_of(self, stream: Stream) -> _Party | None:
        return self._parties.get(stream.party)
