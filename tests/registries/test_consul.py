"""The Consul adapter against real Consul servers: the rules CO1 to CO13 (reference/registry-rules.md).

Servers that fail are in test_consul_faults.py, what a real one cannot be brought to do in test_consul_doubts.py.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from isthmus.adapters.applications import ApplicationPort
from isthmus.adapters.consul import pacing
from isthmus.adapters.consul.adapter import ConsulAdapter
from isthmus.registry import codes
from isthmus.registry.errors import SourceDenied, SourceUnavailable
from isthmus.registry.model import Port
from tests.registries.consul_watch import TIMEOUT, options, until, watching
from tests.registries.recorder import Recorder
from tests.rig.certificates import ClientCertificates
from tests.rig.wait import wait_for_async

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.rig.consul import Consul
    from tests.rig.py_consul import PyConsulClient

READS_ALL = 'service_prefix "" { policy = "read" } node_prefix "" { policy = "read" }'
READS_WEB = 'service "web" { policy = "read" } node_prefix "" { policy = "read" }'
NO_NODES = 'service_prefix "" { policy = "read" }'


@pytest.fixture
def server(consul_server: Callable[..., Consul]) -> Consul:
    """Give a Consul of the test's own with a node, and three instances of `other`, which never change."""
    server = consul_server(dev=True)
    _fill(server)
    return server


def _fill(server: Consul) -> None:
    server.put_node("n1", "10.0.0.1")
    for number in range(1, 4):
        server.put("n1", "other", f"other-{number}", address=f"10.9.0.{number}")


async def test_a_real_client_that_comes_and_goes(
    server: Consul, py_consul_client: Callable[..., PyConsulClient]
) -> None:
    async with watching(server.url, labels={"version": "version", "zone": "zone"}) as seen:
        one = await asyncio.to_thread(
            py_consul_client, server, "Shop", tags=["zone=z1"], meta={"version": "v2"}, address="10.20.0.1"
        )
        other = await asyncio.to_thread(py_consul_client, server, "Shop", address="10.20.0.2")
        await until(seen, "app:shop", one.address, other.address)
        service = seen.services["app:shop"]
        assert (service.host, service.ports) == ("shop.mesh", (Port(80, "http", "HTTP"),))
        assert service.endpoints[0].workload.labels == (("version", "v2"), ("zone", "z1"))
        await asyncio.to_thread(other.kill)
        # Its check turns critical when it has not been heard of for a while.
        await until(seen, "app:shop", one.address)
        assert [one.code for one in seen.services["app:shop"].refused] == [codes.UNHEALTHY]
        await asyncio.to_thread(one.stop)
        await until(seen, "app:shop")
        assert seen.mended_count == 0


async def test_CO9_everything_that_changes_is_noticed_whatever_wakes_on_it(
    server: Consul, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacing, "SWEEP_REST", 0.1)
    server.put("n1", "web", "w1", address="10.20.0.1")
    async with watching(server.url, requests=1000.0) as seen:
        await until(seen, "app:web", "10.20.0.1:8080")
        # With each of these /catalog/services wakes, and does not say of which service.
        server.put("n1", "web", "w2", address="10.20.0.2")
        await until(seen, "app:web", "10.20.0.1:8080", "10.20.0.2:8080")
        server.put("n1", "web", "w3", address="10.20.0.3", status=None)
        await until(seen, "app:web", *(f"10.20.0.{number}:8080" for number in (1, 2, 3)))
        server.remove("n1", "w2")
        await until(seen, "app:web", "10.20.0.1:8080", "10.20.0.3:8080")
        server.put("n1", "web", "w3", address="10.20.0.3", status=None, port=9090)
        await until(seen, "app:web", "10.20.0.1:8080", "10.20.0.3:9090")
        server.remove("n1", "w3")
        await until(seen, "app:web", "10.20.0.1:8080")
        server.put("n1", "web", "w1", address="10.20.0.1", weights=(3, 1), tags=["t"])
        server.put("n1", "new", "w4", address="10.20.0.4")
        await until(seen, "app:new", "10.20.0.4:8080")
        server.remove("n1")
        await until(seen, "app:web")
        await until(seen, "app:new")
        assert (seen.mended_count, seen.stale_reason) == (0, None)


async def test_CO13_an_instance_without_an_address_is_at_its_nodes(server: Consul) -> None:
    server.put_node("n2", "10.0.0.2")
    server.put("n2", "web", "w1", address="")
    async with watching(server.url, reconcile=100_000.0) as seen:
        await until(seen, "app:web", "10.0.0.2:8080")
        # That wakes neither /catalog/services nor any check.
        server.put_node("n2", "10.0.0.3")
        await until(seen, "app:web", "10.0.0.3:8080")


