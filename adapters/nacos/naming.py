"""What the adapter asks of Nacos, with the credentials that go with each question."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from isthmus.adapters.nacos.wire import Answer, Forbidden, ListAnswer, ServiceAnswer, ServiceInfo, Unreadable
from isthmus.registry.errors import SourceUnavailable

if TYPE_CHECKING:
    from isthmus.adapters.nacos.access import Access
    from isthmus.adapters.nacos.connection import Connection, Node

AnyAnswer = TypeVar("AnyAnswer", bound=Answer)

# Pages are no snapshot, so there should be few of them; this many names are less than a tenth of what gRPC may carry.
_PAGE_SIZE = 10_000
_MOST_PAGES = 100


class NamingClient:
    """Nacos's naming over one connection.

    Every method raises Forbidden and Unreadable, which speak of this question only, SourceUnavailable: no contact, and
    SourceDenied: no login.
    """

    def __init__(self, connection: Connection, access: Access) -> None:
        self.connection = connection
        self._access = access

    async def names(self, namespace: str, group: str) -> set[str]:
        """Return the names of all services of a group, those without instances among them."""
        found: set[str] = set()
        for page in range(1, _MOST_PAGES + 1):
            body = {
                "namespace": namespace,
                "groupName": group,
                "serviceName": "",
                "pageNo": page,
                "pageSize": _PAGE_SIZE,
                "module": "naming",
            }
            answer = await self._ask("ServiceListRequest", body, ListAnswer, f"{group}@@")
            if answer.count is None or answer.service_names is None:
                raise Unreadable("Nacos's list of services says neither how many there are nor which")
            found.update(answer.service_names)
            # A server may give less than was asked for.
            if len(found) >= answer.count or not answer.service_names:
                return found
        raise SourceUnavailable(f"the group {group} has more services than {_MOST_PAGES} pages hold")

    async def subscribe(self, node: Node) -> ServiceInfo:
        """Have changes of a service pushed from now on; return what it is now."""
        return _said(await self._subscription(node, wanted=True))

    async def unsubscribe(self, node: Node) -> None:
        """End a subscription."""
        await self._subscription(node, wanted=False)

    async def query(self, node: Node) -> ServiceInfo:
        """Return what a service is now."""
        body = {**_named(node), "cluster": "", "healthyOnly": False, "udpPort": 0}
        return _said(await self._ask("ServiceQueryRequest", body, ServiceAnswer, _signed(node)))

    async def _subscription(self, node: Node, *, wanted: bool) -> ServiceAnswer:
        body = {**_named(node), "clusters": "", "subscribe": wanted}
        return await self._ask("SubscribeServiceRequest", body, ServiceAnswer, _signed(node))

    async def _ask(self, kind: str, body: object, wanted: type[AnyAnswer], signed: str) -> AnyAnswer:
        headers = await self._access.headers(signed)
        try:
            return await self.connection.request(kind, body, wanted, headers)
        except Forbidden:
            # A token may have ended before its time: the server was restarted, or its key was changed (NA9).
            if not await self._access.renew(headers):
                raise
            return await self.connection.request(kind, body, wanted, await self._access.headers(signed))


def _said(answer: ServiceAnswer) -> ServiceInfo:
    """Return the service of an answer. Raises Unreadable: Nacos cannot say what it is (NA1)."""
    if answer.service_info is None or answer.service_info.hosts is None:
        raise Unreadable("Nacos answers without a list of instances")
    return answer.service_info


def _named(node: Node) -> dict[str, str]:
    return {"namespace": node.namespace, "groupName": node.group, "serviceName": node.name, "module": "naming"}


def _signed(node: Node) -> str:
    return f"{node.group}@@{node.name}"
