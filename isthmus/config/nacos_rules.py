"""What the keys of a Nacos source may hold.

A rule yields what is wrong with a value; none of its texts holds the value, which may be a secret. The rules of whole
sources see values of any type.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from isthmus.adapters.nacos.options import NacosOptions
from isthmus.adapters.servers import LOGIN
from isthmus.config import source_values as values
from isthmus.config.mistakes import Fault, Rules
from isthmus.config.rules import DAY, seconds

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_LAST_PORT = 65_535
_PATH = re.compile("(?:/[A-Za-z0-9_~-][A-Za-z0-9_.~-]*)*")
_ALL = "*"


def _nacos_address(value: str) -> Iterator[Fault]:
    if "@" in value:
        yield Fault(f"there are credentials in it: say them under {LOGIN}", quoting=False)
    elif any(char in value for char in "/?#"):
        yield Fault(
            "must be `host:port[,host:port...]`: TLS goes under `tls`, a path under `contextPath`", quoting=False
        )
    else:
        for fault, _ in values.servers(value):
            if fault:
                yield Fault(f"is not `host:port[,host:port...]`: {fault}")


def _context_path(value: str) -> Iterator[Fault]:
    if not _PATH.fullmatch(value):
        yield Fault('is not the beginning of a path, such as `/nacos`; "" stands for none')


def _grpc_port_offset(value: int) -> Iterator[Fault]:
    if not 0 <= value < _LAST_PORT:
        yield Fault(f"is not 0 to {_LAST_PORT - 1}")


def _scopes(value: list[str]) -> Iterator[Fault]:
    if not value:
        yield Fault(f'there is none, so nothing would be read; "{_ALL}" stands for all', quoting=False)
    elif _ALL in value and len(value) > 1:
        yield Fault("must stand alone", (value.index(_ALL),))
    yield from values.words(value)


def _clusters(value: list[str]) -> Iterator[Fault]:
    if _ALL in value:
        yield Fault("is no cluster; leave `clusters` out for all", (value.index(_ALL),))
    yield from values.words(value)


def _whole_nacos(value: Mapping[str, object]) -> Iterator[Fault]:
    yield from values.together(value, "username", "password")
    yield from values.together(value, "accessKey", "secretKey")
    if value.get("username") and value.get("accessKey"):
        yield Fault("there is a `username` too; Nacos takes one or the other", ("accessKey",), quoting=False)
    if value.get("ca") and value.get("tls", False) is False:
        yield Fault("says whom to trust, but there is no TLS: set `tls: true`", ("ca",))
    yield from _grpc_ports(value)
    yield from _unread_namespaces(value)


def _grpc_ports(value: Mapping[str, object]) -> Iterator[Fault]:
    address, offset = value.get("address"), value.get("grpcPortOffset", 1000)
    if not isinstance(address, str) or not isinstance(offset, int) or not 0 <= offset < _LAST_PORT:
        return
    for number, (_, port) in enumerate(values.servers(address), start=1):
        if port + offset > _LAST_PORT:
            place = "grpcPortOffset" if "grpcPortOffset" in value else "address"
            yield Fault(f"the gRPC port of server {number} would be {port + offset}", (place,), quoting=False)


def _unread_namespaces(value: Mapping[str, object]) -> Iterator[Fault]:
    """Yield the namespaces that are mapped and not read: most often they are read under another spelling."""
    mapped, read = value.get("kubernetesNamespaces"), value.get("namespaces", ["public"])
    if not isinstance(mapped, dict) or not isinstance(read, list) or _ALL in read:
        return
    for key in mapped:
        if key not in read:
            yield Fault("the key is none of `namespaces`", ("kubernetesNamespaces", key), quoting=False)


RULES: Rules = {
    NacosOptions: {
        "": _whole_nacos,
        "address": _nacos_address,
        "grpcPortOffset": _grpc_port_offset,
        "contextPath": _context_path,
        "namespaces": _scopes,
        "groups": _scopes,
        "kubernetesNamespaces": values.each(values.namespace),
        "clusters": _clusters,
        "localities": values.each(values.locality),
        "health": values.one_of("healthy", "any"),
        "suffix": values.suffix,
        "port": values.port,
        "protocol": values.protocol,
        "services": values.keyed,
        "dubbo": values.schemes,
        "listing": seconds(0.1, 300),
        "reconcile": seconds(0.1, DAY),
        "timeout": seconds(0.1, 300),
    },
}
