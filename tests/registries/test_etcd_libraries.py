"""What the real libraries register in a real etcd, as the adapter reads it: every format but the user's own JSON."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

import pytest

from isthmus.adapters.etcd.options import EtcdPrefix
from tests.registries.etcd_watch import TIMEOUT, watching
from tests.rig.dubbo import GREETING, ORDER
from tests.rig.etcd_writers import PREFIXES
from tests.rig.wait import wait_for_async

if TYPE_CHECKING:
    from collections.abc import Callable

    from isthmus.registry.model import Endpoint, Service
    from tests.registries.recorder import Recorder
    from tests.rig.dubbo import DubboProvider
    from tests.rig.etcd import Etcd
    from tests.rig.etcd_writers import EtcdWriters, Format

ADDRESS, OTHER = "10.0.0.1:9000", "10.0.0.2:9001"
METADATA = {"version": "v1", "zone": "z1"}


class Library(NamedTuple):
    """How a library's services look: the format that reads them, below which prefix, and what becomes of one."""

    writer: Format
    format: str
    name: str
    host: str
    identity: str
    port: tuple[int, str]
    metadata: bool = True

    @property
    def prefix(self) -> str:
        """The library's own prefix, or else a beginning of the names that no other test has."""
        return PREFIXES.get(self.writer, self.name)


LIBRARIES = (
    Library("grpc", "grpc", "lib-grpc", "lib-grpc.mesh", "app:lib-grpc", (50051, "GRPC")),
    Library("go-zero", "go-zero", "lib.zero", "lib.zero.mesh", "app:lib.zero", (50051, "GRPC"), metadata=False),
    Library("go-kit", "go-zero", "lib-kit", "lib-kit.mesh", "app:lib-kit", (50051, "GRPC"), metadata=False),
    Library("go-micro", "go-micro", "lib.micro", "lib.micro.mesh", "app:lib.micro", (50051, "GRPC")),
    Library("kratos", "kratos", "lib.kratos", "lib.kratos.grpc", "app:lib.kratos", (50051, "GRPC")),
    Library("kitex", "kitex", "lib.kitex", "lib.kitex.mesh", "app:lib.kitex", (8888, "TCP")),
)


def served(seen: Recorder, host: str) -> dict[str, Endpoint]:
    """Return the endpoints of a host by `address:port`."""
    services = [one for one in seen.services.values() if one.host == host]
    return {
        f"{one.workload.address}:{port}": one
        for service in services
        for one in service.endpoints
        for _, port in one.workload.ports
    }


def service(seen: Recorder, host: str) -> Service:
    (found,) = (one for one in seen.services.values() if one.host == host)
    return found


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.writer)
async def test_what_a_real_library_registers_is_served_until_it_leaves(
    library: Library, etcd: Etcd, etcd_writers: Callable[..., EtcdWriters]
) -> None:
    staying, leaving = etcd_writers(etcd), etcd_writers(etcd)
    metadata = METADATA if library.metadata else None
    prefixes = {library.prefix: EtcdPrefix(library.format)}
    labels = {"version": "version", "zone": "zone"}
    async with watching(etcd.url, prefixes=prefixes, labels=labels) as seen:
        staying.register(library.writer, library.name, ADDRESS, metadata=metadata)
        leaving.register(library.writer, library.name, OTHER)
        await until(seen, library.host, ADDRESS, OTHER)
        found = service(seen, library.host)
        (port,) = found.ports
        assert (found.identity, port.number, port.protocol) == (library.identity, *library.port)
        labelled = dict(served(seen, library.host)[ADDRESS].workload.labels)
        assert labelled == (METADATA if library.metadata else {})
        assert not any(seen.refused.values())

        # It is gone without a word: its lease ends.
        leaving.kill()
        await until(seen, library.host, ADDRESS)
        staying.unregister(library.writer, library.name, ADDRESS)
        await until(seen, library.host)


async def test_kitex_weights_keep_their_ratio(etcd: Etcd, etcd_writers: Callable[..., EtcdWriters]) -> None:
    writers = etcd_writers(etcd)
    writers.register("kitex", "lib.weights", ADDRESS, weight=20)
    writers.register("kitex", "lib.weights", OTHER, weight=10)
    async with watching(etcd.url, prefixes={PREFIXES["kitex"]: EtcdPrefix("kitex")}) as seen:
        await until(seen, "lib.weights.mesh", ADDRESS, OTHER)
        weights = {place: one.workload.weight for place, one in served(seen, "lib.weights.mesh").items()}
        assert weights == {ADDRESS: 200, OTHER: 100}


async def test_a_real_dubbo_provider_is_what_it_is_in_zookeeper(
    etcd: Etcd, dubbo_etcd: Callable[..., DubboProvider]
) -> None:
    services = (GREETING, f"{GREETING}:2.0.0:gray", f"{ORDER}:1.0.0")
    provider = await asyncio.to_thread(lambda: dubbo_etcd(etcd, services))
    # As test_dubbo_parity.py finds them in ZooKeeper and in Nacos.
    hosts = {
        "rig.greetingservice.dubbo": "dubbo:rig.GreetingService",
        "rig.greetingservice.2-0-0.gray.dubbo": "dubbo:gray/rig.GreetingService:2.0.0",
        "rig.orderservice.1-0-0.dubbo": "dubbo:rig.OrderService:1.0.0",
    }
    async with watching(etcd.url, prefixes={"/dubbo/": EtcdPrefix("dubbo")}) as seen:
        for host, identity in hosts.items():
            await until(seen, host, provider.address)
            assert service(seen, host).identity == identity
        assert not any(seen.refused.values())
        provider.kill()
        for host in hosts:
            await until(seen, host)


async def until(seen: Recorder, host: str, *expected: str) -> None:
    await wait_for_async(
        lambda: seen.syncs and sorted(served(seen, host)) == sorted(expected),
        TIMEOUT,
        f"{host} at {expected}, seen {served(seen, host).keys()}",
    )
