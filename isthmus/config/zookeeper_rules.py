"""What the keys of a ZooKeeper source may hold.

A rule yields what is wrong with a value; none of its texts holds the value, which may be a secret. The rules of whole
sources see values of any type.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from isthmus.adapters.zookeeper.options import ZookeeperOptions
from isthmus.config import source_values as values
from isthmus.config.mistakes import Fault, Rules
from isthmus.config.rules import DAY, seconds

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


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


def _is_node(path: str) -> bool:
    """Tell whether a text is the absolute path of a ZooKeeper node other than `/`."""
    first, *names = path.split("/")
    return not first and bool(names) and all(names) and not {".", ".."} & set(names) and path.isprintable()


RULES: Rules = {
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
}
