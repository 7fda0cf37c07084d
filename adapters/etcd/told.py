"""What a watch tells, put together from the responses of one stream (pure).

A response is a piece of what was told where it says so, and all pieces of one message are joined before anything of it
is believed, so that no state is published that etcd never had (ET5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from isthmus.protos.etcd_pb2 import Event
from isthmus.registry.errors import SourceUnavailable

if TYPE_CHECKING:
    from isthmus.protos.etcd_pb2 import KeyValue, ResponseHeader, WatchResponse

# etcd parts what is larger than a request may be (1.5 MiB, unless it was set); so much of one message is joined.
LARGEST_JOINED = 64 << 20


class Origin(Struct, frozen=True):
    """Where an answer comes from: the cluster, the term of its leader, and the newest revision there was."""

    cluster: int
    term: int
    revision: int

    def continues(self, known: Origin) -> bool:
        """Tell whether this can come after what is known; if not, other data was put in its place (ET6)."""
        return self.cluster == known.cluster and self.term >= known.term and self.revision >= known.revision


class Record(Struct, frozen=True, gc=False):
    """A key as it was put last, at `revision`; a value of None: it was deleted."""

    key: bytes
    value: bytes | None
    revision: int


class Told(Struct, frozen=True):
    """One message of a watch.

    watch: the watch that it is of; None: all of the stream.
    records: what happened, in order; whole revisions only.
    created: the watch begins with this. compacted: it ended, since what it was to begin with is not kept any more.
    cancelled: why it ended, if that is another reason.
    """

    watch: int | None
    origin: Origin
    records: tuple[Record, ...] = ()
    created: bool = False
    compacted: bool = False
    cancelled: str | None = None


class Joiner:
    """Joins the responses of one stream."""

    def __init__(self) -> None:
        self._pieces: dict[int, list[Record]] = {}
        self._size = 0

    def take(self, response: WatchResponse) -> Told | None:
        """Return what was told; None: there is more to come of it.

        Raises SourceUnavailable: one message is larger than what is joined.
        """
        origin = origin_of(response.header)
        if response.canceled:
            # One that could not be made has the id -1.
            compacted = response.compact_revision != 0
            reason = None if compacted else response.cancel_reason or "no reason given"
            watch = response.watch_id if response.watch_id >= 0 else None
            return Told(watch, origin, created=response.created, compacted=compacted, cancelled=reason)
        records = [record_of(event.kv, deleted=event.type == Event.DELETE) for event in response.events]
        pieces = self._pieces.setdefault(response.watch_id, [])
        pieces += records
        if response.fragment:
            self._size += sum(len(one.key) + len(one.value or b"") for one in records)
            if self._size > LARGEST_JOINED:
                raise SourceUnavailable(f"one change is larger than {LARGEST_JOINED} bytes, the most that is read")
            return None
        del self._pieces[response.watch_id]
        if not self._pieces:
            self._size = 0
        watch = response.watch_id if response.watch_id >= 0 else None
        return Told(watch, origin, tuple(pieces), created=response.created)


def origin_of(header: ResponseHeader) -> Origin:
    """Return where an answer comes from."""
    return Origin(header.cluster_id, header.raft_term, header.revision)


def record_of(kv: KeyValue, *, deleted: bool = False) -> Record:
    """Return a key's record; that of a deletion has the revision of the deletion."""
    return Record(kv.key, None if deleted else kv.value, kv.mod_revision)
