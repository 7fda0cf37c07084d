"""Fills a real ZooKeeper with Dubbo providers, as many as are asked for."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from kazoo.client import KazooClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_AT_ONCE = 1_000


def interface(index: int) -> str:
    """Return the name of an interface, of the length that names have in the field."""
    return f"com.example.shop.department{index % 40}.service.Example{index}Service"


def provider_node(name: str, host: str, port: int) -> str:
    """Return a provider's node: the parameters that Dubbo 3.3 writes, percent-encoded as Dubbo does."""
    application = f"shop-{name.split('.')[3]}"
    parameters = (
        f"application={application}&deprecated=false&dubbo=2.0.2&dynamic=true&generic=false&interface={name}"
        "&methods=add,find,list,place,remove,update&owner=team-a&prefer.serialization=hessian2,fastjson2"
        "&release=3.3.5&revision=1&service-name-mapping=true&side=provider&timestamp=1795254866929&zone=z1"
    )
    return quote(f"dubbo://{host}:{port}/{name}?{parameters}", safe="")


def host(index: int) -> str:
    """Return one of the 10.64.0.0/10 addresses."""
    return f"10.{64 + (index >> 16)}.{index >> 8 & 255}.{index & 255}"


@contextmanager
def writer(address: str) -> Iterator[KazooClient]:
    """Give a client that registers, with a session long enough for any bench."""
    client = KazooClient(address, timeout=60)
    client.start(timeout=30)
    try:
        yield client
    finally:
        client.stop()
        client.close()


def fill(client: KazooClient, interfaces: int, providers: int) -> None:
    """Register `providers` providers of each of `interfaces` interfaces; ephemeral, as Dubbo's are."""
    names = [interface(index) for index in range(interfaces)]
    client.ensure_path("/dubbo")
    _pipelined(names, lambda name: client.create_async(f"/dubbo/{name}"))
    _pipelined(names, lambda name: client.create_async(f"/dubbo/{name}/providers"))
    registrations = [
        (name, provider_node(name, host(index * providers + each), 20880 + each))
        for index, name in enumerate(names)
        for each in range(providers)
    ]
    _pipelined(registrations, lambda one: client.create_async(f"/dubbo/{one[0]}/providers/{one[1]}", ephemeral=True))


def _pipelined(items: list[Any], send: Callable[[Any], Any]) -> None:
    for start in range(0, len(items), _AT_ONCE):
        for reply in [send(item) for item in items[start : start + _AT_ONCE]]:
            reply.get(timeout=60)
