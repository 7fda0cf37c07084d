"""What the adapter asks of Nacos, with the credentials that go with each question."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from isthmus.adapters.nacos.wire import Answer, ListAnswer, ServiceAnswer, ServiceInfo
from isthmus.registry.errors import SourceDenied, SourceUnavailable

if TYPE_CHECKING:
    from isthmus.adapters.nacos.access import Access
    from isthmus.adapters.nacos.connection import Connection, Node

AnyAnswer = TypeVar("AnyAnswer", bound=Answer)

# Pages are no snapshot, so there should be few of them; this many names are less than a tenth of what gRPC may carry.
_PAGE_SIZE = 10_000
_MOST_PAGES = 100


class NamingClient:
    """Nacos's naming over one connection. Every method raises SourceUnavailable, SourceDenied, and Unreadable."""

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
            found.update(answer.service_names)
            if page * _PAGE_SIZE >= answer.count:
                return found
        raise SourceUnavailable(f"the group {group} has more than {_MOST_PAGES * _PAGE_SIZE} services")

    async def subscribe(self, node: Node) -> ServiceInfo | None:
        """Have changes of a service pushed from now on; return what it is now, None where Nacos cannot say (NA1)."""
        return (await self._subscription(node, wanted=True)).service_info

    async def unsubscribe(self, node: Node) -> None:
        """End a subscription."""
        await self._subscription(node, wanted=False)

    async def query(self, node: Node) -> ServiceInfo | None:
        """Return what a service is now, None where Nacos cannot say (NA1)."""
        body = {**_named(node), "cluster": "", "healthyOnly": False, "udpPort": 0}
        return (await self._ask("ServiceQueryRequest", body, ServiceAnswer, _signed(node))).service_info

    async def _subscription(self, node: Node, *, wanted: bool) -> ServiceAnswer:
        body = {**_named(node), "clusters": "", "subscribe": wanted}
        return await self._ask("SubscribeServiceRequest", body, ServiceAnswer, _signed(node))

    async def _ask(self, kind: str, body: object, wanted: type[AnyAnswer], signed: str) -> AnyAnswer:
        headers = await self._access.headers(signed)
        try:
            return await self.connection.request(kind, body, wanted, headers)
        except SourceDenied:
            # A token may have ended before its time: the server was restarted, or its key was changed (NA9).
            if not await self._access.renew(headers):
                raise
            return await self.connection.request(kind, body, wanted, await self._access.headers(signed))


def _named(node: Node) -> dict[str, str]:
    return {"namespace": node.namespace, "groupName": node.group, "serviceName": node.name, "module": "naming"}


def _signed(node: Node) -> str:
    return f"{node.group}@@{node.name}"
