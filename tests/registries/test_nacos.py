"""The Nacos adapter against real Nacos servers, 2.x and 3.x, and real Java clients: G and NA rules.

What no real server can be brought to is in test_nacos_faults.py.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

import pytest

from isthmus.registry import codes
from isthmus.registry.model import Port
from tests.registries.nacos_watch import TIMEOUT, until, until_stale, watching
from tests.rig.certificates import Certificates
from tests.rig.nacos import PASSWORD, USER, Nacos
from tests.rig.nacos_writer import Instance, WriterError
from tests.rig.process import free_port
from tests.rig.proxy import proxy_to
from tests.rig.wait import wait_for_async

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import Parts
    from tests.registries.recorder import Recorder
    from tests.rig.dubbo import DubboProvider
    from tests.rig.nacos_spring import NacosSpringClient
    from tests.rig.nacos_writer import NacosWriter

VERSIONS = ("2", "3")
TOKEN_TTL_S = 5
REGISTER_ALL = {"dubbo.application.register-mode": "all"}
_numbers = itertools.count()


@pytest.fixture(params=VERSIONS)
def nacos(request: pytest.FixtureRequest) -> Nacos:
    """Give a running server of each version, shared with other tests."""
    server: Nacos = request.getfixturevalue(f"nacos{request.param}")
    return server


@pytest.fixture
def group() -> str:
    """Give a group that no other test uses: servers are shared."""
    return f"GROUP_{next(_numbers)}"


@pytest.fixture(scope="module", params=VERSIONS)
def secured(request: pytest.FixtureRequest, parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nacos]:
    """Give a running server of each version that wants a password and speaks TLS only; its tokens end soon."""
    parts.need(f"nacos{request.param}")
    directory = tmp_path_factory.mktemp("secured")
    certificates = Certificates(directory / "certificates")
    with Nacos(
        directory, version=request.param, auth=True, token_ttl_s=TOKEN_TTL_S, certificates=certificates
    ) as server:
        yield server


def by_name(server: Nacos) -> str:
    return server.address.replace("127.0.0.1", "localhost")


def login(server: Nacos, username: str = USER, password: str = PASSWORD) -> dict[str, object]:
    assert server.certificates is not None
    return {"tls": True, "ca": str(server.certificates.ca_file), "username": username, "password": password}


def key(group: str, name: str, namespace: str = "public") -> str:
    return f"{namespace}/{group}/{name}"


async def test_an_instance_that_comes_changes_and_goes(
    nacos: Nacos, nacos_writer: Callable[..., NacosWriter], group: str
) -> None:
    one, other = nacos_writer(nacos), nacos_writer(nacos)
    one.register("user-service", Instance("10.0.0.1", 8080), group=group)
    async with watching(nacos.address, groups=(group,)) as seen:
        user = key(group, "user-service")
        await until(seen, user, "10.0.0.1:8080")
        other.register("user-service", Instance("10.0.0.2", 9090), group=group)
        await until(seen, user, "10.0.0.1:8080", "10.0.0.2:9090")
        assert seen.services[user].host == "user-service.mesh"
        assert seen.services[user].ports == (Port(80, "http", "HTTP"),)
        one.deregister("user-service", Instance("10.0.0.1", 8080), group=group)
        await until(seen, user, "10.0.0.2:9090")
        other.kill()
        await until(seen, user)
        assert user in seen.services, "an emptied service stays, empty"
        assert seen.mended_count == 0


async def test_a_new_service_is_seen_and_followed(
    nacos: Nacos, nacos_writer: Callable[..., NacosWriter], group: str
) -> None:
    writer = nacos_writer(nacos)
    async with watching(nacos.address, groups=(group,)) as seen:
        await wait_for_async(lambda: seen.syncs, TIMEOUT, "first read")
        assert seen.services == {}
        writer.register("late", Instance("10.0.0.1", 8080), group=group)
        await until(seen, key(group, "late"), "10.0.0.1:8080")
        writer.register("late", Instance("10.0.0.2", 8080), group=group)
        await until(seen, key(group, "late"), "10.0.0.2:8080")


async def test_NA2_what_changed_while_the_connection_was_cut_is_seen_and_pushes_come_again(
    nacos: Nacos, nacos_writer: Callable[..., NacosWriter], group: str
) -> None:
    writer, other = nacos_writer(nacos), nacos_writer(nacos)
    writer.register("a", Instance("10.0.0.1", 8080), group=group)
    async with proxy_to("127.0.0.1", nacos.grpc_port) as proxy:
        offset = proxy.port - nacos.http_port
        async with watching(nacos.address, groups=(group,), grpc_port_offset=offset) as seen:
            await until(seen, key(group, "a"), "10.0.0.1:8080")
            proxy.cut()
            await until_stale(seen, "127.0.0.1")
            assert seen.addresses(key(group, "a")) == ["10.0.0.1:8080"]
            other.register("a", Instance("10.0.0.2", 8080), group=group)
            proxy.heal()
            await until(seen, key(group, "a"), "10.0.0.1:8080", "10.0.0.2:8080")
            other.deregister("a", Instance("10.0.0.2", 8080), group=group)
            await until(seen, key(group, "a"), "10.0.0.1:8080")
            assert seen.mended_count == 0


async def test_NA7_under_the_protection_threshold_unhealthy_instances_are_kept(nacos: Nacos, group: str) -> None:
    nacos.create_service("protected", group=group, protect_threshold=0.6, ephemeral=False)
    alive, dead = (nacos.http_port, nacos.grpc_port), (free_port(), free_port())
    for port in (*alive, *dead):
        nacos.register("protected", "127.0.0.1", port, group=group, ephemeral=False)
        nacos.register("plain", "127.0.0.1", port, group=group, ephemeral=False)
    async with watching(nacos.address, groups=(group,)) as seen:
        # The server has found out that two of them are dead, says so of the one, and protects the other.
        await until(seen, key(group, "plain"), *(f"127.0.0.1:{port}" for port in alive))
        await until(seen, key(group, "protected"), *(f"127.0.0.1:{port}" for port in (*alive, *dead)))
        refused = seen.services[key(group, "plain")].refused
        assert [refusal.code for refusal in refused] == [codes.UNHEALTHY] * 2
    async with watching(nacos.address, groups=(group,), health="any") as seen:
        await until(seen, key(group, "plain"), *(f"127.0.0.1:{port}" for port in (*alive, *dead)))


async def test_NA8_what_is_disabled_or_has_weight_0_is_no_endpoint(
    nacos: Nacos, nacos_writer: Callable[..., NacosWriter], group: str
) -> None:
    instances = [Instance(f"10.0.0.{number}", 8080) for number in (1, 2, 3)]
    nacos_writer(nacos).batch("a", instances, group=group)
    async with watching(nacos.address, groups=(group,)) as seen:
        await until(seen, key(group, "a"), "10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.3:8080")
        nacos.update_instance("a", "10.0.0.1", 8080, group=group, enabled=False)
        await until(seen, key(group, "a"), "10.0.0.2:8080", "10.0.0.3:8080")
        nacos.update_instance("a", "10.0.0.2", 8080, group=group, weight=0)
        await until(seen, key(group, "a"), "10.0.0.3:8080")
        nacos.update_instance("a", "10.0.0.1", 8080, group=group, enabled=True)
        await until(seen, key(group, "a"), "10.0.0.1:8080", "10.0.0.3:8080")


async def test_fractional_weights_keep_their_ratio(
    nacos: Nacos, nacos_writer: Callable[..., NacosWriter], group: str
) -> None:
    weights = {"10.0.0.1": 0.4, "10.0.0.2": 1.0}
    nacos_writer(nacos).batch("a", [Instance(ip, 8080, weight=weight) for ip, weight in weights.items()], group=group)
    async with watching(nacos.address, groups=(group,)) as seen:
        await until(seen, key(group, "a"), "10.0.0.1:8080", "10.0.0.2:8080")
        published = {one.workload.address: one.workload.weight for one in seen.services[key(group, "a")].endpoints}
    assert published == {"10.0.0.1": 40, "10.0.0.2": 100}


async def test_only_the_clusters_that_are_named(
    nacos: Nacos, nacos_writer: Callable[..., NacosWriter], group: str
) -> None:
    nacos_writer(nacos).batch("a", [Instance("10.0.0.1", 1, "HZ"), Instance("10.0.0.2", 2, "SH")], group=group)
    options: dict[str, object] = {"clusters": ("HZ",), "localities": {"HZ": "cn/hangzhou"}}
    async with watching(nacos.address, groups=(group,), **options) as seen:
        await until(seen, key(group, "a"), "10.0.0.1:1")
        assert seen.services[key(group, "a")].endpoints[0].workload.locality == "cn/hangzhou"


async def registered_at_last(writer: NacosWriter, instance: Instance, group: str) -> None:
    """Register, and again where Nacos's own client was too late to renew its token: a machine may be slow."""

    def tried() -> bool:
        try:
            writer.register("a", instance, group=group)
        except WriterError as error:
            if "token expired" not in str(error):
                raise
            return False
        return True

    await wait_for_async(tried, TIMEOUT, "a registration with a token that holds")


