"""debug/over_xds.py: what istioctl is answered; tests/mesh/test_istioctl.py has istioctl itself."""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage

import isthmus
from isthmus.config.listeners import Listener
from isthmus.debug import over_xds
from isthmus.debug.over_xds import CLIENT_CONFIG, debug_pages
from isthmus.mcp.client import NODE_ID, SERVICE_ENTRY_URL, subscribe
from isthmus.protos import status_pb2, xds_pb2
from isthmus.registry.errors import ProtocolError
from tests.debug.test_subscribers import read_until, state
from tests.debug.web import TIMEOUT, Source, bridge_of, pages_of, running, write
from tests.rig.wait import wait_for_async
from tests.unit.builders import endpoint, service

if TYPE_CHECKING:
    from pathlib import Path

    from isthmus.app import Bridge
    from isthmus.mcp.client import Client

PAGE = "istio.io/debug"
STATUS = "istio.io/debug/syncz"


def text(bridge: Bridge, name: str) -> str:
    """Return the text of a page."""
    (resource,) = debug_pages(bridge)(PAGE, [name]).resources
    return AnyMessage.FromString(resource).value.decode()


def page(bridge: Bridge, name: str) -> Any:
    return msgspec.json.decode(text(bridge, name))


def status(bridge: Bridge) -> list[status_pb2.ClientConfig]:
    """Return what `istioctl proxy-status` would be told."""
    found = [AnyMessage.FromString(resource) for resource in debug_pages(bridge)(STATUS, ()).resources]
    assert {one.type_url for one in found} <= {CLIENT_CONFIG}
    return [status_pb2.ClientConfig.FromString(one.value) for one in found]


def states(configs: list[status_pb2.ClientConfig]) -> list[dict[str, str]]:
    """Return the state of each type of each stream."""
    return [
        {one.type_url: status_pb2.ConfigStatus.Name(one.config_status) for one in config.generic_xds_configs}
        for config in configs
    ]


async def ask(client: Client, node_id: str, types: tuple[str, ...] = (SERVICE_ENTRY_URL,), **metadata: Any) -> None:
    """Subscribe under a name, with some metadata."""
    node = xds_pb2.Node(id=node_id)
    node.metadata.update(metadata)
    for type_url in types:
        await client._call.write(xds_pb2.DiscoveryRequest(node=node, type_url=type_url).SerializeToString())


async def test_the_control_plane_is_what_istioctl_shows() -> None:
    answer = debug_pages(bridge_of("zk"))(STATUS, ())

    about = msgspec.json.decode(answer.control_plane)
    assert (about["Component"], about["Info"]) == ("isthmus", {"version": isthmus.__version__})
    assert about["ID"]
    assert answer.resources == []


async def test_every_page_has_a_name_and_is_the_same_as_over_HTTP() -> None:
    bridge = bridge_of("zk")
    async with pages_of(bridge) as pages:
        Source(bridge, "zk").sync(service("a.b", endpoint("10.0.0.1")), service("c.d", endpoint("127.0.0.1")))
        await wait_for_async(lambda: len(bridge.hub.publication.names()) == 2, TIMEOUT, "both services")
        names = page(bridge, "list")
        linked = [link["path"] for link in (await pages.get("/debug"))["items"]]
        asked = (
            "services?q=A.B",
            "services/c.d",
            "sources/zk/refusals",
            "configz",
            "syncz",
            "config",
            "services?lmit=1",
        )
        over_xds_ = {name: page(bridge, name) for name in asked}
        over_http = {name: (await pages.ask(f"/debug/{name}")).json for name in asked}

    assert names == sorted(names)
    assert {path.removeprefix("/debug/") for path in linked if path.startswith("/debug/")} | {"version"} == set(names)
    assert over_xds_ == over_http
    assert [item["host"] for item in over_xds_["services?q=A.B"]["items"]] == ["a.b"]
    assert over_xds_["services?lmit=1"]["nearest"] == ["limit"]


@pytest.mark.parametrize("name", ["", "edsz?proxyID=x", "lists", "debug", "services/", "sources/zk", "sources" * 2_000])
def test_a_page_that_is_not_there(name: str) -> None:
    assert text(bridge_of("zk"), name) == "404 page not found\n"


