"""Curator's service instances to services: what Dubbo 3 and Spring Cloud register by application (pure).

An instance is the JSON text in a node below that of its application. It is data from strangers: its length is bounded,
each is read on its own, and what cannot be read is refused with a reason while its neighbours live on (ZK11). The name
of the application is that of its node, and not what an instance says of it: it could otherwise make itself one of
another application (T01).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from isthmus.adapters.applications import ApplicationPort
from isthmus.adapters.dubbo import DubboRules, Reading, shown
from isthmus.adapters.instances import (
    ApplicationRules,
    Member,
    application,
    bare_address,
    decode,
    gather,
    key_of,
    place_of,
    require_port,
    texts,
)
from isthmus.registry import codes
from isthmus.registry.errors import RecordError
from isthmus.registry.model import Refusal
from isthmus.registry.policy import RECORD_LENGTH

if TYPE_CHECKING:
    from collections.abc import Iterable

    from isthmus.adapters.zookeeper.options import ZookeeperOptions

# Curator has no weights.
_WEIGHT = 1.0
_STATUS = "instance_status"
_UP = "UP"
_SECURE = frozenset({"HTTPS", "TLS"})


class Instance(Struct, frozen=True):
    """One instance as its record says it; a port that it does not say is 0."""

    address: str
    port: int
    ssl_port: int
    enabled: bool
    metadata: dict[str, str]
    record: str


def rules_of(options: ZookeeperOptions) -> ApplicationRules:
    """Return what an operator's options mean for the reading of applications."""
    return ApplicationRules(
        dubbo=DubboRules(options.namespace, options.protocols, options.labels),
        suffix=options.suffix,
        port=ApplicationPort(options.port, options.protocol),
        services=options.services,
        labels=options.labels,
    )


def read_application(root: str, name: str, records: Iterable[bytes], rules: ApplicationRules) -> Reading:
    """Read all instances of one application below a root; their order does not matter (ZK10).

    The key of a service is `root/name`, and `#scheme` where it is one of Dubbo's.
    """
    refused: list[Refusal] = []
    instances: list[Instance] = []
    for record in sorted(records):
        try:
            instances.append(parse_instance(record))
        except RecordError as error:
            refused.append(Refusal(error.code, error.reason, shown(record.decode(errors="backslashreplace"))))
    secure = rules.services.get(name, rules.port).protocol.upper() in _SECURE
    groups, misplaced = gather(instances, lambda one: place_of(one.metadata, _port(one, secure), rules.dubbo), _member)
    services = (
        replace(
            application(name, scheme, group.taken, rules),
            key=f"{root}/{key_of(name, mark=scheme)}",
            refused=tuple(group.refused),
        )
        for scheme, group in groups.items()
    )
    return Reading({service.key: service for service in services}, (*refused, *misplaced))


class _Record(Struct, rename="camel"):
    address: str | None = None
    port: int | None = None
    ssl_port: int | None = None
    enabled: bool | None = None
    # Of Dubbo's and Spring Cloud's classes, and for others of Curator's users anything.
    payload: Any = None


_RECORD = msgspec.json.Decoder(_Record, strict=False)


def parse_instance(record: bytes) -> Instance:
    """Read the JSON text of one instance.

    Raises RecordError: the record is too long, empty, or garbled.
    """
    if len(record) > RECORD_LENGTH:
        raise RecordError(codes.TOO_LONG, f"the record has {len(record)} bytes; {RECORD_LENGTH} are read")
    if not record:
        raise RecordError(codes.GARBLED, "the node holds no instance; an application with `/` in its name is not read")
    said = decode(_RECORD, record, "the record")
    metadata = said.payload.get("metadata") if isinstance(said.payload, dict) else None
    return Instance(
        bare_address(said.address or ""),
        said.port or 0,
        said.ssl_port or 0,
        said.enabled is not False,
        texts(metadata if isinstance(metadata, dict) else None),
        record.decode(errors="backslashreplace"),
    )


def _port(instance: Instance, secure: bool) -> int:
    return (secure and instance.ssl_port) or instance.port


def _member(instance: Instance, _scheme: str, port: int) -> Member:
    """Return an instance that takes traffic. Raises RecordError: it does not."""
    if not port and instance.ssl_port:
        reason = "there is only an SSL port, which is called where the service's protocol is HTTPS or TLS (`services`)"
        raise RecordError(codes.BAD_PORT, reason)
    require_port(port)
    if not instance.enabled:
        raise RecordError(codes.DISABLED, "the instance is disabled")
    # An instance of older releases has no status, and is up: so Spring Cloud itself reads it.
    status = instance.metadata.get(_STATUS, "").strip()
    if status and status.upper() != _UP:
        raise RecordError(codes.DISABLED, f"the instance's status is {status[:40]!r}")
    return Member(instance.address, port, _WEIGHT, instance.metadata, "", instance.record)
