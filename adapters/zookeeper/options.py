"""What the operator says of a ZooKeeper source."""

from __future__ import annotations

from msgspec import field

from isthmus.adapters.applications import DEFAULT_PORT, DEFAULT_SUFFIX, ApplicationPort
from isthmus.adapters.base import SourceOptions
from isthmus.adapters.dubbo import PROTOCOLS, DubboProtocol

DEFAULT_LABELS = {"dubbo.tag": "isthmus.io/tag"}


class ZookeeperOptions(SourceOptions, frozen=True, kw_only=True, tag_field="kind", tag="zookeeper"):
    """Dubbo's registrations in ZooKeeper, by interface and by application, and Spring Cloud's.

    address: `host:port[,host:port…][/chroot]`.
    root: the node that Dubbo registers interfaces under; empty: none are read.
    applications: the node that Dubbo 3 and Spring Cloud register applications under; empty: none are read. It may be
        missing, unless `root` is empty.
    protocols: how the providers of each URL scheme are published; a scheme that is not here is refused visibly.
    suffix: the last part of the host of every application that is not Dubbo's.
    port, protocol: the service's port for its clients, whatever port each instance listens on; not for Dubbo's.
    services: application -> its own `port` and `protocol`.
    session_timeout: seconds; the server bounds it to 2..20 of its ticks.
    reconcile: seconds between full re-reads that back the watches (G6), give or take a tenth.
    digest: `user:password` for ZooKeeper's digest scheme; write `${NAME}` to take it from the environment.
    """

    address: str
    root: str = "/dubbo"
    applications: str = "/services"
    protocols: dict[str, DubboProtocol] = field(default_factory=PROTOCOLS.copy)
    suffix: str = DEFAULT_SUFFIX
    port: int = DEFAULT_PORT.port
    protocol: str = DEFAULT_PORT.protocol
    services: dict[str, ApplicationPort] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=DEFAULT_LABELS.copy)
    session_timeout: float = 10.0
    reconcile: float = 300.0
    digest: str = ""
