"""Which namespaces and groups of a Nacos are read, and what their services are called in the mesh."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from isthmus.adapters.applications import ApplicationPort
from isthmus.adapters.dubbo import DubboRules
from isthmus.adapters.nacos.connection import Name, Node
from isthmus.adapters.nacos.records import NacosRules, Scope
from isthmus.registry.errors import SourceUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from isthmus.adapters.nacos.naming import NamingClient
    from isthmus.adapters.nacos.options import NacosOptions
    from isthmus.adapters.nacos.pages import NacosPages
    from isthmus.adapters.nacos.wire import Namespace

ALL = "*"
PUBLIC = "public"
DEFAULT_GROUP = "DEFAULT_GROUP"
_MOST_SHOWN = 10


class Tenant(Struct, frozen=True):
    """A namespace of Nacos's: its id, and what people call it."""

    id: str
    name: str


class Directory:
    """What there is to read. `refresh` has to be awaited once before the first list."""

    def __init__(self, options: NacosOptions, naming: NamingClient, pages: NacosPages) -> None:
        self._options = options
        self._naming = naming
        self._pages = pages
        self._tenants: dict[str, Tenant] = {}

    async def refresh(self) -> None:
        """Find the namespaces that the operator named.

        Raises SourceUnavailable: one is not there, or all are wanted and Nacos shows none.
        """
        if self._options.namespaces != (PUBLIC,):
            there = await self._pages.namespaces()
            found = wanted_tenants(self._options.namespaces, there)
            # A namespace that is not listed any more is still asked for its services: absence is not deletion (G1).
            self._tenants |= {tenant.id: tenant for tenant in found}
        else:
            self._tenants = {PUBLIC: Tenant(PUBLIC, PUBLIC)}

    async def services(self) -> set[Node]:
        """Return all services of all these namespaces and groups."""
        found: set[Node] = set()
        for tenant in self._tenants:
            if ALL in self._options.groups:
                found |= await self._pages.services(tenant)
            else:
                for group in self._options.groups:
                    names = await self._naming.names(tenant, group)
                    found.update(Node(tenant, group, name) for name in names)
        return found

    def nodes(self, name: Name) -> list[Node]:
        """Return where a service of this name can be: in each namespace."""
        return [Node(tenant, name.group, name.name) for tenant in self._tenants]

    def scope(self, node: Node) -> Scope:
        """Return how a service's namespace and group show in the mesh: not at all where they are the source's home."""
        tenant = self._tenants.get(node.namespace, Tenant(node.namespace, node.namespace))
        options = self._options
        home_group = DEFAULT_GROUP if ALL in options.groups else options.groups[0]
        qualifiers = [self._group_qualifier(node.group)] if node.group != home_group else []
        if not self._is_home(tenant):
            qualifiers.append(tenant.name)
        mapped = options.kubernetes_namespaces
        namespace = mapped.get(tenant.name) or mapped.get(tenant.id) or options.namespace
        return Scope(node.namespace, node.group, tuple(qualifiers), namespace)

    def _group_qualifier(self, group: str) -> str:
        """Return what stands for a group, which is not what stands for a namespace: they would share their hosts."""
        taken = any(group == tenant.name for tenant in self._tenants.values())
        return f"group:{group}" if taken else group

    def _is_home(self, tenant: Tenant) -> bool:
        namespaces = self._options.namespaces
        return (PUBLIC if ALL in namespaces else namespaces[0]) in (tenant.id, tenant.name)


def wanted_tenants(said: Iterable[str], there: list[Namespace] | None) -> list[Tenant]:
    """Return the namespaces that `said` names by id or by name, in its order; `there`: all, None: Nacos does not say.

    Raises SourceUnavailable: one is not there, or all are wanted and it cannot be known which there are.
    """
    if there is None:
        if ALL in said:
            raise SourceUnavailable("Nacos does not show its list of namespaces (rights?): name those you want")
        return [Tenant(one, one) for one in said]
    tenants = [Tenant(one.namespace or PUBLIC, one.namespace_show_name or one.namespace or PUBLIC) for one in there]
    if ALL in said:
        return tenants
    return [_tenant(one, tenants) for one in said]


def _tenant(said: str, tenants: list[Tenant]) -> Tenant:
    for tenant in tenants:
        if said == tenant.id:
            return Tenant(tenant.id, said)
    named = [tenant for tenant in tenants if said == tenant.name]
    if len(named) == 1:
        return named[0]
    if named:
        raise SourceUnavailable(f"{len(named)} namespaces are called {said!r}: say their ids")
    known = ", ".join(f"{tenant.id} ({tenant.name})" for tenant in tenants[:_MOST_SHOWN])
    raise SourceUnavailable(f"there is no namespace {said!r} in Nacos; there are: {known}")


def rules_of(options: NacosOptions) -> NacosRules:
    """Return what an operator's options mean for the reading of records."""
    return NacosRules(
        dubbo=DubboRules(options.namespace, options.dubbo, options.labels),
        suffix=options.suffix,
        port=ApplicationPort(options.port, options.protocol),
        services=options.services,
        labels=options.labels,
        clusters=options.clusters,
        localities=options.localities,
        healthy_only=options.health == "healthy",
    )
