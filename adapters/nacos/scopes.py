"""Which namespaces and groups of a Nacos are read, and what their services are called in the mesh."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from msgspec import Struct

from isthmus.adapters.applications import ApplicationPort
from isthmus.adapters.dubbo import DubboRules
from isthmus.adapters.nacos.connection import Name, Node
from isthmus.adapters.nacos.records import NacosRules, Scope
from isthmus.adapters.nacos.wire import Forbidden
from isthmus.registry.errors import SourceUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from isthmus.adapters.nacos.naming import NamingClient
    from isthmus.adapters.nacos.options import NacosOptions
    from isthmus.adapters.nacos.pages import NacosPages
    from isthmus.adapters.nacos.wire import Namespace

ALL = "*"
PUBLIC = "public"
DEFAULT_GROUP = "DEFAULT_GROUP"
_MOST_SHOWN = 10


class Tenant(Struct, frozen=True):
    """A namespace of Nacos's: its id, and what it is called where it is not the home."""

    id: str
    label: str


class Listing(Struct, frozen=True):
    """All services that are listed, and the namespaces whose list we may not see, with the reason."""

    nodes: set[Node]
    hidden: dict[str, str]


class Directory:
    """What there is to read. `refresh` has to be awaited once before the first list.

    tenants: the namespaces found so far, by id; it outlives the connection. One that was found is read for ever, and
    keeps its label: absence is not deletion, and who hides the list renames nobody (G1).
    """

    def __init__(
        self, options: NacosOptions, naming: NamingClient, pages: NacosPages, tenants: dict[str, Tenant]
    ) -> None:
        self._options = options
        self._naming = naming
        self._pages = pages
        self._tenants = tenants
        self._unproven: set[str] = set()

    async def refresh(self) -> None:
        """Find the namespaces that the operator named.

        Raises SourceUnavailable: one was never there, or all are wanted and Nacos shows none.
        """
        if self._options.namespaces == (PUBLIC,):
            self._tenants.setdefault(PUBLIC, Tenant(PUBLIC, PUBLIC))
            return
        there = await self._pages.namespaces()
        for tenant in wanted_tenants(self._options.namespaces, there, self._tenants):
            self._tenants.setdefault(tenant.id, tenant)
            if not there and tenant.id != PUBLIC:
                self._unproven.add(tenant.id)

    async def services(self) -> Listing:
        """Return all services of all these namespaces and groups.

        Raises Forbidden: we may see no list at all. SourceUnavailable: one cannot be read, or a namespace that Nacos
        does not show has no service, so that nothing tells that it exists.
        """
        found: set[Node] = set()
        hidden: dict[str, str] = {}
        denied: Forbidden | None = None
        for tenant in self._tenants:
            try:
                found |= await self._services_of(tenant)
            except Forbidden as error:
                denied = error
                hidden[tenant] = str(error)
        if denied is not None and len(hidden) == len(self._tenants):
            raise denied
        return Listing(found, hidden)

    async def _services_of(self, tenant: str) -> set[Node]:
        if ALL in self._options.groups:
            found = await self._pages.services(tenant)
        else:
            found = {
                Node(tenant, group, name)
                for group in self._options.groups
                for name in await self._naming.names(tenant, group)
            }
        if found:
            self._unproven.discard(tenant)
        if tenant in self._unproven:
            raise SourceUnavailable(
                f"Nacos does not show its list of namespaces, and nothing is registered in {tenant!r}: is that an id?"
            )
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
            qualifiers.append(tenant.label)
        mapped = options.kubernetes_namespaces
        namespace = mapped.get(tenant.label) or mapped.get(tenant.id) or options.namespace
        return Scope(node.namespace, node.group, tuple(qualifiers), namespace)

    def _group_qualifier(self, group: str) -> str:
        """Return what stands for a group, which is not what stands for a namespace: they would share their hosts."""
        taken = any(group == tenant.label for tenant in self._tenants.values())
        return f"group:{group}" if taken else group

    def _is_home(self, tenant: Tenant) -> bool:
        namespaces = self._options.namespaces
        # Whoever may create a namespace may call it as he likes: of all of them, only an id makes the home (T01).
        return tenant.id == PUBLIC if ALL in namespaces else tenant.label == namespaces[0]


def wanted_tenants(said: tuple[str, ...], there: list[Namespace] | None, known: Mapping[str, Tenant]) -> list[Tenant]:
    """Return the namespaces that `said` names by id or by name, in its order.

    there: all that Nacos lists; None: it does not say. known: those that were found before, by id.
    Raises SourceUnavailable: one was never there, or all are wanted and it cannot be known which there are.
    """
    listed = {one.namespace or PUBLIC: one.namespace_show_name or one.namespace or PUBLIC for one in there or ()}
    if ALL not in said:
        return [_tenant(one, listed, known) for one in said]
    if not listed and not known:
        raise SourceUnavailable("Nacos does not show its list of namespaces (rights?): name those you want")
    names = Counter(listed.values())
    return [
        # A name that is not its own alone would give two namespaces the same hosts.
        Tenant(one, name if names[name] == 1 and name not in listed.keys() - {one} else one)
        for one, name in listed.items()
    ]


def _tenant(said: str, listed: Mapping[str, str], known: Mapping[str, Tenant]) -> Tenant:
    if said in listed or said == PUBLIC:
        return Tenant(said, said)
    named = [one for one, name in listed.items() if name == said]
    if len(named) == 1:
        return Tenant(named[0], said)
    if named:
        raise SourceUnavailable(f"{len(named)} namespaces are called {said!r}: say their ids")
    if before := next((one for one in known.values() if one.label == said), None):
        return before
    if not listed:
        return Tenant(said, said)
    shown = ", ".join(f"{one} ({name})" for one, name in list(listed.items())[:_MOST_SHOWN])
    raise SourceUnavailable(f"there is no namespace {said!r} in Nacos; there are: {shown}")


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
