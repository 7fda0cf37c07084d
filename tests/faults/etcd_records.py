"""What is registered in an etcd in each format, as it should be and as it should not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from isthmus.registry import codes
from tests.faults.bad_answers import SECRET
from tests.faults.bad_sources import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

ODD_PLACES = {
    ":8080": Refused(codes.NOT_AN_ADDRESS, ("address",)),
    "10.1.0.9:0": Refused(codes.BAD_PORT, ("0", "not a number from 1 to 65535")),
    "shop-host:8080": Refused(codes.NOT_AN_ADDRESS, ("'shop-host'",)),
}
GOOD_PLACE = "10.1.0.1:8080"
NOT_JSON = f'{{"password": "{SECRET}-of-owner", "addr'
DEEP = json.dumps({"metadata": 0, "Metadata": 0, "tags": 0}).replace("0", "[" * 10_000 + "]" * 10_000)
LARGE = f'{{"password": "{SECRET * 375_000}'
NO_URL = quote(f"10.1.0.1?password={SECRET}-of-owner", safe="")
NOT_READ = Refused(codes.GARBLED, ("cannot be read",))
TOO_DEEP = Refused(codes.GARBLED, ("nested too deep",))
NO_PLACE = Refused(codes.GARBLED, ("not `host:port`",))
NOT_A_URL = Refused(codes.GARBLED, ("not a URL",))

Instance = tuple[str, str]


class Shape(NamedTuple):
    """One format.

    instance: from a service's name and `host:port` to a key below the prefix and its value.
    outside: a key outside of the layout, and a word of why it is refused.
    garbled: what cannot be read, as last parts of keys and as values.
    suffix: of the hosts, a pattern.
    """

    instance: Callable[[str, str], Instance]
    outside: tuple[str, str]
    garbled: tuple[tuple[Instance, Refused], ...] = ((("1", NOT_JSON), NOT_READ), (("2", DEEP), TOO_DEEP))
    suffix: str = r"\.mesh"

    def odd(self, name: str) -> list[tuple[Instance, Refused]]:
        """Return keys, of a service of this name where they are of any, with their values and how each is refused."""
        outside, word = self.outside
        folder = self.instance(name, GOOD_PLACE)[0].rpartition("/")[0]
        return [
            *((self.instance(name, place), refused) for place, refused in ODD_PLACES.items()),
            ((outside, self.instance(name, GOOD_PLACE)[1]), Refused(codes.GARBLED, (word,))),
            *(((f"{folder}/{last}", value), refused) for (last, value), refused in self.garbled),
            ((f"{folder}/large", LARGE), Refused(codes.TOO_LONG)),
        ]


def dubbo(name: str, place: str) -> Instance:
    url = f"dubbo://{place}/{name}?version=1.0.0"
    return f"{name}/providers/{quote(url, safe='')}", "7587883"


def dubbo_application(name: str, place: str) -> Instance:
    host, _, port = place.rpartition(":")
    return f"{name}/{place}", json.dumps({"id": place, "serviceName": name, "host": host, "port": int(port)})


def grpc(name: str, place: str) -> Instance:
    return f"{name}/{place}", json.dumps({"Op": 0, "Addr": place, "Metadata": None})


def kitex(name: str, place: str) -> Instance:
    return f"{name}/{place}", json.dumps({"network": "tcp", "address": place, "weight": 10, "tags": None})


def kratos(name: str, place: str) -> Instance:
    return f"{name}/{place}", json.dumps({"id": place, "name": name, "endpoints": [f"http://{place}"]})


def go_micro(name: str, place: str) -> Instance:
    return f"{name}/{place}", json.dumps({"name": name, "nodes": [{"id": place, "address": place}]})


def go_zero(name: str, place: str) -> Instance:
    return f"{name}/{place}", place


def any_json(name: str, place: str) -> Instance:
    return f"{name}/{place}", json.dumps({"address": place})


SHAPES = {
    "dubbo": Shape(dubbo, ("com.foo.Bar/else/1", "INTERFACE/"), (((NO_URL, ""), NOT_A_URL),), r"\.1-0-0\.dubbo"),
    "dubbo-applications": Shape(dubbo_application, ("a/b/c", "APPLICATION/")),
    "grpc": Shape(grpc, ("shop/", "NAME/")),
    "kitex": Shape(kitex, ("a/b/c", "SERVICE/")),
    "kratos": Shape(kratos, ("a/1", "not below the name")),
    "go-micro": Shape(go_micro, ("a/b/c", "NAME/")),
    "go-zero": Shape(go_zero, ("shop/", "NAME/"), ((("1", NOT_JSON), NO_PLACE),)),
    "json": Shape(any_json, ("shop/", "NAME/")),
}