async def test_health_and_maintenance(server: Consul) -> None:
    for number in (1, 2, 3):
        server.register("web", f"w{number}", address=f"10.20.0.{number}")
    everybody = [f"10.20.0.{number}:8080" for number in (1, 2, 3)]
    async with watching(server.url) as strict, watching(server.url, health="warning") as lenient:
        await until(strict, "app:web", *everybody)
        await until(lenient, "app:web", *everybody)
        server.set_check("w1", "warning", "so so")
        await until(strict, "app:web", *everybody[1:])
        server.set_check("w2", "critical", "down")
        await until(strict, "app:web", everybody[2])
        await until(lenient, "app:web", everybody[0], everybody[2])
        server.set_check("w1", "passing")
        server.set_check("w2", "passing")
        server.set_maintenance("w3", on=True, reason="new disks")
        await until(strict, "app:web", *everybody[:2])
        assert [one.reason for one in strict.services["app:web"].refused] == ["it is in maintenance mode"]
        server.set_maintenance("w3", on=False)
        await until(strict, "app:web", *everybody)
        server.set_node_maintenance(on=True)
        await until(strict, "app:web")
        server.set_node_maintenance(on=False)
        await until(strict, "app:web", *everybody)
        assert (strict.mended_count, strict.stale_reason) == (0, None)


async def test_CO10_an_outage_of_the_checks_takes_nobody_away(server: Consul) -> None:
    server.put_node("n2", "10.0.0.2", status="passing")
    names = [f"s{number}" for number in range(1, 10)]
    for number, name in enumerate(names, start=1):
        server.put("n2", name, name, address=f"10.20.0.{number}")
    async with watching(server.url, panic_threshold=0.5) as seen:
        await wait_for_async(lambda: seen.syncs, TIMEOUT, "first read")
        seen.watch_fewest()
        server.put_node("n2", "10.0.0.2", status="critical")
        said = "3 of 12 instances are healthy, fewer than 50%"
        await wait_for_async(lambda: seen.notes and seen.notes[0].startswith(said), TIMEOUT, "the note")
        assert all(seen.fewest[f"app:{name}"] == 1 for name in names)
        # One more is not so much an outage; the service of one instance is empty then.
        server.put_node("n2", "10.0.0.2", status="passing")
        await wait_for_async(lambda: not seen.notes, TIMEOUT, "the end of it")
        server.put("n2", "s1", "s1", address="10.20.0.1", status="critical")
        await until(seen, "app:s1")


async def test_the_ports_addresses_and_localities_of_services(server: Consul) -> None:
    tagged = {"wan": ("203.0.113.1", 443)}
    place = {"Locality": {"Region": "eu", "Zone": "a"}}
    server.put("n1", "web", "w1", address="10.20.0.1", tagged=tagged, more=place, weights=(3, 1))
    server.put("n1", "web", "w2", address="10.20.0.2", tags=["k8s"])
    server.put(
        "n1",
        "sidecar",
        "p1",
        address="10.20.0.3",
        more={"Kind": "connect-proxy", "Proxy": {"DestinationServiceName": "web"}},
    )
    https = {"WEB": ApplicationPort(443, "HTTPS")}
    async with watching(server.url, tagged_address="wan", services=https, suffix="corp") as seen:
        await until(seen, "app:web", "203.0.113.1:443")
        service = seen.services["app:web"]
        assert (service.host, service.ports) == ("web.corp", (Port(443, "https", "HTTPS"),))
        assert service.endpoints[0].workload.locality == "eu/a"
        assert "app:sidecar" not in seen.services
        assert "app:consul" not in seen.services
        assert seen.notes == (
            "1 instances that Kubernetes put there are passed by",
            "1 proxies and gateways of Consul's own mesh are passed by",
        )


async def test_G8_a_service_whose_name_is_no_path_is_refused_and_stops_no_other(server: Consul) -> None:
    odd = ["..", ".", "a/b", "a//b", "../state/any", "a?b#c%2F", "ü b"]
    for number, name in enumerate(odd):
        server.put("n1", name, f"odd-{number}", address=f"10.20.1.{number + 1}")
    async with watching(server.url) as seen:
        await until(seen, "app:other", *(f"10.9.0.{number}:8080" for number in (1, 2, 3)))
        unread = {name for name, refusals in seen.refused.items() if refusals}
        read = {name for name in odd if any(key.endswith(name) for key in seen.services)}
        assert unread <= set(odd)
        assert len(unread) + len(seen.services) - 1 == len(odd), (unread, list(seen.services), read)


# ACLs.


