"""From a real registration in a real ZooKeeper to a request through a real Envoy that a real istiod configures."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from tests.rig import http as web
from tests.rig.adsprobe import AdsProbe
from tests.rig.dubbo import GREETING, ORDER
from tests.rig.process import free_port, own_address
from tests.rig.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kazoo.client import KazooClient

    from tests.conftest import Parts
    from tests.rig.adsprobe import Version as ProbeVersion
    from tests.rig.bridge import Bridge
    from tests.rig.dubbo import Dubbo, DubboConsumer, DubboProvider
    from tests.rig.envoy import Envoy
    from tests.rig.istiod import Istiod, Version
    from tests.rig.zookeeper import ZooKeeper

TIMEOUT = 120.0
# istiod pushes 100 ms after a change, on a busy machine later.
QUIET_S = 2.0
HOST = "rig.greetingservice.dubbo"
NAME = f"dubbo/{HOST}"
SERVICE_ENTRY = "networking.istio.io/v1/ServiceEntry"


class Mesh:
    """A bridge on a ZooKeeper, an istiod on the bridge, an Envoy on istiod."""

    def __init__(self, bridge: Bridge, istiod: Istiod, envoy: Envoy, port: int) -> None:
        self.bridge = bridge
        self.istiod = istiod
        self.envoy = envoy
        self.port = port

    def until_endpoints(self, *expected: str) -> None:
        """Wait until Envoy would send requests to just these addresses."""
        wait_for(lambda: self.envoy.endpoints(HOST) == set(expected), TIMEOUT, f"Envoy with {expected or 'nobody'}")

    def pushes(self) -> float:
        """Return how often istiod found a reason to push."""
        lines = [line for line in self.istiod.metrics().splitlines() if line.startswith("pilot_push_triggers")]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def settled_pushes(self) -> float:
        """Return the number of pushes once it has not grown for many times istiod's debounce."""
        seen, since = self.pushes(), time.monotonic()

        def settled() -> bool:
            nonlocal seen, since
            if (pushes := self.pushes()) != seen:
                seen, since = pushes, time.monotonic()
            return time.monotonic() - since >= QUIET_S

        wait_for(settled, TIMEOUT, "istiod to come to rest")
        return seen

    def hosts(self) -> set[str]:
        """Return the hosts that Envoy has a cluster for."""
        names = [cluster["name"] for cluster in self.envoy.admin("clusters?format=json").get("cluster_statuses", [])]
        return {name.rpartition("|")[2] for name in names if name.startswith("outbound|")}


def zookeeper_source(zookeeper: ZooKeeper, port: int) -> dict[str, Any]:
    # Without iptables Envoy binds 127.0.0.1:<service port>: it must be one that is free here.
    protocols = {
        "dubbo": {"port": port, "protocol": "TCP", "suffix": "dubbo"},
        "tri": {"port": free_port(), "protocol": "GRPC", "suffix": "tri"},
    }
    return {
        "name": "zk",
        "kind": "zookeeper",
        "address": zookeeper.address,
        "namespace": "dubbo",
        # Dubbo 3 registers its application, too, whose service would have the same port.
        "applications": "",
        "protocols": protocols,
    }


def create_root(zookeeper: ZooKeeper) -> None:
    """Create the node that Dubbo registers under: without it the registry is not taken for an empty one (G1)."""
    with zookeeper.client() as client:
        client.ensure_path("/dubbo")


@pytest.fixture(params=["1.31", "1.29"])
def mesh(
    request: pytest.FixtureRequest,
    zookeeper: ZooKeeper,
    bridge: Callable[..., Bridge],
    istiod: Callable[..., Istiod],
    envoy: Callable[..., Envoy],
) -> Mesh:
    version: Version = request.param
    port = free_port()
    create_root(zookeeper)
    started = bridge([zookeeper_source(zookeeper, port)])
    control = istiod([started.address], version=version)
    return Mesh(started, control, envoy(control.xds_port), port)


