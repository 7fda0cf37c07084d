"""What the keys of each kind of source may hold.

A rule yields what is wrong with a value; none of its texts holds the value, which may be a secret. The rules of whole
sources see values of any type.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from isthmus.adapters.applications import ApplicationPort
from isthmus.adapters.base import SourceOptions
from isthmus.adapters.dubbo import DubboProtocol
from isthmus.adapters.eureka.options import METADATA, NAMES_FROM, SECURE_PORTS, EurekaOptions, service_urls
from isthmus.adapters.files import FilesOptions
from isthmus.adapters.nacos.options import NacosOptions
from isthmus.adapters.zookeeper.options import ZookeeperOptions
from isthmus.config import source_values as values
from isthmus.config.mistakes import Fault, Rules, choose_from
from isthmus.config.rules import DAY, host_port, seconds

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_LAST_PORT = 65_535
_MOST_POLLS = 1_000
_PATH = re.compile("(?:/[A-Za-z0-9_~-][A-Za-z0-9_.~-]*)*")
_STATUSES = ("UP", "DOWN", "STARTING", "OUT_OF_SERVICE", "UNKNOWN")
_ALL = "*"
_CREDENTIALS = "there are credentials in it: say them under `username` and `password`"


# ZooKeeper and files.


def _zookeeper_address(value: str) -> Iterator[Fault]:
    if "@" in value:
        yield Fault("there are credentials in it: say them under `digest`", quoting=False)
        return
    form = "is not `host:port[,host:port...][/chroot]`"
    servers, slash, chroot = value.partition("/")
    for fault, _ in values.servers(servers):
        if fault:
            yield Fault(f"{form}: {fault}")
    if slash and not _is_node(f"/{chroot}"):
        yield Fault(f"{form}: its chroot is no node's path")


def _root(value: str) -> Iterator[Fault]:
    if value and not _is_node(value):
        yield Fault('is not the path of a node, such as `/dubbo` or `/services`; "" stands for none')


def _whole_zookeeper(value: Mapping[str, object]) -> Iterator[Fault]:
    root, applications = value.get("root", "/dubbo"), value.get("applications", "/services")
    if not isinstance(root, str) or not isinstance(applications, str):
        return
    place = "applications" if "applications" in value else "root"
    if not root and not applications:
        yield Fault("neither interfaces nor applications would be read", (place,), quoting=False)
    elif root == applications:
        yield Fault("`root` and `applications` are the same node", (place,))


def _digest(value: str) -> Iterator[Fault]:
    user, colon, password = value.partition(":")
    if value and not (user and colon and password):
        yield Fault("must be `user:password`", quoting=False)


def _protocols(value: dict[str, object]) -> Iterator[Fault]:
    if not value:
        yield Fault("there is no protocol, so no provider could be published", quoting=False)
    yield from values.schemes(value)


def _directory(value: str) -> Iterator[Fault]:
    if not value or "\0" in value:
        yield Fault("is not a directory")


def _is_node(path: str) -> bool:
    """Tell whether a text is the absolute path of a ZooKeeper node other than `/`."""
    first, *names = path.split("/")
    return not first and bool(names) and all(names) and not {".", ".."} & set(names) and path.isprintable()


# Nacos.


def _nacos_address(value: str) -> Iterator[Fault]:
    if "@" in value:
        yield Fault(_CREDENTIALS, quoting=False)
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


# Eureka.


def _eureka_address(value: str) -> Iterator[Fault]:
    if "@" in value:
        yield Fault(_CREDENTIALS, quoting=False)
    elif "?" in value or "#" in value:
        yield Fault("there is something after a path in it, where a service URL ends", quoting=False)
    elif fault := _service_url_fault(value):
        yield Fault(f"is not `http(s)://host:port/eureka[,http(s)://host:port/eureka...]`: {fault}")


def _service_url_fault(address: str) -> str | None:
    try:
        urls = service_urls(address)
    except ValueError as error:
        return str(error)
    for number, url in enumerate(urls, start=1):
        host = urlsplit(url).hostname or ""
        try:
            host_port(f"[{host}]:1" if ":" in host else f"{host}:1")
        except ValueError as error:
            return f"server {number} {error}"
    return None


def _basic_username(value: str) -> Iterator[Fault]:
    if ":" in value:
        yield Fault("there is a ':' in it, which basic authentication cannot send", quoting=False)


def _name_from(value: str) -> Iterator[Fault]:
    names_a_key = value.startswith(METADATA) and value != METADATA
    if value == METADATA or not (value in NAMES_FROM or names_a_key):
        yield Fault(f"is not `app`, `vip` or `{METADATA}KEY`")


def _eureka_services(value: Mapping[str, object]) -> Iterator[Fault]:
    yield from values.keyed(value)
    counts = Counter(map(str.lower, value))
    for name in value:
        if counts[name.lower()] > 1:
            yield Fault("the key differs from another in its capitals only", (name,), quoting=False)


def _statuses(value: list[str]) -> Iterator[Fault]:
    if not value:
        yield Fault("there is none, so no instance would serve", quoting=False)
    for index, status in enumerate(value):
        if status.upper() not in _STATUSES:
            yield Fault(f"is no status of Eureka's; {choose_from(status, _STATUSES, 'choose from')}", (index,))


def _region(value: str) -> Iterator[Fault]:
    if value and ("/" in value or not value.strip()):
        yield Fault("is not a region, the first part of a locality")


def _full_every(value: int) -> Iterator[Fault]:
    if not 1 <= value <= _MOST_POLLS:
        yield Fault(f"is not 1 to {_MOST_POLLS} polls")


def _whole_eureka(value: Mapping[str, object]) -> Iterator[Fault]:
    yield from values.together(value, "username", "password")
    address = value.get("address")
    if value.get("ca") and isinstance(address, str) and "https:" not in address.lower():
        yield Fault("says whom to trust, but no address begins with `https:`", ("ca",))


SOURCE_RULES: Rules = {
    SourceOptions: {
        "name": values.name,
        "namespace": values.namespace,
        "vip": values.one_of("auto", "none"),
        "labels": values.labels,
        "locality": values.locality,
        "network": values.network,
        "exportTo": values.export_to,
        "allow": values.allow,
        "settle": seconds(0, DAY),
    },
    ZookeeperOptions: {
        "": _whole_zookeeper,
        "address": _zookeeper_address,
        "root": _root,
        "applications": _root,
        "protocols": _protocols,
        "suffix": values.suffix,
        "port": values.port,
        "protocol": values.protocol,
        "services": values.keyed,
        "sessionTimeout": seconds(0.1, 300),
        "reconcile": seconds(0.1, DAY),
        "digest": _digest,
    },
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
    EurekaOptions: {
        "": _whole_eureka,
        "address": _eureka_address,
        "username": _basic_username,
        "nameFrom": _name_from,
        "suffix": values.suffix,
        "port": values.port,
        "protocol": values.protocol,
        "services": _eureka_services,
        "securePort": values.one_of(*SECURE_PORTS),
        "statuses": _statuses,
        "region": _region,
        "zones": values.each(values.locality),
        "poll": seconds(1, 300),
        "fullEvery": _full_every,
    },
    FilesOptions: {"directory": _directory, "reconcile": seconds(0.1, DAY)},
    DubboProtocol: {"port": values.port, "protocol": values.protocol, "suffix": values.suffix},
    ApplicationPort: {"port": values.port, "protocol": values.protocol},
}
