"""The rig's Consul: real servers in each of their ways, and real clients of theirs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.rig import http as web
from tests.rig.certificates import ClientCertificates
from tests.rig.consul_records import service_name
from tests.rig.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.rig.consul import Consul, ConsulPair
    from tests.rig.consul_spring import ConsulSpringClient
    from tests.rig.py_consul import PyConsulClient

SEEN_WITHIN_S = 60.0
READS_ALL = 'service_prefix "" { policy = "read" } node_prefix "" { policy = "read" }'
READS_ONE = 'service "seen" { policy = "read" } node_prefix "" { policy = "read" }'
FILTERED = "X-Consul-Results-Filtered-By-Acls"


def wait_for_status(server: Consul, service: str, instance_id: str, status: str | None) -> None:
    """Wait until the catalog has the status; None: until the instance is gone."""
    wait_for(lambda: server.statuses(service).get(instance_id) == status, SEEN_WITHIN_S, f"{instance_id} {status}")


def test_what_an_agent_is_told_gets_into_the_catalog(consul: Consul) -> None:
    assert consul.version().startswith("1.22.")
    consul.register(
        "rig-told", "a", tags=["zone=z1"], meta={"version": "v1"}, weights=(7, 3), tagged={"wan": ("8.8.8.8", 9)}
    )
    wait_for_status(consul, "rig-told", "a", "passing")
    assert consul.services()["rig-told"] == ["zone=z1"]
    [entry] = consul.ask("GET", "health/service/rig-told").json()
    service = entry["Service"]
    assert (service["Address"], service["Port"], service["Meta"]) == ("10.20.0.1", 8080, {"version": "v1"})
    assert service["Weights"] == {"Passing": 7, "Warning": 3}
    assert service["TaggedAddresses"]["wan"] == {"Address": "8.8.8.8", "Port": 9}

    consul.set_check("a", "warning", "so so")
    wait_for_status(consul, "rig-told", "a", "warning")
    consul.set_check("a", "passing")
    wait_for_status(consul, "rig-told", "a", "passing")
    consul.set_maintenance("a", on=True, reason="new disks")
    wait_for_status(consul, "rig-told", "a", "critical")
    consul.set_maintenance("a", on=False)
    wait_for_status(consul, "rig-told", "a", "passing")
    consul.deregister("a")
    wait_for_status(consul, "rig-told", "a", None)


def test_maintenance_of_a_node_is_that_of_its_services(consul_server: Callable[..., Consul]) -> None:
    server = consul_server(dev=True, datacenter="east")
    server.register("told", "a")
    wait_for_status(server, "told", "a", "passing")
    server.set_node_maintenance(on=True)
    wait_for_status(server, "told", "a", "critical")
    server.set_node_maintenance(on=False)
    wait_for_status(server, "told", "a", "passing")
    assert server.ask("GET", "catalog/datacenters").json() == ["east"]


def test_the_catalog_takes_nodes_without_an_agent(consul: Consul) -> None:
    consul.put_node("rig-node", "10.1.1.1", meta={"rack": "r1"}, status="passing")
    consul.put("rig-node", "rig-put", "a", address="", status=None)
    consul.put("rig-node", "rig-put", "b", status="critical")
    assert consul.statuses("rig-put") == {"a": "passing", "b": "critical"}
    consul.put_node("rig-node", "10.1.1.2", status="critical")
    assert consul.statuses("rig-put") == {"a": "critical", "b": "critical"}
    entries = consul.ask("GET", "health/service/rig-put").json()
    assert {entry["Node"]["Address"] for entry in entries} == {"10.1.1.2"}
    consul.remove("rig-node", "b")
    assert set(consul.statuses("rig-put")) == {"a"}
    consul.remove("rig-node")
    assert consul.statuses("rig-put") == {}


def test_many_are_written(consul_server: Callable[..., Consul]) -> None:
    server = consul_server(dev=True)
    server.fill(services=20, instances=5, nodes=10)
    assert len(server.services()) == 21  # Consul's own among them
    assert list(server.statuses(service_name(7)).values()) == ["passing"] * 5
    assert len(server.ask("GET", "catalog/nodes").json()) == 11
    entries = server.ask("GET", "health/state/any").json()
    assert len({entry["ServiceID"] for entry in entries if entry["ServiceID"]}) == 100


def test_a_server_keeps_what_it_knows_and_can_lose_it(consul_server: Callable[..., Consul]) -> None:
    server = consul_server()
    server.put_node("node", "10.1.1.1")
    server.put("node", "kept", "a")
    server.kill()
    server.restart()
    assert server.statuses("kept") == {"a": "passing"}
    server.kill()
    server.restart(empty=True)
    assert set(server.services()) == {"consul"}


def test_a_snapshot_brings_back_what_was(consul_server: Callable[..., Consul]) -> None:
    server = consul_server(dev=True)
    server.put_node("node", "10.1.1.1")
    server.put("node", "early", "a")
    snapshot = server.snapshot()
    server.remove("node", "a")
    server.put("node", "late", "b")
    server.restore(snapshot)
    assert set(server.services()) == {"consul", "early"}


def test_with_ACLs_a_token_sees_what_it_may(consul_server: Callable[..., Consul]) -> None:
    server = consul_server(dev=True, token="rig-token")
    server.put_node("node", "10.1.1.1")
    server.put("node", "seen", "a")
    server.put("node", "hidden", "b")
    everything, one = server.create_token(READS_ALL), server.create_token(READS_ONE)
    assert set(server.ask("GET", "catalog/services", token=everything).json()) == {"consul", "hidden", "seen"}
    answer = server.ask("GET", "catalog/services", token=one)
    assert set(answer.json()) == {"seen"}
    assert answer.headers[FILTERED] == "true"
    answer = server.ask("GET", "catalog/services", token="")
    assert answer.json() == {}
    assert FILTERED not in answer.headers
    server.delete_token(one)
    assert server.ask("GET", "catalog/services", token=one).status == 403


def test_TLS_takes_only_clients_with_a_certificate(
    consul_server: Callable[..., Consul], py_consul_client: Callable[..., PyConsulClient], tmp_path: Path
) -> None:
    server = consul_server(dev=True, certificates=ClientCertificates(tmp_path / "certificates"))
    assert server.url.startswith("https://")
    client = py_consul_client(server)
    wait_for_status(server, "shop", client.instance_id, "passing")
    assert web.get(f"http://{server.address}/v1/status/leader")[0] == 400


def test_without_the_other_there_is_no_leader(consul_pair: ConsulPair) -> None:
    leader, other = consul_pair.leader_first()
    leader.put_node("node", "10.1.1.1")
    leader.put("node", "kept", "a")
    wait_for(lambda: "kept" in other.ask("GET", "catalog/services?stale").json(), SEEN_WITHIN_S, "a copy")
    leader.kill()
    wait_for(lambda: not other.leader(), SEEN_WITHIN_S, "end of the leader's lease")
    answer = other.ask("GET", "catalog/services")
    assert (answer.status, answer.body) == (500, b"No cluster leader")
    answer = other.ask("GET", "catalog/services?stale")
    assert set(answer.json()) == {"consul", "kept"}
    assert answer.headers["X-Consul-Knownleader"] == "false"
    leader.launch()
    wait_for(other.ready, SEEN_WITHIN_S, "a leader")


def test_a_service_registers_answers_and_takes_its_registration_back(
    consul: Consul, spring_consul_client: Callable[..., ConsulSpringClient]
) -> None:
    service = spring_consul_client(consul, "rig-orders", tags=["blue"], metadata={"version": "v1"})
    [entry] = consul.ask("GET", "health/service/rig-orders").json()
    assert (entry["Service"]["Address"], entry["Service"]["Port"]) == (service.host, service.port)
    assert entry["Service"]["Meta"].items() >= {"version": "v1"}.items()
    assert "blue" in entry["Service"]["Tags"]
    assert web.get(f"http://{service.address}/greet/anna") == (200, service.greeting("anna"))
    service.stop()
    wait_for_status(consul, "rig-orders", service.instance_id, None)


def test_a_killed_service_gets_critical(
    consul: Consul,
    spring_consul_client: Callable[..., ConsulSpringClient],
    py_consul_client: Callable[..., PyConsulClient],
) -> None:
    spring = spring_consul_client(consul, "rig-killed", heartbeat_s=2)
    python = py_consul_client(consul, "rig-killed")
    wait_for_status(consul, "rig-killed", python.instance_id, "passing")
    for client in (spring, python):
        client.kill()
        wait_for_status(consul, "rig-killed", client.instance_id, "critical")


def test_a_python_client_says_what_it_is_and_takes_its_registration_back(
    consul: Consul, py_consul_client: Callable[..., PyConsulClient]
) -> None:
    client = py_consul_client(consul, "rig-python", tags=["blue"], meta={"version": "v1"})
    wait_for_status(consul, "rig-python", client.instance_id, "passing")
    assert consul.services()["rig-python"] == ["blue"]
    client.set_status("warning")
    wait_for_status(consul, "rig-python", client.instance_id, "warning")
    client.stop()
    wait_for_status(consul, "rig-python", client.instance_id, None)


def test_a_python_client_registers_again_with_a_server_that_lost_it(
    consul_server: Callable[..., Consul], py_consul_client: Callable[..., PyConsulClient]
) -> None:
    server = consul_server(dev=True)
    client = py_consul_client(server)
    server.kill()
    server.restart()
    wait_for_status(server, "shop", client.instance_id, "passing")


def test_the_command_line_registers_from_a_file(consul_server: Callable[..., Consul], tmp_path: Path) -> None:
    server = consul_server(dev=True, token="rig-token")
    file = tmp_path / "service.json"
    file.write_text(json.dumps({"service": {"name": "written", "id": "a", "address": "10.20.0.7", "port": 80}}))
    server.run_command("services", "register", str(file))
    wait_for_status(server, "written", "a", "passing")
    server.run_command("services", "deregister", "-id=a")
    wait_for_status(server, "written", "a", None)
