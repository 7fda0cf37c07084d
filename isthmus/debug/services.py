"""The pages of the services: what istiod is told, where each part comes from, and what was left out (pure)."""

from __future__ import annotations

from collections import Counter
from http import HTTPStatus
from typing import TYPE_CHECKING

from msgspec import UNSET

from isthmus.debug.query import HostQuery, Problem, ServicesQuery, nearest, paginate, read_token, token_of
from isthmus.debug.redact import shown
from isthmus.debug.shapes import (
    EndpointShape,
    HostShape,
    Listing,
    PortShape,
    ResourceShape,
    ServiceShape,
)
from isthmus.debug.sources import find_source, refusal_shape
from isthmus.debug.subscribers import deliveries, part_text
from isthmus.mcp.shards import shard_index
from isthmus.mcp.views import Part
from isthmus.registry import codes
from isthmus.registry.catalog import resource_name
from isthmus.registry.kubeform import document_from_entry
from isthmus.registry.merge import IDENTITY_ANNOTATION, Contribution

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from isthmus.app import Bridge
    from isthmus.registry.catalog import Catalog
    from isthmus.registry.model import Endpoint, Refusal


def list_services(bridge: Bridge, query: ServicesQuery, _now: float) -> Listing[ServiceShape]:
    """All resources by name, and those that are refused whole. Raises Problem 400: there is no such source."""
    view = _View(bridge)
    names = _filtered(view, query)
    page, last = paginate(names, read_token(query.after, str), query.limit)
    return Listing(items=[_service(view, name) for name in page], total=len(names), after=token_of(last))


def show_host(bridge: Bridge, query: HostQuery, _now: float) -> HostShape:
    """Everything that is known of one host. Raises Problem 404, with the hosts that come nearest: nothing is."""
    view = _View(bridge)
    of_host = [name for name in view.names() if _host(name) == query.host]
    names = [name for name in of_host if query.namespace in (UNSET, _namespace(name))]
    if not names:
        raise _not_known(query, of_host, view)
    return HostShape(host=query.host, resources=[_resource(view, name, query.limit) for name in names])


class _View:
    """What the pages of the services look at, gathered once a request.

    published: what subscribers are told. shard_counts: numbers of shards that listeners have.
    outside: services with a host that nobody may publish, by the name they would have, which the catalog keeps out of
    its resources. conflicts: how much of each resource merging refused.
    """

    def __init__(self, bridge: Bridge) -> None:
        self.hub = bridge.hub
        self.catalog = bridge.catalog
        self.published = bridge.hub.publication.resources
        self.shard_counts = sorted({listener.shards for listener in bridge.config.all_listeners})
        self.outside = _outside_catalog(bridge.catalog)
        self.conflicts = Counter([name for name, _, _ in bridge.catalog.conflicts()])

    def names(self) -> list[str]:
        """Return the names of all resources, those that are refused whole among them, in order."""
        published = self.hub.publication.names()
        refused = [name for name in {*self.outside, *self.conflicts} if name not in self.published]
        # What was refused may have gone since, and its change not have been taken yet.
        refused = [name for name in refused if self.contributions(name)]
        return sorted([*published, *refused]) if refused else published

    def version(self, name: str) -> str | None:
        """Return the version that is published of a resource; None: it is not."""
        published = self.published.get(name)
        return published.frame.version if published else None

    def contributions(self, name: str) -> list[Contribution]:
        """Return what each source says of a resource."""
        return [*self.catalog.contributions(name), *self.outside.get(name, ())]


def _outside_catalog(catalog: Catalog) -> dict[str, list[Contribution]]:
    outside: dict[str, list[Contribution]] = {}
    for source in catalog.sources:
        for service in source.services.values():
            if service.refused and any(refusal.code == codes.INVALID_HOST for refusal in service.refused):
                outside.setdefault(resource_name(service), []).append(Contribution(source.name, service))
    return outside


