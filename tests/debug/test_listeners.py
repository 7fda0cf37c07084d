"""The page of the listeners, and what shards and views make of the pages of streams and services."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from isthmus.config.listeners import Listener
from isthmus.mcp.client import SERVICE_ENTRY_URL, subscribe
from isthmus.mcp.shards import shard_index
from isthmus.mcp.transport import TlsOptions
from isthmus.protos import xds_pb2
from tests.debug.test_metrics import key, scrape
from tests.debug.test_subscribers import read_until, state
from tests.debug.web import TIMEOUT, Source, bridge_of, pages_of, running, write
from tests.rig.certificates import Certificates
from tests.rig.wait import wait_for_async
from tests.unit.builders import service

if TYPE_CHECKING:
    from pathlib import Path

    from tests.debug.web import Pages

ANY_PORT = "127.0.0.1:0"
# One in each of two shards.
HOSTS = [next(host for host in ("a.b", "c.d", "e.f", "g.h") if shard_index(host, 2) == index) for index in range(2)]
FORMS = ("slime", "delta")


async def refused(pages: Pages, count: int) -> None:
    """Wait until so many streams were refused."""
    counter = pages.bridge.hub.refused
    await wait_for_async(lambda: counter.total() == count, TIMEOUT, f"{count} streams refused")


async def test_a_listener_says_where_it_is_and_what_it_serves(tmp_path: Path) -> None:
    narrow = Listener(
        name="narrow",
        address=ANY_PORT,
        form="slime",
        types=("ServiceEntry",),
        namespaces=("shop",),
        sources=("files",),
        debug="never",
    )
    async with running(tmp_path, shards=3, listeners=(narrow,)) as pages:
        first = await pages.get("/debug/listeners?limit=1")
        (wide,) = first["items"]
        (other,) = (await pages.get(f"/debug/listeners?continue={first['continue']}"))["items"]
        addresses = [list(bound.addresses) for bound in pages.bridge.listening]

    assert (first["total"], first["refused"]) == (2, {})
    assert [wide["addresses"], other["addresses"]] == addresses
    assert (len(wide["addresses"]), len(other["addresses"])) == (3, 1)
    assert (wide["name"], wide["shards"], wide["routing"], wide["form"]) == ("xds", 3, "ports", "standard")
    assert (wide["tls"], wide["types"], wide["namespaces"], wide["sources"]) == (None, [], [], [])
    assert (wide["debug"], wide["streams"], wide["streamsOfShards"]) == (True, 0, [0, 0, 0])
    assert (other["form"], other["debug"]) == ("slime", False)
    assert (other["types"], other["namespaces"], other["sources"]) == (["ServiceEntry"], ["shop"], ["files"])


async def test_a_certificate_is_shown_and_measured(tmp_path: Path) -> None:
    files = Certificates(tmp_path / "tls")
    services = tmp_path / "services"
    services.mkdir()
    tls = TlsOptions(certificate=str(files.cert_file), key=str(files.key_file), client_ca=str(files.ca_file))
    async with running(services, listeners=(Listener(name="secure", address=ANY_PORT, tls=tls),)) as pages:
        files.cert_file.write_text("none")
        secured = pages.bridge.listening[1].tls
        assert secured is not None
        secured.refresh()
        plain, secure = (await pages.get("/debug/listeners"))["items"]
        samples = await scrape(pages)
        state = secured.state()

    assert plain["tls"] is None
    shown = secure["tls"]
    assert (shown["subject"], shown["dnsNames"]) == (state.subject, ["localhost"])
    assert "localhost" in shown["subject"]
    assert shown["notAfter"] == state.not_after.isoformat().replace("+00:00", "Z")
    assert (shown["reloads"], shown["clientCertificates"], shown["warnings"]) == (0, True, list(state.warnings))
    assert str(files.cert_file) in shown["lastError"]
    ends = {sample: value for sample, value in samples.items() if "certificate" in sample[0]}
    assert ends == {key("certificate_not_after_seconds", listener="secure"): int(state.not_after.timestamp())}


async def test_what_is_refused_is_counted_by_its_status(tmp_path: Path) -> None:
    write(tmp_path, "a.b")
    async with running(tmp_path) as pages, subscribe(pages.bridge.xds_address, ()) as client:
        before = await scrape(pages)
        await client._call.write(xds_pb2.DiscoveryRequest(type_url=SERVICE_ENTRY_URL).SerializeToString())
        await refused(pages, 1)
        listing = await pages.get("/debug/listeners")
        after = await scrape(pages)

    sample = key("streams_refused_total", status="INVALID_ARGUMENT")
    assert listing["refused"] == {"INVALID_ARGUMENT": 1}
    assert (before[sample], after[sample]) == (0, 1)


async def test_a_subscriber_that_leaves_out_a_shard_is_told_of(tmp_path: Path) -> None:
    for host in HOSTS:
        write(tmp_path, host)
    async with running(tmp_path, shards=2) as pages:
        first, second = pages.bridge.listening[0].addresses
        async with subscribe(second, (SERVICE_ENTRY_URL,)) as one:
            await read_until(one, f"default/{HOSTS[1]}")
            half = await state(pages, "SYNCED")
            incomplete = await scrape(pages)
            async with subscribe(first, (SERVICE_ENTRY_URL,)) as other:
                await read_until(other, f"default/{HOSTS[0]}")
                whole = await state(pages, "SYNCED", 1)
                complete = await scrape(pages)
                (listener,) = (await pages.get("/debug/listeners"))["items"]

    (problem,) = half["problems"]
    assert "the shards 0 of 2 on the listener xds" in problem
    assert (half["listener"], half["shard"], half["form"], half["view"]) == ("xds", "1 of 2", "sotw", None)
    assert (whole["shard"], whole["problems"]) == ("0 of 2", [])
    assert (listener["streams"], listener["streamsOfShards"]) == (2, [1, 1])
    assert (incomplete[key("subscribers_incomplete")], complete[key("subscribers_incomplete")]) == (1, 0)
    assert [incomplete[key("shard_streams", listener="xds", shard=shard)] for shard in "01"] == [0, 1]
    assert [complete[key("shard_resources", shards="2", shard=shard)] for shard in "01"] == [1, 1]


async def test_a_resource_is_delivered_only_where_it_is_shown(tmp_path: Path) -> None:
    host = HOSTS[0]
    write(tmp_path, host)
    listeners = (
        Listener(name="other types", address=ANY_PORT, types=("Sidecar",)),
        Listener(name="other namespaces", address=ANY_PORT, namespaces=("shop",)),
        Listener(name="slime", address=ANY_PORT, form="slime", sources=("files",)),
    )
    async with running(tmp_path, shards=2, listeners=listeners) as pages:
        (has, has_not), (types,), (namespaces,), (slime,) = [bound.addresses for bound in pages.bridge.listening]
        asked = (SERVICE_ENTRY_URL,)
        async with (
            subscribe(has_not, asked) as none,
            subscribe(types, asked) as none_either,
            subscribe(namespaces, asked) as nor_this,
            subscribe(has, asked) as one,
            subscribe(slime, asked) as other,
            subscribe(slime, asked, delta=True) as third,
        ):
            for client in (none, none_either, nor_this):
                await anext(client.batches())
            for client in (one, other, third):
                await read_until(client, f"default/{host}")
            items = [await state(pages, "SYNCED", place) for place in range(6)]
            (resource,) = (await pages.get(f"/debug/services/{host}"))["resources"]

    by_listener = {(item["listener"], item["shard"], item["form"]): item for item in items}
    expected = [by_listener[one] for one in (("xds", "0 of 2", "sotw"), *(("slime", "0 of 1", form) for form in FORMS))]
    delivered = {one["subscriber"]: (one["sent"], one["acknowledged"]) for one in resource["subscribers"]}
    assert delivered == {item["id"]: (True, True) for item in expected}
    views = {listener: item["view"] for (listener, _, _), item in by_listener.items()}
    assert views == {
        "xds": None,
        "other types": {"types": ["Sidecar"], "namespaces": None, "sources": None},
        "other namespaces": {"types": None, "namespaces": ["shop"], "sources": None},
        "slime": {"types": None, "namespaces": None, "sources": ["files"]},
    }


async def test_a_resource_says_its_shards_and_its_revisions() -> None:
    bridge = bridge_of("zk", shards=16, listeners=(Listener(name="whole", address=ANY_PORT),))
    async with pages_of(bridge) as pages:
        Source(bridge, "zk").sync(service("a.b", revisions=("canary", "blue")), service("c.d"))
        await wait_for_async(lambda: len(bridge.hub.publication.names()) == 2, TIMEOUT, "both services")
        (some,), (all_,) = [(await pages.get(f"/debug/services/{host}"))["resources"] for host in ("a.b", "c.d")]

    shards: list[Any] = [one["shards"] for one in (some, all_)]
    assert shards == [["0 of 1", f"{shard_index(host, 16)} of 16"] for host in ("a.b", "c.d")]
    assert (some["revisions"], all_["revisions"]) == (["blue", "canary"], [])
