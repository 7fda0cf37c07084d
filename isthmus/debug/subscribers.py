"""The pages of the streams: who is connected, what was sent, and what was acknowledged (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from isthmus.debug.query import ListQuery, paginate, read_token, token_of
from isthmus.debug.redact import shown
from isthmus.debug.shapes import (
    DeliveryShape,
    Listing,
    PushShape,
    SubscriberShape,
    TurnedAwayShape,
    ViewShape,
    WatchShape,
    WatchState,
)
from isthmus.mcp.delta import DeltaWatch
from isthmus.mcp.shards import SERVICE_ENTRY_URLS, WORKLOAD_ENTRY_URLS
from isthmus.mcp.slime import SlimeSession, SlimeWatch
from isthmus.mcp.sotw import SotwWatch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from isthmus.app import Bridge
    from isthmus.mcp.hub import Hub, Push, Stream, TurnedAway
    from isthmus.mcp.session import Watch
    from isthmus.mcp.shards import Shard
    from isthmus.mcp.views import Part, View

    # Its host, its node id, the listener, and how many shards that has.
    SubscriberKey = tuple[str, str, str, int]

# All others are answered empty: they are counted and not shown one by one.
OUR_TYPES: Final = frozenset((*SERVICE_ENTRY_URLS, *WORKLOAD_ENTRY_URLS))


def list_subscribers(bridge: Bridge, query: ListQuery, now: float) -> Listing[SubscriberShape]:
    """All open streams, the oldest first."""
    streams = bridge.hub.streams
    unheard = unheard_shards(streams.values())
    page, last = paginate(sorted(streams), read_token(query.after, int), query.limit)
    items = [_subscriber(streams[number], unheard, now) for number in page]
    return Listing(items=items, total=len(streams), after=token_of(last))


def list_pushes(bridge: Bridge, query: ListQuery, now: float) -> Listing[PushShape]:
    """The last responses that went out, the latest first."""
    # A stream writes one response at a time, so its number and the time make a key.
    pushes = {(-push.at, push.stream): push for push in bridge.hub.pushes}
    page, last = paginate(sorted(pushes), read_token(query.after, tuple[float, int]), query.limit)
    return Listing(items=[_push(pushes[key], now) for key in page], total=len(pushes), after=token_of(last))


def list_turned_away(bridge: Bridge, query: ListQuery, now: float) -> Listing[TurnedAwayShape]:
    """The last streams and connections that were refused, the latest first."""
    hub = bridge.hub
    # Counted from the first since the start, they keep their numbers when one more comes.
    newest = hub.refused.total()
    numbered = {place - newest: one for place, one in enumerate(reversed(hub.turned_away))}
    page, last = paginate(sorted(numbered), read_token(query.after, int), query.limit)
    items = [_turned_away(numbered[key], now) for key in page]
    return Listing(items=items, total=len(numbered), after=token_of(last))


def deliveries(hub: Hub, name: str) -> list[DeliveryShape]:
    """Return, for each stream that is shown a resource and asks for ServiceEntry, whether it has it as it is now."""
    return [
        DeliveryShape(
            subscriber=stream.number,
            node_id=node_id(stream),
            type=watch.type_url,
            sent=(sent := _was_sent(shard, watch, name)),
            acknowledged=sent and watch.awaiting is None and watch.nack is None,
        )
        for stream, shard, watch in _service_entry_watches(hub)
        if name in shard.service_entries.frames
    ]


def unheard_shards(streams: Iterable[Stream]) -> dict[SubscriberKey, list[int]]:
    """Return the shards that subscribers have no stream for, of those who have one for another of the same listener.

    They would never hear of the services there, unless another replica tells them.
    """
    heard: dict[SubscriberKey, set[int]] = {}
    for stream in streams:
        # Who subscribes to nothing, as istioctl does, misses nothing.
        if stream.session.watches:
            heard.setdefault(_subscriber_key(stream), set()).add(stream.door.part.index)
    return {key: missing for key, indexes in heard.items() if (missing := sorted({*range(key[-1])} - indexes))}


def watch_state(stream: Stream, watch: Any) -> WatchState:
    """Return where a type on a stream stands."""
    if stream.shard is None or stream.shard.lookup(watch.type_url) is None:
        return "HELD"
    if watch.sent_version is None:
        return "NOT_SENT"
    return "STALE" if _is_unacknowledged(watch) or stream.session.behind(watch) else "SYNCED"


def node_id(stream: Stream) -> str:
    """Return who a stream's client says it is; nothing before its first request."""
    return shown(stream.session.subscriber.node_id) if stream.session.subscriber else ""