@pytest.mark.parametrize("version", ["3", "2.7"])
def test_a_provider_is_called_through_the_mesh_and_leaves_it_with_its_registration(
    version: Dubbo,
    mesh: Mesh,
    zookeeper: ZooKeeper,
    dubbo: Callable[..., DubboProvider],
    consumer: DubboConsumer,
) -> None:
    url = f"zookeeper://{zookeeper.address}"
    one = dubbo(url, [GREETING], application="one", dubbo=version)
    mesh.until_endpoints(one.address)
    held = mesh.istiod.service_entries()[NAME]
    assert held["spec"]["hosts"] == [HOST]
    assert held["spec"]["endpoints"] == [{"address": one.host, "ports": {"tcp-dubbo": one.port}}]
    assert len(held["spec"]["addresses"]) == 1
    place = f"127.0.0.1:{mesh.port}"
    assert wait_for(lambda: consumer.greet(place, "ann") == one.greeting("ann"), TIMEOUT, "an answer through Envoy")

    other = dubbo(url, [GREETING], application="other", dubbo=version)
    mesh.until_endpoints(one.address, other.address)
    one.stop()
    mesh.until_endpoints(other.address)
    assert consumer.greet(place, "bob") == other.greeting("bob")
    # The step that Istio up to 1.29 loses unless a label changes with it (istio.md finding 15).
    other.stop()
    mesh.until_endpoints()
    assert NAME in mesh.istiod.service_entries()


def test_groups_versions_and_protocols_are_services_of_their_own(
    mesh: Mesh, zookeeper: ZooKeeper, dubbo: Callable[..., DubboProvider]
) -> None:
    url = f"zookeeper://{zookeeper.address}"
    dubbo(url, [GREETING, f"{GREETING}:2.0.0:gray", f"{ORDER}:1.0.0"])
    dubbo(url, [GREETING], application="triple", protocol="tri")
    expected = {NAME, "dubbo/rig.greetingservice.2-0-0.gray.dubbo", "dubbo/rig.orderservice.1-0-0.dubbo"}
    expected.add("dubbo/rig.greetingservice.tri")
    wait_for(lambda: mesh.istiod.service_entries().keys() == expected, TIMEOUT, "all services in istiod")


def test_twenty_changes_in_a_row_each_reach_Envoy(mesh: Mesh, registry: KazooClient) -> None:
    path = f"/dubbo/{GREETING}/providers"
    registry.ensure_path(path)
    present: list[int] = []
    for number in range(20):
        port = 21_000 + number
        registry.create(f"{path}/{provider_node(port)}", ephemeral=True)
        present.append(port)
        if len(present) > 3:
            registry.delete(f"{path}/{provider_node(present.pop(0))}")
        mesh.until_endpoints(*(f"{own_address()}:{one}" for one in present))


@pytest.mark.parametrize("leaver", [0, 1], ids=["lower", "higher"])
def test_either_of_two_providers_on_one_address_can_leave(mesh: Mesh, registry: KazooClient, leaver: int) -> None:
    path = f"/dubbo/{GREETING}/providers"
    registry.ensure_path(path)
    ports = [21_000, 21_001]
    for port in ports:
        registry.create(f"{path}/{provider_node(port)}")
    mesh.until_endpoints(*(f"{own_address()}:{port}" for port in ports))
    registry.delete(f"{path}/{provider_node(ports[leaver])}")
    mesh.until_endpoints(f"{own_address()}:{ports[1 - leaver]}")


def test_a_bridge_that_is_killed_and_restarted_is_not_noticed(
    mesh: Mesh, registry: KazooClient, tmp_path: Path, running: Callable[[AdsProbe], AdsProbe], parts: Parts
) -> None:
    path = f"/dubbo/{GREETING}/providers"
    registry.ensure_path(path)
    for port in range(21_000, 21_005):
        registry.create(f"{path}/{provider_node(port)}", ephemeral=True)
    for number in range(50):
        registry.create(f"/dubbo/a.B{number}/providers/{provider_node(21_000)}", makepath=True)
    parts.need("adsprobe-1.31")
    probe = running(AdsProbe(tmp_path / "probe", mesh.bridge.address))
    wait_for(lambda: len(probe.held()) == 51, TIMEOUT, "the probe to hold all")
    wait_for(lambda: len(mesh.istiod.service_entries()) == 51, TIMEOUT, "istiod to hold all")
    wait_for(lambda: len(mesh.hosts()) == 51, TIMEOUT, "Envoy to hold all")
    endpoints = {f"{own_address()}:{port}" for port in range(21_000, 21_005)}
    mesh.until_endpoints(*endpoints)
    wait_for(lambda: in_step(mesh.bridge, 2), TIMEOUT, "both clients to have acknowledged all")
    versions = held_versions(mesh.istiod)
    before, pushes = len(probe.events("add", "update", "remove")), mesh.settled_pushes()

    mesh.bridge.kill()
    assert mesh.envoy.endpoints(HOST) == endpoints
    mesh.bridge.start()
    wait_for(lambda: in_step(mesh.bridge, 2), TIMEOUT, "both clients to have come back and acknowledged all")

    assert probe.events("add", "update", "remove")[before:] == []
    assert held_versions(mesh.istiod) == versions
    assert mesh.settled_pushes() == pushes
    assert mesh.envoy.endpoints(HOST) == endpoints
    # It is not deaf either.
    registry.create(f"{path}/{provider_node(21_005)}", ephemeral=True)
    mesh.until_endpoints(*endpoints, f"{own_address()}:21005")


