"""What the operator says of a ZooKeeper source."""

from __future__ import annotations

from msgspec import field

from isthmus.adapters.base import SourceOptions
from isthmus.adapters.dubbo import PROTOCOLS, DubboProtocol

DEFAULT_LABELS = {"dubbo.tag": "isthmus.io/tag"}


class ZookeeperOptions(SourceOptions, frozen=True, kw_only=True, tag_field="kind", tag="zookeeper"):
    """Dubbo's interface-level registrations in ZooKeeper.

    address: `host:port[,host:port…][/chroot]`.
    root: the node that Dubbo registers under.
    protocols: how the providers of each URL scheme are published; a scheme that is not here is refused visibly.
    session_timeout: seconds; the server bounds it to 2..20 of its ticks.
    reconcile: seconds between full re-reads that back the watches (G6), give or take a tenth.
    digest: `user:password` for ZooKeeper's digest scheme; write `${NAME}` to take it from the environment.
    """

    address: str
    root: str = "/dubbo"
    protocols: dict[str, DubboProtocol] = field(default_factory=PROTOCOLS.copy)
    labels: dict[str, str] = field(default_factory=DEFAULT_LABELS.copy)
    session_timeout: float = 10.0
    reconcile: float = 300.0
    digest: str = ""
