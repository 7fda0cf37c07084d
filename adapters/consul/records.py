"""Consul's instances: from the entries of a service to what they are for the mesh (pure).

An instance is data from strangers: what cannot be read costs that instance, with a reason, and its neighbours live on.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from isthmus.adapters.applications import DEFAULT_PORT, DEFAULT_SUFFIX, ApplicationPort
from isthmus.adapters.consul.health import HEALTHY, MAINTENANCE, status_of
from isthmus.adapters.consul.wire import WARNING, Key, Locality, record_of
from isthmus.adapters.dubbo import chosen_labels, shown
from isthmus.adapters.instances import bare_address, require_port
from isthmus.registry import codes
from isthmus.registry.errors import RecordError
from isthmus.registry.model import Pairs, Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from isthmus.adapters.consul.options import ConsulOptions
    from isthmus.adapters.consul.wire import Entry

# Consul's servers; nobody in the mesh calls them.
OWN_SERVICE: Final = "consul"
_SYNCED_BY: Final = "external-source"
_KUBERNETES: Final = "kubernetes"
# The first of them show what is wrong; thousands of them would be kept as long as they are there.
_MOST_REFUSED = 100
# No slash, which would shift a zone into the place of a subzone, and nothing that needs escaping.
_PLACE = re.compile(r"[A-Za-z0-9][-A-Za-z0-9._]{0,62}", re.ASCII)


class ConsulRules(Struct, frozen=True):
    """What the operator says of the instances of one source; see ConsulOptions. Names are in small letters."""

    namespace: str = "default"
    suffix: str = DEFAULT_SUFFIX
    default: ApplicationPort = DEFAULT_PORT
    services: dict[str, ApplicationPort] = {}
    healthy: frozenset[str] = HEALTHY["passing"]
    threshold: float = 0.3
    tagged_address: str = ""
    kubernetes_tag: str = ""
    labels: dict[str, str] = {}

    def port_of(self, service: str) -> ApplicationPort:
        return self.services.get(service, self.default)


class Instance(Struct, frozen=True, gc=False):
    """One instance, read.

    status: the worst of its checks, or maintenance.
    weight: what it counts in this status; 1 unless another number is said.
    fault: why it is no endpoint, whatever its status.
    """

    status: str
    address: str = ""
    port: int = 0
    weight: int = 1
    labels: Pairs = ()
    locality: str = ""
    record: str = ""
    fault: Refusal | None = None

    @property
    def in_maintenance(self) -> bool:
        return self.status == MAINTENANCE


class PassedBy(Struct, frozen=True):
    """How many instances are not for the mesh: those of Kubernetes, and proxies and gateways of Consul's own mesh."""

    kubernetes: int = 0
    proxies: int = 0

    def plus(self, other: PassedBy) -> PassedBy:
        return PassedBy(self.kubernetes + other.kubernetes, self.proxies + other.proxies)

    def minus(self, other: PassedBy) -> PassedBy:
        return PassedBy(self.kubernetes - other.kubernetes, self.proxies - other.proxies)


class Reading(Struct, frozen=True):
    """The instances of one service, sorted by node and id (CO12), and the entries that could not be read.

    checked: who has checks of its own, those that are passed by among them.
    """

    instances: dict[Key, Instance] = {}
    refused: tuple[Refusal, ...] = ()
    passed_by: PassedBy = PassedBy()
    checked: frozenset[Key] = frozenset()


def rules_of(options: ConsulOptions) -> ConsulRules:
    """Return the rules that a source's options stand for."""
    return ConsulRules(
        namespace=options.namespace,
        suffix=options.suffix,
        default=ApplicationPort(options.port, options.protocol),
        services={name.lower(): port for name, port in options.services.items()},
        healthy=HEALTHY[options.health],
        threshold=options.panic_threshold,
        tagged_address=options.tagged_address,
        kubernetes_tag=options.kubernetes_tag,
        labels=options.labels,
    )


