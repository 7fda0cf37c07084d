"""The etcd adapter on real servers: the rules ET1 to ET10."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from isthmus.adapters.etcd import client as client_module
from isthmus.adapters.etcd.client import EtcdClient
from isthmus.adapters.etcd.keys import Keys
from isthmus.adapters.etcd.options import EtcdOptions
from tests.registries.etcd_watch import (
    TIMEOUT,
    break_contact,
    deregister,
    proxied,
    register,
    served,
    until,
    watching,
)
from tests.rig.wait import wait_for_async

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from isthmus.adapters.etcd.client import WatchStream
    from tests.registries.etcd_watch import Lists
    from tests.rig.etcd import Etcd

A, B, C = "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"


async def test_what_is_registered_is_served_and_what_leaves_is_not(etcd_server: Callable[..., Etcd]) -> None:
    server = etcd_server()
    register(server, A, B)
    async with watching(server.url) as seen:
        await until(seen, "web", A, B)
        register(server, C, name="pay")
        await until(seen, "pay", C)
        deregister(server, A)
        await until(seen, "web", B)
        assert seen.generation == 1
        assert seen.mended_count == 0


async def test_ET1_all_pages_of_a_list_are_of_one_revision(
    etcd_server: Callable[..., Etcd], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = etcd_server()
    register(server, A, B, C)
    between_pages(monkeypatch, lambda: deregister(server, C))
    async with client_module.connect(server.url, options_of(server)) as client:
        listed = await client.list(b"rpc/")
    assert [one.value for one in listed.records] == [A.encode(), B.encode(), C.encode()]
    assert listed.origin.revision == server.gateway.revision() - 1


async def test_ET1_a_list_whose_revision_is_compacted_begins_anew(
    etcd_server: Callable[..., Etcd], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = etcd_server()
    register(server, A, B, C)

    def compact() -> None:
        deregister(server, C)
        server.gateway.compact()

    between_pages(monkeypatch, compact)
    async with client_module.connect(server.url, options_of(server)) as client:
        listed = await client.list(b"rpc/")
    assert [one.value for one in listed.records] == [A.encode(), B.encode()]


def between_pages(monkeypatch: pytest.MonkeyPatch, happen: Callable[[], None]) -> None:
    """Let something happen once, between the first page of a list and the second, of two keys each."""
    monkeypatch.setattr(client_module, "PAGE", 2)
    read_page = EtcdClient._read_page
    pages = 0

    async def page(self: EtcdClient, *arguments: Any) -> Any:
        nonlocal pages
        answer = await read_page(self, *arguments)
        pages += 1
        if pages == 1:
            happen()
        return answer

    monkeypatch.setattr(EtcdClient, "_read_page", page)


def options_of(server: Etcd) -> EtcdOptions:
    return EtcdOptions(address=server.url, timeout=20.0)


async def test_ET2_nothing_is_missed_between_the_list_and_the_watch(
    etcd_server: Callable[..., Etcd], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = etcd_server()
    register(server, A)
    watch = EtcdClient.watch

    def watch_late(self: EtcdClient) -> AbstractAsyncContextManager[WatchStream]:
        register(server, B)
        deregister(server, A)
        return watch(self)

    monkeypatch.setattr(EtcdClient, "watch", watch_late)
    async with watching(server.url) as seen:
        await until(seen, "web", B)
        assert seen.syncs == 1


async def test_ET2_a_quiet_watch_goes_on_where_etcd_says_that_it_is(
    etcd_server: Callable[..., Etcd], lists: Lists
) -> None:
    """Other keys change and are compacted: what etcd said of its progress makes a list after the break needless."""
    server = etcd_server(progress_s=1)
    register(server, A)
    async with proxied(server) as (proxy, seen):
        await until(seen, "web", A)
        for number in range(5):
            server.gateway.put("elsewhere", str(number))
        (keys,) = seen.adapter._memory.keys
        await wait_for_async(lambda: keys.revision >= server.gateway.revision(), TIMEOUT, "word of progress")
        server.gateway.compact()
        await break_contact(proxy, seen)
        register(server, B)
        lists.allowed.clear()
        proxy.heal()
        await until(seen, "web", A, B)


async def test_a_break_is_bridged_without_a_list(etcd_server: Callable[..., Etcd], lists: Lists) -> None:
    server = etcd_server()
    register(server, A, B)
    async with proxied(server) as (proxy, seen):
        await until(seen, "web", A, B)
        await break_contact(proxy, seen)
        assert served(seen, "web") == [A, B]
        deregister(server, A)
        register(server, C)
        lists.allowed.clear()
        proxy.heal()
        await until(seen, "web", B, C)


@pytest.mark.parametrize("version", ["3.4", "3.6"])
async def test_ET3_what_was_compacted_meanwhile_is_listed_and_compared(
    etcd_server: Callable[..., Etcd], lists: Lists, version: str
) -> None:
    server = etcd_server(version=version)
    register(server, A, B)
    async with proxied(server) as (proxy, seen):
        await until(seen, "web", A, B)
        await break_contact(proxy, seen)
        deregister(server, A)
        register(server, C)
        server.gateway.compact()
        seen.watch_fewest()
        proxy.heal()
        await until(seen, "web", B, C)
        assert lists.made == 2
        register(server, A)
        await until(seen, "web", A, B, C)
        assert min(seen.fewest.values()) >= 1
        assert seen.mended_count == 0


@pytest.mark.parametrize("version", ["3.4", "3.6"])
async def test_ET3_a_watch_that_falls_behind_a_compaction_is_made_anew(
    etcd_server: Callable[..., Etcd], monkeypatch: pytest.MonkeyPatch, lists: Lists, version: str
) -> None:
    """On a live connection: what etcd compacts between the list and the watch."""
    server = etcd_server(version=version)
    register(server, A, B)
    watch = EtcdClient.watch
    begun = 0

    def watch_late(self: EtcdClient) -> AbstractAsyncContextManager[WatchStream]:
        nonlocal begun
        begun += 1
        if begun == 1:
            deregister(server, A)
            register(server, C)
            server.gateway.compact()
        return watch(self)

    monkeypatch.setattr(EtcdClient, "watch", watch_late)
    async with watching(server.url) as seen:
        await until(seen, "web", B, C)
        register(server, A)
        await until(seen, "web", A, B, C)
        assert (begun, lists.made, seen.generation) == (2, 2, 1)


async def test_ET5_a_transaction_is_seen_as_a_whole(etcd_server: Callable[..., Etcd]) -> None:
    server = etcd_server()
    everything = {f"rpc/web/{n}": f"10.0.{n >> 8}.{n & 255}:80" for n in range(100)}
    server.gateway.transaction(everything)
    async with watching(server.url) as seen:
        await wait_for_async(lambda: len(served(seen, "web")) == 100, TIMEOUT, "all of them")
        seen.watch_fewest()
        reports = len(seen.history)
        # The old ones leave and new ones come in one revision: there was never an empty service.
        others = {f"rpc/web/x{n}": f"10.1.{n >> 8}.{n & 255}:80" for n in range(20)}
        server.gateway.transaction(others, list(everything))
        await wait_for_async(lambda: served(seen, "web") == sorted(others.values()), TIMEOUT, "the others")
        assert min(seen.fewest.values()) == 20
        assert len([entry for entry in seen.history[reports:] if entry.startswith("put")]) == 1


@pytest.mark.parametrize("largest", [64 << 20, 2 << 20], ids=["in one message", "too large for one"])
async def test_ET10_much_that_happened_during_a_break_is_taken_whole(
    etcd_server: Callable[..., Etcd], monkeypatch: pytest.MonkeyPatch, largest: int
) -> None:
    """etcd sends up to 1,000 revisions in one message after a break; where that is too large, a list comes in pages."""
    monkeypatch.setattr(client_module, "LARGEST_MESSAGE", largest)
    server = etcd_server()
    register(server, A)
    async with proxied(server) as (proxy, seen):
        await until(seen, "web", A)
        await break_contact(proxy, seen)
        for number in range(60):
            server.gateway.put(f"rpc/large/{number}", "x" * 60_000)
        register(server, B)
        proxy.heal()
        await until(seen, "web", A, B)
        assert len([scope for scope, refused in seen.refused.items() if refused]) == 60


async def test_ET7_a_lease_that_ends_takes_its_keys_along(etcd_server: Callable[..., Etcd]) -> None:
    server = etcd_server()
    lease = server.gateway.lease(60)
    server.gateway.put(f"rpc/web/{A}", A, lease=lease)
    register(server, B)
    async with watching(server.url) as seen:
        await until(seen, "web", A, B)
        server.gateway.revoke(lease)
        await until(seen, "web", B)


async def test_ET7_much_that_goes_at_once_begins_a_settling_time(etcd_server: Callable[..., Etcd]) -> None:
    """As the leases of clients do that cannot reach etcd; one instance that goes is no sign of it."""
    server = etcd_server()
    lease = server.gateway.lease(60)
    for number in range(10):
        register(server, f"10.0.0.{number}:80", name=f"web-{number}")
        server.gateway.put(f"rpc/web-{number}/leased", f"10.0.1.{number}:80", lease=lease)
    async with watching(server.url) as seen:
        await until(seen, "web-9", "10.0.0.9:80", "10.0.1.9:80")
        deregister(server, "10.0.0.9:80", name="web-9")
        await until(seen, "web-9", "10.0.1.9:80")
        assert (seen.generation, seen.syncs) == (1, 1)
        server.gateway.revoke(lease)
        await until(seen, "web-9")
        await wait_for_async(lambda: seen.syncs == 2, TIMEOUT, "a list behind it")
        assert (seen.generation, seen.mended_count) == (2, 0)


async def test_ET10_a_flood_of_changes_ends_in_the_right_state(etcd_server: Callable[..., Etcd]) -> None:
    server = etcd_server()
    register(server, A)
    async with watching(server.url) as seen:
        await until(seen, "web", A)

        def flood() -> None:
            for turn in range(20):
                server.gateway.fill({f"rpc/many/{n}": f"10.2.{turn}.{n}:80" for n in range(200)})

        await asyncio.to_thread(flood)
        last = sorted(f"10.2.19.{n}:80" for n in range(200))
        await wait_for_async(lambda: served(seen, "many") == last, TIMEOUT, "the last state")
        assert seen.mended_count == 0


async def test_G6_what_no_watch_told_is_mended_and_counted(
    etcd_server: Callable[..., Etcd], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A watch that loses an event; etcd's own never did, so ours forgets one."""
    server = etcd_server()
    register(server, A)
    apply = Keys.apply
    monkeypatch.setattr(Keys, "apply", lambda self, records: apply(self, [r for r in records if B.encode() != r.value]))
    async with watching(server.url, reconcile=1.0) as seen:
        await until(seen, "web", A)
        register(server, B)
        await until(seen, "web", A, B)
        assert seen.mended_count == 1


async def test_G6_lists_behind_a_busy_watch_find_nothing_and_disturb_nothing(
    etcd_server: Callable[..., Etcd],
) -> None:
    server = etcd_server()
    register(server, A)
    async with watching(server.url, reconcile=0.1) as seen:
        await until(seen, "web", A)

        def write() -> None:
            for turn in range(1, 400):
                server.gateway.put("rpc/busy/1", f"10.3.{turn >> 8}.{turn & 255}:80")

        await asyncio.to_thread(write)
        await until(seen, "busy", "10.3.1.143:80")
        assert seen.syncs > 3
        assert (seen.generation, seen.mended_count) == (1, 0)
