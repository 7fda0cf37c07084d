"""The page of the last refusals."""

from __future__ import annotations

from tests.debug.web import bridge_of, pages_of


async def test_the_last_refusals_are_shown_newest_first_page_by_page_and_without_secrets() -> None:
    bridge = bridge_of("zk")
    async with pages_of(bridge) as pages:
        for number in range(102):
            bridge.hub.refuse("xds", f"ipv4:10.0.0.1:{number}", "INVALID_ARGUMENT", f"number {number}")
        bridge.hub.refuse("", "ipv6:%5B::1%5D:9", "RESOURCE_EXHAUSTED", "token=hush\x1b[2J")
        first = await pages.get("/debug/refusals?limit=2")
        bridge.hub.refuse("xds", "ipv4:10.0.0.1:7", "BROKEN", "one more")
        rest = await pages.get(f"/debug/refusals?continue={first['continue']}")

    newest, second = first["items"]
    assert first["total"] == rest["total"] == 100
    assert newest.pop("agoSeconds") >= 0
    assert newest == {"listener": None, "peer": "ipv6:[::1]:9", "status": "RESOURCE_EXHAUSTED", "reason": "token=***"}
    assert (second["listener"], second["peer"], second["reason"]) == ("xds", "ipv4:10.0.0.1:101", "number 101")
    # Nothing is shown twice though one came between; the oldest has left.
    assert [item["reason"] for item in rest["items"]] == [f"number {number}" for number in range(100, 3, -1)]
