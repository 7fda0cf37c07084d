"""The pages of the streams: who is connected, what was sent, and what was acknowledged (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from isthmus.debug.query import ListQuery, paginate, read_token, token_of
from isthmus.debug.redact import shown
from isthmus.debug.shapes import DeliveryShape, Listing, PushShape, SubscriberShape, WatchShape, WatchState
from isthmus.mcp.delta import DeltaWatch
from isthmus.mcp.shards import SERVICE_ENTRY_URLS, WORKLOAD_ENTRY_URLS
from isthmus.mcp.sotw import SotwWatch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from isthmus.app import Bridge
    from isthmus.mcp.server import Hub, Push, Stream
    from isthmus.mcp.session import Watch
    from isthmus.mcp.shards import Shard

# All others are answered empty: they are counted and not shown one by one.
OUR_TYPES: Final = frozenset((*SERVICE_ENTRY_URLS, *WORKLOAD_ENTRY_URLS))


def list_subscribers(bridge: Bridge, query: ListQuery, now: float) -> Listing[SubscriberShape]:
    """All open streams, the oldest first."""
    streams = bridge.hub.streams
    page, last = paginate(sorted(streams), read_token(query.after, int), query.limit)
    items = [_subscriber(bridge.hub.shard, streams[number], now) for number in page]
    return Listing(items=items, total=len(streams), after=token_of(last))


def list_pushes(bridge: Bridge, query: ListQuery, now: float) -> Listing[PushShape]:
    """The last responses that went out, the latest first."""
    # A stream writes one response at a time, so its number and the time make a key.
    pushes = {(-push.at, push.stream): push for push in bridge.hub.pushes}
    page, last = paginate(sorted(pushes), read_token(query.after, tuple[float, int]), query.limit)
    return Listing(items=[_push(pushes[key], now) for key in page], total=len(pushes), after=token_of(last))


def deliveries(hub: Hub, name: str, version: str) -> list[DeliveryShape]:
    """Return, for each stream that asks for ServiceEntry, whether it has a resource as it is now."""
    return [
        DeliveryShape(
            subscriber=stream.number,
            node_id=_node_id(stream),
            type=watch.type_url,
            sent=(sent := _was_sent(hub.shard, watch, name, version)),
            acknowledged=sent and watch.awaiting is None and watch.nack is None,
        )
        for stream, watch in _service_entry_watches(hub)
    ]


def _service_entry_watches(hub: Hub) -> Iterator[tuple[Stream, Watch]]:
    for _, stream in sorted(hub.streams.items()):
        for url in SERVICE_ENTRY_URLS:
            if (watch := stream.session.watches.get(url)) is not None:
                yield stream, watch


def _was_sent(shard: Shard, watch: Watch, name: str, version: str) -> bool:
    if isinstance(watch, DeltaWatch):
        return watch.client_has.get(name) == version
    if not isinstance(watch, SotwWatch) or watch.sent_version is None:
        return False
    if watch.names is not None:
        return watch.sent_names.get(name) == version
    later = shard.service_entries.changed_since(watch.revision)
    return later is not None and name not in later


def _subscriber(shard: Shard, stream: Stream, now: float) -> SubscriberShape:
    session, subscriber = stream.session, stream.session.subscriber
    others = [watch for url, watch in session.watches.items() if url not in OUR_TYPES]
    return SubscriberShape(
        id=stream.number,
        node_id=_node_id(stream),
        peer=shown(unquote(stream.peer)),
        revision=shown(subscriber.revision) if subscriber else "",
        delta=stream.delta,
        opened_seconds=now - stream.opened_at,
        sent_bytes=stream.sent_bytes,
        sent_responses=stream.sent_responses,
        types={url: _watch(shard, stream, watch, now) for url, watch in session.watches.items() if url in OUR_TYPES},
        types_watched=len(session.watches),
        types_answered_empty=sum(watch.sent_version is not None for watch in others),
    )


def _watch(shard: Shard, stream: Stream, watch: Any, now: float) -> WatchShape:
    sent = watch.sent_version is not None
    unacknowledged = sent and (watch.awaiting is not None or watch.nack is not None)
    return WatchShape(
        state=_state(shard, stream, watch, unacknowledged=unacknowledged),
        sent_version=watch.sent_version,
        acked_version=watch.acked_version,
        resources=watch.sent_count,
        last_sent_seconds=now - watch.sent_at if sent else None,
        ack_seconds=watch.ack_seconds if watch.acked_version is not None else None,
        stale_seconds=now - watch.sent_at if unacknowledged else None,
        refused_responses=watch.nacks,
        last_error=None if watch.nack is None else shown(watch.nack),
    )


def _state(shard: Shard, stream: Stream, watch: Any, *, unacknowledged: bool) -> WatchState:
    if shard.lookup(watch.type_url) is None:
        return "HELD"
    if watch.sent_version is None:
        return "NOT_SENT"
    return "STALE" if unacknowledged or stream.session.behind(watch) else "SYNCED"


def _push(push: Push, now: float) -> PushShape:
    return PushShape(
        ago_seconds=now - push.at,
        subscriber=push.stream,
        type=shown(push.type_url),
        version=push.version,
        resources=push.count,
        removed=push.removed,
        bytes=push.size,
        write_seconds=push.write_seconds,
    )


def _node_id(stream: Stream) -> str:
    return shown(stream.session.subscriber.node_id) if stream.session.subscriber else ""
