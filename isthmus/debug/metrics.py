"""The metrics: read from the bridge when they are asked for, in a registry of their own, none with a service's name.

A label has few values (sources, codes, our own types), whatever is registered or subscribed to (T25).
"""

from __future__ import annotations

import platform
from collections import Counter
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

from isthmus.debug.listeners import count_streams
from isthmus.debug.sources import age, tally
from isthmus.debug.subscribers import OUR_TYPES, unheard_shards
from isthmus.mcp.shards import shard_index

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client.core import Metric

    from isthmus.app import Bridge
    from isthmus.debug.sources import Tally
    from isthmus.mcp.hub import Hub
    from isthmus.readback.compare import Report
    from isthmus.readback.reader import Readback
    from isthmus.registry.catalog import Catalog, SourceState

# What subscribers may ask for is without end, and answered empty.
_OTHER_TYPES: Final = "other"
# Those that streams are refused with most often are there from the start, at 0: a first one can be alerted on.
_REFUSALS: Final = (
    "DEADLINE_EXCEEDED",
    "FAILED_PRECONDITION",
    "INVALID_ARGUMENT",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "UNAVAILABLE",
)


def metrics_of(bridge: Bridge, version: str, clock: Callable[[], float]) -> CollectorRegistry:
    """Return a registry with the metrics of one bridge and of the process. clock: monotonic seconds."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    registry.register(BridgeCollector(bridge, version, clock))
    return registry


class BridgeCollector(Collector):
    """Reads a bridge at every scrape."""

    def __init__(self, bridge: Bridge, version: str, clock: Callable[[], float]) -> None:
        self._bridge = bridge
        self._build = {"version": version, "python": platform.python_version()}
        self._clock = clock
        self._shards = _ShardSizes(bridge)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as they are now."""
        bridge = self._bridge
        yield InfoMetricFamily("isthmus_build", "What runs here", self._build)
        ready = "1 while ServiceEntry is served: all required sources were read, and the process is not ending"
        yield GaugeMetricFamily("isthmus_ready", ready, bridge.ready)
        entries = bridge.catalog.entries.values()
        yield GaugeMetricFamily("isthmus_services", "Published resources", len(entries))
        endpoints = sum([len(entry.endpoints) for entry in entries])
        yield GaugeMetricFamily("isthmus_endpoints", "Published endpoints, merged over all sources", endpoints)
        yield from _source_metrics(bridge.catalog, self._clock())
        yield from _push_metrics(bridge.hub)
        yield from _listener_metrics(bridge)
        yield self._shards.metric()
        yield from _istiod_metrics(bridge.readbacks, self._clock())


def _source_metrics(catalog: Catalog, now: float) -> Iterator[Metric]:
    counted = [(source, tally(catalog, source)) for source in catalog.sources]
    gauges: dict[str, tuple[str, Callable[[SourceState, Tally], float]]] = {
        "up": ("1 while the source was read and is in contact", lambda source, _: source.phase == "READY"),
        "services": ("Services that the source reports", lambda _, tally: tally.services),
        "endpoints": ("Endpoints that the source reports and that are not refused", lambda _, tally: tally.endpoints),
        "held": (
            "Endpoints that are served though the last read lacked them, while the source comes back",
            lambda source, _: source.guard.held,
        ),
        "stale_seconds": (
            "How long the source has been out of contact; 0 while it is in contact",
            lambda source, _: age(source.stale_since, now) or 0.0,
        ),
    }
    for name, (about, read) in gauges.items():
        gauge = GaugeMetricFamily(f"isthmus_source_{name}", about, labels=["source"])
        for source, tally_ in counted:
            gauge.add_metric([source.name], read(source, tally_))
        yield gauge
    counters: dict[str, tuple[str, Callable[[SourceState], int]]] = {
        "mended": ("Changes that only a reconcile found; 0 in a healthy system", lambda source: source.mended),
        "late_answers": ("Answers of an older connection that were dropped", lambda source: source.late),
    }
    for name, (about, count) in counters.items():
        counter = CounterMetricFamily(f"isthmus_source_{name}", about, labels=["source"])
        for source, _ in counted:
            counter.add_metric([source.name], count(source))
        yield counter
    yield from _refusal_metrics(counted)


def _refusal_metrics(counted: Iterable[tuple[SourceState, Tally]]) -> Iterator[Metric]:
    labels = ["source", "code"]
    now = GaugeMetricFamily("isthmus_source_refused", "What is refused now, by code", labels=labels)
    ever = CounterMetricFamily("isthmus_records_refused", "Records that were ever refused, by code", labels=labels)
    for source, tally_ in counted:
        # A code that was refused once stays, at 0: a series that comes and goes cannot be alerted on.
        for code in sorted(source.refused_total.keys() | tally_.refused.keys()):
            now.add_metric([source.name, code], tally_.refused[code])
        for code, count in sorted(source.refused_total.items()):
            ever.add_metric([source.name, code], count)
    yield now
    yield ever


