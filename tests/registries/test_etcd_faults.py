"""What befalls a real etcd, and what the adapter makes of it: no leader, restored backups, rights, tokens, TLS."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from isthmus.adapters.etcd import client as client_module
from isthmus.adapters.etcd.options import EtcdPrefix
from isthmus.registry import codes
from tests.registries.etcd_watch import (
    TIMEOUT,
    break_contact,
    deregister,
    proxied,
    register,
    served,
    until,
    until_stale,
    watching,
)
from tests.rig.certificates import ClientCertificates
from tests.rig.etcd import READER, READER_PASSWORD, READERS
from tests.rig.wait import wait_for_async

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.registries.etcd_watch import Lists
    from tests.rig.etcd import Etcd, EtcdCluster

A, B, C = "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"


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


async def test_no_right_to_anything_is_said(etcd_server: Callable[..., Etcd]) -> None:
    server = etcd_server(readable="rpc/")
    async with watching(server.url, "other/", username=READER, password=READER_PASSWORD) as seen:
        await until_stale(seen, "grant this source's user the right")
        assert seen.syncs == 0