def _filtered(view: _View, query: ServicesQuery) -> list[str]:
    """Return the names that pass all filters, in order."""
    names = view.names()
    if query.host is not UNSET:
        names = [name for name in names if _host(name) == query.host]
    if query.namespace is not UNSET:
        names = [name for name in names if _namespace(name) == query.namespace]
    if query.source is not UNSET:
        source = find_source(view.catalog, query.source, HTTPStatus.BAD_REQUEST)
        of_source = {resource_name(service) for service in source.services.values()}
        names = [name for name in names if name in of_source]
    if query.q is not UNSET:
        part = query.q.lower()
        names = [name for name in names if part in f"{name} {_identity(view, name)}".lower()]
    if query.problems:
        problems = _names_with_problems(view)
        names = [name for name in names if name in problems]
    return names


def _names_with_problems(view: _View) -> set[str]:
    """Return the names with something refused, in conflict, or without any endpoint."""
    names = {name for name, entry in view.catalog.entries.items() if not entry.endpoints}
    names.update(view.conflicts)
    for source in view.catalog.sources:
        names.update([resource_name(service) for service in source.services.values() if service.refused])
    return names


def _identity(view: _View, name: str) -> str:
    """Return the registry's own name of a service."""
    entry = view.catalog.entries.get(name)
    if entry is not None:
        return dict(entry.annotations).get(IDENTITY_ANNOTATION, "")
    return next((one.service.identity for one in view.contributions(name)), "")


def _service(view: _View, name: str) -> ServiceShape:
    entry, version = view.catalog.entries.get(name), view.version(name)
    contributions = view.contributions(name)
    ports = entry.ports if entry else contributions[0].service.ports
    return ServiceShape(
        name=shown(name),
        namespace=_namespace(name),
        host=shown(_host(name)),
        service=shown(_identity(view, name)),
        published=version is not None,
        addresses=entry.addresses if entry else (),
        ports=[PortShape(number=port.number, name=port.name, protocol=port.protocol) for port in ports],
        endpoints=len(entry.endpoints) if entry else 0,
        sources=tuple(dict.fromkeys([one.source for one in contributions])),
        version=version,
        refused=sum([len(one.service.refused) for one in contributions]) + view.conflicts[name],
    )


def _resource(view: _View, name: str, limit: int) -> ResourceShape:
    entry, version = view.catalog.entries.get(name), view.version(name)
    contributions = view.contributions(name)
    merged = view.catalog.explain(name)
    origins = merged.origins if merged else ()
    refused = list(_refused(contributions))
    conflicts = [(source, refusal) for of, source, refusal in view.catalog.conflicts() if of == name]
    return ResourceShape(
        name=shown(name),
        namespace=_namespace(name),
        published=version is not None,
        version=version,
        shards=[part_text(Part(count, shard_index(name, count))) for count in view.shard_counts],
        revisions=sorted({revision for one in contributions for revision in one.service.revisions}),
        service_entry=document_from_entry(entry) if entry and version else None,
        endpoints=[_endpoint(*origin) for origin in origins[:limit]],
        endpoints_total=len(origins),
        refused=[refusal_shape(*one) for one in refused[:limit]],
        refused_total=len(refused),
        conflicts=[refusal_shape(source, name, refusal) for source, refusal in conflicts[:limit]],
        subscribers=deliveries(view.hub, name) if version else [],
    )


def _refused(contributions: Iterable[Contribution]) -> Iterator[tuple[str, str, Refusal]]:
    for one in contributions:
        for refusal in one.service.refused:
            yield one.source, one.service.key, refusal


def _endpoint(source: str, endpoint: Endpoint) -> EndpointShape:
    workload = endpoint.workload
    return EndpointShape(
        address=workload.address,
        ports=dict(workload.ports),
        weight=workload.weight,
        labels=dict(workload.labels),
        locality=workload.locality,
        network=workload.network,
        source=source,
        record=shown(endpoint.record),
    )


def _not_known(query: HostQuery, of_host: list[str], view: _View) -> Problem:
    if of_host:
        namespaces = [_namespace(name) for name in of_host]
        return Problem(HTTPStatus.NOT_FOUND, f"the host is not in the namespace {query.namespace!r}", namespaces)
    near = nearest(query.host, {_host(name) for name in view.names()})
    return Problem(HTTPStatus.NOT_FOUND, f"no source knows the host {query.host[:100]!r}", near)


def _namespace(name: str) -> str:
    return name.partition("/")[0]


def _host(name: str) -> str:
    return name.partition("/")[2]
