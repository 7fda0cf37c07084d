"""The pages of sources and services, over HTTP: what they hold, how they are paged and filtered, what they refuse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from isthmus.adapters.eureka.options import EurekaOptions
from isthmus.adapters.nacos.options import NacosOptions
from isthmus.adapters.zookeeper.options import ZookeeperOptions
from isthmus.app import Bridge
from isthmus.debug.query import ListQuery, ServicesQuery
from isthmus.debug.services import list_services
from isthmus.debug.sources import list_sources
from isthmus.registry import codes
from isthmus.registry.kubeform import entry_from_document
from isthmus.registry.model import Endpoint, Port, Refusal, WorkloadEntry
from isthmus.registry.policy import ENDPOINT_LIMIT
from tests.debug.web import TIMEOUT, Source, bridge_of, config, pages_of, running, write
from tests.rig.wait import wait_for_async
from tests.unit.builders import endpoint, service

if TYPE_CHECKING:
    from pathlib import Path

    from tests.debug.web import Pages

RECORD = "dubbo%3A%2F%2Fuser%3Ahush%40127.0.0.1%3A20880%2Fa.B%3Ftoken%3Dhush%26side%3Dprovider"


async def published(pages: Pages, *names: str) -> None:
    """Wait until these resources, and no others, are published."""
    expected = sorted(names)
    publication = pages.bridge.hub.publication
    await wait_for_async(lambda: publication.names() == expected, TIMEOUT, f"{expected} published")


async def all_items(pages: Pages, path: str, after: str = "") -> list[Any]:
    """Return the items of all pages of a list, or of those after a token."""
    page = await pages.get(f"{path}&continue={after}" if after else path)
    items: list[Any] = page["items"]
    while "continue" in page:
        page = await pages.get(f"{path}&continue={page['continue']}")
        items += page["items"]
    return items


async def test_the_index_lists_every_page_with_a_sentence() -> None:
    async with pages_of(bridge_of("zk")) as pages:
        index = await pages.get("/debug")

        assert index["total"] == len(index["items"])
        for link in index["items"]:
            assert link["about"].endswith(".")
            path = link["path"].format(name="zk", host="a.b")
            assert (await pages.ask(path)).status in (200, 404, 503), path
        linked = [link["path"] for link in index["items"] if "{" not in link["path"]]
        assert "/debug/sources" in linked
        assert [(await pages.ask(path)).status for path in linked if path.startswith("/debug")] == [200] * 11


async def test_a_source_says_what_it_holds_and_how_fresh_that_is(tmp_path: Path) -> None:
    write(tmp_path, "a.b")
    async with running(tmp_path) as pages:
        await published(pages, "default/a.b")
        listing = await pages.get("/debug/sources")
        (source,) = listing["items"]

        assert listing["total"] == 1
        assert "continue" not in listing
        assert (source["name"], source["kind"], source["required"], source["phase"]) == (
            "files",
            "files",
            True,
            "READY",
        )
        assert source["address"] == str(tmp_path)
        assert (source["services"], source["endpoints"], source["generation"]) == (1, 1, 1)
        assert 0 <= source["contactSeconds"] <= source["addedSeconds"]
        assert 0 <= source["servedSeconds"] <= source["addedSeconds"]
        assert (source["staleSeconds"], source["lastError"], source["reading"]) == (None, None, None)
        assert (source["refused"], source["refusals"], source["refusedTotal"]) == ({}, [], {})
        assert (source["mended"], source["lateAnswers"]) == (0, 0)


async def test_ages_are_counted_to_the_moment_that_is_passed_in() -> None:
    bridge = bridge_of("zk")
    zk = Source(bridge, "zk")
    zk.sync()
    zk.stale("no contact")
    state = bridge.catalog.sources[0]
    assert state.synced_at is not None
    assert state.contact_at is not None
    assert state.stale_since is not None
    # In place of the clock's, times that differ by more than any tolerance.
    state.added_at, state.synced_at, state.contact_at, state.stale_since = 1000.0, 1002.0, 1008.0, 1032.0

    (source,) = list_sources(bridge, ListQuery(), 1122.5).items

    assert source.added_seconds == pytest.approx(122.5)
    assert source.served_seconds == pytest.approx(120.5)
    assert source.contact_seconds == pytest.approx(114.5)
    assert source.stale_seconds == pytest.approx(90.5)


async def test_a_source_says_what_is_wrong_with_it() -> None:
    bridge = bridge_of("zk", "other")
    zk = Source(bridge, "zk")
    async with pages_of(bridge) as pages:
        zk.progress(200, 5000)
        reading = (await pages.get("/debug/sources"))["items"][0]
        zk.sync(service("a.b"))
        zk.mended(3)
        zk.note("its cache is 12 s old", "\x1b[31mred")
        zk.stale("no session with zk://user:hush@10.0.0.9\x1b[31m")
        Source(bridge, "zk")
        zk.put(service("late.b"))
        stale, other = (await pages.get("/debug/sources"))["items"]

    assert (reading["phase"], reading["reading"]) == ("READING", {"done": 200, "total": 5000})
    assert reading["servedSeconds"] is None
    assert stale["phase"] == "STALE"
    assert stale["staleSeconds"] >= 0
    assert stale["lastError"] == "no session with zk://***@10.0.0.9\\x1b[31m"
    assert stale["notes"] == ["its cache is 12 s old", "\\x1b[31mred"]
    assert (stale["services"], stale["mended"], stale["lateAnswers"], stale["generation"]) == (1, 3, 1, 2)
    assert (other["phase"], other["contactSeconds"]) == ("CONNECTING", None)


async def test_T17_the_address_and_the_configuration_hold_no_credentials() -> None:
    options = ZookeeperOptions(name="zk", address="user:hush@10.0.0.9:2181/x", digest="user:hush")
    async with pages_of(Bridge(config(options))) as pages:
        (source,) = (await pages.get("/debug/sources"))["items"]
        effective = await pages.get("/debug/config")

    assert source["address"] == "***@10.0.0.9:2181/x"
    assert effective["sources"][0]["digest"] == "***"
    assert effective["sources"][0]["kind"] == "zookeeper"
    assert effective["listen"] == "127.0.0.1:0"
    assert "hush" not in str(effective)


async def test_the_address_of_a_source_of_any_kind_is_shown() -> None:
    urls = "http://10.0.0.1:8761/eureka,http://10.0.0.2:8761/eureka"
    sources = (NacosOptions(name="nacos", address="10.0.0.9:8848,10.0.0.8:8848"), EurekaOptions(name="e", address=urls))
    async with pages_of(Bridge(config(*sources))) as pages:
        shown = (await pages.get("/debug/sources"))["items"]

    assert [(one["kind"], one["address"]) for one in shown] == [
        ("nacos", "10.0.0.9:8848,10.0.0.8:8848"),
        ("eureka", urls),
    ]


async def test_what_is_refused_is_counted_and_shown_with_its_reason() -> None:
    bridge = bridge_of("zk", "second")
    zk, second = Source(bridge, "zk"), Source(bridge, "second")
    bad = Endpoint(WorkloadEntry("127.0.0.1", (("http", 20880),)), RECORD)
    async with pages_of(bridge) as pages:
        zk.sync(service("a.b", bad, endpoint("10.0.0.1")))
        zk.refuse("com.foo.Bar", Refusal(codes.GARBLED, "the record cannot be read", "x\x00"))
        second.sync(service("a.b", endpoint("10.0.0.2"), identity="another"))
        await published(pages, "legacy/a.b")
        first, other = (await pages.get("/debug/sources"))["items"]

    assert first["refused"] == {codes.GARBLED: 1, codes.FORBIDDEN_ADDRESS: 1}
    assert first["refusedTotal"] == {codes.GARBLED: 1, codes.FORBIDDEN_ADDRESS: 1}
    assert first["endpoints"] == 1
    garbled, forbidden = first["refusals"]
    assert garbled["record"] == "x\\x00"
    assert forbidden["code"] == codes.FORBIDDEN_ADDRESS
    assert forbidden["meaning"] == codes.MEANING[codes.FORBIDDEN_ADDRESS]
    assert "127.0.0.1 is loopback" in forbidden["reason"]
    assert (forbidden["source"], forbidden["key"]) == ("zk", "a.b")
    assert forbidden["record"] == RECORD.replace("user%3Ahush", "***").replace("hush", "***")
    assert other["refused"] == {codes.HOST_CONFLICT: 1}
    assert other["refusals"][0]["key"] == "legacy/a.b"


async def test_refusals_are_sampled_on_the_list_and_paged_in_full() -> None:
    bridge = bridge_of("zk/odd name")
    zk = Source(bridge, "zk/odd name")
    refusals = tuple(Refusal(codes.GARBLED, f"fault {number}") for number in range(15))
    async with pages_of(bridge) as pages:
        zk.refuse("b", *refusals)
        zk.refuse("a", *refusals)
        (source,) = (await pages.get("/debug/sources"))["items"]
        path = "/debug/sources/zk%2Fodd%20name/refusals?limit=4"
        items = await all_items(pages, path)
        total = (await pages.get(path))["total"]

    assert len(source["refusals"]) == 20
    assert source["refused"] == {codes.GARBLED: 30}
    assert total == 30
    expected = [(key, f"fault {number}") for key in "ab" for number in range(15)]
    assert [(one["key"], one["reason"]) for one in items] == expected


async def test_a_source_that_is_not_there_is_a_problem_with_the_nearest_name() -> None:
    async with pages_of(bridge_of("zookeeper-main")) as pages:
        problem = await pages.problem("/debug/sources/zookeper-main/refusals", 404)
        filtered = await pages.problem("/debug/services?source=zookeper-main", 400)

    assert problem["nearest"] == filtered["nearest"] == ["zookeeper-main"]


async def test_the_services_in_short() -> None:
    bridge = bridge_of("zk", "second")
    bad = Endpoint(WorkloadEntry("127.0.0.1", (("http", 1),)), RECORD)
    async with pages_of(bridge) as pages:
        Source(bridge, "zk").sync(service("a.b", bad, endpoint("10.0.0.1"), identity="tri:a.B"))
        Source(bridge, "second").sync(service("a.b", endpoint("10.0.0.2"), identity="tri:a.B"))
        await published(pages, "legacy/a.b")
        (item,) = (await pages.get("/debug/services"))["items"]

    vip = bridge.catalog.entries["legacy/a.b"].addresses[0]
    assert item == {
        "name": "legacy/a.b",
        "namespace": "legacy",
        "host": "a.b",
        "service": "tri:a.B",
        "published": True,
        "addresses": [vip],
        "ports": [{"number": 8080, "name": "http", "protocol": "HTTP"}],
        "endpoints": 2,
        "sources": ["zk", "second"],
        "version": bridge.hub.publication.resources["legacy/a.b"].frame.version,
        "refused": 1,
    }


@pytest.mark.parametrize(
    ("query", "hosts"),
    [
        ("", ["bad.b", "empty.b", "good.b", "good.c", "svc.cluster.local"]),
        ("host=good.b", ["good.b"]),
        ("host=good", []),
        ("namespace=legacy&q=d.c", ["good.c"]),
        ("namespace=default", []),
        ("source=zk", ["bad.b", "empty.b", "good.b", "svc.cluster.local"]),
        ("source=second", ["good.b", "good.c"]),
        ("source=second&problems", ["good.b"]),
        ("q=GOOD", ["good.b", "good.c"]),
        ("q=com.foo.Original", ["good.c"]),
        ("problems=true", ["bad.b", "empty.b", "good.b", "svc.cluster.local"]),
        ("problems=false&limit=1", ["bad.b"]),
    ],
)
async def test_services_are_filtered(query: str, hosts: list[str]) -> None:
    bridge = bridge_of("zk", "second")
    async with pages_of(bridge) as pages:
        Source(bridge, "zk").sync(
            service("good.b", endpoint("10.0.0.1")),
            service("empty.b"),
            service("bad.b", endpoint("10.0.0.2"), endpoint("169.254.169.254")),
            service("svc.cluster.local", endpoint("10.0.0.3")),
        )
        Source(bridge, "second").sync(
            service("good.b", endpoint("10.0.0.1"), identity="another"),
            service("good.c", endpoint("10.0.0.4"), identity="com.foo.Original"),
        )
        await published(pages, "legacy/bad.b", "legacy/empty.b", "legacy/good.b", "legacy/good.c")
        items = (await pages.get(f"/debug/services?{query}"))["items"]

    assert [item["host"] for item in items] == hosts


async def test_what_is_refused_whole_stays_in_the_list_and_says_so() -> None:
    bridge = bridge_of("zk")
    zk = Source(bridge, "zk")
    async with pages_of(bridge) as pages:
        unacceptable = service("a.b", endpoint("10.0.0.1"), ports=(Port(8080, "http", "DUBBO"),))
        zk.sync(service("*.b", endpoint("10.0.0.1")), unacceptable, service("good.b", endpoint("10.0.0.1")))
        await published(pages, "legacy/good.b")
        wildcard, refused, good = (await pages.get("/debug/services"))["items"]
        page = await pages.get("/debug/services/*.b")
        other = await pages.get("/debug/services/a.b")
        zk.drop("a.b")
        # What was dropped is not published yet: the page is made in the same turn of the loop.
        left = list_services(bridge, ServicesQuery(), 0.0)

    assert (wildcard["host"], wildcard["published"], wildcard["version"], wildcard["refused"]) == (
        "*.b",
        False,
        None,
        1,
    )
    assert (refused["host"], refused["published"], refused["version"]) == ("a.b", False, None)
    assert refused["refused"] == len(other["resources"][0]["conflicts"]) > 0
    assert good["published"]
    (resource,) = page["resources"]
    assert (resource["published"], resource["serviceEntry"], resource["subscribers"]) == (False, None, [])
    assert resource["refused"][0]["code"] == codes.INVALID_HOST
    assert other["resources"][0]["conflicts"][0]["code"] == codes.NOT_ACCEPTABLE
    assert other["resources"][0]["serviceEntry"] is None
    assert [item.host for item in left.items] == ["*.b", "good.b"]


async def test_pages_of_services_hold_each_that_stays_exactly_once() -> None:
    bridge = bridge_of("zk")
    zk = Source(bridge, "zk")
    hosts = [f"h{number:02}.b" for number in range(20)]
    async with pages_of(bridge) as pages:
        zk.sync(*(service(host) for host in hosts))
        await published(pages, *(f"legacy/{host}" for host in hosts))
        first = await pages.get("/debug/services?limit=5")
        zk.sync(*(service(host) for host in ["h00a.b", "h04a.b", "z.b", *hosts[5:]]))
        await published(
            pages, "legacy/h00a.b", "legacy/h04a.b", "legacy/z.b", *(f"legacy/{host}" for host in hosts[5:])
        )
        rest = await all_items(pages, "/debug/services?limit=5", first["continue"])

    assert [item["host"] for item in first["items"]] == hosts[:5]
    assert first["total"] == 20
    assert [item["host"] for item in rest] == ["h04a.b", *hosts[5:], "z.b"]


async def test_a_host_is_shown_with_all_that_is_known_of_it() -> None:
    bridge = bridge_of("zk", "second")
    workload = WorkloadEntry("10.0.0.1", (("http", 18080),), (("isthmus.io/tag", "v1"),), 7, "r/z/s", "net")
    bad = Endpoint(WorkloadEntry("127.0.0.1", (("http", 1),)), "127.0.0.1")
    async with pages_of(bridge) as pages:
        Source(bridge, "zk").sync(service("a.b", Endpoint(workload, RECORD), bad))
        Source(bridge, "second").sync(
            service("a.b", endpoint("10.0.0.2"), key="elsewhere"),
            replace(service("a.b", endpoint("10.0.0.3"), key="in another namespace"), namespace="other"),
            service("a.b", endpoint("10.0.0.4"), key="x", identity="somebody else"),
        )
        await published(pages, "legacy/a.b", "other/a.b")
        page = await pages.get("/debug/services/a.b")
        in_one_namespace = await pages.get("/debug/services/a.b?namespace=other&pretty")

    assert page["host"] == "a.b"
    legacy, other = page["resources"]
    assert in_one_namespace["resources"] == [other]
    assert (legacy["name"], legacy["namespace"], legacy["published"]) == ("legacy/a.b", "legacy", True)
    assert legacy["version"] == bridge.hub.publication.resources["legacy/a.b"].frame.version
    assert entry_from_document(legacy["serviceEntry"]) == bridge.catalog.entries["legacy/a.b"]
    assert legacy["endpointsTotal"] == 2
    assert legacy["endpoints"][0] == {
        "address": "10.0.0.1",
        "ports": {"http": 18080},
        "weight": 7,
        "labels": {"isthmus.io/tag": "v1"},
        "locality": "r/z/s",
        "network": "net",
        "source": "zk",
        "record": RECORD.replace("user%3Ahush", "***").replace("hush", "***"),
    }
    assert legacy["endpoints"][1]["source"] == "second"
    assert [(one["source"], one["code"]) for one in legacy["refused"]] == [("zk", codes.FORBIDDEN_ADDRESS)]
    assert [(one["source"], one["code"]) for one in legacy["conflicts"]] == [("second", codes.HOST_CONFLICT)]
    assert legacy["subscribers"] == []


async def test_T24_the_page_of_a_host_is_bounded_and_says_what_it_leaves_out() -> None:
    bridge = bridge_of("zk")
    endpoints = [endpoint(f"10.0.{number >> 8}.{number & 255}") for number in range(ENDPOINT_LIMIT)]
    forbidden = [endpoint("127.0.0.1", number) for number in range(1, 701)]
    async with pages_of(bridge) as pages:
        Source(bridge, "zk").sync(service("a.b", *endpoints, *forbidden))
        await published(pages, "legacy/a.b")
        (resource,) = (await pages.get("/debug/services/a.b"))["resources"]
        (whole,) = (await pages.get("/debug/services/a.b?limit=5000"))["resources"]

    assert (len(resource["endpoints"]), resource["endpointsTotal"]) == (500, ENDPOINT_LIMIT)
    assert (len(resource["refused"]), resource["refusedTotal"]) == (500, 700)
    assert (len(whole["endpoints"]), len(whole["refused"])) == (ENDPOINT_LIMIT, 700)
    assert len(resource["serviceEntry"]["spec"]["endpoints"]) == ENDPOINT_LIMIT


async def test_a_host_that_is_not_known_is_a_problem_with_the_nearest_ones() -> None:
    bridge = bridge_of("zk")
    async with pages_of(bridge) as pages:
        Source(bridge, "zk").sync(service("com.foo.greetingservice.dubbo"), service("com.foo.orders.tri"))
        await published(pages, "legacy/com.foo.greetingservice.dubbo", "legacy/com.foo.orders.tri")
        unknown = await pages.problem("/debug/services/com.foo.GreetingServce.dubbo", 404)
        elsewhere = await pages.problem("/debug/services/com.foo.orders.tri?namespace=legcy", 404)

    assert unknown["nearest"][0] == "com.foo.greetingservice.dubbo"
    assert elsewhere["nearest"] == ["legacy"]
