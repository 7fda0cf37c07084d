"""The ZooKeeper adapter against a real ZooKeeper: the rules ZK1 to ZK11 (reference/registry-rules.md)."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from kazoo.security import make_acl, make_digest_acl

from isthmus.adapters.zookeeper.adapter import ZookeeperAdapter
from isthmus.adapters.zookeeper.options import ZookeeperOptions
from isthmus.registry import codes
from isthmus.registry.errors import SourceDenied
from tests.registries.recorder import Recorder
from tests.registries.zookeeper_watch import TIMEOUT, sessions, until, watching
from tests.rig.proxy import proxy_to
from tests.rig.wait import wait_for_async

if TYPE_CHECKING:
    from kazoo.client import KazooClient

    from tests.rig.zookeeper import ZooKeeper

KEY = "dubbo:a.B"


def node(address: str, port: int = 20880, scheme: str = "dubbo", parameters: str = "") -> str:
    return quote(f"{scheme}://{address}:{port}/a.B?application=shop{parameters}", safe="")


def register(client: KazooClient, name: str, *nodes: str, ephemeral: bool = False) -> None:
    client.ensure_path(f"/dubbo/{name}/providers")
    for one in nodes:
        client.create(f"/dubbo/{name}/providers/{one}", ephemeral=ephemeral)


async def test_a_provider_that_comes_and_goes(zookeeper: ZooKeeper) -> None:
    with zookeeper.client() as client:
        register(client, "a.B", node("10.0.0.1"))
        async with watching(zookeeper) as seen:
            await until(seen, KEY, "10.0.0.1:20880")
            register(client, "a.B", node("10.0.0.2", 20881))
            await until(seen, KEY, "10.0.0.1:20880", "10.0.0.2:20881")
            client.delete(f"/dubbo/a.B/providers/{node('10.0.0.1')}")
            await until(seen, KEY, "10.0.0.2:20881")
            client.delete(f"/dubbo/a.B/providers/{node('10.0.0.2', 20881)}")
            await until(seen, KEY)
            assert KEY in seen.services, "an emptied service stays, empty"


async def test_several_ports_protocols_and_IPv6(zookeeper: ZooKeeper) -> None:
    with zookeeper.client() as client:
        register(
            client, "a.B", node("10.0.0.1", 1), node("10.0.0.1", 2), node("2001:db8::1", 3), node("10.0.0.1", 4, "tri")
        )
        async with watching(zookeeper) as seen:
            await until(seen, KEY, "10.0.0.1:1", "10.0.0.1:2", "2001:db8::1:3")
            await until(seen, "tri:a.B", "10.0.0.1:4")


async def test_ZK1_several_changes_in_one_event_are_all_seen(zookeeper: ZooKeeper) -> None:
    with zookeeper.client() as client:
        register(client, "a.B")
        async with watching(zookeeper) as seen:
            await wait_for_async(lambda: seen.syncs, TIMEOUT, "first read")
            nodes = [node(f"10.0.{index}.1") for index in range(200)]
            for reply in [client.create_async(f"/dubbo/a.B/providers/{one}") for one in nodes]:
                reply.get(timeout=TIMEOUT)
            await until(seen, KEY, *(f"10.0.{index}.1:20880" for index in range(200)))


async def test_ZK7_an_interface_whose_providers_node_comes_late(zookeeper: ZooKeeper) -> None:
    with zookeeper.client() as client:
        client.ensure_path("/dubbo/a.B")
        async with watching(zookeeper) as seen:
            await wait_for_async(lambda: seen.syncs, TIMEOUT, "first read")
            client.create("/dubbo/a.B/providers")
            client.create(f"/dubbo/a.B/providers/{node('10.0.0.1')}")
            await until(seen, KEY, "10.0.0.1:20880")


async def test_ZK7_a_providers_node_that_vanishes_and_comes_back(zookeeper: ZooKeeper) -> None:
    # The case in which kazoo's own ChildrenWatch goes deaf for ever.
    with zookeeper.client() as client:
        register(client, "a.B", node("10.0.0.1"))
        async with watching(zookeeper) as seen:
            await until(seen, KEY, "10.0.0.1:20880")
            client.delete("/dubbo/a.B/providers", recursive=True)
            await until(seen, KEY)
            for round_ in range(3):
                register(client, "a.B", node(f"10.0.0.{round_ + 2}"))
                await until(seen, KEY, f"10.0.0.{round_ + 2}:20880")
                client.delete("/dubbo/a.B/providers", recursive=True)
                await until(seen, KEY)


async def test_G1_a_root_that_is_not_there_is_waited_for_and_not_taken_for_an_empty_registry(
    zookeeper: ZooKeeper,
) -> None:
    with zookeeper.client() as client:
        async with watching(zookeeper) as seen:
            await wait_for_async(lambda: "chroot" in (seen.stale_reason or ""), TIMEOUT, "word of the missing root")
            assert seen.syncs == 0
            register(client, "a.B", node("10.0.0.1"))
            await until(seen, KEY, "10.0.0.1:20880")


async def test_G1_an_ensemble_that_lost_its_data_withdraws_nothing(zookeeper: ZooKeeper) -> None:
    with zookeeper.client() as client:
        register(client, "a.B", node("10.0.0.1"))
        async with (
            proxy_to("127.0.0.1", zookeeper.port) as network,
            watching(zookeeper, address=network.address, session_timeout=1.0) as seen,
        ):
            await until(seen, KEY, "10.0.0.1:20880")
            seen.watch_fewest()
            network.cut()
            client.delete("/dubbo", recursive=True)
            network.heal()
            await wait_for_async(lambda: "is gone" in (seen.stale_reason or ""), TIMEOUT, "word of the missing root")
            assert seen.addresses(KEY) == ["10.0.0.1:20880"]
            assert seen.fewest[KEY] == 1
            register(client, "a.B", node("10.0.0.9"))
            await until(seen, KEY, "10.0.0.9:20880")


async def test_G1_what_an_adapter_knew_survives_its_own_failure(zookeeper: ZooKeeper) -> None:
    with zookeeper.client() as client:
        register(client, "a.B", node("10.0.0.1"))
        recorder = Recorder()
        adapter = ZookeeperAdapter(ZookeeperOptions(name="zk", address=zookeeper.address))
        running = asyncio.create_task(adapter.run(recorder))
        await until(recorder, KEY, "10.0.0.1:20880")
        running.cancel()
        await asyncio.wait([running])
        client.delete("/dubbo", recursive=True)

        running = asyncio.create_task(adapter.run(recorder))
        await wait_for_async(lambda: "is gone" in (recorder.stale_reason or ""), TIMEOUT, "word of the missing root")
        assert recorder.addresses(KEY) == ["10.0.0.1:20880"]
        running.cancel()
        await asyncio.wait([running])


async def test_a_root_that_is_back_ends_the_stale_mark_also_when_nothing_else_changed(zookeeper: ZooKeeper) -> None:
    with zookeeper.client() as client:
        client.ensure_path("/dubbo")
        async with watching(zookeeper) as seen:
            await wait_for_async(lambda: seen.syncs, TIMEOUT, "first read")
            client.delete("/dubbo")
            await wait_for_async(lambda: seen.stale_reason, TIMEOUT, "word of the missing root")
            client.create("/dubbo")
            await wait_for_async(lambda: seen.stale_reason is None, TIMEOUT, "the end of the stale mark")


async def test_an_interface_that_is_deleted_is_dropped(zookeeper: ZooKeeper) -> None:
    with zookeeper.client() as client:
        register(client, "a.B", node("10.0.0.1"))
        register(client, "c.D", node("10.0.0.1"))
        async with watching(zookeeper) as seen:
            await until(seen, KEY, "10.0.0.1:20880")
            client.delete("/dubbo/a.B", recursive=True)
            await wait_for_async(lambda: KEY not in seen.services, TIMEOUT, "the drop")
            assert seen.addresses("dubbo:c.D") == ["10.0.0.1:20880"]


async def test_ZK2_ZK3_a_server_that_is_killed_and_restarted_withdraws_nothing(zookeeper: ZooKeeper) -> None:
    with zookeeper.client() as client:
        register(client, "a.B", node("10.0.0.1"))
        async with watching(zookeeper, session_timeout=10.0) as seen:
            await until(seen, KEY, "10.0.0.1:20880")
            seen.watch_fewest()
            zookeeper.kill()
            await wait_for_async(lambda: seen.stale_reason, TIMEOUT, "word of the lost connection")
            assert seen.addresses(KEY) == ["10.0.0.1:20880"]
            await asyncio.to_thread(zookeeper.start)
            # Made as soon as the server is back: by a session of ours or by the re-read, it is not missed.
            await asyncio.to_thread(register, client, "a.B", node("10.0.0.2"))
            await until(seen, KEY, "10.0.0.1:20880", "10.0.0.2:20880")
            # A connection to a server that has just started may be lost once more.
            await wait_for_async(lambda: seen.stale_reason is None, TIMEOUT, "the end of the stale mark")
            assert seen.fewest[KEY] == 1


async def test_ZK4_an_expired_session_is_a_full_read_and_compare_and_never_a_withdrawal(zookeeper: ZooKeeper) -> None:
    with zookeeper.client() as client:
        register(client, "a.B", node("10.0.0.1"), node("10.0.0.2"))
        register(client, "c.D", node("10.0.0.3"))
        async with (
            proxy_to("127.0.0.1", zookeeper.port) as network,
            # Long enough for a busy machine to keep it alive until it is cut off.
            watching(zookeeper, address=network.address, session_timeout=4.0) as seen,
        ):
            await until(seen, KEY, "10.0.0.1:20880", "10.0.0.2:20880")
            seen.watch_fewest()
            await wait_for_async(lambda: sessions(zookeeper) == 2, TIMEOUT, "a session of the adapter beside ours")
            syncs = seen.syncs
            network.cut()
            await wait_for_async(lambda: sessions(zookeeper) == 1, TIMEOUT, "the end of the adapter's session")
            register(client, "a.B", node("10.0.0.4"))
            client.delete(f"/dubbo/a.B/providers/{node('10.0.0.1')}")
            assert len(seen.addresses(KEY)) == 2
            network.heal()

            await until(seen, KEY, "10.0.0.2:20880", "10.0.0.4:20880")
            assert seen.syncs > syncs
            assert seen.fewest == {KEY: 2, "dubbo:c.D": 1}
            client.delete(f"/dubbo/c.D/providers/{node('10.0.0.3')}")
            await until(seen, "dubbo:c.D")


async def test_ZK8_a_node_that_we_may_not_read_is_not_an_empty_one(zookeeper: ZooKeeper) -> None:
    with zookeeper.client() as client:
        register(client, "a.B", node("10.0.0.1"))
        # ZooKeeper tells no watcher of a node that it may not read any more: only a reconcile finds out.
        async with watching(zookeeper, reconcile=0.3) as seen:
            await until(seen, KEY, "10.0.0.1:20880")
            client.set_acls("/dubbo/a.B/providers", [make_digest_acl("owner", "secret", all=True)])
            client.add_auth("digest", "owner:secret")
            client.create(f"/dubbo/a.B/providers/{node('10.0.0.2')}")
            await wait_for_async(
                lambda: [one.code for one in seen.refused.get("a.B", ())] == [codes.DENIED], TIMEOUT, "the refusal"
            )
            assert seen.addresses(KEY) == ["10.0.0.1:20880"]

        async with watching(zookeeper, digest="owner:secret") as seen:
            await until(seen, KEY, "10.0.0.1:20880", "10.0.0.2:20880")


async def test_ZK8_a_root_that_we_may_not_read_is_a_failure_of_the_source(zookeeper: ZooKeeper) -> None:
    with zookeeper.client() as client:
        client.create("/dubbo", acl=[make_acl("digest", "owner:hash", all=True)])
        adapter = ZookeeperAdapter(ZookeeperOptions(name="zk", address=zookeeper.address))
        with pytest.raises(SourceDenied, match="/dubbo"):
            await adapter.run(Recorder())


async def test_ZK8_a_chroot_in_the_address(zookeeper: ZooKeeper) -> None:
    with zookeeper.client() as client:
        client.ensure_path(f"/prod/dubbo/a.B/providers/{node('10.0.0.1')}")
        async with watching(zookeeper, address=f"{zookeeper.address}/prod") as seen:
            await until(seen, KEY, "10.0.0.1:20880")


async def test_ZK9_a_reply_larger_than_jute_maxbuffer_is_read(zookeeper: ZooKeeper) -> None:
    # The bound of 0xfffff bytes is on what clients send: a longer list of children reaches kazoo whole.
    with zookeeper.client() as client:
        nodes = [node(f"10.1.{index >> 8}.{index & 255}", parameters="&pad=" + "x" * 700) for index in range(1_600)]
        register(client, "a.B")
        for start in range(0, len(nodes), 400):
            replies = [client.create_async(f"/dubbo/a.B/providers/{one}") for one in nodes[start : start + 400]]
            for reply in replies:
                reply.get(timeout=TIMEOUT)
        assert sum(map(len, nodes)) > 0xFFFFF
        async with watching(zookeeper) as seen:
            await wait_for_async(lambda: len(seen.addresses(KEY)) == 1_600, TIMEOUT, "all providers")


async def test_ZK10_two_thousand_interfaces_cost_no_thread_each_and_no_change_after_a_break_is_lost(
    zookeeper: ZooKeeper,
) -> None:
    with zookeeper.client() as client:
        client.ensure_path("/dubbo")
        names = [f"a.B{index}" for index in range(2_000)]
        for path in ("/dubbo/{}", "/dubbo/{}/providers", "/dubbo/{}/providers/" + node("10.0.0.1")):
            for reply in [client.create_async(path.format(name)) for name in names]:
                reply.get(timeout=TIMEOUT)
        before = threading.active_count()
        async with watching(zookeeper, session_timeout=10.0) as seen:
            await wait_for_async(lambda: len(seen.services) == 2_000, TIMEOUT, "first read")
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
            # The session of the first one may have ended while the server was away, on a slow machine.
            with zookeeper.client() as later:
                for name in names[::40]:
                    await asyncio.to_thread(later.create, f"/dubbo/{name}/providers/{node('10.0.0.2')}")
            for name in names[::40]:
                await until(seen, f"dubbo:{name}", "10.0.0.1:20880", "10.0.0.2:20880")


async def test_ZK11_garbage_is_refused_alone(zookeeper: ZooKeeper) -> None:
    with zookeeper.client() as client:
        register(client, "a.B", node("10.0.0.1"), "garbage", node("10.0.0.2", scheme="thrift"), "x" * 70_000)
        async with watching(zookeeper) as seen:
            await until(seen, KEY, "10.0.0.1:20880")
            assert sorted(one.code for one in seen.refused["a.B"]) == [
                codes.UNKNOWN_SCHEME,
                codes.GARBLED,
                codes.TOO_LONG,
            ]
            client.delete("/dubbo/a.B/providers/garbage")
            await wait_for_async(lambda: len(seen.refused["a.B"]) == 2, TIMEOUT, "the refusal to go with its cause")


async def test_G6_a_reconcile_finds_nothing_to_mend(zookeeper: ZooKeeper) -> None:
    with zookeeper.client() as client:
        register(client, "a.B", node("10.0.0.1"))
        async with watching(zookeeper, reconcile=0.05) as seen:
            for index in range(2, 40):
                register(client, "a.B", node(f"10.0.0.{index}"))
                register(client, f"a.B{index}", node("10.0.0.1"))
            await until(seen, KEY, *(f"10.0.0.{index}:20880" for index in range(1, 40)))
            await wait_for_async(lambda: len(seen.services) == 39, TIMEOUT, "all interfaces")
            assert seen.mended_count == 0


async def test_a_registry_that_is_down_at_start_is_waited_for(zookeeper: ZooKeeper) -> None:
    with zookeeper.client() as client:
        register(client, "a.B", node("10.0.0.1"))
    zookeeper.kill()
    async with watching(zookeeper) as seen:
        await wait_for_async(lambda: "no session" in (seen.stale_reason or ""), TIMEOUT, "word of the missing server")
        assert seen.syncs == 0
        await asyncio.to_thread(zookeeper.start)
        await wait_for_async(lambda: seen.syncs, TIMEOUT, "first read")
