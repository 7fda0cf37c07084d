"""The page and the metrics of the istiods that are read back.

The istiod here is a fake, so that each state can be brought about at once; tests/mesh/test_readback.py has a real one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client.parser import text_string_to_metric_families

from isthmus.config.listeners import IstiodOptions
from isthmus.readback.reader import Readback
from tests.debug.web import bridge_of, pages_of
from tests.unit.test_readback import Istiod, item, snapshot
from tests.unit.test_web import serving

if TYPE_CHECKING:
    from tests.debug.web import Pages

OLD, NEW = "1" * 16, "2" * 16
OURS = {"isthmus.io/service": "app:x"}
NONE = {"total": 0, "items": []}


async def metrics(pages: Pages) -> dict[str, dict[str, float]]:
    """Return the metrics of the istiods: name -> istiod -> value."""
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families((await pages.ask("/metrics")).text):
        for sample in family.samples:
            if "istiod" in sample.labels:
                name = sample.name.removeprefix("isthmus_istiod_")
                found.setdefault(name, {})[sample.labels["istiod"]] = sample.value
    return found


async def test_every_fault_has_its_place() -> None:
    published = {"a/good": NEW, "a/gone": NEW, "a/old": NEW, "a/covered": NEW, "a/late": NEW}
    istiod = Istiod()
    istiod.items = [
        *(item(name, NEW, **OURS) for name in ("good", "late", "another")),
        item("old", OLD, **OURS),
        item("covered", "17\x1b[31m"),
    ]
    bridge = bridge_of("zk")
    async with serving(istiod.answer) as url, pages_of(bridge) as pages:
        readback = Readback(
            IstiodOptions(name="east", address=url, revision="canary"), lambda: snapshot(published), settle=0.0
        )
        bridge.readbacks = (readback,)
        await readback.read()
        (settling,) = (await pages.get("/debug/istiods"))["items"]
        del published["a/late"]
        await readback.read()
        await readback.read()
        (wrong,) = (await pages.get("/debug/istiods"))["items"]
        counted = await metrics(pages)
        istiod.items = [item(name.removeprefix("a/"), version, **OURS) for name, version in published.items()]
        await readback.read()
        (right,) = (await pages.get("/debug/istiods"))["items"]

    assert (settling["state"], settling["published"], settling["stored"], settling["settling"]) == ("SETTLING", 5, 2, 3)
    assert settling["missing"] == NONE
    assert wrong.pop("readSeconds") >= 0
    assert wrong == {
        "name": "east",
        "address": url,
        "revision": "canary",
        "state": "WRONG",
        "errors": 0,
        "lastError": None,
        "published": 4,
        "stored": 1,
        "settling": 0,
        "missing": {"total": 1, "items": [{"name": "a/gone", "published": NEW, "stored": None}]},
        "differing": {"total": 1, "items": [{"name": "a/old", "published": NEW, "stored": OLD}]},
        "hidden": {"total": 1, "items": [{"name": "a/covered", "published": NEW, "stored": "17\\x1b[31m"}]},
        "leftOver": {"total": 1, "items": [{"name": "a/late", "published": None, "stored": NEW}]},
        "others": 1,
    }
    assert counted.pop("read_age_seconds")["east"] >= 0
    assert counted == {
        "published": {"east": 4},
        "stored": {"east": 1},
        "missing": {"east": 1},
        "differing": {"east": 1},
        "hidden": {"east": 1},
        "left_over": {"east": 1},
        "read_errors_total": {"east": 0},
    }
    assert (right["state"], right["stored"], right["missing"]) == ("RIGHT", 4, NONE)


async def test_an_istiod_that_was_never_read_ages_and_has_no_figures() -> None:
    bridge = bridge_of("zk")
    async with serving(Istiod().answer) as url, pages_of(bridge) as pages:
        assert await pages.get("/debug/istiods") == {"items": [], "total": 0}
        gone = Readback(IstiodOptions(name="gone", address="http://127.0.0.1:1"), lambda: snapshot({}))
        bridge.readbacks = (gone, Readback(IstiodOptions(address=url), lambda: snapshot({})))
        await gone.read()
        first = await pages.get("/debug/istiods?limit=1")
        second = await pages.get(f"/debug/istiods?limit=1&continue={first['continue']}")
        counted = await metrics(pages)

    shown: list[Any] = [*first["items"], *second["items"]]
    assert [(one["name"], one["state"], one["errors"]) for one in shown] == [
        ("gone", "NOT_READ", 1),
        (url, "NOT_READ", 0),
    ]
    assert [one["published"] for one in shown] == [None, None]
    assert "no connection" in shown[0]["lastError"]
    assert (first["total"], second["total"], "continue" in second) == (2, 2, False)
    assert counted.keys() == {"read_errors_total", "read_age_seconds"}
    assert counted["read_errors_total"] == {"gone": 1, url: 0}
    assert min(counted["read_age_seconds"].values()) > 0
