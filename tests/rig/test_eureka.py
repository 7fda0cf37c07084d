"""The rig's Eureka: real servers in each of their ways, and a real Spring Cloud service."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.rig import http as web
from tests.rig.certificates import Certificates
from tests.rig.eureka import Instance, app_name
from tests.rig.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.rig.eureka import Eureka
    from tests.rig.spring import SpringClient

SEEN_WITHIN_S = 60.0
NEVER = "1000000000000"


def test_what_is_written_is_read_at_once(eureka: Eureka) -> None:
    eureka.register("rig-written", "a:1", secure_port=8443, metadata={"zone": "z1"})
    record = eureka.instance("rig-written", "a:1")
    assert record is not None
    assert record["app"] == "RIG-WRITTEN"
    assert record["metadata"] == {"zone": "z1"}
    assert record["securePort"] == {"$": 8443, "@enabled": "true"}
    assert eureka.statuses("rig-written") == {"a:1": "UP"}

    assert eureka.override("rig-written", "a:1")
    assert eureka.heartbeat("rig-written", "a:1")
    assert eureka.statuses("rig-written") == {"a:1": "OUT_OF_SERVICE"}
    assert eureka.end_override("rig-written", "a:1")
    assert eureka.statuses("rig-written") == {"a:1": "UP"}

    assert eureka.cancel("rig-written", "a:1")
    assert eureka.statuses("rig-written") == {}
    assert not eureka.heartbeat("rig-written", "a:1")
    assert not eureka.cancel("rig-written", "a:1")
    changes = eureka.page("apps/delta")["applications"]["application"]
    [app] = [app for app in changes if app["name"] == "RIG-WRITTEN"]
    assert [instance["actionType"] for instance in app["instance"]] == ["DELETED"]


def test_many_are_registered(eureka_server: Callable[..., Eureka]) -> None:
    server = eureka_server()
    server.fill(apps=20, instances=5)
    apps = server.page("apps")["applications"]["application"]
    assert {app["name"]: len(app["instance"]) for app in apps} == {app_name(index): 5 for index in range(20)}
    assert len({instance["ipAddr"] for app in apps for instance in app["instance"]}) == 100


def test_a_service_registers_answers_and_takes_its_registration_back(
    eureka: Eureka, spring_client: Callable[..., SpringClient]
) -> None:
    service = spring_client(eureka.spring_address, "rig-orders", metadata={"istio.rev": "1-18"}, zone="z1")
    record = eureka.instance("rig-orders", service.instance_id)
    assert record is not None
    assert (record["ipAddr"], record["port"]["$"]) == (service.ip, service.port)
    assert record["metadata"].items() >= {"istio.rev": "1-18", "zone": "z1"}.items()
    assert web.get(f"http://{service.address}/greet/anna") == (200, service.greeting("anna"))
    service.stop()
    assert eureka.statuses("rig-orders") == {}


def test_a_killed_service_is_registered_until_its_lease_ends(
    eureka: Eureka, spring_client: Callable[..., SpringClient]
) -> None:
    service = spring_client(eureka.spring_address, "rig-killed")
    service.kill()
    assert eureka.statuses("rig-killed")
    wait_for(lambda: not eureka.statuses("rig-killed"), SEEN_WITHIN_S, "end of the service's lease")


def test_a_restarted_server_is_empty_until_services_register_anew(
    eureka_server: Callable[..., Eureka], spring_client: Callable[..., SpringClient]
) -> None:
    server = eureka_server()
    service = spring_client(server.spring_address)
    server.register("written", "once")
    server.kill()
    server.start()
    assert server.instance("written", "once") is None
    wait_for(lambda: server.instance("shop", service.instance_id), SEEN_WITHIN_S, "the service's registration")


def test_a_server_in_self_preservation_keeps_what_is_not_heard_of(eureka_server: Callable[..., Eureka]) -> None:
    server = eureka_server(self_preservation=True)
    server.register("silent", "one", lease_s=1)
    before = server.lease_rounds()
    wait_for(lambda: server.lease_rounds() > before + 3, SEEN_WITHIN_S, "some rounds of evictions")
    assert not server.leases_end()
    assert server.instance("silent", "one")


def test_a_server_without_it_ends_leases(eureka: Eureka) -> None:
    assert eureka.leases_end()
    eureka.register("rig-silent", "one", lease_s=1)
    wait_for(lambda: not eureka.instance("rig-silent", "one"), SEEN_WITHIN_S, "end of the lease")


def test_a_server_of_the_defaults_answers_from_a_cache(eureka_server: Callable[..., Eureka]) -> None:
    # The interval is longer than Spring's 30 s, or the cache could be updated just between two lines of this test.
    server = eureka_server(profile="defaults", properties={"eureka.server.response-cache-update-interval-ms": NEVER})
    assert server.page("apps")["applications"]["application"] == []
    server.register("late", "one")
    assert server.instance("late", "one")
    assert server.page("apps")["applications"]["application"] == []


def test_delta_can_be_forbidden(eureka_server: Callable[..., Eureka]) -> None:
    server = eureka_server(delta=False)
    assert server.page("apps")
    with pytest.raises(ConnectionError, match="status 403"):
        server.page("apps/delta")


def test_a_warming_server_forbids_all(eureka_server: Callable[..., Eureka]) -> None:
    server = eureka_server(warm_up_s=3600)
    with pytest.raises(ConnectionError, match="status 403"):
        server.page("apps")


def test_credentials_are_asked_for(
    eureka_server: Callable[..., Eureka], spring_client: Callable[..., SpringClient]
) -> None:
    server = eureka_server(credentials=("anna", "p@ss/word"))
    assert web.get(f"{server.address}/apps")[0] == 401
    service = spring_client(server.spring_address)
    assert server.statuses("shop") == {service.instance_id: "UP"}


def test_TLS_is_the_servers_own(eureka_server: Callable[..., Eureka], tmp_path: Path) -> None:
    server = eureka_server(certificates=Certificates(tmp_path / "certificates"))
    server.register("secret", "one")
    assert server.address.startswith("https://")
    assert server.statuses("secret") == {"one": "UP"}
    assert web.get(f"http://127.0.0.1:{server.port}/eureka/apps")[0] == 400


def test_peers_replicate_and_copy_at_the_start(eureka_pair: tuple[Eureka, Eureka]) -> None:
    one, other = eureka_pair
    one.register_all([Instance("shared", "a"), Instance("shared", "b")])
    wait_for(lambda: len(other.statuses("shared")) == 2, SEEN_WITHIN_S, "replication")
    one.kill()
    one.start()
    assert len(one.statuses("shared")) == 2
    other.cancel("shared", "a")
    wait_for(lambda: one.statuses("shared") == {"b": "UP"}, SEEN_WITHIN_S, "replication back")


def test_requests_are_counted_but_for_the_rigs_own(eureka_server: Callable[..., Eureka]) -> None:
    server = eureka_server()
    server.register("counted", "one")
    assert server.requests() == []
    web.get(f"{server.address}/apps?regions=", {"User-Agent": "a test"})
    [request] = wait_for(server.requests, SEEN_WITHIN_S, "the request in the log")
    assert request[1:] == (200, "GET", "/eureka/apps?regions=", "a test")
