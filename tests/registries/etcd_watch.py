"""An etcd adapter under test, with a sink that records."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from isthmus.adapters.etcd.adapter import EtcdAdapter
from isthmus.adapters.etcd.options import EtcdOptions, EtcdPrefix
from tests.registries.recorder import Recorder
from tests.registries.watching import TIMEOUT, Quick, supervised, until_stale
from tests.rig.proxy import proxy_to
from tests.rig.wait import wait_for_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.rig.etcd import Etcd
    from tests.rig.proxy import Proxy

__all__ = [
    "TIMEOUT",
    "Lists",
    "Watched",
    "break_contact",
    "deregister",
    "proxied",
    "register",
    "served",
    "until",
    "until_stale",
    "watching",
]

# A test on a busy machine must not take a slow answer for none.
PATIENT = 20.0


class Watched(Recorder):
    """What an adapter reports, and the adapter."""

    def __init__(self, adapter: EtcdAdapter) -> None:
        super().__init__()
        self.adapter = adapter


@asynccontextmanager
async def watching(address: str, prefix: str = "rpc/", **options: object) -> AsyncIterator[Watched]:
    """Run an adapter, as the bridge does, until the block ends; what is under the prefix is go-zero's."""
    prefixes = {prefix: EtcdPrefix("go-zero")}
    fields: dict[str, object] = {"address": address, "prefixes": prefixes, "timeout": PATIENT, **options}
    adapter = EtcdAdapter(EtcdOptions(name="etcd", **fields))  # type: ignore[arg-type]
    recorder = Watched(adapter)
    async with supervised("etcd", adapter, recorder, Quick(random.Random())):
        yield recorder


def served(recorder: Recorder, name: str) -> list[str]:
    """Return `address:port` of the endpoints whose host begins with a name."""
    keys = [key for key, one in recorder.services.items() if one.host.startswith(f"{name}.")]
    return sorted(address for key in keys for address in recorder.addresses(key))


async def until(recorder: Recorder, name: str, *expected: str) -> None:
    """Wait until a service has exactly these endpoints, as `address:port`, by a complete read or after one."""
    await wait_for_async(
        lambda: recorder.syncs and recorder.stale_reason is None and served(recorder, name) == sorted(expected),
        TIMEOUT,
        f"{name} at {expected}, seen {served(recorder, name)} {recorder.history[-5:]}",
    )


class Lists:
    """The lists that are made: `made` counts them, and while `allowed` is not set those that begin wait."""

    def __init__(self) -> None:
        self.made = 0
        self.allowed = asyncio.Event()
        self.allowed.set()


def register(server: Etcd, *instances: str, name: str = "web") -> None:
    for instance in instances:
        server.gateway.put(f"rpc/{name}/{instance}", instance)


def deregister(server: Etcd, *instances: str, name: str = "web") -> None:
    for instance in instances:
        server.gateway.delete(f"rpc/{name}/{instance}")


@asynccontextmanager
async def proxied(server: Etcd) -> AsyncIterator[tuple[Proxy, Watched]]:
    """Watch a server over a network that can be cut."""
    async with proxy_to("127.0.0.1", server.port) as proxy, watching(f"http://{proxy.address}") as seen:
        yield proxy, seen


async def break_contact(proxy: Proxy, seen: Watched) -> None:
    proxy.cut()
    await until_stale(seen)
