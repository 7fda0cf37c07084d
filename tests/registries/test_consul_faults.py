"""The Consul adapter against real servers that fail: what is known is kept, and right again when they are."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from isthmus.adapters.consul import client, watch
from isthmus.adapters.consul.adapter import ConsulAdapter
from isthmus.registry.errors import SourceError, SourceUnavailable
from tests.registries.consul_watch import TIMEOUT, addresses, guarded, options, until, watching
from tests.registries.recorder import Recorder
from tests.rig.process import free_port
from tests.rig.proxy import proxy_to
from tests.rig.wait import wait_for_async

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.rig.consul import Consul, ConsulPair

WEB = "app:web"
ALL = [f"10.20.0.{number}" for number in range(11, 21)]
ALL_PLACES = [f"{one}:8080" for one in ALL]


def fill(server: Consul) -> None:
    """Register ten instances of `web`, at nodes that need no agent."""
    server.put_node("n1", "10.0.0.1")
    for address in ALL:
        server.put("n1", "web", f"web-{address}", address=address)


async def stale(seen: Recorder, said: str = "") -> None:
    await wait_for_async(lambda: seen.stale_reason and said in seen.stale_reason, TIMEOUT, f"stale: {said!r}")


async def fresh(seen: Recorder, syncs: int) -> None:
    await wait_for_async(lambda: seen.stale_reason is None and seen.syncs > syncs, TIMEOUT, "contact")


async def test_CO6_a_server_that_is_killed_and_restarted_loses_nothing(consul_server: Callable[..., Consul]) -> None:
    server = await asyncio.to_thread(consul_server)
    fill(server)
    async with watching(server.url) as seen:
        await until(seen, WEB, *ALL_PLACES)
        seen.watch_fewest()
        await asyncio.to_thread(server.kill)
        await stale(seen)
        await asyncio.to_thread(server.restart)
        server.remove("n1", "web-10.20.0.20")
        await until(seen, WEB, *ALL_PLACES[:9])
        await wait_for_async(lambda: seen.stale_reason is None, TIMEOUT, "contact")
        assert (seen.fewest[WEB], seen.mended_count) == (9, 0)


async def test_G4_a_server_that_comes_back_empty_is_not_believed_at_once(consul_server: Callable[..., Consul]) -> None:
    server = await asyncio.to_thread(consul_server, dev=True)
    fill(server)
    async with guarded(server.url, settle=600.0) as source:
        await wait_for_async(lambda: addresses(source, WEB) == ALL, TIMEOUT, "first read")
        await asyncio.to_thread(server.kill)
        await wait_for_async(lambda: source.stale_since is not None, TIMEOUT, "stale")
        await asyncio.to_thread(server.restart)
        await wait_for_async(lambda: source.guard.held == 10, TIMEOUT, "the hold")
        assert addresses(source, WEB) == ALL
        fill(server)
        await wait_for_async(lambda: source.guard.held == 0, TIMEOUT, "its end")
        assert (addresses(source, WEB), source.mended) == (ALL, 0)


async def test_CO1_a_snapshot_that_is_restored_is_read_anew(consul_server: Callable[..., Consul]) -> None:
    server = await asyncio.to_thread(consul_server, dev=True)
    server.put_node("n1", "10.0.0.1")
    server.put("n1", "old", "old-1", address="10.20.1.1")
    snapshot = server.snapshot()
    server.remove("n1", "old-1")
    fill(server)
    async with guarded(server.url, settle=2.0) as source:
        await wait_for_async(lambda: addresses(source, WEB) == ALL, TIMEOUT, "first read")
        server.restore(snapshot)
        await wait_for_async(lambda: addresses(source, "app:old"), TIMEOUT, "what was restored")
        assert addresses(source, WEB) == ALL, "held, as after every break"
        await wait_for_async(lambda: not addresses(source, WEB), TIMEOUT, "the end of the hold")
        assert source.stale_since is None


async def test_G4_much_that_goes_at_once_is_held_and_let_go(consul_server: Callable[..., Consul]) -> None:
    server = await asyncio.to_thread(consul_server, dev=True)
    fill(server)
    async with guarded(server.url, settle=2.0, requests=1000.0) as source:
        await wait_for_async(lambda: addresses(source, WEB) == ALL, TIMEOUT, "first read")
        server.remove("n1")
        await wait_for_async(lambda: source.guard.held == 10, TIMEOUT, "the hold")
        assert source.generation == 2
        await wait_for_async(lambda: not addresses(source, WEB), TIMEOUT, "the end of the hold")
        assert (source.generation, source.guard.held, source.mended) == (2, 0, 0)


async def test_G11_a_frozen_server_is_noticed_and_followed_again(
    consul_server: Callable[..., Consul], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (client, watch):
        monkeypatch.setattr(module, "_PROBE_SECONDS", 1.0)
    server = await asyncio.to_thread(consul_server, dev=True)
    fill(server)
    async with watching(server.url) as seen:
        await until(seen, WEB, *ALL_PLACES)
        server.pause()
        await stale(seen, "no whole answer within 1 s")
        syncs = seen.syncs
        server.resume()
        server.put("n1", "web", "web-new", address="10.20.0.99")
        await until(seen, WEB, *ALL_PLACES, "10.20.0.99:8080")
        await fresh(seen, syncs)


async def test_CO6_a_network_that_is_cut_and_heals(consul_server: Callable[..., Consul]) -> None:
    server = await asyncio.to_thread(consul_server, dev=True)
    fill(server)
    async with proxy_to("127.0.0.1", server.port) as proxy, watching(f"http://{proxy.address}") as seen:
        await until(seen, WEB, *ALL_PLACES)
        seen.watch_fewest()
        proxy.cut()
        await stale(seen)
        server.remove("n1", "web-10.20.0.11")
        proxy.heal()
        await until(seen, WEB, *ALL_PLACES[1:])
        assert (seen.fewest[WEB], seen.mended_count, seen.stale_reason) == (9, 0, None)


async def test_CO7_a_cluster_without_a_leader_is_stale(consul_pair: ConsulPair) -> None:
    leader, other = consul_pair.leader_first()
    fill(leader)
    async with watching(other.url) as seen, watching(other.url, consistency="stale") as lenient:
        for one in (seen, lenient):
            await until(one, WEB, *ALL_PLACES)
            one.watch_fewest()
        leader.kill()
        for one in (seen, lenient):
            await stale(one, "leader")
            assert one.addresses(WEB) == ALL_PLACES
        await asyncio.to_thread(leader.restart)
        leader.remove("n1", "web-10.20.0.11")
        for one in (seen, lenient):
            await until(one, WEB, *ALL_PLACES[1:])
            assert one.fewest[WEB] == 9


@pytest.mark.parametrize("consistency", ["stale", "consistent"])
async def test_what_changes_is_seen_in_each_consistency(consul_pair: ConsulPair, consistency: str) -> None:
    leader, other = consul_pair.leader_first()
    fill(leader)
    async with watching(other.url, consistency=consistency, requests=1000.0) as seen:
        await until(seen, WEB, *ALL_PLACES)
        for number in range(10):
            leader.put("n1", "web", "web-10.20.0.11", address="10.20.0.11", status="critical")
            await until(seen, WEB, *ALL_PLACES[1:])
            leader.put("n1", "web", "web-10.20.0.11", address="10.20.0.11", status="passing")
            leader.put("n1", "more", f"more-{number}", address=f"10.20.2.{number + 1}")
            await until(seen, WEB, *ALL_PLACES)
            await until(seen, "app:more", *(f"10.20.2.{one}:8080" for one in range(1, number + 2)))


async def test_the_next_server_is_asked_when_one_fails(consul_server: Callable[..., Consul]) -> None:
    one, other = await asyncio.gather(*(asyncio.to_thread(consul_server, dev=True) for _ in range(2)))
    for server in (one, other):
        fill(server)
    nobody = f"http://127.0.0.1:{free_port()}"
    async with watching(f"{nobody}, {one.url}/,{other.url}") as seen:
        await until(seen, WEB, *ALL_PLACES)
        seen.watch_fewest()
        await asyncio.to_thread(one.kill)
        other.put("n1", "web", "web-new", address="10.20.0.99")
        await until(seen, WEB, *ALL_PLACES, "10.20.0.99:8080")
        assert seen.fewest[WEB] == 10
    with pytest.raises(SourceUnavailable, match=r"no connection.*; .*no connection"):
        await ConsulAdapter(options(f"{nobody},{one.url}")).run(Recorder())


async def test_CO6_a_server_that_bears_few_connections_is_read_to_the_end(consul_server: Callable[..., Consul]) -> None:
    server = await asyncio.to_thread(consul_server, dev=True, settings={"limits": {"http_max_conns_per_client": 15}})
    server.fill(200, 5, 20)
    async with watching(server.url, reconcile=0.5) as seen:
        await wait_for_async(lambda: len(seen.services) == 200, TIMEOUT, "all of them")
        await wait_for_async(lambda: seen.syncs > 2, TIMEOUT, "further reads of all")
        assert [one for one in seen.history if one.startswith("stale")] == []


async def test_G4_many_that_go_from_several_services_are_held(consul_server: Callable[..., Consul]) -> None:
    server = consul_server(dev=True)
    fill_two_nodes(server)
    async with watching(server.url) as seen:
        await wait_for_async(lambda: len(seen.services) == 20, TIMEOUT, "all of them")
        assert seen.generation == 1
        for number in range(8):
            server.remove("other", f"web-{number}-other")
        await wait_for_async(lambda: seen.generation == 2, TIMEOUT, "a settling time")


async def test_G4_a_node_that_goes_with_much_is_held_whole(consul_server: Callable[..., Consul]) -> None:
    server = consul_server(dev=True)
    fill_two_nodes(server)
    async with guarded(server.url, settle=60.0) as source:
        await wait_for_async(lambda: len(source.services) == 20, TIMEOUT, "all of them")
        server.remove("other")
        await wait_for_async(lambda: source.guard.held == 8, TIMEOUT, "all that the node had to be held")
        assert sum(len(one.endpoints) for one in source.services.values()) == 28


def fill_two_nodes(server: Consul) -> None:
    """Register 20 services on one node, and another instance of 8 of them on the other."""
    for number in range(20):
        server.put("one", f"web-{number}", f"web-{number}-one", address=f"10.0.0.{number}")
        if number < 8:
            server.put("other", f"web-{number}", f"web-{number}-other", address=f"10.0.1.{number}")


@pytest.mark.parametrize(
    ("address", "fault"),
    [
        ("http://user:secret@127.0.0.1:1", "server 1 has credentials: say them under `token`"),
        ("127.0.0.1:8500", "is no `http://host:port/path`"),
        ("http://127.0.0.1:8500/?dc=a", "after its path"),
    ],
)
async def test_an_address_that_cannot_be_used(address: str, fault: str) -> None:
    with pytest.raises(SourceError, match=fault) as refused:
        await ConsulAdapter(options(address)).run(Recorder())
    assert "secret" not in str(refused.value)