async def test_NA9_a_token_that_ends_is_renewed_and_all_of_it_goes_over_TLS(
    secured: Nacos, nacos_writer: Callable[..., NacosWriter], group: str
) -> None:
    writer = nacos_writer(secured)
    async with watching(by_name(secured), groups=(group,), reconcile=0.5, **login(secured)) as seen:
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + 2 * TOKEN_TTL_S
        numbers = itertools.count(1)
        while loop.time() < ends_at:
            instance = Instance(f"10.0.0.{next(numbers)}", 8080)
            await registered_at_last(writer, instance, group)
            await until(seen, key(group, "a"), f"{instance.ip}:8080")
        assert seen.generation == 1, "the connection was never given up"


async def test_G1_without_the_right_to_read_the_source_fails_and_is_not_empty(
    secured: Nacos, nacos_writer: Callable[..., NacosWriter], group: str
) -> None:
    nacos_writer(secured).register("a", Instance("10.0.0.1", 8080), group=group)
    name = f"nobody-{group.lower()}"
    secured.create_user(name, "nobodys-password")
    async with watching(by_name(secured), **login(secured, "", "")) as seen:
        assert "403" in await until_stale(seen, "credentials and rights")
        assert seen.syncs == 0
    for user, password in ((USER, "wrong-password"), (name, "nobodys-password")):
        async with watching(by_name(secured), **login(secured, user, password)) as seen:
            assert password not in await until_stale(seen, "answers")
            assert seen.syncs == 0


