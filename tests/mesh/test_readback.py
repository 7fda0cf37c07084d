"""What a real istiod stored of what it acknowledged: read back from its own debug page (isthmus/readback)."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from isthmus.config.listeners import IstiodOptions
from isthmus.mcp.views import Door
from isthmus.readback.compare import Finding, Snapshot
from isthmus.readback.reader import Readback
from isthmus.registry.model import Port, ServiceEntry, WorkloadEntry
from tests.protocol.served import Served, serving
from tests.rig.bridge import Bridge
from tests.rig.istiod import Istiod
from tests.rig.wait import wait_for, wait_for_async

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from isthmus.readback.compare import Fault, Report
    from tests.conftest import Parts
    from tests.rig.istiod import Version

TIMEOUT = 120.0
# Shorter than what a bridge waits by far, so that the test need not.
SETTLE_S = 0.1
SERVICES = """\
services:
- {host: a.b, ports: [{number: 80, name: http, protocol: HTTP}], endpoints: [{address: 10.0.0.1}]}
- {host: c.d, ports: [{number: 80, name: http, protocol: HTTP}], endpoints: [{address: 10.0.0.2}]}
"""


def entry(name: str, address: str = "10.0.0.1", *, protocol: str = "HTTP", **labels: str) -> ServiceEntry:
    """Return a resource with one endpoint; of its protocol and labels istiod does not take all."""
    return ServiceEntry(
        namespace="legacy",
        name=name,
        hosts=(f"{name}.legacy",),
        ports=(Port(80, "main", protocol),),
        location="MESH_INTERNAL",
        resolution="STATIC",
        endpoints=(WorkloadEntry(address, labels=tuple(labels.items())),),
        annotations=(("isthmus.io/service", f"app:{name}"),),
    )


class Reading:
    """An istiod that is read back, against what a server publishes, or against what the test says."""

    def __init__(self, istiod: Istiod, served: Served) -> None:
        self.published: Callable[[], Mapping[str, str]] = lambda: served.publication.expected(Door().view_of({}))
        options = IstiodOptions(address=istiod.debug_address)
        self._readback = Readback(options, lambda: Snapshot(self.published(), served.publication.resources), SETTLE_S)

    async def until(self, stored: int, **expected: list[str]) -> Report:
        """Read until so many are stored and just these names have these faults."""

        async def read() -> Report | None:
            await self._readback.read()
            report = self._readback.report
            assert report is not None, self._readback.last_error
            faulty = {fault: [name for name, _ in listed.first] for fault, listed in report.faults.items()}
            found = {fault: names for fault, names in faulty.items() if names}
            return report if (report.stored, found) == (stored, expected) else None

        return await wait_for_async(read, TIMEOUT, f"{stored} stored and {expected or 'nothing wrong'}")


def finding(report: Report, fault: Fault) -> Finding:
    ((_, found),) = report.faults[fault].first
    return found


@pytest.mark.parametrize("version", ["1.31", "1.29"])
async def test_what_istiod_acknowledged_and_did_not_store_is_named(
    version: Version, istiod: Callable[..., Istiod]
) -> None:
    async with AsyncExitStack() as stack:
        # Of two sources that have one name istiod takes the first one's.
        other = await stack.enter_async_context(serving(drain_seconds=0.0))
        served = await stack.enter_async_context(serving(drain_seconds=0.0))
        # Past what Isthmus checks: istiod knows no protocol of this name, says nothing, and acknowledges.
        served.publish(entry("one"), entry("two"), entry("bad", protocol="DUBBO"))
        control = await asyncio.to_thread(istiod, [other.address, served.address], version=version)
        reading = Reading(control, served)
        report = await reading.until(2, missing=["legacy/bad"])
        assert finding(report, "missing") == Finding("missing", reading.published()["legacy/bad"], "")
        assert "legacy/bad" not in control.service_entries()

        # An update that istiod refuses leaves it with what it had (X62).
        before = reading.published()["legacy/two"]
        served.publish(entry("two", "10.0.0.2", app="a,b"))
        report = await reading.until(1, missing=["legacy/bad"], differing=["legacy/two"])
        assert finding(report, "differing") == Finding("differing", reading.published()["legacy/two"], before)

        other.publish(replace(entry("one", "10.0.0.9"), annotations=()))
        await reading.until(0, missing=["legacy/bad"], differing=["legacy/two"], hidden=["legacy/one"])

        other.withdraw("legacy/one")
        served.publish(entry("two", "10.0.0.2"), entry("bad"))
        await reading.until(3)

        # A bridge that istiod has lost withdraws in vain.
        published = dict(reading.published())
        await stack.aclose()
        version_left = published.pop("legacy/two")
        reading.published = lambda: published
        report = await reading.until(2, leftOver=["legacy/two"])
        assert finding(report, "leftOver") == Finding("leftOver", "", version_left)
        assert report.others == 0


def test_a_bridge_shows_what_its_istiod_stored(tmp_path: Path, running: Callable[[Any], Any], parts: Parts) -> None:
    parts.need("istiod-1.31")
    (tmp_path / "services").mkdir()
    (tmp_path / "services" / "all.yaml").write_text(SERVICES)
    bridge = Bridge(tmp_path / "isthmus", [{"kind": "files", "directory": str(tmp_path / "services")}])
    control = Istiod(tmp_path / "istiod", [bridge.address])
    gone = {"name": "gone", "address": "http://127.0.0.1:1", "interval": 1}
    bridge.configuration["istiods"] = [{"address": control.debug_address, "interval": 1}, gone]
    running(bridge)
    running(control)

    def shown() -> Any:
        here, away = bridge.debug("istiods")["items"]
        return (here, away) if here["state"] == "RIGHT" and here["stored"] == 2 and away["errors"] else None

    here, away = wait_for(shown, TIMEOUT, "both services read back")
    assert (here["name"], here["published"], here["settling"], here["others"]) == (control.debug_address, 2, 0, 0)
    assert (away["state"], away["published"], away["readSeconds"]) == ("NOT_READ", None, None)
    assert "no connection" in away["lastError"]
    metrics = bridge.metrics().splitlines()
    assert f'isthmus_istiod_stored{{istiod="{control.debug_address}"}} 2.0' in metrics
    assert not [line for line in metrics if line.startswith('isthmus_istiod_stored{istiod="gone"}')]
    (errors,) = [line for line in metrics if line.startswith('isthmus_istiod_read_errors_total{istiod="gone"}')]
    assert float(errors.rpartition(" ")[2]) >= 1