def part_text(part: Part) -> str:
    """Return a shard in words: `3 of 16`, counted from 0, as its port and its name are."""
    return f"{part.index} of {part.count}"


def _subscriber_key(stream: Stream) -> SubscriberKey:
    return *stream.party, stream.door.listener, stream.door.part.count


def _service_entry_watches(hub: Hub) -> Iterator[tuple[Stream, Shard, Watch]]:
    for _, stream in sorted(hub.streams.items()):
        for url in SERVICE_ENTRY_URLS:
            watch = stream.session.watches.get(url)
            if watch is not None and stream.shard is not None and stream.shard.view.has_kind(url):
                yield stream, stream.shard, watch


def _was_sent(shard: Shard, watch: Watch, name: str) -> bool:
    version = shard.service_entries.frames[name].version
    if isinstance(watch, DeltaWatch | SlimeWatch):
        return watch.client_has.get(name) == version
    if not isinstance(watch, SotwWatch) or watch.sent_version is None:
        return False
    if watch.names is not None:
        return watch.sent_names.get(name) == version
    later = shard.service_entries.changed_since(watch.revision)
    return later is not None and name not in later


def _subscriber(stream: Stream, unheard: dict[SubscriberKey, list[int]], now: float) -> SubscriberShape:
    session, subscriber = stream.session, stream.session.subscriber
    others = [watch for url, watch in session.watches.items() if url not in OUR_TYPES]
    return SubscriberShape(
        id=stream.number,
        node_id=node_id(stream),
        peer=shown(unquote(stream.peer)),
        listener=stream.door.listener,
        shard=part_text(stream.door.part),
        form="delta" if stream.delta else "slime" if isinstance(session, SlimeSession) else "sotw",
        view=_view(stream.shard.view) if stream.shard else None,
        revision=shown(subscriber.revision) if subscriber else "",
        delta=stream.delta,
        opened_seconds=now - stream.opened_at,
        sent_bytes=stream.sent_bytes,
        sent_responses=stream.sent_responses,
        types={url: _watch(stream, watch, now) for url, watch in session.watches.items() if url in OUR_TYPES},
        types_watched=len(session.watches),
        types_answered_empty=sum(watch.sent_version is not None for watch in others),
        problems=_problems(stream, unheard.get(_subscriber_key(stream), [])),
    )


def _problems(stream: Stream, unheard: list[int]) -> list[str]:
    if not unheard:
        return []
    missing = f"{', '.join(map(str, unheard))} of {stream.door.part.count} on the listener {stream.door.listener}"
    return [f"no stream of this subscriber for the shards {missing}: it hears nothing of them, or from another replica"]


def _view(view: View) -> ViewShape | None:
    types, namespaces, sources = map(_words, (view.kinds, view.namespaces, view.audience.sources))
    if (types, namespaces, sources) == (None, None, None):
        return None
    return ViewShape(types=types, namespaces=namespaces, sources=sources)


def _words(words: frozenset[str] | None) -> list[str] | None:
    return None if words is None else sorted(map(shown, words))


def _watch(stream: Stream, watch: Any, now: float) -> WatchShape:
    sent, unacknowledged = watch.sent_version is not None, _is_unacknowledged(watch)
    return WatchShape(
        state=watch_state(stream, watch),
        sent_version=watch.sent_version,
        acked_version=watch.acked_version,
        resources=watch.sent_count,
        last_sent_seconds=now - watch.sent_at if sent else None,
        ack_seconds=watch.ack_seconds if watch.acked_version is not None else None,
        stale_seconds=now - watch.sent_at if unacknowledged else None,
        refused_responses=watch.nacks,
        last_error=None if watch.nack is None else shown(watch.nack),
    )


def _turned_away(one: TurnedAway, now: float) -> TurnedAwayShape:
    return TurnedAwayShape(
        ago_seconds=now - one.at,
        listener=shown(one.listener) or None,
        peer=shown(unquote(one.peer)),
        status=one.status,
        reason=shown(one.reason),
    )


def _is_unacknowledged(watch: Watch) -> bool:
    return watch.sent_version is not None and (watch.awaiting is not None or watch.nack is not None)


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
