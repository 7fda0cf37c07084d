"""Why Isthmus does not use nacos-sdk-python: the rules that no setting of it keeps.

The decision is docs/decisions/0008-nacos-client.md. The tests hold for the version in requirements/nacos-sdk.txt; one
that fails with a newer one is good news: the decision may be revisited. Each shows that something is not told by
something that is told after it. What the adapter makes of the same is in test_nacos.py and test_nacos_faults.py.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.registries.nacos_fake import FakeNacos, fake_nacos, host, info
from tests.rig.nacos_sdk import NacosSdk
from tests.rig.wait import wait_for_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.conftest import Parts
    from tests.rig.nacos import Nacos

TIMEOUT = 120.0
# How long the SDK believes an answer before it reads again: a Nacos says 10 s, too little for a slow machine.
BELIEVE_MS = 3_600_000


def service(name: str, *addresses: str, made_at: int) -> dict[str, Any]:
    return info(name, [host(address) for address in addresses], made_at, cacheMillis=BELIEVE_MS)


async def until_told(sdk: NacosSdk, name: str, *addresses: str) -> None:
    """Wait until the last that was told of a service are these addresses."""
    expected = [f"{address}:8080" for address in addresses]
    await wait_for_async(
        lambda: sdk.told(name)[-1:] == [expected], TIMEOUT, f"{name} at {expected}, told {sdk.told(name)}"
    )


@pytest.fixture
def client(parts: Parts, tmp_path: Path, running: Callable[[NacosSdk], NacosSdk]) -> Callable[..., NacosSdk]:
    """Give a function that starts a client; its arguments are NacosSdk's, without the folder."""
    parts.need("nacos-sdk")
    return lambda *arguments, **options: running(NacosSdk(tmp_path / "sdk", *arguments, **options))


@asynccontextmanager
async def subscribed(client: Callable[..., NacosSdk], **settings: object) -> AsyncIterator[tuple[FakeNacos, NacosSdk]]:
    """Give a Nacos with the services a and b and a client that was told of both."""
    async with fake_nacos() as fake:
        for name, address in {"a": "10.0.0.1", "b": "10.0.0.2"}.items():
            fake.services[name] = service(name, address, made_at=1_000)
        sdk = client(f"127.0.0.1:{fake.port}", ["a", "b"], grpc_port_offset=0, **settings)
        await until_told(sdk, "a", "10.0.0.1")
        await until_told(sdk, "b", "10.0.0.2")
        yield fake, sdk


async def test_NA1_told_of_empty_services_it_tells_a_push_without_hosts_as_empty(
    client: Callable[..., NacosSdk],
) -> None:
    """Nacos writes no field that is null; the SDK takes the missing `hosts` for an empty list."""
    async with subscribed(client, update_cache_when_empty=True) as (fake, sdk):
        without_hosts = service("a", made_at=2_000)
        del without_hosts["hosts"]
        fake.push(without_hosts)
        fake.push(service("b", "10.0.0.3", made_at=2_000))
        await until_told(sdk, "b", "10.0.0.3")
        assert sdk.told("a") == [["10.0.0.1:8080"], []]


async def test_NA1_not_told_of_empty_services_it_keeps_the_last_instance_for_ever(
    client: Callable[..., NacosSdk], nacos3: Nacos
) -> None:
    """The other setting is no way out: G4 wants that what was held is released."""
    namespace = nacos3.new_namespace()
    nacos3.register("a", "10.0.0.1", 8080, namespace=namespace)
    nacos3.register("b", "10.0.0.2", 8080, namespace=namespace)
    sdk = client(nacos3.address, ["a", "b"], update_cache_when_empty=False, namespace_id=namespace)
    await until_told(sdk, "a", "10.0.0.1")
    await until_told(sdk, "b", "10.0.0.2")
    nacos3.deregister("a", "10.0.0.1", 8080, namespace=namespace)
    await wait_for_async(lambda: not nacos3.instances("a", namespace=namespace), TIMEOUT, "a without instances")
    nacos3.deregister("b", "10.0.0.2", 8080, namespace=namespace)
    nacos3.register("b", "10.0.0.3", 8080, namespace=namespace)
    await until_told(sdk, "b", "10.0.0.3")
    assert sdk.told("a") == [["10.0.0.1:8080"]]


