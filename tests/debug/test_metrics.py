"""debug/metrics.py: what Prometheus reads, parsed as it parses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

import isthmus
from isthmus.mcp.client import ISTIOD_TYPES, SERVICE_ENTRY_URL, subscribe
from isthmus.registry import codes
from isthmus.registry.model import Refusal
from tests.debug.web import TIMEOUT, Source, bridge_of, pages_of, running, write
from tests.rig.wait import wait_for_async
from tests.unit.builders import endpoint, service

if TYPE_CHECKING:
    from pathlib import Path

    from tests.debug.web import Pages

Labels = frozenset[tuple[str, str]]


async def scrape(pages: Pages) -> dict[tuple[str, Labels], float]:
    """Return every sample by its name and labels."""
    answer = await pages.ask("/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    samples: dict[tuple[str, Labels], float] = {}
    for family in text_string_to_metric_families(answer.text):
        assert family.documentation, family.name
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in samples
            samples[key] = sample.value
    return samples


def key(name: str, **labels: str) -> tuple[str, Labels]:
    return f"isthmus_{name}", frozenset(labels.items())


async def test_the_metrics_of_sources() -> None:
    bridge = bridge_of("zk", "second")
    zk = Source(bridge, "zk")
    async with pages_of(bridge) as pages:
        zk.sync(service("a.b", endpoint("10.0.0.1"), endpoint("10.0.0.2"), endpoint("127.0.0.1")), service("c.d"))
        zk.refuse("x", Refusal(codes.GARBLED, "garbled"))
        zk.mended(2)
        before = await scrape(pages)
        Source(bridge, "second").sync(service("a.b", endpoint("10.0.0.3"), identity="another"))
        zk.refuse("x")
        zk.stale("no contact")
        Source(bridge, "zk")
        zk.drop("a.b")
        await wait_for_async(lambda: bridge.ready, TIMEOUT, "readiness")
        after = await scrape(pages)

    assert before[key("source_up", source="zk")] == 1
    assert before[key("source_up", source="second")] == 0
    assert before[key("source_services", source="zk")] == 2
    assert before[key("source_endpoints", source="zk")] == 2
    assert before[key("source_refused", source="zk", code=codes.FORBIDDEN_ADDRESS)] == 1
    assert before[key("source_refused", source="zk", code=codes.GARBLED)] == 1
    assert before[key("source_stale_seconds", source="zk")] == 0
    assert before[key("source_mended_total", source="zk")] == 2
    assert before[key("source_late_answers_total", source="zk")] == 0
    # Nothing is served while a source is missing.
    assert (before[key("services")], before[key("endpoints")]) == (0, 0)
    assert before[key("ready")] == 0

    assert after[key("source_up", source="zk")] == 0
    assert after[key("source_stale_seconds", source="zk")] > 0
    assert after[key("source_refused", source="zk", code=codes.GARBLED)] == 0
    assert after[key("records_refused_total", source="zk", code=codes.GARBLED)] == 1
    assert after[key("source_refused", source="second", code=codes.HOST_CONFLICT)] == 1
    assert after[key("source_late_answers_total", source="zk")] == 1
    assert after[key("ready")] == 1


async def test_the_metrics_of_streams(tmp_path: Path) -> None:
    write(tmp_path, "a.b")
    async with running(tmp_path) as pages:
        address = pages.bridge.xds_address
        async with subscribe(address) as whole, subscribe(address, (SERVICE_ENTRY_URL,), delta=True) as delta:
            while len(whole.answered) < len(ISTIOD_TYPES):
                await anext(whole.batches())
            await anext(delta.batches())
            await pages.pushed(len(ISTIOD_TYPES) + 1)
            samples = await scrape(pages)
            sent = sum(stream.sent_bytes for stream in pages.bridge.hub.streams.values())

    assert samples[key("subscribers")] == 2
    assert samples[key("push_total", type=SERVICE_ENTRY_URL, mode="sotw")] == 1
    assert samples[key("push_total", type=SERVICE_ENTRY_URL, mode="delta")] == 1
    assert samples[key("push_total", type="other", mode="sotw")] == 14
    assert samples[key("push_bytes_total")] == sent > 0


async def test_T25_no_metric_grows_with_services_or_with_what_subscribers_ask_for(tmp_path: Path) -> None:
    write(tmp_path, "a.b")
    async with running(tmp_path) as pages:
        async with subscribe(pages.bridge.xds_address, ("odd/v1/One",)) as client:
            await anext(client.batches())
            await pages.pushed(1)
            few = await scrape(pages)
        for number in range(30):
            write(tmp_path, f"h{number}.b")
        await wait_for_async(lambda: len(pages.bridge.catalog.entries) == 31, TIMEOUT, "all services")
        async with subscribe(pages.bridge.xds_address, ("odd/v1/Two", "odd/v1/Three")):
            await pages.pushed(3)
            many = await scrape(pages)

    assert many[key("services")] == 31
    assert many.keys() == few.keys()


async def test_the_metrics_of_the_build_and_the_process() -> None:
    async with pages_of(bridge_of("zk")) as pages, pages_of(bridge_of("zk")) as others:
        names = {name for name, _ in await scrape(pages)}
        assert names == {name for name, _ in await scrape(others)}
        build = [labels for name, labels in await scrape(pages) if name == "isthmus_build_info"]

    assert ("version", isthmus.__version__) in build[0]
    assert {"process_resident_memory_bytes", "process_open_fds", "python_gc_collections_total", "python_info"} <= names
