"""What every istiod of the rig makes of what the catalogue publishes: the marked rows of docs/istio-versions.md."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Literal

import pytest
import pytest_asyncio
from msgspec.structs import replace

from isthmus.mcp.shards import SERVICE_ENTRY_URLS
from isthmus.mcp.views import Door
from isthmus.protos import xds_pb2
from isthmus.registry.catalog import Catalog, Change
from isthmus.registry.merge import EMPTY_LABEL
from isthmus.registry.model import Endpoint, Port, Service, WorkloadEntry
from isthmus.registry.policy import Policy
from tests.protocol.served import serving
from tests.protocol.stream import SOTW, connect, open_stream
from tests.rig.envoy import Envoy
from tests.rig.istiod import Istiod
from tests.rig.process import free_port
from tests.rig.proxy import proxy_to
from tests.rig.wait import wait_for_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from tests.conftest import Parts
    from tests.protocol.served import Served
    from tests.rig.istiod import Version
    from tests.rig.proxy import Proxy

    ServiceProtocol = Literal["HTTP", "TCP"]

# The fixture's servers live on the loop of the whole module, so the tests have to run there.
pytestmark = pytest.mark.asyncio(loop_scope="module")

TIMEOUT = 120.0
ASKED_FOR: Mapping[Version, str] = {
    "1.21": "networking.istio.io/v1alpha3/ServiceEntry",
    "1.24": "networking.istio.io/v1/ServiceEntry",
    "1.26": "networking.istio.io/v1/ServiceEntry",
    "1.29": "networking.istio.io/v1/ServiceEntry",
    "1.31": "networking.istio.io/v1/ServiceEntry",
}
# What istiod misses unless a label changes with it (docs/decisions/0006): that the last endpoint goes, that of two at
# one address the first or the second goes, and whatever else changes of one whose address stays.
MISS_THE_LAST: frozenset[Version] = frozenset({"1.21", "1.24", "1.26", "1.29"})
MISS_THE_FIRST = MISS_THE_LAST
MISS_THE_SECOND: frozenset[Version] = frozenset({"1.21"})
MISS_ALL_BUT_ADDRESSES = MISS_THE_SECOND
SOURCE = "reg"
ONE, TWO, THREE = "10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.3:8080"
# Another process where ONE is.
NEIGHBOUR = "10.0.0.1:8081"
# One update of the endpoints of one service, as istiod counts it.
ONE_UPDATE = Counter({"config": 1, "eds": 1})
# A sidecar as it is injected: with a listener at each address, and with names that it answers for.
INJECTED = xds_pb2.Node(id="sidecar~127.0.0.1~vm2.default~default.svc.cluster.local")
INJECTED.metadata.update({"NAMESPACE": "default", "INTERCEPTION_MODE": "REDIRECT", "DNS_CAPTURE": "true"})
WATCHED = (
    "type.googleapis.com/envoy.config.listener.v3.Listener",
    "type.googleapis.com/istio.networking.nds.v1.NameTable",
)


class Mesh:
    """A catalogue that is published, one istiod that reads it through a proxy, and an Envoy of that istiod."""

    def __init__(self, version: Version, served: Served, proxy: Proxy, istiod: Istiod, envoy: Envoy) -> None:
        self.version = version
        self.served = served
        self.proxy = proxy
        self.istiod = istiod
        self.envoy = envoy
        self.catalog = Catalog()
        self.catalog.add_source(Policy(SOURCE), required=True, now=0.0)
        self._generation = self.catalog.connect(SOURCE, 0.0)
        self._ports: dict[str, int] = {}
        self._elsewhere = itertools.cycle([ONE, TWO])

    def change(self, name: str, *places: str, protocol: ServiceProtocol = "HTTP", port: int = 0) -> list[Change]:
        """Say that the service `NAME.reg` is at these places, in this order; return what is to be published."""
        # Without iptables Envoy binds 127.0.0.1:<service port>.
        number = self._ports.setdefault(name, port or free_port())
        endpoints = tuple(map(endpoint_at, places))
        host = f"{name}.reg"
        service = Service(host, host, SOURCE, host, (Port(number, "main", protocol),), endpoints)
        self.catalog.put(SOURCE, self._generation, service, 0.0)
        return self.catalog.take_changes()

    async def has(self, name: str, *places: str) -> None:
        """Publish that a service is at these places, and wait until Envoy would send requests to just these."""
        assert self.served.take(self.change(name, *places))
        await self.until_endpoints(name, *places)

    async def has_unlabelled(self, name: str, *places: str) -> None:
        """Publish the same without any label, and wait until whatever istiod makes of it is at Envoy."""
        (change,) = self.change(name, *places)
        assert change.entry is not None
        assert self.served.take([change._replace(entry=replace(change.entry, labels=()))])
        await self.later()

    async def later(self) -> None:
        """Wait until whatever istiod makes of what was published is at Envoy: what comes after it comes later."""
        await self.has("later", next(self._elsewhere))

    async def until_endpoints(self, name: str, *places: str) -> None:
        """Wait until Envoy would send requests to just these."""
        await wait_for_async(
            lambda: self.endpoints(name) == set(places), TIMEOUT, f"Envoy of {self.version} with {places or 'nobody'}"
        )

    def endpoints(self, name: str) -> set[str]:
        """Return where Envoy would send requests to."""
        return self.envoy.endpoints(f"{name}.reg")

    def inbound(self) -> Counter[str]:
        """Return what istiod took for news so far, by kind."""
        news: Counter[str] = Counter()
        for line in self.istiod.metrics().splitlines():
            if line.startswith("pilot_inbound_updates{"):
                labels, _, value = line.rpartition(" ")
                news[labels.partition('type="')[2].partition('"')[0]] += int(float(value))
        return news

    def versions(self) -> dict[str, str]:
        """Return the version of each resource that istiod holds."""
        return {name: held["metadata"]["resourceVersion"] for name, held in self.istiod.service_entries().items()}

    def published(self) -> dict[str, str]:
        """Return the version of each resource that is published."""
        return self.served.publication.expected(Door().view_of({}))


def endpoint_at(place: str) -> Endpoint:
    """Return an endpoint at `ADDRESS:PORT`."""
    address, _, port = place.partition(":")
    return Endpoint(WorkloadEntry(address, (("main", int(port)),)))


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=ASKED_FOR)
async def mesh(
    request: pytest.FixtureRequest, parts: Parts, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Mesh]:
    """Give one istiod of each version, which all tests share: each has services of its own."""
    version: Version = request.param
    parts.need(f"istiod-{version}", "envoy")
    directory = tmp_path_factory.mktemp(f"istiod-{version}")
    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(serving(drain_seconds=0.0))
        host, _, port = served.address.rpartition(":")
        proxy = await stack.enter_async_context(proxy_to(host, int(port)))
        istiod = Istiod(directory / "istiod", [proxy.address], version=version)
        await asyncio.to_thread(istiod.start)
        stack.callback(istiod.end)
        envoy = Envoy(directory / "envoy", istiod.xds_port)
        await asyncio.to_thread(envoy.start)
        stack.callback(envoy.end)
        mesh = Mesh(version, served, proxy, istiod, envoy)
        # As a new service it would have istiod send all it has, also what it missed.
        await mesh.later()
        yield mesh


async def test_X65_istiod_takes_our_resources_under_the_type_that_it_asks_for(mesh: Mesh) -> None:
    await mesh.has("taken", TWO, ONE)
    (stream,) = mesh.served.hub.streams.values()
    assert stream.session.watches.keys() & set(SERVICE_ENTRY_URLS) == {ASKED_FOR[mesh.version]}
    held = mesh.istiod.service_entries()["reg/taken.reg"]
    assert held["metadata"]["resourceVersion"] == mesh.published()["reg/taken.reg"]
    assert [endpoint["address"] for endpoint in held["spec"]["endpoints"]] == ["10.0.0.1", "10.0.0.2"]


async def test_the_last_endpoint_leaves_Envoy_and_comes_back(mesh: Mesh) -> None:
    await mesh.has("empty", ONE)
    await mesh.has("empty")
    assert mesh.istiod.service_entries()["reg/empty.reg"]["metadata"]["labels"] == dict([EMPTY_LABEL])
    # The same one again, and another.
    await mesh.has("empty", ONE)
    await mesh.has("empty")
    await mesh.has("empty", TWO)


async def test_only_old_istiods_need_a_label_to_see_the_last_endpoint_go(mesh: Mesh) -> None:
    await mesh.has("lost", ONE)
    await mesh.has_unlabelled("lost")
    assert mesh.endpoints("lost") == ({ONE} if mesh.version in MISS_THE_LAST else set())
    # What istiod stored tells nothing of it.
    assert "endpoints" not in mesh.istiod.service_entries()["reg/lost.reg"]["spec"]


async def test_an_endpoint_can_come_back_at_another_port(mesh: Mesh) -> None:
    await mesh.has("restarted", ONE)
    assert mesh.served.take(mesh.change("restarted", NEIGHBOUR))
    await mesh.later()
    assert mesh.endpoints("restarted") == {ONE if mesh.version in MISS_ALL_BUT_ADDRESSES else NEIGHBOUR}
    # With an address that comes or goes all is told.
    await mesh.has("restarted", NEIGHBOUR, TWO)


@pytest.mark.parametrize("stays", [ONE, NEIGHBOUR], ids=["first", "second"])
async def test_either_of_two_endpoints_at_one_address_can_leave(mesh: Mesh, stays: str) -> None:
    await mesh.has("shared", ONE, NEIGHBOUR)
    await mesh.has("shared", stays)


@pytest.mark.parametrize(
    ("stays", "missed_by"), [(ONE, MISS_THE_SECOND), (NEIGHBOUR, MISS_THE_FIRST)], ids=["first", "second"]
)
async def test_only_old_istiods_need_a_label_to_see_one_of_two_at_an_address_go(
    mesh: Mesh, stays: str, missed_by: frozenset[Version]
) -> None:
    await mesh.has_unlabelled("unseen", ONE, NEIGHBOUR)
    await mesh.until_endpoints("unseen", ONE, NEIGHBOUR)
    await mesh.has_unlabelled("unseen", stays)
    assert mesh.endpoints("unseen") == ({ONE, NEIGHBOUR} if mesh.version in missed_by else {stays})


async def test_a_host_is_found_at_the_address_that_the_catalogue_gave_it(mesh: Mesh) -> None:
    # Two TCP services at one port: without addresses of their own they would have one listener.
    shared = free_port()
    for name in ("ours", "theirs"):
        assert mesh.served.take(mesh.change(name, ONE, protocol="TCP", port=shared))
    given = [mesh.catalog.entries[f"reg/{name}.reg"].addresses for name in ("ours", "theirs")]
    async with injected_sidecar(mesh.istiod) as sidecar:

        def names() -> bool:
            table = sidecar.names()
            return [tuple(table.get(f"{name}.reg", ())) for name in ("ours", "theirs")] == given

        await wait_for_async(names, TIMEOUT, f"names at {given}")
        listeners = {f"{address}_{shared}" for (address,) in given}
        await wait_for_async(lambda: sidecar.listeners() >= listeners, TIMEOUT, f"listeners at {given}")
        assert f"0.0.0.0_{shared}" not in sidecar.listeners()


async def test_another_order_of_the_same_endpoints_is_no_news(mesh: Mesh) -> None:
    await mesh.has("ordered", ONE, TWO, THREE)
    before = mesh.inbound()
    assert not mesh.served.take(mesh.change("ordered", THREE, ONE, TWO))
    await mesh.later()
    assert mesh.inbound() - before == ONE_UPDATE


async def test_X58_a_reconnect_to_the_same_data_is_no_news(mesh: Mesh) -> None:
    await mesh.has("kept", ONE, TWO)
    before, versions, pushes = mesh.inbound(), mesh.versions(), len(mesh.served.hub.pushes)
    (former,) = mesh.served.hub.streams

    mesh.proxy.cut()
    await wait_for_async(lambda: former not in mesh.served.hub.streams, TIMEOUT, "the end of the stream")
    mesh.proxy.heal()
    await wait_for_async(lambda: in_step(mesh), TIMEOUT, "an istiod that is back and has acknowledged all")

    assert ASKED_FOR[mesh.version] in [push.type_url for push in list(mesh.served.hub.pushes)[pushes:]]
    assert mesh.versions() == versions
    await mesh.later()
    assert mesh.inbound() - before == ONE_UPDATE


def in_step(mesh: Mesh) -> bool:
    """Tell whether istiod has acknowledged all ServiceEntries on its stream."""
    for stream in mesh.served.hub.streams.values():
        watch = stream.session.watches.get(ASKED_FOR[mesh.version])
        if watch is not None and watch.acked_version is not None:
            return not stream.session.behind(watch)
    return False


class InjectedSidecar:
    """A sidecar that istiod knows; what it makes for it is read from istiod's own pages."""

    def __init__(self, istiod: Istiod) -> None:
        self._istiod = istiod

    def names(self) -> dict[str, list[str]]:
        """Return the addresses of each host that the sidecar's DNS would answer for."""
        page = self._istiod.debug("ndsz?proxyID=vm2.default")
        # The second form since 1.26; there without a word of it before the sidecar was sent any.
        tables = [page["resource"]] if "resource" in page else page.get("configs", [])
        return {host: row["ips"] for table in tables for host, row in table.get("table", {}).items()}

    def listeners(self) -> set[str]:
        """Return the names of all listeners, ADDRESS_PORT for most."""
        page = self._istiod.debug("config_dump?proxyID=vm2.default")
        (dump,) = [config for config in page["configs"] if config["@type"].endswith(".ListenersConfigDump")]
        return {listener["name"] for listener in dump["dynamicListeners"]}


@asynccontextmanager
async def injected_sidecar(istiod: Istiod) -> AsyncIterator[InjectedSidecar]:
    """Give a sidecar with iptables, of which only the stream has to be real for istiod to make all of it."""
    async with connect(istiod.xds_address) as channel:
        stream = open_stream(channel, SOTW)
        for type_url in WATCHED:
            await stream.ask(type_url, node=INJECTED)
            async with asyncio.timeout(TIMEOUT):
                assert isinstance(await stream.call.read(), bytes)
        yield InjectedSidecar(istiod)
        stream.call.cancel()