def _push_metrics(hub: Hub) -> Iterator[Metric]:
    yield GaugeMetricFamily("isthmus_subscribers", "Open streams", len(hub.streams))
    counts: Counter[tuple[str, str]] = Counter()
    for (type_url, mode), count in hub.pushed.items():
        counts[type_url if type_url in OUR_TYPES else _OTHER_TYPES, mode] += count
    about = "Responses that went out, by type and mode (sotw, delta)"
    pushes = CounterMetricFamily("isthmus_push", about, labels=["type", "mode"])
    for (type_url, mode), count in sorted(counts.items()):
        pushes.add_metric([type_url, mode], count)
    yield pushes
    yield CounterMetricFamily("isthmus_push_bytes", "Bytes of the responses that went out", hub.pushed_bytes)
    about = "Streams that were refused, or ended for a fault of the client's, by gRPC status"
    refused = CounterMetricFamily("isthmus_streams_refused", about, labels=["status"])
    for status in sorted({*_REFUSALS, *hub.refused}):
        refused.add_metric([status], hub.refused[status])
    yield refused


def _listener_metrics(bridge: Bridge) -> Iterator[Metric]:
    streams = bridge.hub.streams.values()
    about = "Subscribers with a stream for some shards of a listener and not for all; of one listener and this replica"
    yield GaugeMetricFamily("isthmus_subscribers_incomplete", about, len(unheard_shards(streams)))
    counts = count_streams(streams)
    about = "Open streams; over all replicas, every shard of a listener should have equally many"
    open_ = GaugeMetricFamily("isthmus_shard_streams", about, labels=["listener", "shard"])
    about = "When the certificate in use ends, in seconds since 1970"
    ends = GaugeMetricFamily("isthmus_certificate_not_after_seconds", about, labels=["listener"])
    for bound in bridge.listening:
        name = bound.listener.name
        for index in range(bound.listener.shards):
            open_.add_metric([name, str(index)], counts[name, index])
        if bound.tls is not None:
            ends.add_metric([name], bound.tls.state().not_after.timestamp())
    yield open_
    yield ends


class _ShardSizes:
    """How many resources each shard has, for each number of shards; counted anew only when names came or went."""

    def __init__(self, bridge: Bridge) -> None:
        self._publication = bridge.hub.publication
        self._counts = sorted({listener.shards for listener in bridge.config.all_listeners})
        self._names: list[str] | None = None
        self._sizes: dict[int, Counter[int]] = {}

    def metric(self) -> Metric:
        """Return the sizes as they are now."""
        names = self._publication.names()
        if names is not self._names:
            self._names = names
            self._sizes = {count: Counter([shard_index(name, count) for name in names]) for count in self._counts}
        about = "Published resources of a shard, of so many shards"
        sizes = GaugeMetricFamily("isthmus_shard_resources", about, labels=["shards", "shard"])
        for count, found in self._sizes.items():
            for index in range(count):
                sizes.add_metric([str(count), str(index)], found[index])
        return sizes


def _istiod_metrics(readbacks: Iterable[Readback], now: float) -> Iterator[Metric]:
    gauges: dict[str, tuple[str, Callable[[Report], int]]] = {
        "published": ("Resources that the istiod should hold", lambda report: report.published),
        "stored": ("Resources that it holds in the version that is published", lambda report: report.stored),
        "missing": ("Published resources that it does not hold", lambda report: report.faults["missing"].total),
        "differing": ("Resources that it holds in another version", lambda report: report.faults["differing"].total),
        "hidden": (
            "Published resources of whose name it holds another source's",
            lambda report: report.faults["hidden"].total,
        ),
        "left_over": (
            "Resources that it holds and that are no longer published",
            lambda report: report.faults["leftOver"].total,
        ),
    }
    for name, (about, count) in gauges.items():
        gauge = GaugeMetricFamily(f"isthmus_istiod_{name}", about, labels=["istiod"])
        for readback in readbacks:
            if readback.report is not None:
                gauge.add_metric([readback.name], count(readback.report))
        yield gauge
    errors = CounterMetricFamily("isthmus_istiod_read_errors", "Readings of it that failed", labels=["istiod"])
    about = "How long ago it was last read; before the first reading, since the bridge started"
    ages = GaugeMetricFamily("isthmus_istiod_read_age_seconds", about, labels=["istiod"])
    for readback in readbacks:
        errors.add_metric([readback.name], readback.errors)
        last = readback.started_at if readback.read_at is None else readback.read_at
        ages.add_metric([readback.name], now - last)
    yield errors
    yield ages