def test_a_part_of_a_name_is_decoded_as_in_a_path() -> None:
    bridge = bridge_of("zk/odd name")

    assert page(bridge, "sources/zk%2Fodd%20name/refusals?pretty") == {"items": [], "total": 0}


@pytest.mark.parametrize("names", [(), ("sources", "services")])
def test_exactly_one_page_is_asked_for_at_once(names: tuple[str, ...]) -> None:
    with pytest.raises(ProtocolError, match="exactly one debug page") as caught:
        debug_pages(bridge_of("zk"))(PAGE, names)

    assert caught.value.status == "INVALID_ARGUMENT"


def test_what_istioctl_asks_of_istiod_only_is_answered_with_nothing() -> None:
    assert debug_pages(bridge_of("zk"))("istio.io/debug/config_dump", ["a.b"]).resources == []


def test_T24_an_answer_is_bounded_and_says_how_to_ask_for_less(monkeypatch: pytest.MonkeyPatch) -> None:
    bridge = bridge_of("zk")
    size = len(text(bridge, "sources"))
    monkeypatch.setattr(over_xds, "MOST_BYTES", size)

    with pytest.raises(ProtocolError, match="ask for less") as caught:
        text(bridge, "sources")

    assert caught.value.status == "RESOURCE_EXHAUSTED"


async def test_configz_is_what_is_published_in_istiods_form() -> None:
    bridge = bridge_of("zk")
    async with pages_of(bridge) as pages:
        assert page(bridge, "configz") == []
        Source(bridge, "zk").sync(service("a.b", endpoint("10.0.0.1")), service("c.d"), service("*.refused"))
        await wait_for_async(lambda: len(bridge.hub.publication.names()) == 2, TIMEOUT, "both services")
        first, second = page(bridge, "configz")
        (resource,) = (await pages.get("/debug/services/a.b"))["resources"]
        narrowed = [page(bridge, f"configz?{query}") for query in ("host=c.d", "namespace=legacy&limit=2", "host=x")]
        problem = page(bridge, "configz?limit=1")

    version = first["metadata"].pop("resourceVersion")
    assert version == resource["version"]
    assert first == resource["serviceEntry"]
    assert (first["kind"], first["metadata"]["name"], second["metadata"]["name"]) == ("ServiceEntry", "a.b", "c.d")
    assert [[item["metadata"]["name"] for item in items] for items in narrowed] == [["c.d"], ["a.b", "c.d"], []]
    assert problem["status"] == 400
    assert "2 resources" in problem["detail"]


async def test_the_state_of_a_stream_is_told_as_istiod_tells_it(tmp_path: Path) -> None:
    write(tmp_path, "a.b")
    async with running(tmp_path) as pages:
        bridge = pages.bridge
        await pages.synced("files")
        async with (
            subscribe(bridge.xds_address) as good,
            subscribe(bridge.xds_address, (SERVICE_ENTRY_URL,)),
            subscribe(bridge.xds_address, (SERVICE_ENTRY_URL,)) as bad,
        ):
            await read_until(good, "default/a.b")
            await state(pages, "SYNCED", 0)
            data = await bad._call.read()
            assert isinstance(data, bytes)
            response = xds_pb2.DiscoveryResponse.FromString(data)
            refusal = xds_pb2.DiscoveryRequest(type_url=SERVICE_ENTRY_URL, response_nonce=response.nonce)
            refusal.error_detail.message = "token=hush is bad"
            await bad._call.write(refusal.SerializeToString())

            def told() -> bool:
                found = [one.get(SERVICE_ENTRY_URL) for one in states(status(bridge))]
                return sorted(map(str, found)) == ["ERROR", "STALE", "SYNCED"]

            await wait_for_async(told, TIMEOUT, "three states")
            configs = status(bridge)
            streams = page(bridge, "syncz")
            version = bridge.hub.publication.shards[0].service_entries.version

    by_state = {one[SERVICE_ENTRY_URL]: index for index, one in enumerate(states(configs))}
    types = [one.type_url for one in configs[by_state["SYNCED"]].generic_xds_configs]
    assert (len(types), types) == (16, sorted(types))
    (failed,) = configs[by_state["ERROR"]].generic_xds_configs
    assert failed.error_state.details == "token=***"
    assert failed.error_state.last_update_attempt == failed.last_updated
    synced, stale, error = (
        streams[by_state[one]]["resources"][SERVICE_ENTRY_URL] for one in ("SYNCED", "STALE", "ERROR")
    )
    assert (synced["sent"], synced["acked"]) == (version, version)
    assert int(datetime.fromisoformat(error["sentTime"]).timestamp()) == failed.last_updated.seconds
    assert (stale["sent"], stale.get("acked"), stale.get("lastError")) == (version, None, None)
    assert (error.get("acked"), error["lastError"]) == (None, "token=***")


