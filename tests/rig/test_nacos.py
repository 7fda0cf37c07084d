"""The Nacos servers and the Nacos clients of the rig itself."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest

from tests.rig.certificates import Certificates
from tests.rig.dubbo import GREETING
from tests.rig.http import get
from tests.rig.nacos import PASSWORD, USER, NacosError
from tests.rig.nacos_writer import Instance, prove_push
from tests.rig.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.rig.dubbo import Dubbo, DubboProvider
    from tests.rig.nacos import Nacos, Version
    from tests.rig.nacos_spring import NacosSpringClient
    from tests.rig.nacos_writer import NacosWriter

# Beats of a 1.x client stop: unhealthy after 15 s, gone after 30 s.
TIMEOUT_S = 90.0
ONE = Instance("192.0.2.1", 80, weight=2.5, metadata={"version": "v1"})
TWO = Instance("192.0.2.2", 80, healthy=False)


@pytest.fixture(params=["2", "3"])
def server(request: pytest.FixtureRequest) -> Nacos:
    """Give the shared server of either version."""
    shared: Nacos = request.getfixturevalue(f"nacos{request.param}")
    return shared


def seen(server: Nacos, namespace: str, service: str) -> set[str]:
    return {host["ip"] for host in server.instances(service, namespace=namespace)}


def test_what_a_client_does_is_pushed_and_ends_with_it(server: Nacos, nacos_writer: Callable[..., NacosWriter]) -> None:
    namespace = server.new_namespace()
    writer = nacos_writer(server, namespace=namespace)
    listener = nacos_writer(server, namespace=namespace)
    listener.subscribe("shop")

    writer.batch("shop", [ONE, TWO])
    push = listener.wait_for_push(lambda push: len(push.instances) == 2)
    assert {(host["ip"], host["healthy"], host["weight"]) for host in push.instances} == {
        (ONE.ip, True, 2.5),
        (TWO.ip, False, 1.0),
    }
    writer.kill()
    listener.wait_for_push(lambda later: later.at > push.at and not later.instances)
    assert server.services(namespace) == {("DEFAULT_GROUP", "shop")}


def test_a_load_of_services_is_registered_by_one_client(
    server: Nacos, nacos_writer: Callable[..., NacosWriter]
) -> None:
    namespace = server.new_namespace()
    nacos_writer(server, namespace=namespace).load("load-", 20, [ONE, TWO], first=100)
    assert server.services(namespace) == {("DEFAULT_GROUP", f"load-{number}") for number in range(100, 120)}
    wait_for(lambda: seen(server, namespace, "load-119") == {ONE.ip, TWO.ip}, TIMEOUT_S, "the last of the load")


def test_what_an_operator_does_shows(server: Nacos, nacos_writer: Callable[..., NacosWriter]) -> None:
    namespace = server.new_namespace()
    nacos_writer(server, namespace=namespace).batch("shop", [ONE, TWO])
    wait_for(lambda: seen(server, namespace, "shop") == {ONE.ip, TWO.ip}, TIMEOUT_S, "both instances")

    def healthy() -> list[bool]:
        return [host["healthy"] for host in server.instances("shop", namespace=namespace)]

    assert sorted(healthy()) == [False, True]
    server.set_protect_threshold("shop", 0.9, namespace=namespace)
    wait_for(lambda: healthy() == [True, True], TIMEOUT_S, "the protection")

    server.update_instance("shop", ONE.ip, ONE.port, namespace=namespace, enabled=False)
    wait_for(lambda: seen(server, namespace, "shop") == {TWO.ip}, TIMEOUT_S, "the end of the disabled one")


def test_an_instance_over_HTTP_comes_and_goes(server: Nacos) -> None:
    namespace = server.new_namespace()
    server.register("web", "192.0.2.3", 80, namespace=namespace)
    wait_for(lambda: seen(server, namespace, "web") == {"192.0.2.3"}, TIMEOUT_S, "the instance")
    server.deregister("web", "192.0.2.3", 80, namespace=namespace)
    wait_for(lambda: not seen(server, namespace, "web"), TIMEOUT_S, "its end")


@pytest.mark.parametrize("version", ["2", "3"])
def test_a_killed_server_comes_back_without_its_ephemeral_instances(
    version: Version, nacos_server: Callable[..., Nacos]
) -> None:
    server = nacos_server(version=version)
    namespace = server.new_namespace()
    server.register("kept", "192.0.2.4", 80, namespace=namespace, ephemeral=False)
    server.register("lost", "192.0.2.3", 80, namespace=namespace)
    wait_for(lambda: seen(server, namespace, "lost") and seen(server, namespace, "kept"), TIMEOUT_S, "both")

    server.kill()
    server.restart()
    assert namespace in server.namespaces()
    wait_for(lambda: seen(server, namespace, "kept") == {"192.0.2.4"}, TIMEOUT_S, "the persistent one")
    assert not seen(server, namespace, "lost")


@pytest.mark.parametrize("version", ["2", "3"])
def test_a_server_with_TLS_and_users_refuses_what_has_neither(
    version: Version, tmp_path: Path, nacos_server: Callable[..., Nacos]
) -> None:
    server = nacos_server(version=version, auth=True, token_ttl_s=10, certificates=Certificates(tmp_path / "tls"))
    prove_push(server)
    page, fields = "/v1/ns/instance/list", {"serviceName": "shop"}
    assert get(f"http://{server.address}/nacos{page}")[0] == 400
    assert server.ask("GET", page, fields)[0] == 403

    token = server.token()
    assert server.ask("GET", page, fields, token)[0] == 200
    wait_for(lambda: server.ask("GET", page, fields, token)[0] == 403, TIMEOUT_S, "the end of the token")
    with pytest.raises(NacosError):
        server.token(USER, f"not {PASSWORD}")
    namespace = server.new_namespace()
    server.create_user("guest", "guest-password", reads=namespace)
    token = server.token("guest", "guest-password")
    assert server.ask("GET", page, fields, token)[0] == 403
    assert server.ask("GET", page, {**fields, "namespaceId": namespace}, token)[0] == 200

    server.certificates = Certificates(tmp_path / "another authority")
    with pytest.raises(ssl.SSLCertVerificationError):
        server.ask("GET", page, fields)


@pytest.mark.parametrize(("version", "applications"), [("3", {"shop"}), ("2.7", set())])
def test_a_Dubbo_provider_registers_and_takes_its_registration_back(
    version: Dubbo, applications: set[str], nacos2: Nacos, dubbo: Callable[..., DubboProvider]
) -> None:
    namespace = nacos2.new_namespace()
    registry = f"nacos://{nacos2.address}?namespace={namespace}"
    services = [f"{GREETING}:2.0.0:gray", GREETING]
    names = {f"providers:{GREETING}:2.0.0:gray", f"providers:{GREETING}::", *applications}
    provider = dubbo(registry, services, dubbo=version)

    def registered() -> set[str]:
        return {name for _, name in nacos2.services(namespace) if seen(nacos2, namespace, name)}

    wait_for(lambda: registered() == names, TIMEOUT_S, "the registration")
    provider.stop()
    wait_for(lambda: not registered(), TIMEOUT_S, "its end")


def test_a_Spring_Cloud_service_registers_and_takes_its_registration_back(
    server: Nacos, nacos_spring_client: Callable[..., NacosSpringClient]
) -> None:
    namespace = server.new_namespace()
    client = nacos_spring_client(server, namespace=namespace, weight=3.0, metadata={"version": "v2"})
    wait_for(lambda: seen(server, namespace, "shop") == {client.host}, TIMEOUT_S, "the registration")
    (host,) = server.instances("shop", namespace=namespace)
    assert (host["port"], host["weight"], host["metadata"]["version"]) == (client.port, 3.0, "v2")
    assert get(f"http://{client.address}/greet/anna") == (200, client.greeting("anna"))
    client.stop()
    wait_for(lambda: not seen(server, namespace, "shop"), TIMEOUT_S, "its end")
