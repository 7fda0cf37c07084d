"""The page of the listeners: where xDS is, what is served there, to how many, and how it is secured (pure)."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from isthmus.debug.query import ListQuery, paginate, read_token, token_of
from isthmus.debug.redact import shown
from isthmus.debug.shapes import ListenerShape, ListenersShape, TlsShape
from isthmus.listening import doors

if TYPE_CHECKING:
    from collections.abc import Iterable

    from isthmus.app import Bridge
    from isthmus.listening import Bound
    from isthmus.mcp.hub import Stream


def list_listeners(bridge: Bridge, query: ListQuery, _now: float) -> ListenersShape:
    """All open listeners, in the order of the configuration."""
    bound = bridge.listening
    streams = count_streams(bridge.hub.streams.values())
    page, last = paginate(range(len(bound)), read_token(query.after, int), query.limit)
    items = [_listener(bound[place], streams) for place in page]
    return ListenersShape(items=items, total=len(bound), after=token_of(last), refused=dict(bridge.hub.refused))


def count_streams(streams: Iterable[Stream]) -> Counter[tuple[str, int]]:
    """Return how many streams are open, by listener and shard."""
    return Counter([(stream.door.listener, stream.door.part.index) for stream in streams])


def _listener(bound: Bound, streams: Counter[tuple[str, int]]) -> ListenerShape:
    listener = bound.listener
    of_shards = [streams[listener.name, index] for index in range(listener.shards)]
    return ListenerShape(
        name=shown(listener.name),
        addresses=list(map(shown, bound.addresses)),
        shards=listener.shards,
        routing=listener.routing,
        form=listener.form,
        tls=_tls(bound),
        types=list(map(shown, listener.types)),
        namespaces=list(map(shown, listener.namespaces)),
        sources=list(map(shown, listener.sources)),
        debug=doors(listener)[0].debug,
        streams=sum(of_shards),
        streams_of_shards=of_shards,
    )


def _tls(bound: Bound) -> TlsShape | None:
    if bound.tls is None:
        return None
    state = bound.tls.state()
    return TlsShape(
        subject=shown(state.subject),
        dns_names=list(map(shown, state.dns_names)),
        not_after=state.not_after,
        loaded_at=state.loaded_at,
        reloads=state.reloads,
        client_certificates=bool(bound.listener.tls.client_ca),
        last_error=shown(state.last_error) or None,
        warnings=list(map(shown, state.warnings)),
    )
