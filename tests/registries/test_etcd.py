"""The etcd adapter on real servers: the rules ET1 to ET10."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from isthmus.adapters.etcd import client as client_module
from isthmus.adapters.etcd.client import EtcdClient
from isthmus.adapters.etcd.keys import Keys
from isthmus.adapters.etcd.options import EtcdOptions, EtcdPrefix
from isthmus.registry import codes
from tests.registries.etcd_watch import TIMEOUT, served, until, until_stale, watching
from tests.rig.certificates import ClientCertificates
from tests.rig.etcd import READER, READER_PASSWORD, READERS
from tests.rig.proxy import proxy_to
from tests.rig.wait import wait_for_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from isthmus.adapters.etcd.client import Listed, WatchStream
    from tests.registries.etcd_watch import Watched
    from tests.rig.etcd import Etcd, EtcdCluster
    from tests.rig.proxy import Proxy

A, B, C = "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"


def register(server: Etcd, *instances: str, name: str = "web") -> None:
    for instance in instances:
        server.gateway.put(f"rpc/{name}/{instance}", instance)


def deregister(server: Etcd, *instances: str, name: str = "web") -> None:
    for instance in instances:
        server.gateway.delete(f"rpc/{name}/{instance}")


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


class Lists:
    """The lists that are made: `made` counts them, and while `allowed` is not set those that begin wait."""

    def __init__(self) -> None:
        self.made = 0
        self.allowed = asyncio.Event()
        self.allowed.set()


@pytest.fixture
def lists(monkeypatch: pytest.MonkeyPatch) -> Lists:
    lists = Lists()
    once = EtcdClient.list

    async def counted(self: EtcdClient, prefix: bytes) -> Listed:
        lists.made += 1
        await lists.allowed.wait()
        return await once(self, prefix)

    monkeypatch.setattr(EtcdClient, "list", counted)
    return lists


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


async def test_ET4_a_frozen_server_is_noticed(etcd_server: Callable[..., Etcd]) -> None:
    server = etcd_server()
    register(server, A)
    async with watching(server.url, timeout=1.0) as seen:
        await until(seen, "web", A)
        server.pause()
        await until_stale(seen, server.address)
        assert served(seen, "web") == [A]
        server.resume()
        register(server, B)
        await until(seen, "web", A, B)


@pytest.mark.parametrize("version", ["3.4", "3.5", "3.6"])
async def test_ET4_a_quiet_server_gives_signs_of_life(etcd_server: Callable[..., Etcd], version: str) -> None:
    """Nothing happens after the list, so the next revision, which etcd tells no progress of, is yet to come."""
    server = etcd_server(version=version)
    register(server, A)
    async with watching(server.url, timeout=0.5) as seen:
        await until(seen, "web", A)
        contacts = seen.contacts
        await wait_for_async(lambda: seen.contacts >= contacts + 8, TIMEOUT, "signs of life")
        assert seen.generation == 1


async def test_ET4_a_member_without_a_leader_is_left_and_nothing_withdrawn(
    etcd_cluster: Callable[..., EtcdCluster],
) -> None:
    cluster = etcd_cluster()
    alone = cluster.members[0]
    register(alone, A, B)
    async with watching(alone.url) as seen:
        await until(seen, "web", A, B)
        cluster.isolate(alone)
        await until_stale(seen)
        assert served(seen, "web") == [A, B]
        cluster.heal()
        deregister(alone, A)
        await until(seen, "web", B)


async def test_the_next_member_is_asked_where_one_fails(etcd_cluster: Callable[..., EtcdCluster], lists: Lists) -> None:
    cluster = etcd_cluster()
    first, second, third = cluster.members
    register(first, A)
    async with watching(f"{first.url},{second.url}", settle=0.0) as seen:
        await until(seen, "web", A)
        leader = first.member_id()
        first.kill()
        third.wait(lambda: third.leader_id() not in (0, leader), TIMEOUT, "another leader")
        register(third, B)
        await until(seen, "web", A, B)


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


@pytest.mark.parametrize("cluster", ["rig", "another"])
async def test_ET6_a_restored_backup_is_read_anew(etcd_server: Callable[..., Etcd], cluster: str) -> None:
    server = etcd_server()
    register(server, A, B)
    backup = server.backup()
    async with watching(server.url) as seen:
        await until(seen, "web", A, B)
        register(server, C)
        await until(seen, "web", A, B, C)
        server.kill()
        await until_stale(seen)
        assert served(seen, "web") == [A, B, C]
        server.restore(backup, cluster=cluster)
        deregister(server, A)
        register(server, "10.0.0.9:80")
        await until(seen, "web", B, "10.0.0.9:80")
        deregister(server, B)
        await until(seen, "web", "10.0.0.9:80")


async def test_ET6_a_restored_backup_that_was_changed_by_deletions_alone(etcd_server: Callable[..., Etcd]) -> None:
    """As many keys as were known, and the same one put last: a list behind the watches tells them apart."""
    server = etcd_server()
    everybody = [f"10.0.0.{number}:80" for number in range(1, 6)]
    register(server, *everybody)
    backup = server.backup()
    async with proxied(server) as (proxy, seen):
        await until(seen, "web", *everybody)
        deregister(server, everybody[0], everybody[3])
        await until(seen, "web", *everybody[1:3], everybody[4])
        await break_contact(proxy, seen)
        server.kill()
        server.restore(backup)
        deregister(server, everybody[1], everybody[4])
        proxy.heal()
        await until(seen, "web", everybody[0], *everybody[2:4])


async def test_ET6_a_restored_backup_whose_numbers_fit_is_known_by_what_it_holds(
    etcd_server: Callable[..., Etcd], lists: Lists
) -> None:
    """The same cluster id, and more revisions than were seen: only another history shows that a backup was restored."""
    server = etcd_server()
    register(server, A, B)
    backup = server.backup()
    async with proxied(server) as (proxy, seen):
        await until(seen, "web", A, B)
        register(server, C)
        deregister(server, A)
        await until(seen, "web", B, C)
        await break_contact(proxy, seen)
        server.kill()
        server.restore(backup)
        for number in range(5):
            register(server, f"10.0.1.{number}:80", name="pay")
        proxy.heal()
        await until(seen, "web", A, B)
        assert len(served(seen, "pay")) == 5
        assert lists.made == 2


async def test_ET6_a_server_that_comes_back_empty_is_read_anew(etcd_server: Callable[..., Etcd]) -> None:
    server = etcd_server()
    register(server, A, B)
    async with watching(server.url) as seen:
        await until(seen, "web", A, B)
        server.kill()
        await until_stale(seen)
        server.restart(empty=True)
        register(server, B)
        await until(seen, "web", B)
        assert seen.generation > 1


async def test_a_restarted_server_is_followed_where_it_was_left(etcd_server: Callable[..., Etcd], lists: Lists) -> None:
    server = etcd_server()
    register(server, A)
    async with watching(server.url) as seen:
        await until(seen, "web", A)
        server.kill()
        await until_stale(seen)
        lists.allowed.clear()
        server.restart()
        register(server, B)
        await until(seen, "web", A, B)


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


async def test_ET7_a_lease_that_ended_while_the_bridge_was_away(etcd_server: Callable[..., Etcd]) -> None:
    server = etcd_server()
    lease = server.gateway.lease(1)
    server.gateway.put(f"rpc/web/{A}", A, lease=lease)
    register(server, B)
    async with proxied(server) as (proxy, seen):
        await until(seen, "web", A, B)
        await break_contact(proxy, seen)
        await wait_for_async(lambda: len(server.gateway.pairs("rpc/web/")) == 1, TIMEOUT, "the lease to end")
        assert served(seen, "web") == [A, B]
        proxy.heal()
        await until(seen, "web", B)


@pytest.mark.parametrize("version", ["3.4", "3.6"])
async def test_ET9_a_token_that_ended_is_renewed(etcd_server: Callable[..., Etcd], lists: Lists, version: str) -> None:
    server = etcd_server(version=version, readable="rpc/", token_ttl_s=1)
    register(server, A)
    credentials = {"username": READER, "password": READER_PASSWORD}
    async with watching(server.url, reconcile=2.0, **credentials) as seen:
        await until(seen, "web", A)
        await wait_for_async(lambda: lists.made >= 3, TIMEOUT, "lists after the end of the token")
        register(server, B)
        await until(seen, "web", A, B)
        assert seen.generation == 1


async def test_ET9_a_value_of_the_largest_size_is_refused_and_harms_nobody(etcd_server: Callable[..., Etcd]) -> None:
    server = etcd_server()
    register(server, A)
    server.gateway.put("rpc/web/large", b"x" * 1_500_000)
    async with watching(server.url) as seen:
        await until(seen, "web", A)
        assert [one.code for one in seen.refused["rpc/web/large"]] == [codes.TOO_LONG]
        server.gateway.put("rpc/web/larger", b"y" * 1_500_000)
        register(server, B)
        await until(seen, "web", A, B)
        assert [one.code for one in seen.refused["rpc/web/larger"]] == [codes.TOO_LONG]


async def test_ET9_many_large_values_are_listed_in_smaller_pages(
    etcd_server: Callable[..., Etcd], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "LARGEST_MESSAGE", 2 << 20)
    server = etcd_server()
    for number in range(4):
        server.gateway.put(f"rpc/web/{number}", b"x" * 900_000)
    register(server, A)
    async with watching(server.url) as seen:
        await until(seen, "web", A)
        assert len([scope for scope, refused in seen.refused.items() if refused]) == 4


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


async def test_a_wrong_password_is_said(etcd_server: Callable[..., Etcd]) -> None:
    server = etcd_server(readable="rpc/")
    async with watching(server.url, username=READER, password="wrong") as seen:
        await until_stale(seen, "check `username` and `password`")
    async with watching(server.url) as seen:
        await until_stale(seen, "check `username` and `password`")


async def test_a_prefix_without_rights_leaves_the_others_alone(etcd_server: Callable[..., Etcd]) -> None:
    server = etcd_server(readable="rpc/")
    register(server, A)
    prefixes = {"rpc/": EtcdPrefix("go-zero"), "other/": EtcdPrefix("go-zero")}
    credentials = {"username": READER, "password": READER_PASSWORD}
    async with watching(server.url, prefixes=prefixes, reconcile=1.0, **credentials) as seen:
        await until(seen, "web", A)
        assert [one.code for one in seen.refused["other/*"]] == [codes.DENIED]
        server.gateway.put("other/web2/1", C)
        server.gateway.grant_read(READERS, "other/")
        await until(seen, "web2", C)
        assert seen.refused["other/*"] == ()
        server.gateway.revoke_read(READERS, "other/")
        await wait_for_async(lambda: seen.refused["other/*"], TIMEOUT, "the right to be gone")
        assert served(seen, "web2") == [C]
        register(server, B)
        await until(seen, "web", A, B)


@pytest.mark.parametrize("version", ["3.4", "3.6"])
async def test_rights_that_were_lost_and_come_back(etcd_server: Callable[..., Etcd], version: str) -> None:
    server = etcd_server(version=version, readable="rpc/", token_ttl_s=2)
    register(server, A)
    async with watching(server.url, reconcile=0.5, username=READER, password=READER_PASSWORD) as seen:
        await until(seen, "web", A)
        server.gateway.revoke_read(READERS, "rpc/")
        await until_stale(seen, "grant this source's user the right")
        register(server, B)
        deregister(server, A)
        assert served(seen, "web") == [A]
        server.gateway.grant_read(READERS, "rpc/")
        await until(seen, "web", B)


async def test_no_right_to_anything_is_said(etcd_server: Callable[..., Etcd]) -> None:
    server = etcd_server(readable="rpc/")
    async with watching(server.url, "other/", username=READER, password=READER_PASSWORD) as seen:
        await until_stale(seen, "grant this source's user the right")
        assert seen.syncs == 0


async def test_tls_with_a_client_certificate(etcd_server: Callable[..., Etcd], tmp_path: Path) -> None:
    certificates = ClientCertificates(tmp_path / "certificates")
    server = etcd_server(certificates=certificates)
    register(server, A)
    files = {
        "ca": str(certificates.ca_file),
        "cert": str(certificates.client_cert_file),
        "key": str(certificates.client_key_file),
    }
    async with watching(server.url, **files) as seen:
        await until(seen, "web", A)
    async with watching(server.url, ca=files["ca"], timeout=2.0) as seen:
        await until_stale(seen, server.address)
        assert seen.syncs == 0


@asynccontextmanager
async def proxied(server: Etcd) -> AsyncIterator[tuple[Proxy, Watched]]:
    """Watch a server over a network that can be cut."""
    async with proxy_to("127.0.0.1", server.port) as proxy, watching(f"http://{proxy.address}") as seen:
        yield proxy, seen


async def break_contact(proxy: Proxy, seen: Watched) -> None:
    proxy.cut()
    await until_stale(seen)
