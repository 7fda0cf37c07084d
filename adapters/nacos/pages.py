"""What Nacos says over HTTP only: logins, its namespaces, and the services of all groups at once.

Version 3 has moved every path; each question goes there first, and where nothing is there to the path of version 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct

from isthmus.adapters.nacos.access import Access
from isthmus.adapters.nacos.connection import Node
from isthmus.adapters.nacos.wire import Forbidden, Login, Namespace
from isthmus.adapters.web import Answer, HttpError, NotFound, decode_json, fetch
from isthmus.registry.errors import SourceDenied, SourceUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    import aiohttp

T = TypeVar("T")

_LOGIN = ("/v3/auth/user/login", "/v1/auth/login")
_NAMESPACES = ("/v3/admin/core/namespace/list", "/v1/console/namespaces")
_SERVICES_3 = "/v3/admin/ns/service/list"
_SERVICES_2 = "/v1/ns/catalog/services"
_SERVER_ERROR = 500
_PAGE_SIZE = 1_000
_MOST_PAGES = 1_000


class _Namespaces(Struct):
    data: list[Namespace]


class _Listed(Struct, rename="camel"):
    name: str
    group_name: str


class _Page3(Struct, rename="camel"):
    total_count: int
    page_items: list[_Listed]


class _Services3(Struct):
    data: _Page3


class _Services2(Struct, rename="camel"):
    count: int
    service_list: list[_Listed]


class NacosPages:
    """The pages of one server. `access` says who asks; it is set once there is one, as a login is a page, too."""

    def __init__(self, session: aiohttp.ClientSession, base: str, timeout: float) -> None:
        """base: `http://host:port/nacos`; timeout: seconds that an answer may take."""
        self._session = session
        self._base = base
        self._timeout = timeout
        self.access = Access()

    async def log_in(self, username: str, password: str) -> Login:
        """Get a token. Raises SourceDenied: not with these; SourceUnavailable: no answer, or none with a token."""
        form = {"username": username, "password": password}
        new, old = _LOGIN
        try:
            try:
                answer = await self._send(new, method="POST", form=form)
            except NotFound:
                answer = await self._send(old, method="POST", form=form)
        except HttpError as error:
            if error.status != _SERVER_ERROR:
                raise
            raise SourceDenied(f"{error}; so Nacos 3 answers a wrong user or password, too") from error
        return decode_json(answer.body, Login, "the answer to the login")

    async def namespaces(self) -> list[Namespace] | None:
        """Return all namespaces; None where Nacos shows them to nobody, or not to us."""
        try:
            answer = await self._first_of(_NAMESPACES, {})
        except (NotFound, Forbidden):
            return None
        return decode_json(answer.body, _Namespaces, "the list of namespaces").data

    async def services(self, namespace: str) -> set[Node]:
        """Return all services of a namespace, whatever their group. Raises Forbidden and SourceUnavailable."""
        found: set[Node] = set()
        for page in range(1, _MOST_PAGES + 1):
            total, listed = await self._services_page(namespace, page)
            found.update(Node(namespace, one.group_name, one.name) for one in listed)
            # A server may give less than was asked for.
            if len(found) >= total or not listed:
                return found
        raise SourceUnavailable(f"namespace {namespace} has more services than {_MOST_PAGES} pages hold")

    async def _services_page(self, namespace: str, page: int) -> tuple[int, list[_Listed]]:
        params = {"namespaceId": namespace, "pageNo": str(page), "pageSize": str(_PAGE_SIZE), "withInstances": "false"}
        try:
            new = decode_json((await self._get(_SERVICES_3, params)).body, _Services3, "the list of services").data
        except NotFound:
            old = decode_json((await self._get(_SERVICES_2, params)).body, _Services2, "the list of services")
            return old.count, old.service_list
        return new.total_count, new.page_items

    async def _first_of(self, paths: tuple[str, str], params: Mapping[str, str]) -> Answer:
        new, old = paths
        try:
            return await self._get(new, params)
        except NotFound:
            return await self._get(old, params)

    async def _get(self, path: str, params: Mapping[str, str]) -> Answer:
        """Read a page. Raises Forbidden: we may not, not with a new token either (NA9)."""
        headers = await self.access.headers()
        try:
            return await self._send(path, params=params, headers=headers)
        except SourceDenied as error:
            if not await self.access.renew(headers):
                raise Forbidden(str(error)) from error
        try:
            return await self._send(path, params=params, headers=await self.access.headers())
        except SourceDenied as error:
            raise Forbidden(str(error)) from error

    async def _send(
        self,
        path: str,
        *,
        method: str = "GET",
        params: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        return await fetch(
            self._session,
            self._base + path,
            method=method,
            params=params,
            form=form,
            headers=headers,
            total=self._timeout,
            connect=self._timeout,
        )
