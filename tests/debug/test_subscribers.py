"""The pages of streams and pushes, with real subscribers on a real port; and readiness."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from isthmus.adapters.files import FilesOptions
from isthmus.mcp.client import ISTIOD_TYPES, SERVICE_ENTRY_URL, subscribe
from isthmus.protos import xds_pb2
from tests.debug.web import TIMEOUT, running, write
from tests.rig.wait import wait_for_async

if TYPE_CHECKING:
    from pathlib import Path

    from isthmus.mcp.client import Client
    from tests.debug.web import Pages


async def read_until(client: Client, name: str) -> None:
    """Take and acknowledge responses until the client holds a resource."""
    if name not in client.store.get(SERVICE_ENTRY_URL, {}):
        async for _ in client.batches():
            if name in client.store.get(SERVICE_ENTRY_URL, {}):
                return


async def state(pages: Pages, expected: str, place: int = 0) -> Any:
    """Wait until ServiceEntry on a stream has a state; return the stream."""

    async def looked() -> Any:
        items = (await pages.get("/debug/subscribers"))["items"]
        if len(items) <= place:
            return None
        watch = items[place]["types"].get(SERVICE_ENTRY_URL)
        return items[place] if watch and watch["state"] == expected else None

    return await wait_for_async(looked, TIMEOUT, f"stream {place} {expected}")


async def test_readiness_and_streams_wait_for_the_sources(tmp_path: Path) -> None:
    write(tmp_path, "a.b")
    later = tmp_path / "later"
    async with running(tmp_path, FilesOptions(name="later", directory=str(later))) as pages:
        await pages.synced("files")
        for path in ("/healthz/ready", "/ready", "/readyz"):
            answer = await pages.ask(path)
            assert answer.status == 503
            assert answer.text.startswith("source later: not read yet")
        assert (await pages.ask("/healthz/live")).text == "ok\n"
        async with subscribe(pages.bridge.xds_address, revision="canary") as client:
            held = await state(pages, "HELD")
            later.mkdir()
            await read_until(client, "default/a.b")
            await state(pages, "SYNCED")
        ready = await pages.ask("/healthz/ready")
        assert (ready.status, ready.text) == (200, "ok\n")
        pages.bridge.stopping = True
        ending = await pages.ask("/healthz/ready")
        assert (ending.status, ending.text) == (503, "stopping\n")
        assert (await pages.ask("/healthz/live")).status == 200

    assert held["types"][SERVICE_ENTRY_URL]["sentVersion"] is None
    assert held["types"][SERVICE_ENTRY_URL]["lastSentSeconds"] is None
    assert held["revision"] == "canary"


async def test_a_subscriber_says_what_it_was_sent_and_acknowledged(tmp_path: Path) -> None:
    write(tmp_path, "a.b")
    async with running(tmp_path) as pages, subscribe(pages.bridge.xds_address) as client:
        await read_until(client, "default/a.b")
        while len(client.answered) < len(ISTIOD_TYPES):
            await anext(client.batches())
        await pages.pushed(len(ISTIOD_TYPES))
        await state(pages, "SYNCED")
        pushes = (await pages.get("/debug/pushes"))["items"]
        stream = await state(pages, "SYNCED")
        (resource,) = (await pages.get("/debug/services/a.b"))["resources"]

    watch = stream["types"][SERVICE_ENTRY_URL]
    assert stream["nodeId"].startswith("sidecar~127.0.0.1~isthmus-watch")
    assert stream["peer"].startswith("ipv4:127.0.0.1:")
    assert (stream["delta"], stream["id"]) == (False, 1)
    assert (
        watch["sentVersion"] == watch["ackedVersion"] == pages.bridge.hub.publication.shards[0].service_entries.version
    )
    assert (watch["resources"], watch["refusedResponses"]) == (1, 0)
    assert (watch["staleSeconds"], watch["lastError"]) == (None, None)
    assert 0 <= watch["ackSeconds"] <= watch["lastSentSeconds"] <= stream["openedSeconds"]
    assert len(stream["types"]) == 2
    assert (stream["typesWatched"], stream["typesAnsweredEmpty"]) == (16, 14)
    assert stream["sentResponses"] == len(pushes) == 16
    assert stream["sentBytes"] == sum(push["bytes"] for push in pushes)
    (push,) = [push for push in pushes if push["type"] == SERVICE_ENTRY_URL]
    assert (push["resources"], push["removed"], push["subscriber"]) == (1, 0, 1)
    assert push["version"] == watch["sentVersion"]
    assert min(push["agoSeconds"], push["writeSeconds"]) >= 0
    # Its write began after it was made, and the page of the stream was asked for later than that of the pushes.
    assert push["agoSeconds"] + push["writeSeconds"] <= watch["lastSentSeconds"]
    ages = [push["agoSeconds"] for push in pushes]
    assert ages == sorted(ages)
    (delivery,) = resource["subscribers"]
    assert delivery == {
        "subscriber": 1,
        "nodeId": stream["nodeId"],
        "type": SERVICE_ENTRY_URL,
        "sent": True,
        "acknowledged": True,
    }


async def test_a_delta_subscriber_is_told_apart_and_followed(tmp_path: Path) -> None:
    write(tmp_path, "a.b")
    async with running(tmp_path) as pages, subscribe(pages.bridge.xds_address, delta=True) as client:
        await read_until(client, "default/a.b")
        await state(pages, "SYNCED")
        write(tmp_path, "c.d")
        await read_until(client, "default/c.d")
        stream = await state(pages, "SYNCED")
        (resource,) = (await pages.get("/debug/services/c.d"))["resources"]

    assert stream["delta"]
    assert stream["types"][SERVICE_ENTRY_URL]["resources"] == 2
    assert [(one["sent"], one["acknowledged"]) for one in resource["subscribers"]] == [(True, True)]


async def test_a_subscriber_that_does_not_acknowledge_is_stale(tmp_path: Path) -> None:
    write(tmp_path, "a.b")
    async with running(tmp_path) as pages:
        address = pages.bridge.xds_address
        async with subscribe(address, (SERVICE_ENTRY_URL,)) as reader:
            await read_until(reader, "default/a.b")
            await state(pages, "SYNCED", 0)
            async with subscribe(address, (SERVICE_ENTRY_URL,)):
                stale = await state(pages, "STALE", 1)
                write(tmp_path, "c.d")
                await read_until(reader, "default/c.d")
                await state(pages, "SYNCED", 0)
                (old,) = (await pages.get("/debug/services/a.b"))["resources"]
                (new,) = (await pages.get("/debug/services/c.d"))["resources"]
                first = await pages.get("/debug/subscribers?limit=1")
                second = await pages.get(f"/debug/subscribers?limit=1&continue={first['continue']}")

    watch = stale["types"][SERVICE_ENTRY_URL]
    assert watch["staleSeconds"] == watch["lastSentSeconds"]
    assert (watch["ackedVersion"], watch["ackSeconds"]) == (None, None)
    assert [(one["sent"], one["acknowledged"]) for one in old["subscribers"]] == [(True, True), (True, False)]
    assert [(one["sent"], one["acknowledged"]) for one in new["subscribers"]] == [(True, True), (False, False)]
    assert [one["id"] for one in (*first["items"], *second["items"])] == [1, 2]
    assert "continue" not in second


async def test_a_subscriber_whose_turn_has_not_come_is_stale_and_owes_nothing(tmp_path: Path) -> None:
    write(tmp_path, "a.b")
    async with running(tmp_path, gap=3600.0) as pages:
        await wait_for_async(lambda: pages.bridge.ready, TIMEOUT, "readiness")
        async with subscribe(pages.bridge.xds_address, (SERVICE_ENTRY_URL,)) as client:
            await read_until(client, "default/a.b")
            # The first change after quiet goes out at once; the rest begins after it.
            write(tmp_path, "c.d")
            await read_until(client, "default/c.d")
            synced = await state(pages, "SYNCED")
            write(tmp_path, "e.f")
            stale = await state(pages, "STALE")

    watch = stale["types"][SERVICE_ENTRY_URL]
    assert watch["staleSeconds"] is None
    assert watch["sentVersion"] == watch["ackedVersion"] == synced["types"][SERVICE_ENTRY_URL]["ackedVersion"]


async def test_a_subscriber_that_refuses_a_response_says_why(tmp_path: Path) -> None:
    write(tmp_path, "a.b")
    async with (
        running(tmp_path) as pages,
        subscribe(pages.bridge.xds_address, (SERVICE_ENTRY_URL,)) as client,
    ):
        data = await client._call.read()
        assert isinstance(data, bytes)
        response = xds_pb2.DiscoveryResponse.FromString(data)
        refusal = xds_pb2.DiscoveryRequest(type_url=SERVICE_ENTRY_URL, response_nonce=response.nonce)
        refusal.error_detail.message = "not this\x1b[31m"
        await client._call.write(refusal.SerializeToString())

        async def refused() -> Any:
            (stream,) = (await pages.get("/debug/subscribers"))["items"]
            return stream["types"][SERVICE_ENTRY_URL] if stream["types"][SERVICE_ENTRY_URL]["lastError"] else None

        watch = await wait_for_async(refused, TIMEOUT, "refused response")
        (resource,) = (await pages.get("/debug/services/a.b"))["resources"]

    assert watch["state"] == "STALE"
    assert watch["lastError"] == "not this\\x1b[31m"
    assert watch["refusedResponses"] == 1
    assert watch["staleSeconds"] >= 0
    assert [(one["sent"], one["acknowledged"]) for one in resource["subscribers"]] == [(True, False)]


async def test_a_stream_that_has_not_asked_yet_and_pushes_in_pages(tmp_path: Path) -> None:
    write(tmp_path, "a.b")
    async with running(tmp_path) as pages, subscribe(pages.bridge.xds_address) as client:
        while len(client.answered) < len(ISTIOD_TYPES):
            await anext(client.batches())
        await pages.pushed(len(ISTIOD_TYPES))
        page = await pages.get("/debug/pushes?limit=7")
        types = [push["type"] for push in page["items"]]
        while "continue" in page:
            page = await pages.get(f"/debug/pushes?limit=7&continue={page['continue']}")
            types += [push["type"] for push in page["items"]]
        async with subscribe(pages.bridge.xds_address, ()):

            async def opened() -> Any:
                items = (await pages.get("/debug/subscribers"))["items"]
                return items[1] if len(items) > 1 else None

            silent = await wait_for_async(opened, TIMEOUT, "second stream")

    assert sorted(types) == sorted(ISTIOD_TYPES)
    assert page["total"] == len(ISTIOD_TYPES)
    assert (silent["nodeId"], silent["revision"], silent["types"], silent["typesWatched"]) == ("", "", {}, 0)