@pytest.fixture
def closed(consul_server: Callable[..., Consul]) -> Consul:
    """Give a Consul whose ACLs deny all that no token allows, with `web` and `other`."""
    server = consul_server(dev=True, token="rig-token")
    _fill(server)
    server.put("n1", "web", "w1", address="10.20.0.1")
    return server


async def refusal(address: str, **more: object) -> str:
    with pytest.raises(SourceDenied) as refused:
        await ConsulAdapter(options(address, **more)).run(Recorder())
    return str(refused.value)


async def test_CO8_a_catalogue_that_acls_hide_is_not_empty(closed: Consul) -> None:
    assert "ACLs may hide them; say a `token`" in await refusal(closed.url)
    assert "ACLs hide every service" in await refusal(closed.url, token=closed.create_token(NO_NODES))
    secret = closed.create_token(READS_ALL)
    closed.delete_token(secret)
    said = await refusal(closed.url, token=secret)
    assert "403" in said
    assert secret not in said


async def test_CO8_what_acls_hide_later_is_kept_and_what_is_gone_is_not(closed: Consul) -> None:
    closed.put("n1", "web", "w2", address="10.20.0.2")
    token = closed.create_token(READS_ALL)
    policy = closed.ask("GET", "acl/token/self", token=token).json()["Policies"][0]["ID"]
    async with watching(closed.url, token=token, requests=1000.0, reconcile=1.0) as seen:
        await until(seen, "app:other", *(f"10.9.0.{number}:8080" for number in (1, 2, 3)))
        name = closed.ask("GET", f"acl/policy/{policy}").json()["Name"]
        closed.ask("PUT", f"acl/policy/{policy}", {"Name": name, "Rules": READS_WEB}).expect()
        closed.remove("n1", "w2")
        await until(seen, "app:web", "10.20.0.1:8080")
        await wait_for_async(lambda: seen.notes, TIMEOUT, "the note")
        assert seen.notes == ("ACLs hide some services from this token; what it never saw is not served",)
        syncs = seen.syncs
        await wait_for_async(lambda: seen.syncs > syncs + 2, TIMEOUT, "further reads of all")
        assert len(seen.addresses("app:other")) == 3
        closed.remove("n1", "w1")
        await until(seen, "app:web")
        assert len(seen.addresses("app:other")) == 3


async def test_CO8_what_is_gone_is_seen_to_be_gone_beside_what_acls_hide(
    closed: Consul, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacing, "SWEEP_REST", 0.1)
    for node in ("n2", "dark"):
        closed.put_node(node, "10.0.0.2")
    closed.put("dark", "web", "w2", address="10.20.0.2")
    closed.put("n2", "web", "w3", address="10.20.0.3")
    closed.put("n1", "web", "w4", address="10.20.0.4")
    token = closed.create_token('service_prefix "" { policy = "read" } node_prefix "n" { policy = "read" }')
    async with watching(closed.url, token=token, requests=1000.0) as seen:
        await until(seen, "app:web", "10.20.0.1:8080", "10.20.0.3:8080", "10.20.0.4:8080")
        closed.remove("n1", "w4")
        await until(seen, "app:web", "10.20.0.1:8080", "10.20.0.3:8080")
        closed.remove("n2", "w3")
        await until(seen, "app:web", "10.20.0.1:8080")


async def test_CO8_a_token_that_is_deleted_leaves_everything_as_it_is(closed: Consul) -> None:
    token = closed.create_token(READS_ALL)
    async with watching(closed.url, token=token, requests=1000.0, reconcile=1.0) as seen:
        await until(seen, "app:web", "10.20.0.1:8080")
        closed.delete_token(token)
        await wait_for_async(lambda: "403" in (seen.stale_reason or ""), TIMEOUT, "the refusal")
        closed.remove("n1", "w1")
        await wait_for_async(lambda: seen.history[-3:].count(seen.history[-1]) == 3, TIMEOUT, "further refusals")
        assert seen.addresses("app:web") == ["10.20.0.1:8080"]
        assert token not in str(seen.history)


# TLS.


async def test_TLS_with_a_client_certificate(consul_server: Callable[..., Consul], tmp_path: Path) -> None:
    certificates = ClientCertificates(tmp_path / "certificates")
    server = consul_server(dev=True, certificates=certificates)
    _fill(server)
    ca, cert, key = (
        str(path) for path in (certificates.ca_file, certificates.client_cert_file, certificates.client_key_file)
    )
    async with watching(server.url, ca=ca, cert=cert, key=key) as seen:
        await until(seen, "app:other", *(f"10.9.0.{number}:8080" for number in (1, 2, 3)))
    for files in ({"cert": cert, "key": key}, {"ca": ca}):
        with pytest.raises(SourceUnavailable, match="certificate"):
            await ConsulAdapter(options(server.url, **files)).run(Recorder())