async def test_NA2_on_a_new_connection_it_subscribes_to_nothing_for_more_than_3_s(
    client: Callable[..., NacosSdk],
) -> None:
    """It looks for lost subscriptions once in 30 s, whatever happened; Nacos's own clients do so every 3 s.

    What ends the connection is its own: one push of more than 4 MB, whatever its setting for the size of a message is.
    """
    async with subscribed(client) as (fake, _):
        await wait_for_async(lambda: fake.replies, TIMEOUT, "the first connection")
        fake.replies.clear()
        fake.push(info("a", [host("10.0.0.1", metadata={"pad": "x" * 5_000_000})], 2_000))
        await wait_for_async(lambda: "ConnectionSetupRequest" in fake.replies, TIMEOUT, "a second connection")
        looks = fake.count("HealthCheckRequest")
        # At least a second is between one look and the next.
        await wait_for_async(lambda: fake.count("HealthCheckRequest") >= looks + 4, TIMEOUT, "4 looks at it")
        assert fake.count("SubscribeServiceRequest", "a") == 1
        assert fake.count("SubscribeServiceRequest", "b") == 1


async def test_NA4_a_server_whose_clock_was_set_back_is_not_believed_however_often_it_speaks(
    client: Callable[..., NacosSdk],
) -> None:
    """An older answer is dropped, as it should be; but it is no reason to look again, and so it is for an hour."""
    async with subscribed(client) as (fake, sdk):
        fake.push(service("a", "10.0.0.1", "10.0.0.3", made_at=3_600_000))
        await until_told(sdk, "a", "10.0.0.1", "10.0.0.3")
        for moment in range(2_000, 5_000, 1_000):
            fake.services["a"] = service("a", "10.0.0.9", made_at=moment)
            fake.push(fake.services["a"])
        fake.push(service("b", "10.0.0.4", made_at=2_000))
        await until_told(sdk, "b", "10.0.0.4")
        assert sdk.told("a")[-1] == ["10.0.0.1:8080", "10.0.0.3:8080"]
        assert not fake.count("ServiceQueryRequest", "a")


async def test_G6_what_the_disk_did_not_take_once_is_never_told(client: Callable[..., NacosSdk]) -> None:
    """It remembers first, then writes a file, then tells. After a full disk it finds nothing new in any re-read.

    No setting leaves the files out.
    """
    async with subscribed(client) as (fake, sdk):
        file = sdk.cache / "DEFAULT_GROUP@@a"
        file.unlink()
        file.mkdir()
        fake.push(service("a", "10.0.0.3", made_at=2_000))
        fake.push(service("b", "10.0.0.4", made_at=2_000))
        await until_told(sdk, "b", "10.0.0.4")
        file.rmdir()
        fake.push(service("a", "10.0.0.3", made_at=3_000))
        fake.push(service("b", "10.0.0.5", made_at=3_000))
        await until_told(sdk, "b", "10.0.0.5")
        assert sdk.told("a") == [["10.0.0.1:8080"]]


async def test_G8_one_instance_that_cannot_be_read_costs_its_service_the_change(
    client: Callable[..., NacosSdk],
) -> None:
    """Its healthy neighbour is not told, and nobody is told why."""
    async with subscribed(client) as (fake, sdk):
        fake.push(info("a", [host("10.0.0.3"), host("10.0.0.4") | {"port": "http"}], 2_000, cacheMillis=BELIEVE_MS))
        fake.push(service("b", "10.0.0.5", made_at=2_000))
        await until_told(sdk, "b", "10.0.0.5")
        assert sdk.told("a") == [["10.0.0.1:8080"]]
