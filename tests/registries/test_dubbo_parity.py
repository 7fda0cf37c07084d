"""A real Dubbo 3 service in a real ZooKeeper and in a real Nacos: one and the same service to the bridge."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from isthmus.adapters.nacos.options import NacosOptions
from isthmus.adapters.zookeeper.options import ZookeeperOptions
from isthmus.app import Bridge
from isthmus.config import Config
from tests.rig.dubbo import GREETING, ORDER
from tests.rig.wait import wait_for_async

if TYPE_CHECKING:
    from collections.abc import Callable

    from isthmus.registry.catalog import SourceState
    from isthmus.registry.model import Port
    from tests.rig.dubbo import DubboProvider
    from tests.rig.nacos import Nacos
    from tests.rig.zookeeper import ZooKeeper

TIMEOUT = 120.0
SERVICES = (GREETING, f"{GREETING}:2.0.0:gray", f"{ORDER}:1.0.0")
HOSTS = {
    "dubbo:rig.GreetingService": "rig.greetingservice.dubbo",
    "dubbo:gray/rig.GreetingService:2.0.0": "rig.greetingservice.2-0-0.gray.dubbo",
    "dubbo:rig.OrderService:1.0.0": "rig.orderservice.1-0-0.dubbo",
    "dubbo-app:shop": "shop.dubbo",
}


def hosts(source: SourceState) -> dict[str, str]:
    """Return identity -> host of what a source has somebody for."""
    return {one.identity: one.host for one in source.services.values() if one.endpoints}


def ports(source: SourceState) -> dict[str, tuple[Port, ...]]:
    return {one.identity: one.ports for one in source.services.values() if one.endpoints}


def served(bridge: Bridge, host: str) -> list[str]:
    """Return `address:port` of each endpoint of a resource, in order; nothing where there is none."""
    entry = bridge.catalog.entries.get(f"default/{host}")
    found = entry.endpoints if entry else ()
    return sorted(f"{one.address}:{number}" for one in found for _, number in one.ports)


@pytest.mark.parametrize("version", ["2", "3"])
async def test_what_is_in_both_registries_is_one_service_with_the_endpoints_of_both(
    version: str, request: pytest.FixtureRequest, zookeeper: ZooKeeper, dubbo: Callable[..., DubboProvider]
) -> None:
    nacos: Nacos = request.getfixturevalue(f"nacos{version}")
    namespace = nacos.new_namespace()

    def provider(registry: str) -> DubboProvider:
        return dubbo(registry, SERVICES, properties={"dubbo.application.register-mode": "all"})

    in_zookeeper = await asyncio.to_thread(provider, f"zookeeper://{zookeeper.address}")
    in_nacos = await asyncio.to_thread(provider, f"nacos://{nacos.address}?namespace={namespace}")
    sources = (
        # Nothing that leaves is kept for long after a loss of contact, should a busy machine cause one.
        ZookeeperOptions(name="zk", address=zookeeper.address, settle=1.0),
        NacosOptions(name="nacos", address=nacos.address, namespaces=(namespace,), settle=1.0),
    )
    async with Bridge(Config(sources=sources, listen="127.0.0.1:0", debug="")).running() as bridge:
        one, other = bridge.catalog.sources
        await wait_for_async(lambda: hosts(one) == HOSTS, TIMEOUT, "all of ZooKeeper")
        await wait_for_async(lambda: hosts(other) == HOSTS, TIMEOUT, "all of Nacos")
        assert ports(one) == ports(other)

        both = sorted([in_zookeeper.address, in_nacos.address])
        for host in HOSTS.values():
            await wait_for_async(lambda: served(bridge, host) == both, TIMEOUT, f"{host} at both")  # noqa: B023
        assert set(bridge.catalog.entries) == {f"default/{host}" for host in HOSTS.values()}
        assert list(bridge.catalog.conflicts()) == []

        await asyncio.to_thread(in_zookeeper.stop)
        for host in HOSTS.values():
            await wait_for_async(lambda: served(bridge, host) == [in_nacos.address], TIMEOUT, f"{host} at one")  # noqa: B023
