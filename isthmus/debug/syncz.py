"""The streams as istiod tells of its own and istioctl reads it: `syncz`, as JSON and as Envoy's status.

Streams of istioctl itself are left out, as they are at istiod. An istiod has a stream for each shard, all under one
name, and istioctl shows little else: so what it has for the cluster says which stream it is.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from isthmus.debug.redact import shown
from isthmus.debug.subscribers import node_id, part_text, watch_state
from isthmus.protos import status_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

    from isthmus.app import Bridge
    from isthmus.debug.query import Query
    from isthmus.debug.shapes import WatchState
    from isthmus.mcp.hub import Hub, Stream
    from isthmus.mcp.session import Watch

# What a type or a name is cut to: they are clients' words, and there may be many.
_LONGEST: Final = 256
_CLUSTER: Final = "CLUSTER_ID"
_SHOWN: Final = (_CLUSTER, "ISTIO_REVISION", "ISTIO_VERSION", "NAMESPACE")
_STATUS: Final[dict[WatchState, status_pb2.ConfigStatus]] = {
    "SYNCED": status_pb2.SYNCED,
    "NOT_SENT": status_pb2.NOT_SENT,
    "HELD": status_pb2.NOT_SENT,
    "STALE": status_pb2.STALE,
}


class SentShape(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """One type on one stream. sent, acked: versions, where istiod has nonces: they are equal if they are there."""

    sent: str = ""
    acked: str = ""
    sent_time: datetime | None = None
    last_error: str = ""


class SyncShape(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One stream, with istiod's names for what is known of it.

    cluster_id: its listener and shard, `xds 3 of 16`, after the cluster where the client says one. proxy: the node id.
    revision: the Istio revision that it names. resources: by type URL.
    """

    cluster_id: str = ""
    proxy: str
    proxy_type: str = ""
    istio_version: str = ""
    revision: str = ""
    resources: dict[str, SentShape]


def list_syncz(bridge: Bridge, _query: Query, now: float) -> list[SyncShape]:
    """All streams that somebody subscribes on, the oldest first."""
    return [_sync(stream, time.time() - now) for stream in _subscribers(bridge.hub)]


def client_configs(hub: Hub, now: float) -> Iterator[status_pb2.ClientConfig]:
    """Yield the same streams as `istioctl proxy-status` reads them. now: monotonic seconds."""
    for stream in _subscribers(hub):
        yield _client_config(stream, time.time() - now)


def _subscribers(hub: Hub) -> Iterator[Stream]:
    for _, stream in sorted(hub.streams.items()):
        subscriber = stream.session.subscriber
        if subscriber is not None and subscriber.metadata.get("GENERATOR") != "event":
            yield stream


def _watches(stream: Stream) -> list[tuple[str, Watch]]:
    return [(_word(url), watch) for url, watch in sorted(stream.session.watches.items())]


def _sync(stream: Stream, epoch: float) -> SyncShape:
    metadata, proxy = _metadata(stream), _word(node_id(stream))
    return SyncShape(
        cluster_id=metadata[_CLUSTER],
        proxy=proxy,
        proxy_type=proxy.partition("~")[0],
        istio_version=metadata.get("ISTIO_VERSION", ""),
        revision=metadata.get("ISTIO_REVISION", ""),
        resources={url: _sent(watch, epoch) for url, watch in _watches(stream)},
    )


def _sent(watch: Watch, epoch: float) -> SentShape:
    if watch.sent_version is None:
        return SentShape()
    return SentShape(
        sent=watch.sent_version,
        acked=watch.acked_version or "",
        sent_time=datetime.fromtimestamp(watch.sent_at + epoch, UTC),
        last_error=_word(watch.nack or ""),
    )


def _client_config(stream: Stream, epoch: float) -> status_pb2.ClientConfig:
    config = status_pb2.ClientConfig()
    config.node.id = _word(node_id(stream))
    config.node.metadata.update(_metadata(stream))
    for url, watch in _watches(stream):
        one = config.generic_xds_configs.add(type_url=url, config_status=_STATUS[watch_state(stream, watch)])
        if watch.sent_version is None:
            continue
        one.last_updated.FromSeconds(int(watch.sent_at + epoch))
        if watch.nack is not None:
            one.config_status = status_pb2.ERROR
            one.error_state.details = _word(watch.nack)
            one.error_state.last_update_attempt.CopyFrom(one.last_updated)
    return config


def _metadata(stream: Stream) -> dict[str, str]:
    """Return what istioctl shows of a node; only texts, since it fails on anything else."""
    subscriber = stream.session.subscriber
    said = {"NAMESPACE": _namespace(stream), **(subscriber.metadata if subscriber else {})}
    texts = {key: _word(value) for key in _SHOWN if isinstance(value := said.get(key), str) and value}
    where = f"{shown(stream.door.listener)} {part_text(stream.door.part)}"
    return texts | {_CLUSTER: f"{texts[_CLUSTER]}, {where}" if _CLUSTER in texts else where}


def _namespace(stream: Stream) -> str:
    """Return the namespace in the id of a node, `sidecar~ADDRESS~NAME.NAMESPACE~DOMAIN`: istiod says it nowhere."""
    parts = node_id(stream).split("~")
    return parts[2].rpartition(".")[2] if len(parts) > 2 else ""


def _word(text: str) -> str:
    return shown(text)[:_LONGEST]