def test_istiod_waits_while_a_source_was_never_read(
    zookeeper: ZooKeeper, bridge: Callable[..., Bridge], tmp_path: Path, parts: Parts
) -> None:
    create_root(zookeeper)
    zookeeper.stop()
    parts.need("adsprobe-1.31")
    from tests.rig.bridge import Bridge as BridgeProcess

    waiting = BridgeProcess(tmp_path / "isthmus", [zookeeper_source(zookeeper, free_port())])
    waiting.launch()
    try:
        wait_for(waiting.live, TIMEOUT, "the bridge to answer")
        with AdsProbeLaunched(tmp_path / "probe", waiting.address) as probe:
            wait_for(lambda: len(answered(probe)) == 13, TIMEOUT, "the other types to be answered")
            status, reasons = web.get(f"http://{waiting.debug_address}/healthz/ready")
            assert status == 503
            assert "zk" in reasons
            assert not answered(probe) & {SERVICE_ENTRY, SERVICE_ENTRY.replace("ServiceEntry", "WorkloadEntry")}
            zookeeper.start()
            wait_for(probe.ready, TIMEOUT, "the probe to be in sync")
            wait_for(waiting.ready, TIMEOUT, "the bridge to be ready")
    finally:
        waiting.end()


@pytest.mark.parametrize("version", ["1.31", "1.21"])
def test_istiods_own_client_takes_and_loses_what_the_registry_has_and_loses(
    version: ProbeVersion,
    zookeeper: ZooKeeper,
    registry: KazooClient,
    bridge: Callable[..., Bridge],
    tmp_path: Path,
    running: Callable[[AdsProbe], AdsProbe],
    parts: Parts,
) -> None:
    # 1.21 asks for v1alpha3, 1.31 for v1 (X65).
    parts.need(f"adsprobe-{version}")
    create_root(zookeeper)
    started = bridge([zookeeper_source(zookeeper, free_port())])
    probe = running(AdsProbe(tmp_path / "probe", started.address, version=version))
    path = f"/dubbo/{GREETING}/providers"
    registry.ensure_path(path)
    registry.create(f"{path}/{provider_node(21_000)}")
    wait_for(lambda: NAME in probe.held(), TIMEOUT, "the service in the client's store")
    assert probe.held()[NAME]["created"].startswith("2100-01-01")
    registry.delete(f"/dubbo/{GREETING}", recursive=True)
    wait_for(lambda: NAME not in probe.held(), TIMEOUT, "the service gone from the client's store")
    assert probe.events("rejected") == []


class AdsProbeLaunched(AdsProbe):
    """A probe that is not waited for: it cannot be in sync yet."""

    def start(self) -> None:
        self.launch()


def answered(probe: AdsProbe) -> set[str]:
    return {event["type"] for event in probe.events("response")} - {"core/v1alpha1/MeshConfig"}


def provider_node(port: int) -> str:
    """Return a provider's node as Dubbo writes it, at an address that Isthmus publishes."""
    url = f"dubbo://{own_address()}:{port}/{GREETING}?application=shop&interface={GREETING}&side=provider"
    return quote(url, safe="")


def held_versions(istiod: Istiod) -> dict[str, str]:
    return {name: held["metadata"]["resourceVersion"] for name, held in istiod.service_entries().items()}


def in_step(bridge: Bridge, subscribers: int) -> bool:
    """Tell whether this many subscribers have acknowledged the newest ServiceEntries."""
    items = bridge.debug("subscribers")["items"]
    states = [one["types"].get(SERVICE_ENTRY, {}).get("state") for one in items]
    return len(states) == subscribers and set(states) == {"SYNCED"}
