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

from isthmus.debug.sources import age, tally
from isthmus.debug.subscribers import OUR_TYPES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client.core import Metric

    from isthmus.app import Bridge
    from isthmus.debug.sources import Tally
    from isthmus.mcp.server import Hub
    from isthmus.registry.catalog import Catalog, SourceState

# What subscribers may ask for is without end, and answered empty.
_OTHER_TYPES: Final = "other"


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