def read_service(entries: Iterable[Entry], faults: Iterable[tuple[RecordError, str]], rules: ConsulRules) -> Reading:
    """Read the entries of one service; their order does not matter."""
    instances: dict[Key, Instance] = {}
    checked: set[Key] = set()
    passed_by = PassedBy()
    for entry in entries:
        key = entry.node.node, entry.service.id
        if any(check.service_id for check in entry.checks or ()):
            checked.add(key)
        if _is_of_kubernetes(entry, rules):
            passed_by = passed_by.plus(PassedBy(kubernetes=1))
        elif entry.service.kind:
            passed_by = passed_by.plus(PassedBy(proxies=1))
        else:
            instances[key] = read_instance(entry, rules)
    refused = sorted(
        (Refusal(error.code, error.reason, shown(text)) for error, text in faults), key=lambda one: one.record
    )
    return Reading(dict(sorted(instances.items())), tuple(refused), passed_by, frozenset(checked))


def read_instance(entry: Entry, rules: ConsulRules) -> Instance:
    """Read one instance; a fault is part of it."""
    status = status_of(entry.checks or (), entry.service.id)
    record = ""
    try:
        record = record_of(entry)
        address, port = _place(entry, rules.tagged_address)
        require_port(port)
        weight = _weight(entry, status)
    except RecordError as error:
        return Instance(status, record=record, fault=Refusal(error.code, error.reason, record or _names(entry)))
    return Instance(status, address, port, weight, _labels(entry, rules), _locality(entry), record)


def bounded(refused: list[Refusal]) -> tuple[Refusal, ...]:
    """Return the first of the refusals, and one that counts the others."""
    more = len(refused) - _MOST_REFUSED
    if more <= 0:
        return tuple(refused)
    return (*refused[:_MOST_REFUSED], Refusal(codes.TOO_MANY, f"{more} more are refused and not shown"))


def _is_of_kubernetes(entry: Entry, rules: ConsulRules) -> bool:
    if rules.kubernetes_tag and rules.kubernetes_tag in (entry.service.tags or ()):
        return True
    return (entry.service.meta or {}).get(_SYNCED_BY) == _KUBERNETES


def _names(entry: Entry) -> str:
    return shown(f"{entry.service.id} at {entry.node.node}")


def _place(entry: Entry, wanted: str) -> tuple[str, int]:
    """Return address and port: those tagged as wanted, else the instance's own, else its node's address (CO13)."""
    service, node = entry.service, entry.node
    port = service.port or _default_port(entry)
    tagged = (service.tagged_addresses or {}).get(wanted) if wanted else None
    if tagged and tagged.address:
        return bare_address(tagged.address), tagged.port or port
    if service.address:
        return bare_address(service.address), port
    return bare_address((wanted and (node.tagged_addresses or {}).get(wanted)) or node.address), port


def _default_port(entry: Entry) -> int:
    ports = entry.service.ports or []
    return next((one.port for one in ports if one.default), ports[0].port if ports else 0)


def _weight(entry: Entry, status: str) -> int:
    weights = entry.service.weights
    if weights is None:
        return 1
    weight = weights.warning if status == WARNING else weights.passing
    if weight <= 0:
        raise RecordError(codes.ZERO_WEIGHT, f"weight {weight!s:.40} while {status} takes the instance out of traffic")
    return weight


def _labels(entry: Entry, rules: ConsulRules) -> Pairs:
    if not rules.labels:
        return ()
    said: dict[str, str] = {}
    for tag in sorted(entry.service.tags or ()):
        key, separator, value = tag.partition("=")
        # Of a plain tag nothing but its presence can be said, so it gives way to one with a value.
        if separator:
            said[key] = value
        else:
            said.setdefault(tag, "true")
    return chosen_labels({**said, **(entry.service.meta or {})}, rules.labels)


def _locality(entry: Entry) -> str:
    for place in (entry.service.locality, entry.node.locality):
        if place is not None and (text := _text_of(place)):
            return text
    return ""


def _text_of(place: Locality) -> str:
    if not _PLACE.fullmatch(place.region):
        return ""
    return f"{place.region}/{place.zone}" if _PLACE.fullmatch(place.zone) else place.region
