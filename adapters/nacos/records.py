"""Nacos's instances to services (pure).

A service of Nacos is a name in a group in a namespace; what its name and its instances' metadata say makes it one of
three things, or several at once, each a service of its own:

- `providers:interface:version:group` is a Dubbo interface: the same host, identity and ports as from ZooKeeper, so the
  two merge while people move from one registry to the other;
- an instance that tells its `dubbo.endpoints` is a Dubbo application (Dubbo 3's application-level registration);
- any other is an application: Spring Cloud, gRPC, or whoever calls the SDK.

An instance is data from strangers: its length is bounded, each is read on its own, and what cannot be read is refused
with a reason while its neighbours live on. Where few instances are healthy Nacos itself says that all are (NA7), so
there is no threshold here.
"""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from isthmus.adapters.dubbo import (
    DubboName,
    Provider,
    Reading,
    dubbo_service,
    provider_of,
    require_known,
    shown,
)
from isthmus.adapters.instances import (
    ApplicationRules,
    Group,
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
from isthmus.registry.model import Refusal, Service
from isthmus.registry.policy import RECORD_LENGTH

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from isthmus.adapters.dubbo import DubboRules

DEFAULT_CLUSTER = "DEFAULT"
_DEFAULT_WEIGHT = 1.0
_DEFAULT_SCHEME = "dubbo"
_PROVIDERS = "providers:"
# What else Dubbo keeps in Nacos; nobody is called there.
_NOT_SERVICES = ("consumers:", "routers:", "configurators:")


class Scope(Struct, frozen=True):
    """One group of one namespace.

    namespace: its id in Nacos.
    qualifiers: what hosts and identities of its services carry, () in the source's home. No two scopes of one source
        may have the same ones, or their services would be taken for each other's.
    kubernetes_namespace: where its services are published.
    """

    namespace: str
    group: str
    qualifiers: tuple[str, ...]
    kubernetes_namespace: str


class NacosRules(ApplicationRules, frozen=True):
    """What the operator says of one source.

    dubbo: how Dubbo's providers are published; its namespace gives way to that of the scope.
    clusters: only instances of these clusters of Nacos; (): of all.
    localities: cluster of Nacos -> `region/zone/subzone`.
    healthy_only: whether instances that Nacos calls unhealthy are left out.
    """

    clusters: tuple[str, ...] = ()
    localities: dict[str, str] = field(default_factory=dict)
    healthy_only: bool = True


class Instance(Struct, frozen=True):
    """One instance as its record says it; `weight` is 1.0 unless another number is said."""

    address: str
    port: int
    weight: float
    healthy: bool
    enabled: bool
    cluster: str
    metadata: dict[str, str]
    record: str


def read_service(scope: Scope, name: str, hosts: Iterable[bytes], rules: NacosRules) -> Reading:
    """Read all instances of one service, each a JSON text; the order of the instances does not matter.

    Without an instance that tells what the service is, its name does, and there is one service without endpoints;
    what Dubbo keeps for its consumers, routers and configurators is none. Instances of unwanted clusters are passed by.
    """
    if name.startswith(_NOT_SERVICES):
        return Reading({}, ())
    refused: list[Refusal] = []
    instances: list[Instance] = []
    for record in sorted(hosts):
        try:
            instance = parse_instance(record)
        except RecordError as error:
            refused.append(Refusal(error.code, error.reason, shown(record.decode(errors="backslashreplace"))))
        else:
            if not rules.clusters or instance.cluster in rules.clusters:
                instances.append(instance)
    read = _read_interface if name.startswith(_PROVIDERS) else _read_application
    services, misplaced = read(scope, name, instances, rules)
    return Reading({service.key: service for service in services}, (*refused, *misplaced))


# One instance.


class _Record(Struct, rename="camel"):
    ip: str | None = None
    port: int | None = None
    weight: Any = None
    healthy: bool | None = None
    enabled: bool | None = None
    cluster_name: str | None = None
    metadata: dict[str, Any] | None = None


_RECORD = msgspec.json.Decoder(_Record, strict=False)


def parse_instance(record: bytes) -> Instance:
    """Read the JSON text of one instance; a field that is not said, or null, has the value that Nacos presumes.

    Raises RecordError: the record is too long, or garbled.
    """
    if len(record) > RECORD_LENGTH:
        raise RecordError(codes.TOO_LONG, f"the record has {len(record)} bytes; {RECORD_LENGTH} are read")
    said = decode(_RECORD, record, "the record")
    return Instance(
        bare_address(said.ip or ""),
        said.port or 0,
        _weight(said.weight),
        said.healthy is not False,
        said.enabled is not False,
        said.cluster_name or DEFAULT_CLUSTER,
        texts(said.metadata),
        record.decode(errors="backslashreplace"),
    )


def _weight(said: object) -> float:
    """Return a weight; what is none counts as 1.0, since a typo shall withdraw nobody. Java writes NaN as a text."""
    if not isinstance(said, int | float | str):
        return _DEFAULT_WEIGHT
    try:
        weight = float(said)
    except (ValueError, OverflowError):
        return _DEFAULT_WEIGHT
    return weight if isfinite(weight) else _DEFAULT_WEIGHT


def _gate(instance: Instance, port: int, rules: NacosRules) -> None:
    """Raise RecordError where an instance takes no traffic (NA8)."""
    require_port(port)
    if not instance.enabled:
        raise RecordError(codes.DISABLED, "the instance is disabled")
    if instance.weight <= 0:
        raise RecordError(codes.ZERO_WEIGHT, "weight 0 takes the instance out of traffic")
    if rules.healthy_only and not instance.healthy:
        raise RecordError(codes.UNHEALTHY, "Nacos says that the instance is not healthy")


# Dubbo's interfaces.


def _read_interface(
    scope: Scope, name: str, instances: list[Instance], rules: NacosRules
) -> tuple[list[Service], list[Refusal]]:
    dubbo = replace(rules.dubbo, namespace=scope.kubernetes_namespace)

    def place(instance: Instance) -> tuple[DubboName, int]:
        scheme = instance.metadata.get("protocol") or _DEFAULT_SCHEME
        require_known(scheme, dubbo)
        return DubboName(scheme, *_names(name, instance.metadata), scope.qualifiers), instance.port

    def take(instance: Instance, known: DubboName, port: int) -> tuple[str, Provider]:
        _gate(instance, port, rules)
        locality = rules.localities.get(instance.cluster, "")
        return instance.record, provider_of(known.scheme, instance.address, port, instance.metadata, dubbo, locality)

    groups, unplaced = gather(instances, place, take)
    if not groups and (scheme := _presumed_scheme(dubbo)):
        groups[DubboName(scheme, *_names(name, {}), scope.qualifiers)] = Group()
    services: list[Service] = []
    for known, group in groups.items():
        key = _key(scope, name, _mark(name, known))
        services.append(replace(dubbo_service(known, group.taken, dubbo), key=key, refused=tuple(group.refused)))
    return services, unplaced


def _names(name: str, metadata: Mapping[str, str]) -> tuple[str, str, str]:
    """Return interface, version and group of a service's name.

    The name, and not the metadata, is what consumers subscribe to, and so who is called; besides, an instance could
    otherwise make itself one of another service (T01). But old clients left out the parts that are empty: there only
    the metadata tells whether what follows the interface is the group.
    """
    parts = name.split(":", 3)[1:]
    interface, version, group = (*parts, "", "")[:3]
    if len(parts) == 2 and version and (metadata.get("version", ""), metadata.get("group")) == ("", version):
        return interface, "", version
    return interface, version, group


def _mark(name: str, known: DubboName) -> str:
    """Return what the key of a service says of it beside its name: two can have one name."""
    in_order = (known.interface, known.version, known.group) == _names(name, {})
    return known.scheme if in_order else f"{known.scheme}:group"


def _presumed_scheme(dubbo: DubboRules) -> str | None:
    return _DEFAULT_SCHEME if _DEFAULT_SCHEME in dubbo.protocols else next(iter(dubbo.protocols), None)


# Applications, Dubbo's and all others; the scheme of these is "".


def _read_application(
    scope: Scope, name: str, instances: list[Instance], rules: NacosRules
) -> tuple[list[Service], list[Refusal]]:
    placed = replace(rules, dubbo=replace(rules.dubbo, namespace=scope.kubernetes_namespace))

    def take(instance: Instance, _scheme: str, port: int) -> Member:
        _gate(instance, port, rules)
        locality = rules.localities.get(instance.cluster, "")
        return Member(instance.address, port, instance.weight, instance.metadata, locality, instance.record)

    groups, unplaced = gather(instances, lambda one: place_of(one.metadata, one.port, rules.dubbo), take)
    if not groups:
        groups[""] = Group()
    services = [
        replace(
            application(name, scheme, group.taken, placed, scope.qualifiers),
            key=_key(scope, name, scheme),
            refused=tuple(group.refused),
        )
        for scheme, group in groups.items()
    ]
    return services, unplaced


def _key(scope: Scope, name: str, mark: str = "") -> str:
    """Return `namespace/group/name[#mark]`."""
    return key_of(scope.namespace, scope.group, name, mark=mark)
