"""The etcd servers of the rig itself, and the real clients that register in them."""

from __future__ import annotations

import http.client
import ssl
from typing import TYPE_CHECKING

import pytest

from tests.rig.certificates import ClientCertificates
from tests.rig.dubbo import GREETING, ORDER
from tests.rig.etcd import READER, READER_PASSWORD
from tests.rig.etcd_gateway import EtcdError
from tests.rig.etcd_writers import PREFIXES, Format, WriterError
from tests.rig.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.rig.dubbo import DubboProvider
    from tests.rig.etcd import Etcd, EtcdCluster, Version
    from tests.rig.etcd_writers import EtcdWriters

TIMEOUT_S = 60.0
FORMATS: tuple[Format, ...] = ("grpc", "go-zero", "go-kit", "go-micro", "kratos", "kitex")
every_version = pytest.mark.parametrize("version", ["3.4", "3.5", "3.6"])


def keys(server: Etcd, prefix: str = "") -> set[str]:
    return set(server.gateway.pairs(prefix))


@every_version
def test_a_server_keeps_counts_and_forgets(etcd_server: Callable[..., Etcd], version: Version) -> None:
    server = etcd_server(version=version)
    gateway = server.gateway
    assert gateway.status()["version"].startswith(version)
    first = gateway.revision()
    lease = gateway.lease(2)
    gateway.put("/a/leased", b"\xff", lease=lease)
    assert gateway.keep_alive(lease) == 2
    assert gateway.transaction({"/a/1": "one", "/a/2": "two"}, ["/a/leased"]) == first + 2
    assert {key: pair.value for key, pair in gateway.pairs("/a/").items()} == {"/a/1": b"one", "/a/2": b"two"}

    assert gateway.compact() == first + 2
    gateway.revoke(lease)
    gateway.fill({f"/b/{number}": "x" for number in range(300)}, lease=gateway.lease(2))
    assert len(keys(server, "/b/")) == 300
    wait_for(lambda: not keys(server, "/b/"), TIMEOUT_S, "end of the lease")
    server.kill()
    server.restart()
    assert keys(server) == {"/a/1", "/a/2"}


@every_version
def test_a_backup_turns_the_clock_back(etcd_server: Callable[..., Etcd], version: Version) -> None:
    server = etcd_server(version=version)
    server.gateway.put("/old", "")
    cluster = server.gateway.status()["header"]["cluster_id"]
    backup = server.backup()
    newest = server.gateway.put("/new", "")

    server.kill()
    server.restore(backup)
    assert keys(server) == {"/old"}
    assert server.gateway.revision() < newest
    assert server.gateway.status()["header"]["cluster_id"] == cluster
    server.kill()
    server.restore(backup, cluster="another")
    assert server.gateway.status()["header"]["cluster_id"] != cluster


@every_version
def test_a_reader_reads_its_prefix_only(etcd_server: Callable[..., Etcd], version: Version) -> None:
    server = etcd_server(version=version, readable="/a/")
    server.gateway.put("/a/1", "one")
    server.kill()
    server.restart()
    server.gateway.user = (READER, READER_PASSWORD)
    assert keys(server, "/a/") == {"/a/1"}
    with pytest.raises(EtcdError, match="permission denied"):
        keys(server)
    with pytest.raises(EtcdError, match="permission denied"):
        server.gateway.put("/a/1", "two")
    server.gateway.user = None
    with pytest.raises(EtcdError, match="user name is empty"):
        keys(server, "/a/")


def test_a_member_alone_has_no_leader(etcd_cluster: Callable[..., EtcdCluster]) -> None:
    cluster = etcd_cluster()
    leader = cluster.leader()
    leader.gateway.put("/a", "")
    cluster.isolate(leader)
    assert not leader.ready()
    cluster.heal()
    assert all("/a" in keys(member) for member in cluster.members)


def test_history_is_forgotten_by_itself(etcd_server: Callable[..., Etcd]) -> None:
    gateway = etcd_server(auto_compaction="1s").gateway
    old = gateway.put("/a", "")
    gateway.put("/a", "")
    assert gateway.kept(old)
    wait_for(lambda: not gateway.kept(old), TIMEOUT_S, "compaction")


def test_tls_demands_a_certificate(etcd_server: Callable[..., Etcd], tmp_path: Path) -> None:
    certificates = ClientCertificates(tmp_path / "certificates")
    server = etcd_server(certificates=certificates)
    context = ssl.create_default_context(cafile=certificates.ca_file)
    with pytest.raises(ssl.SSLError, match="certificate required"):
        _health(server, context)
    context.load_cert_chain(certificates.client_cert_file, certificates.client_key_file)
    assert _health(server, context) == http.client.OK


def _health(server: Etcd, context: ssl.SSLContext) -> int:
    connection = http.client.HTTPSConnection(server.address, context=context)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status
    finally:
        connection.close()


def test_every_library_registers_and_its_leases_end(
    etcd_server: Callable[..., Etcd], etcd_writers: Callable[..., EtcdWriters]
) -> None:
    server = etcd_server()
    writers = etcd_writers(server)
    for format_ in FORMATS:
        writers.register(format_, f"stays.{format_}", "192.0.2.1:80", version="v1", weight=5, metadata={"zone": "z1"})
        writers.register(format_, f"leaves.{format_}", "192.0.2.1:80")
    assert len(keys(server)) == 2 * len(FORMATS)
    assert all(keys(server, f"{PREFIXES.get(format_, '')}stays.{format_}/") for format_ in FORMATS)
    with pytest.raises(WriterError, match="cannot register"):
        writers.register("grpc", "stays.grpc", "192.0.2.1:80")

    for format_ in FORMATS:
        writers.unregister(format_, f"leaves.{format_}", "192.0.2.1:80")
    wait_for(lambda: len(keys(server)) == len(FORMATS), TIMEOUT_S, "end of what was taken back")
    assert not [key for key in keys(server) if "leaves" in key]
    writers.kill()
    wait_for(lambda: not keys(server), TIMEOUT_S, "end of the leases")


def test_a_dubbo_provider_registers_and_its_lease_ends(
    etcd_server: Callable[..., Etcd], dubbo_etcd: Callable[..., DubboProvider]
) -> None:
    server = etcd_server()
    provider = dubbo_etcd(server, [GREETING, f"{ORDER}:1.0.0:gray"])
    prefixes = [f"/dubbo/{interface}/providers/" for interface in (GREETING, ORDER)]
    assert all(keys(server, prefix) for prefix in prefixes)
    provider.kill()
    wait_for(lambda: not any(keys(server, prefix) for prefix in prefixes), TIMEOUT_S, "end of the lease")
