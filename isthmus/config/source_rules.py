"""What the keys of each kind of source may hold: those that all have, and where those of each kind are.

A rule yields what is wrong with a value; none of its texts holds the value, which may be a secret.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from isthmus.adapters.applications import ApplicationPort
from isthmus.adapters.base import SourceOptions
from isthmus.adapters.dubbo import DubboProtocol
from isthmus.adapters.files import FilesOptions
from isthmus.config import consul_rules, etcd_rules, eureka_rules, nacos_rules, zookeeper_rules
from isthmus.config import source_values as values
from isthmus.config.mistakes import Fault, Rules
from isthmus.config.rules import DAY, seconds

if TYPE_CHECKING:
    from collections.abc import Iterator


def _directory(value: str) -> Iterator[Fault]:
    if not value or "\0" in value:
        yield Fault("is not a directory")


SOURCE_RULES: Rules = {
    SourceOptions: {
        "name": values.name,
        "namespace": values.namespace,
        "vip": values.one_of("auto", "none"),
        "labels": values.labels,
        "locality": values.locality,
        "network": values.network,
        "exportTo": values.export_to,
        "revisions": values.revisions,
        "allow": values.allow,
        "settle": seconds(0, DAY),
    },
    **consul_rules.RULES,
    **etcd_rules.RULES,
    **eureka_rules.RULES,
    **nacos_rules.RULES,
    **zookeeper_rules.RULES,
    FilesOptions: {"directory": _directory, "reconcile": seconds(0.1, DAY)},
    DubboProtocol: {"port": values.port, "protocol": values.protocol, "suffix": values.suffix},
    ApplicationPort: {"port": values.port, "protocol": values.protocol},
}
