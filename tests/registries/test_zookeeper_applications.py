"""Application-level registrations in a real ZooKeeper: Spring Cloud's and Dubbo 3's (ZK1 to ZK11, G1, G6)."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from kazoo.security import make_acl, make_digest_acl

from isthmus.adapters.dubbo import DubboRules
from isthmus.adapters.nacos.records import NacosRules, Scope, read_service
from isthmus.adapters.zookeeper.adapter import ZookeeperAdapter
from isthmus.adapters.zookeeper.options import ZookeeperOptions
from isthmus.registry import codes
from isthmus.registry.errors import SourceDenied
from isthmus.registry.merge import Contribution, merge
from tests.registries.recorder import Recorder
from tests.registries.zookeeper_watch import TIMEOUT, sessions, until, watching
from tests.rig.proxy import proxy_to
from tests.rig.wait import wait_for_async

if TYPE_CHECKING:
    from collections.abc import Callable

    from kazoo.client import KazooClient

    from isthmus.registry.model import Service
    from tests.rig.dubbo import DubboProvider
    from tests.rig.zookeeper import ZooKeeper

GOLDEN = Path(__file__).parent.parent / "golden"
KEY = "/services/shop"
OWNER = make_acl("digest", "owner:hash", all=True)


def instance(address: str, **metadata: str) -> bytes:
    """Return an instance as Spring Cloud ZooKeeper writes it."""
    payload = {"@class": "org.springframework.cloud.zookeeper.discovery.ZookeeperInstance", "metadata": metadata}
    said = {"name": "shop", "address": address, "port": 8080, "sslPort": None, "payload": payload}
    return json.dumps(said | {"serviceType": "DYNAMIC"}).encode()


def register(client: KazooClient, name: str, address: str, *, application: str = "shop", **metadata: str) -> None:
    client.ensure_path(f"/services/{application}")
    client.create(f"/services/{application}/{name}", instance(address, **metadata))


@pytest.fixture
def client(registry: KazooClient) -> KazooClient:
    """Give a client of a ZooKeeper that Dubbo has registered in before."""
    registry.ensure_path("/dubbo")
    return registry


async def test_an_instance_that_comes_and_goes(zookeeper: ZooKeeper, client: KazooClient) -> None:
    register(client, "one", "10.0.0.1")
    async with watching(zookeeper) as seen:
        await until(seen, KEY, "10.0.0.1:8080")
        register(client, "two", "10.0.0.2")
        await until(seen, KEY, "10.0.0.1:8080", "10.0.0.2:8080")
        client.delete("/services/shop/one")
        await until(seen, KEY, "10.0.0.2:8080")
        client.delete("/services/shop/two")
        await until(seen, KEY)
        assert KEY in seen.services, "an emptied application stays, empty"
        assert seen.syncs == 1


async def test_interfaces_and_applications_are_one_source(zookeeper: ZooKeeper, client: KazooClient) -> None:
    register(client, "one", "10.0.0.1")
    client.ensure_path("/dubbo/a.B/providers/dubbo%3A%2F%2F10.0.0.1%3A20880%2Fa.B")
    async with watching(zookeeper) as seen:
        await until(seen, "dubbo:a.B", "10.0.0.1:20880")
        assert (set(seen.services), seen.syncs) == ({"dubbo:a.B", KEY}, 1)
    async with watching(zookeeper, applications="") as seen:
        await until(seen, "dubbo:a.B", "10.0.0.1:20880")
        assert set(seen.services) == {"dubbo:a.B"}
    async with watching(zookeeper, root="") as seen:
        await until(seen, KEY, "10.0.0.1:8080")
        assert set(seen.services) == {KEY}


async def test_a_status_that_changes_takes_an_instance_out_and_back(zookeeper: ZooKeeper, client: KazooClient) -> None:
    register(client, "one", "10.0.0.1", instance_status="UP")
    register(client, "two", "10.0.0.2")
    async with watching(zookeeper) as seen:
        await until(seen, KEY, "10.0.0.1:8080", "10.0.0.2:8080")
        for _ in range(3):
            client.set("/services/shop/one", instance("10.0.0.1", instance_status="OUT_OF_SERVICE"))
            await until(seen, KEY, "10.0.0.2:8080")
            assert [one.code for one in seen.services[KEY].refused] == [codes.DISABLED]
            client.set("/services/shop/one", instance("10.0.0.1", instance_status="UP"))
            await until(seen, KEY, "10.0.0.1:8080", "10.0.0.2:8080")


async def test_ZK1_an_instance_that_is_deleted_and_made_anew_is_read_anew(
    zookeeper: ZooKeeper, client: KazooClient
) -> None:
    # As a Dubbo provider that restarts on its port does it: the list of children looks the same.
    register(client, "one", "10.0.0.1")
    async with watching(zookeeper) as seen:
        await until(seen, KEY, "10.0.0.1:8080")
        for number in range(2, 12):
            anew = client.transaction()
            anew.delete("/services/shop/one")
            anew.create("/services/shop/one", instance(f"10.0.0.{number}"))
            assert "/services/shop/one" in anew.commit()
            await until(seen, KEY, f"10.0.0.{number}:8080")


async def test_ZK1_several_changes_in_one_event_are_all_seen(zookeeper: ZooKeeper, client: KazooClient) -> None:
    client.ensure_path("/services/shop")
    async with watching(zookeeper) as seen:
        await wait_for_async(lambda: seen.syncs, TIMEOUT, "first read")
        addresses = [f"10.0.{index}.1" for index in range(200)]
        replies = [client.create_async(f"/services/shop/{one}", instance(one)) for one in addresses]
        for reply in replies:
            reply.get(timeout=TIMEOUT)
        await until(seen, KEY, *(f"{one}:8080" for one in addresses))


async def test_a_root_that_comes_late_is_no_fault_beside_that_of_interfaces(
    zookeeper: ZooKeeper, client: KazooClient
) -> None:
    async with watching(zookeeper) as seen:
        await wait_for_async(lambda: seen.syncs, TIMEOUT, "first read")
        assert seen.stale_reason is None
        register(client, "one", "10.0.0.1")
        await until(seen, KEY, "10.0.0.1:8080")
        assert not [word for word in seen.history if word.startswith("stale")]


async def test_G1_a_root_that_is_the_only_one_is_waited_for(zookeeper: ZooKeeper, registry: KazooClient) -> None:
    async with watching(zookeeper, root="") as seen:
        await wait_for_async(lambda: "chroot" in (seen.stale_reason or ""), TIMEOUT, "word of the missing root")
        assert seen.syncs == 0
        register(registry, "one", "10.0.0.1")
        await until(seen, KEY, "10.0.0.1:8080")


async def test_G1_an_ensemble_that_lost_its_data_withdraws_nothing(zookeeper: ZooKeeper, registry: KazooClient) -> None:
    register(registry, "one", "10.0.0.1")
    async with (
        proxy_to("127.0.0.1", zookeeper.port) as network,
        watching(zookeeper, address=network.address, session_timeout=1.0, root="") as seen,
    ):
        await until(seen, KEY, "10.0.0.1:8080")
        seen.watch_fewest()
        network.cut()
        registry.delete("/services", recursive=True)
        network.heal()
        await wait_for_async(lambda: "is gone" in (seen.stale_reason or ""), TIMEOUT, "word of the missing root")
        assert seen.fewest == {KEY: 1}
        register(registry, "nine", "10.0.0.9")
        await until(seen, KEY, "10.0.0.9:8080")


async def test_nodes_that_ZooKeeper_deletes_when_they_are_empty_leave_empty_services(
    zookeeper: ZooKeeper, client: KazooClient
) -> None:
    # Curator makes them as containers, which the server takes away in the same order.
    register(client, "one", "10.0.0.1")
    async with watching(zookeeper) as seen:
        for round_ in range(3):
            await until(seen, KEY, "10.0.0.1:8080")
            for path in ("/services/shop/one", "/services/shop", "/services")[: 2 + round_ % 2]:
                client.delete(path)
            await until(seen, KEY)
            register(client, "one", "10.0.0.1")
        await until(seen, KEY, "10.0.0.1:8080")
        client.delete("/services", recursive=True)
        await until(seen, KEY)
        assert seen.stale_reason is None
        assert not [word for word in seen.history if word.startswith(("drop", "stale"))]


async def test_an_application_that_was_empty_for_long_is_dropped_and_can_come_back(
    zookeeper: ZooKeeper, client: KazooClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("isthmus.adapters.kept.EMPTY_KEPT_SECONDS", 0.0)
    register(client, "one", "10.0.0.1")
    async with watching(zookeeper, reconcile=0.1) as seen:
        for path in ("/services/shop/one", "/services/shop", "/services"):
            await until(seen, KEY, "10.0.0.1:8080")
            client.delete(path, recursive=True)
            await wait_for_async(lambda: KEY not in seen.services, TIMEOUT, "the drop")
            enough = seen.syncs + 3
            await wait_for_async(lambda: seen.syncs >= enough, TIMEOUT, "reconciles without it")  # noqa: B023
            register(client, "one", "10.0.0.1")
        assert seen.mended_count == 0


async def test_ZK4_an_expired_session_is_a_full_read_and_compare_and_never_a_withdrawal(
    zookeeper: ZooKeeper, client: KazooClient
) -> None:
    for number in (1, 2, 3):
        register(client, f"i{number}", f"10.0.0.{number}")
    register(client, "one", "10.0.0.8", application="pay")
    async with (
        proxy_to("127.0.0.1", zookeeper.port) as network,
        watching(zookeeper, address=network.address, session_timeout=4.0) as seen,
    ):
        await until(seen, KEY, "10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.3:8080")
        seen.watch_fewest()
        await wait_for_async(lambda: sessions(zookeeper) == 2, TIMEOUT, "a session of the adapter beside ours")
        network.cut()
        await wait_for_async(lambda: sessions(zookeeper) == 1, TIMEOUT, "the end of the adapter's session")
        client.delete("/services/shop/i1")
        # Only its data tells that it has left.
        client.set("/services/shop/i2", instance("10.0.0.2", instance_status="OUT_OF_SERVICE"))
        register(client, "i4", "10.0.0.4")
        assert len(seen.addresses(KEY)) == 3
        network.heal()

        await until(seen, KEY, "10.0.0.3:8080", "10.0.0.4:8080")
        assert seen.fewest == {KEY: 2, "/services/pay": 1}
        # And no watch was lost.
        client.set("/services/pay/one", instance("10.0.0.9"))
        await until(seen, "/services/pay", "10.0.0.9:8080")


async def test_ZK2_ZK3_a_server_that_is_killed_and_restarted_withdraws_nothing(
    zookeeper: ZooKeeper, client: KazooClient
) -> None:
    register(client, "one", "10.0.0.1")
    async with watching(zookeeper, session_timeout=10.0) as seen:
        await until(seen, KEY, "10.0.0.1:8080")
        seen.watch_fewest()
        zookeeper.kill()
        await wait_for_async(lambda: seen.stale_reason, TIMEOUT, "word of the lost connection")
        await asyncio.to_thread(zookeeper.start)
        await asyncio.to_thread(register, client, "two", "10.0.0.2")
        await until(seen, KEY, "10.0.0.1:8080", "10.0.0.2:8080")
        assert seen.fewest == {KEY: 1}


async def test_ZK8_an_instance_that_we_may_not_read_keeps_its_last_state_and_is_refused(
    zookeeper: ZooKeeper, client: KazooClient
) -> None:
    register(client, "one", "10.0.0.1")
    async with watching(zookeeper, reconcile=0.2) as seen:
        await until(seen, KEY, "10.0.0.1:8080")
        client.set_acls("/services/shop/one", [OWNER])
        client.create("/services/shop/two", instance("10.0.0.2"), acl=[OWNER])
        register(client, "three", "10.0.0.3")
        await until(seen, KEY, "10.0.0.1:8080", "10.0.0.3:8080")
        await wait_for_async(lambda: denials(seen, KEY) == [codes.DENIED] * 2, TIMEOUT, "both refusals")
        client.delete("/services/shop/two")
        await wait_for_async(lambda: denials(seen, KEY) == [codes.DENIED], TIMEOUT, "the refusal to go with its cause")
        assert seen.mended_count == 0


async def test_ZK8_an_instance_that_we_may_not_read_is_asked_for_again_with_its_application(
    zookeeper: ZooKeeper, client: KazooClient
) -> None:
    register(client, "one", "10.0.0.1")
    readable = client.get_acls("/services/shop")[0]
    client.create("/services/shop/two", instance("10.0.0.2"), acl=[make_digest_acl("owner", "secret", all=True)])
    async with watching(zookeeper) as seen:
        await until(seen, KEY, "10.0.0.1:8080")
        assert denials(seen, KEY) == [codes.DENIED]
        register(client, "three", "10.0.0.3")
        await until(seen, KEY, "10.0.0.1:8080", "10.0.0.3:8080")
        assert denials(seen, KEY) == [codes.DENIED]
        client.add_auth("digest", "owner:secret")
        client.set_acls("/services/shop/two", readable)
        client.delete("/services/shop/three")
        await until(seen, KEY, "10.0.0.1:8080", "10.0.0.2:8080")
        assert denials(seen, KEY) == []


async def test_ZK8_an_application_that_we_may_not_read_is_not_an_empty_one(
    zookeeper: ZooKeeper, client: KazooClient
) -> None:
    register(client, "one", "10.0.0.1")
    readable = client.get_acls("/services/shop")[0]
    async with watching(zookeeper, reconcile=0.2) as seen:
        await until(seen, KEY, "10.0.0.1:8080")
        client.set_acls("/services/shop", [make_digest_acl("owner", "secret", all=True)])
        await wait_for_async(lambda: denials(seen, KEY) == [codes.DENIED], TIMEOUT, "the refusal")
        assert seen.addresses(KEY) == ["10.0.0.1:8080"]
        client.add_auth("digest", "owner:secret")
        client.set_acls("/services/shop", readable)
        await wait_for_async(lambda: denials(seen, KEY) == [], TIMEOUT, "the end of the refusal")


async def test_ZK8_a_second_root_that_we_may_not_read_leaves_the_first_one_alone(
    zookeeper: ZooKeeper, client: KazooClient
) -> None:
    client.create("/services", acl=[OWNER])
    client.ensure_path("/dubbo/a.B/providers/dubbo%3A%2F%2F10.0.0.1%3A20880%2Fa.B")
    async with watching(zookeeper) as seen:
        await until(seen, "dubbo:a.B", "10.0.0.1:20880")
        assert denials(seen, "/services") == [codes.DENIED]
    with pytest.raises(SourceDenied, match="/services"):
        await ZookeeperAdapter(ZookeeperOptions(name="zk", address=zookeeper.address, root="")).run(Recorder())


def denials(seen: Recorder, scope: str) -> list[str]:
    return [refusal.code for refusal in seen.refused.get(scope, ())]


async def test_ZK10_two_thousand_instances_cost_no_thread_each_and_no_change_after_a_break_is_lost(
    zookeeper: ZooKeeper, client: KazooClient
) -> None:
    names = [f"a{index}" for index in range(200)]
    for path in ("/services", *(f"/services/{name}" for name in names)):
        client.create(path)
    replies = [
        client.create_async(f"/services/{name}/{number}", instance(f"10.0.0.{number}"))
        for name in names
        for number in range(10)
    ]
    for reply in replies:
        reply.get(timeout=TIMEOUT)
    before = threading.active_count()
    async with watching(zookeeper, session_timeout=10.0) as seen:
        await wait_for_async(lambda: len(seen.services) == 200, TIMEOUT, "first read")
        zookeeper.kill()
        await wait_for_async(lambda: seen.stale_reason, TIMEOUT, "word of the lost connection")
        await asyncio.to_thread(zookeeper.start)
        most = 0

        def read_again() -> bool:
            nonlocal most
            most = max(most, threading.active_count())
            return seen.syncs >= 2

        await wait_for_async(read_again, TIMEOUT, "second read")
        assert most - before <= 8
        others = [f"10.0.0.{number}:8080" for number in range(9)]
        for name in names[::10]:
            await asyncio.to_thread(client.set, f"/services/{name}/9", instance("10.0.1.1"))
        for name in names[::10]:
            await until(seen, f"/services/{name}", *others, "10.0.1.1:8080")


async def test_ZK11_garbage_is_refused_alone(zookeeper: ZooKeeper, client: KazooClient) -> None:
    register(client, "one", "10.0.0.1")
    for name, data in (("empty", b""), ("garbled", b"{"), ("long", b"x" * 70_000), ("deep", b"[" * 60_000)):
        client.create(f"/services/shop/{name}", data)
    async with watching(zookeeper) as seen:
        await until(seen, KEY, "10.0.0.1:8080")
        assert sorted(denials(seen, KEY)) == [codes.GARBLED] * 3 + [codes.TOO_LONG]
        client.delete("/services/shop/garbled")
        await wait_for_async(lambda: len(denials(seen, KEY)) == 3, TIMEOUT, "the refusal to go with its cause")


async def test_G6_a_reconcile_finds_nothing_to_mend(zookeeper: ZooKeeper, client: KazooClient) -> None:
    def register_many() -> None:
        for index in range(1, 40):
            register(client, f"i{index}", "10.0.0.1", instance_status="OUT_OF_SERVICE")
            client.set(f"/services/shop/i{index}", instance(f"10.0.0.{index}"))
            register(client, "one", "10.0.0.1", application=f"a{index}")

    def delete_many() -> None:
        for index in range(1, 40):
            client.delete(f"/services/a{index}", recursive=True)

    async with watching(zookeeper, reconcile=0.005) as seen:
        # In threads, so that reconciles fall between any two of the changes.
        await asyncio.to_thread(register_many)
        await until(seen, KEY, *(f"10.0.0.{index}:8080" for index in range(1, 40)))
        await wait_for_async(lambda: len(seen.services) == 40, TIMEOUT, "all applications")
        await asyncio.to_thread(delete_many)
        await wait_for_async(
            lambda: not any(seen.addresses(f"/services/a{index}") for index in range(1, 40)), TIMEOUT, "all empty"
        )
        assert seen.mended_count == 0


async def test_roots_that_lie_one_in_the_other_are_read_apart(zookeeper: ZooKeeper, client: KazooClient) -> None:
    client.ensure_path("/services/dubbo/a.B/providers/dubbo%3A%2F%2F10.0.0.1%3A20880%2Fa.B")
    register(client, "one", "10.0.0.1")
    async with watching(zookeeper, root="/services/dubbo") as seen:
        await until(seen, KEY, "10.0.0.1:8080")
        assert set(seen.services) == {"dubbo:a.B", KEY}
        assert seen.refused == {}


@pytest.mark.parametrize(("protocol", "host"), [("dubbo", "shop-dubbo3-nacos.dubbo"), ("tri", "shop-dubbo3-nacos.tri")])
async def test_a_real_dubbo_3_application_is_what_it_is_in_Nacos(
    protocol: str, host: str, zookeeper: ZooKeeper, client: KazooClient, dubbo: Callable[..., DubboProvider]
) -> None:
    provider = await asyncio.to_thread(
        dubbo,
        f"zookeeper://{zookeeper.address}",
        application="shop-dubbo3-nacos",
        protocol=protocol,
        properties={"dubbo.application.register-mode": "instance"},
    )
    key = f"/services/shop-dubbo3-nacos#{protocol}"
    async with watching(zookeeper, namespace="legacy") as seen:
        await until(seen, key, provider.address)
        assert set(seen.services) == {key}, "nothing is registered by interface"
        ours = seen.services[key]
        theirs = in_nacos("shop-dubbo3-nacos", protocol)
        assert (ours.namespace, ours.host, ours.identity, ours.ports) == (
            theirs.namespace,
            theirs.host,
            theirs.identity,
            theirs.ports,
        )
        assert ours.host == host
        merged = merge([Contribution("zk", ours), Contribution("nacos", theirs)], None)
        assert (len(merged.entry.endpoints), merged.refused) == (2, ())
        await asyncio.to_thread(provider.stop)
        await until(seen, key)


def in_nacos(name: str, protocol: str) -> Service:
    """Return what a real Dubbo 3 application in a real Nacos becomes, in the source's home, if it speaks `protocol`."""
    page = (GOLDEN / "nacos" / "3.1.0" / f"instances.DEFAULT_GROUP.{name}.json").read_text()
    (host,) = json.loads(page)["hosts"]
    endpoints = host["metadata"]["dubbo.endpoints"].replace('"dubbo"', f'"{protocol}"')
    host["metadata"] |= {"dubbo.endpoints": endpoints}
    home = Scope("public", "DEFAULT_GROUP", (), "legacy")
    reading = read_service(home, name, [json.dumps(host).encode()], NacosRules(DubboRules("legacy")))
    (service,) = reading.services.values()
    return service