async def test_a_server_that_others_vouch_for_is_not_spoken_to(secured: Nacos, tmp_path: Path) -> None:
    strangers = Certificates(tmp_path)
    async with watching(by_name(secured), **login(secured) | {"ca": str(strangers.ca_file)}) as seen:
        await until_stale(seen, str(secured.grpc_port))
        assert seen.syncs == 0


async def test_namespaces_by_id_and_by_name_and_all_of_them(
    nacos: Nacos, nacos_writer: Callable[..., NacosWriter], group: str
) -> None:
    identity, name = f"id-{group.lower().replace('_', '-')}", f"name of {group}"
    nacos.create_namespace(identity, name)
    nacos_writer(nacos, namespace=identity).register("a", Instance("10.0.0.1", 8080), group=group)
    nacos_writer(nacos).register("a", Instance("10.0.0.2", 8080), group=group)
    there, home = key(group, "a", identity), key(group, "a")
    for said in (identity, name):
        async with watching(nacos.address, namespaces=(said,), groups=(group,)) as seen:
            await until(seen, there, "10.0.0.1:8080")
            assert [one.host for one in seen.services.values()] == ["a.mesh"], "the first namespace is the home"
    async with watching(nacos.address, namespaces=("*",), groups=("*",)) as seen:
        await until(seen, there, "10.0.0.1:8080")
        await until(seen, home, "10.0.0.2:8080")
        hosts = {seen.services[one].host for one in (there, home)}
        assert len(hosts) == 2
        nacos_writer(nacos, namespace=identity).register("a", Instance("10.0.0.3", 8080), group=group)
        await until(seen, there, "10.0.0.1:8080", "10.0.0.3:8080")
        assert seen.addresses(home) == ["10.0.0.2:8080"], "a push is not taken for another namespace's"


async def test_a_namespace_that_does_not_exist_is_named(nacos: Nacos) -> None:
    async with watching(nacos.address, namespaces=("shpo",)) as seen:
        assert "there are: public" in await until_stale(seen, "no namespace 'shpo'")
        assert seen.syncs == 0


async def test_a_server_that_nobody_knows_or_that_does_not_listen() -> None:
    async with watching("nacos.invalid:8848") as seen:
        await until_stale(seen, "nacos.invalid:9848", "resolving")
    async with watching(f"127.0.0.1:{free_port()}") as seen:
        await until_stale(seen, "127.0.0.1", "refused")