async def test_a_stream_that_is_held_was_sent_nothing() -> None:
    bridge = bridge_of("zk")
    async with bridge.running(), subscribe(bridge.xds_address, (SERVICE_ENTRY_URL,)):
        await wait_for_async(lambda: any(states(status(bridge))), TIMEOUT, "the subscriber")
        assert states(status(bridge)) == [{SERVICE_ENTRY_URL: "NOT_SENT"}]
        assert page(bridge, "syncz") == [
            {
                "cluster_id": "xds 0 of 1",
                "proxy": NODE_ID,
                "proxy_type": "sidecar",
                "resources": {SERVICE_ENTRY_URL: {}},
            }
        ]


async def test_the_streams_of_one_istiod_are_told_apart_by_listener_and_shard(tmp_path: Path) -> None:
    listener = Listener(name="canary", address="127.0.0.1:0", shards=1)
    async with running(tmp_path, shards=2, listeners=(listener,)) as pages, AsyncExitStack() as stack:
        bridge = pages.bridge
        for address in (address for bound in bridge.listening for address in bound.addresses):
            await stack.enter_async_context(subscribe(address, (SERVICE_ENTRY_URL,), revision="blue"))
        await wait_for_async(lambda: len(status(bridge)) == 3, TIMEOUT, "all streams")
        nodes = [(config.node.id, dict(config.node.metadata)) for config in status(bridge)]
        rows = page(bridge, "syncz")

    expected = ["canary 0 of 1", "xds 0 of 2", "xds 1 of 2"]
    assert {name for name, _ in nodes} == {NODE_ID}
    assert sorted(str(metadata["CLUSTER_ID"]) for _, metadata in nodes) == expected
    assert {metadata["ISTIO_REVISION"] for _, metadata in nodes} == {"blue"}
    assert sorted(row["cluster_id"] for row in rows) == expected
    assert {row["revision"] for row in rows} == {"blue"}


async def test_who_a_subscriber_is_goes_out_as_texts_only(tmp_path: Path) -> None:
    async with running(tmp_path) as pages:
        bridge, address = pages.bridge, pages.bridge.xds_address
        async with subscribe(address, ()) as one, subscribe(address, ()) as other, subscribe(address, ()) as asking:
            await ask(one, "sidecar~10.0.0.1~istiod-1.x.mesh~mesh.svc", CLUSTER_ID=["a"], ISTIO_VERSION="1.31.0")
            await wait_for_async(lambda: len(status(bridge)) == 1, TIMEOUT, "one")
            await ask(other, "odd" * 300, NAMESPACE="shop", CLUSTER_ID="east", PASSWORD="hush")
            # Neither istioctl itself nor a stream that has not said who it is belongs in the list.
            await ask(asking, "sidecar~10.0.0.2~test.default~default.svc", GENERATOR="event")
            await wait_for_async(lambda: len(bridge.hub.streams) == 3 and len(status(bridge)) == 2, TIMEOUT, "both")
            first, second = sorted(status(bridge), key=lambda config: config.node.id, reverse=True)

    assert dict(first.node.metadata) == {
        "NAMESPACE": "mesh",
        "ISTIO_VERSION": "1.31.0",
        "CLUSTER_ID": "xds 0 of 1",
    }
    assert first.node.id == "sidecar~10.0.0.1~istiod-1.x.mesh~mesh.svc"
    assert dict(second.node.metadata) == {"NAMESPACE": "shop", "CLUSTER_ID": "east, xds 0 of 1"}
    assert len(second.node.id) == 256
