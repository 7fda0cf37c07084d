"""Merging what several sources say of one host into one resource (pure).

Istio keeps only one of two ServiceEntries that name a host in different namespaces, and loses the other in silence, so
the merging is done here (users.md F10): one resource per (namespace, host), whose endpoints come from every source that
knows the same service. Sources count in the order of the configuration: the first one decides what the service is, and
keeps an address that two of them report.

A weight that is not said counts as 1 for istiod, and registries mean 100 by it: an endpoint without a weight would get
next to no traffic beside one that says 100. So in one resource all weights are said, or none is.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from isthmus.registry import codes
from isthmus.registry.model import Endpoint, Refusal, Service, ServiceEntry, WorkloadEntry
from isthmus.registry.names import printable, short_hash

if TYPE_CHECKING:
    from collections.abc import Sequence

    from isthmus.registry.model import Pairs

EMPTY_LABEL = ("isthmus.io/empty", "true")
SHARED_ADDRESS_LABEL = "isthmus.io/shared-addresses"
IDENTITY_ANNOTATION = "isthmus.io/service"
REVISION_LABEL = "istio.io/rev"


class Contribution(Struct, frozen=True):
    """One admitted service and the source it is from."""

    source: str
    service: Service


class Merged(Struct, frozen=True):
    """The resource, who contributed each endpoint (in the order of the resource's endpoints), and what was refused.

    The endpoints of `origins` are those of the resource, so they have the weights that are published.
    """

    entry: ServiceEntry
    origins: tuple[tuple[str, Endpoint], ...]
    refused: tuple[tuple[str, Refusal], ...]


def merge(contributions: Sequence[Contribution], vip: str | None) -> Merged:
    """Merge contributions to one host, given in the order of their sources; the first with endpoints has its say.

    A service of another identity or other ports than the first is refused whole: its endpoints would answer for
    somebody else, or, having no number for one of the ports, be called at a number nobody said.
    """
    first = next((one.service for one in contributions if one.service.endpoints), contributions[0].service)
    held: dict[tuple[str, object], _Held] = {}
    refused: list[tuple[str, Refusal]] = []
    served: list[Service] = []
    for source, service in ((one.source, one.service) for one in contributions):
        if conflict := _conflict(first, service):
            refused.append((source, conflict))
            continue
        served.append(service)
        for endpoint in sorted(service.endpoints, key=_endpoint_key):
            place = (endpoint.workload.address, endpoint.workload.ports)
            one = _Held(source, endpoint, service.usual_weight)
            if (holder := held.setdefault(place, one)) is one:
                continue
            if holder.source == source or not _agree(holder, one):
                reason = f"{endpoint.workload.address} is registered again; the first, from {holder.source}, is served"
                refused.append((source, Refusal(codes.DUPLICATE, reason, endpoint.record)))
    origins = _origins(sorted(held.values(), key=lambda one: _endpoint_key(one.endpoint)))
    workloads = tuple(endpoint.workload for _, endpoint in origins)
    return Merged(_entry(first, workloads, vip, _revision(served)), origins, tuple(refused))


class _Held(Struct, frozen=True):
    """An endpoint, the source that it is from, and what it is worth there if its weight is not said."""

    source: str
    endpoint: Endpoint
    usual_weight: int


def _agree(one: _Held, other: _Held) -> bool:
    """Tell whether two registrations say the same; the usual weight, said and not said, is one."""
    return one.endpoint.workload == other.endpoint.workload or _weighted(one).workload == _weighted(other).workload


def _origins(ordered: Sequence[_Held]) -> tuple[tuple[str, Endpoint], ...]:
    """Return sources and endpoints; where one has a weight, those without get what is usual in their source."""
    if any(one.endpoint.workload.weight for one in ordered):
        return tuple((one.source, _weighted(one)) for one in ordered)
    return tuple((one.source, one.endpoint) for one in ordered)


def _weighted(one: _Held) -> Endpoint:
    workload = one.endpoint.workload
    return (
        one.endpoint if workload.weight else replace(one.endpoint, workload=replace(workload, weight=one.usual_weight))
    )


def _revision(served: Sequence[Service]) -> Pairs:
    """Return the label by which istiod too leaves alone what is for another revision (X60).

    It compares the label with its one revision to the letter, so where there are several there is none: that the
    others get nothing is seen to by the views (mcp/views.py).
    """
    revisions = {service.revisions for service in served}
    only = next(iter(revisions)) if len(revisions) == 1 else ()
    return ((REVISION_LABEL, only[0]),) if len(only) == 1 else ()


def _entry(service: Service, endpoints: tuple[WorkloadEntry, ...], vip: str | None, revision: Pairs) -> ServiceEntry:
    return ServiceEntry(
        namespace=service.namespace,
        name=service.host,
        hosts=(service.host,),
        addresses=(vip,) if vip else (),
        ports=service.ports,
        endpoints=endpoints,
        export_to=service.export_to,
        labels=tuple(sorted((*_labels(endpoints), *revision))),
        annotations=((IDENTITY_ANNOTATION, printable(service.identity)),),
    )


def _labels(endpoints: tuple[WorkloadEntry, ...]) -> tuple[tuple[str, str], ...]:
    """Return the labels that make Istio up to 1.29 see what it would miss, since a changed label is always looked at.

    It loses the step to zero endpoints (istio.md finding 15), and, telling endpoints apart by address and port name
    only, also the step from two providers on one address to one (docs/decisions/0006-labels-that-wake-istiod.md).
    """
    if not endpoints:
        return (EMPTY_LABEL,)
    times = Counter(endpoint.address for endpoint in endpoints)
    if len(times) == len(endpoints):
        return ()
    shared = [f"{one.address} {one.ports}" for one in endpoints if times[one.address] > 1]
    return ((SHARED_ADDRESS_LABEL, short_hash("\n".join(shared))),)


def _conflict(first: Service, service: Service) -> Refusal | None:
    if service.identity != first.identity:
        reason = f"{service.identity} would share the host {first.host} with {first.identity}"
        return Refusal(codes.HOST_CONFLICT, reason, service.key)
    if service.ports != first.ports:
        reason = f"{service.identity} has the ports {_ports(service)} here and {_ports(first)} in a source before"
        return Refusal(codes.PORTS_DIFFER, reason, service.key)
    return None


def _ports(service: Service) -> str:
    return ", ".join(f"{port.number}/{port.name}" for port in service.ports) or "none"


def _endpoint_key(endpoint: Endpoint) -> tuple[object, ...]:
    # Every field that is published counts: two registrations of one address must not take turns (G7).
    workload = endpoint.workload
    return (workload.address, workload.ports, workload.weight, workload.locality, workload.labels, workload.network)