async def test_the_next_server_is_asked_where_one_does_not_answer(
    nacos: Nacos, nacos_writer: Callable[..., NacosWriter], group: str
) -> None:
    nacos_writer(nacos).register("a", Instance("10.0.0.1", 8080), group=group)
    async with watching(f"127.0.0.1:{free_port()},{nacos.address}", groups=(group,)) as seen:
        await until(seen, key(group, "a"), "10.0.0.1:8080")


async def test_G3_a_frozen_server_is_noticed_and_nothing_is_withdrawn(
    nacos_server: Callable[..., Nacos], nacos_writer: Callable[..., NacosWriter]
) -> None:
    server = nacos_server(version="3")
    writer = nacos_writer(server)
    writer.register("a", Instance("10.0.0.1", 8080))
    async with watching(server.address, timeout=2.0) as seen:
        a = key("DEFAULT_GROUP", "a")
        await until(seen, a, "10.0.0.1:8080")
        server.pause()
        await until_stale(seen, "no answer")
        assert seen.addresses(a) == ["10.0.0.1:8080"]
        server.resume()
        # Its client reconnects, too; what it has then is what counts.
        await wait_for_async(lambda: seen.stale_reason is None, TIMEOUT, "contact again")
        await until(seen, a, "10.0.0.1:8080")


async def test_a_spring_cloud_service_comes_and_goes(
    nacos: Nacos, nacos_spring_client: Callable[..., NacosSpringClient], group: str
) -> None:
    client = nacos_spring_client(nacos, "order-service", group=group, weight=2.5, metadata={"version": "v2"})
    async with watching(nacos.address, groups=(group,), labels={"version": "version"}) as seen:
        order = key(group, "order-service")
        await until(seen, order, client.address)
        assert seen.services[order].host == "order-service.mesh"
        assert seen.services[order].ports == (Port(80, "http", "HTTP"),)
        assert seen.services[order].endpoints[0].workload.labels == (("version", "v2"),)
        await asyncio.to_thread(client.stop)
        await until(seen, order)


async def test_a_name_in_chinese_gets_a_host_of_its_own(
    nacos_server: Callable[..., Nacos], nacos_writer: Callable[..., NacosWriter]
) -> None:
    # Nacos takes only Latin letters unless it is told not to look.
    server = nacos_server(version="3", settings={"nacos.core.param.check.enabled": "false"})
    writer = nacos_writer(server)
    writer.register("用户服务", Instance("10.0.0.1", 8080))
    writer.register("订单服务", Instance("10.0.0.2", 8080))
    async with watching(server.address) as seen:
        await until(seen, key("DEFAULT_GROUP", "用户服务"), "10.0.0.1:8080")
        await until(seen, key("DEFAULT_GROUP", "订单服务"), "10.0.0.2:8080")
        hosts = {one.host for one in seen.services.values()}
        assert len(hosts) == 2
        assert all(host.isascii() and host.endswith(".mesh") for host in hosts)
        writer.deregister("用户服务", Instance("10.0.0.1", 8080))
        await until(seen, key("DEFAULT_GROUP", "用户服务"))


async def test_dubbo_in_nacos_has_the_hosts_that_it_has_in_zookeeper(
    nacos: Nacos, dubbo: Callable[..., DubboProvider]
) -> None:
    services = ("rig.GreetingService", "rig.GreetingService:2.0.0:gray", "rig.OrderService:1.0.0")
    namespace = nacos.new_namespace()
    dubbo(f"nacos://{nacos.address}?namespace={namespace}", services, properties=REGISTER_ALL)
    async with watching(nacos.address, namespaces=(namespace,)) as seen:
        await wait_for_async(lambda: len(dubbo_hosts(seen)) >= 4, TIMEOUT, "Dubbo's services")
        hosts = dubbo_hosts(seen)
    assert hosts["dubbo:rig.GreetingService"] == "rig.greetingservice.dubbo"
    assert hosts["dubbo:gray/rig.GreetingService:2.0.0"] == "rig.greetingservice.2-0-0.gray.dubbo"
    assert hosts["dubbo:rig.OrderService:1.0.0"] == "rig.orderservice.1-0-0.dubbo"
    (application,) = [host for identity, host in hosts.items() if identity.startswith("dubbo-app:")]
    assert application.endswith(".dubbo")


def dubbo_hosts(seen: Recorder) -> dict[str, str]:
    return {one.identity: one.host for one in seen.services.values() if one.endpoints and "dubbo" in one.identity}
