"""What the keys of an etcd source may hold.

A rule yields what is wrong with a value; none of its texts holds the value, which may be a secret. The rules of whole
sources, and of whole prefixes, see values of any type.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import to_builtins

from isthmus.adapters.etcd.options import FORMATS, EtcdFields, EtcdOptions, EtcdPrefix, EtcdScheme
from isthmus.adapters.servers import LOGIN
from isthmus.config import source_values as values
from isthmus.config.mistakes import Fault, Rules
from isthmus.config.rules import DAY, seconds

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Where every endpoint is under a URL scheme, whose own port and suffix it has.
_OF_SCHEMES_ONLY = ("dubbo", "kratos")
_OF_SCHEMES = (*_OF_SCHEMES_ONLY, "dubbo-applications")
_DEFAULTS = to_builtins(EtcdPrefix(""))


def _prefixes(value: Mapping[str, object]) -> Iterator[Fault]:
    if not value:
        yield Fault('there is none, so nothing would be read; "" stands for all keys', quoting=False)
    for prefix in value:
        if prefix != prefix.strip() or not prefix.isprintable():
            yield Fault("the key begins or ends with a blank, or cannot be printed", (prefix,), quoting=False)
        elif not prefix and len(value) > 1:
            yield Fault('"" stands for all keys, and must stand alone', quoting=False)
        elif any(prefix != other and prefix.startswith(other) for other in value if other):
            yield Fault("the key begins with another prefix, whose keys are read already", (prefix,), quoting=False)


def _whole_prefix(value: Mapping[str, object]) -> Iterator[Fault]:
    """What is said and would mean nothing, because the format knows no such thing."""
    form = value.get("format")
    if form not in FORMATS:
        return
    said = [key for key in value if key in _DEFAULTS and _filled(key, value[key]) != _DEFAULTS[key]]
    if form in _OF_SCHEMES_ONLY:
        for key in ("suffix", "port", "protocol", "services"):
            if key in said:
                yield Fault(f"is not for `{form}`: each URL scheme has its own, under `schemes`", (key,), quoting=False)
    if "schemes" in said and form not in _OF_SCHEMES:
        yield Fault(f"is not for `{form}`, whose records have no URL schemes", ("schemes",), quoting=False)
    if "fields" in said and form != "json":
        yield Fault("is for `json` only", ("fields",), quoting=False)


def _filled(key: str, said: object) -> object:
    """Return what is said, with the defaults of the fields that are not."""
    return {**_DEFAULTS[key], **said} if key == "fields" and isinstance(said, dict) else said


def _port_or_none(value: int) -> Iterator[Fault]:
    if value:
        yield from values.port(value)


def _protocol_or_none(value: str) -> Iterator[Fault]:
    if value:
        yield from values.protocol(value)


def _path(value: str) -> Iterator[Fault]:
    if not all(part and part == part.strip() for part in value.split(".")):
        yield Fault("is not the way to a field, such as `address` or `spec.hosts.0`")


def _path_or_none(value: str) -> Iterator[Fault]:
    if value:
        yield from _path(value)


def _whole_etcd(value: Mapping[str, object]) -> Iterator[Fault]:
    yield from values.together(value, "username", "password")
    yield from values.together(value, "cert", "key")
    yield from values.only_over_https(value)


RULES: Rules = {
    EtcdOptions: {
        "": _whole_etcd,
        "address": values.urls("http(s)://host:port", LOGIN, paths=False),
        "prefixes": _prefixes,
        "reconcile": seconds(0.1, DAY),
        "timeout": seconds(0.1, 300),
    },
    EtcdPrefix: {
        "": _whole_prefix,
        "format": values.one_of(*FORMATS),
        "suffix": values.suffix,
        "port": _port_or_none,
        "protocol": _protocol_or_none,
        "services": values.keyed,
        "schemes": values.schemes,
    },
    EtcdScheme: {"port": values.port, "protocol": values.protocol, "suffix": values.suffix},
    EtcdFields: {
        "service": _path_or_none,
        "address": _path,
        "port": _path_or_none,
        "weight": _path_or_none,
        "enabled": _path_or_none,
        "locality": _path_or_none,
        "metadata": _path_or_none,
    },
}
