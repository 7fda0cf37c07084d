"""One Consul agent or server, read: its pages, and questions for what changes in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Generic, TypeVar
from urllib.parse import quote

from msgspec import Struct

from isthmus.adapters.consul.pacing import PLAIN_SECONDS, longest_answer
from isthmus.adapters.consul.patience import TOO_MANY_REQUESTS, NotReadable, is_busy, persist
from isthmus.adapters.consul.trust import Trust, read_trust
from isthmus.adapters.consul.wire import read_checked, read_checks, read_entries, read_names, read_nodes
from isthmus.adapters.web import BODY_LIMIT, HttpError, TooLong, decode_json, fetch
from isthmus.registry.errors import SourceUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import aiohttp

    from isthmus.adapters.consul.options import ConsulOptions
    from isthmus.adapters.consul.wire import Check, Checked, Entry, Key, Node
    from isthmus.registry.errors import RecordError

T = TypeVar("T")

TOKEN_HEADER: Final = "X-Consul-Token"  # noqa: S105 (the name of the header)
# To compress and to open thousands of small answers takes longer than to send them as they are.
_PLAIN: Final = {"Accept-Encoding": "identity"}
_PROBE_SECONDS = 5.0
# Within ten seconds, if it is told at once each time that there are too many requests.
_TRIES = 8
# Far more than the endpoints that are served of one service.
_SERVICE_LIMIT = 32 * 2**20


class Page(Struct, Generic[T], frozen=True):
    """A page of Consul's that can be watched, and how it is read.

    limit: in bytes. wakes_idly: it also wakes where none of its content changed, as often as outputs of checks do.
    """

    path: str
    read: Callable[[bytes], T]
    limit: int = BODY_LIMIT
    wakes_idly: bool = False


# Between them the first four wake on every change that an endpoint can show (CO9). Those of checks by their status come
# from an index; one filter over all checks takes a server thirty times as long.
SERVICES: Final[Page[dict[str, frozenset[str]]]] = Page("/v1/catalog/services", read_names)
NODES: Final[Page[dict[str, Node]]] = Page("/v1/catalog/nodes", read_nodes)
CRITICAL_CHECKS: Final[Page[dict[Key, Check]]] = Page("/v1/health/state/critical", read_checks, wakes_idly=True)
WARNING_CHECKS: Final[Page[dict[Key, Check]]] = Page("/v1/health/state/warning", read_checks, wakes_idly=True)
ALL_CHECKS: Final[Page[list[Checked]]] = Page("/v1/health/state/any", read_checked)


class Told(Struct, Generic[T], frozen=True):
    """An answer, read; `size` is that of its body in bytes."""

    content: T
    trust: Trust
    size: int


class Entries(Struct, frozen=True):
    """The entries of a service, and why some cannot be read, each with what stands there."""

    good: list[Entry]
    faults: list[tuple[RecordError, str]]


class ConsulClient:
    """Asks one server; `url` is without a slash at the end."""

    def __init__(self, session: aiohttp.ClientSession, url: str, options: ConsulOptions) -> None:
        self._session = session
        self.url = url
        self._wait = options.wait
        said = {"dc": options.datacenter, "ns": options.consul_namespace, "partition": options.partition}
        self._where = {name: value for name, value in said.items() if value}
        self._consistency = {} if options.consistency == "default" else {options.consistency: ""}

    async def check_leader(self) -> None:
        """Ask whether the server is there and knows a leader. Raises SourceUnavailable: no; SourceDenied: 403."""
        place = {"dc": self._where["dc"]} if "dc" in self._where else {}
        url = f"{self.url}/v1/status/leader"
        answer = await _patiently(lambda: fetch(self._session, url, params=place, total=_PROBE_SECONDS))
        if not decode_json(answer.body, str, "the leader's address"):
            raise SourceUnavailable(f"{self.url} knows no leader of its cluster")

    async def read(self, page: Page[T]) -> Told[T]:
        """Return a page as it is now. Raises SourceDenied: the token is refused. SourceUnavailable: any other fault."""
        return await _patiently(lambda: self._ask(page, {}, PLAIN_SECONDS))

    async def next(self, page: Page[T], index: int) -> Told[T]:
        """Return a page once it may be other than at an index, or after `wait` seconds as it is. Raises as `read`."""
        total = longest_answer(self._wait)
        asked = {"index": str(index), "wait": f"{self._wait:g}s"}
        return await _patiently(lambda: self._ask(page, asked, total))

    async def service(self, name: str) -> Told[Entries]:
        """Return the entries of a service, whatever their health (CO10).

        Raises NotReadable: that is this service's own fault. SourceDenied and SourceUnavailable: as `read`.
        """
        page = Page(f"/v1/health/service/{quote(name, safe='')}", bytes, _SERVICE_LIMIT)
        try:
            told = await self._ask(page, {}, PLAIN_SECONDS)
        except TooLong as error:
            raise NotReadable(str(error)) from error
        except HttpError as error:
            if error.status >= 500 or error.status == TOO_MANY_REQUESTS:
                raise
            raise NotReadable(str(error)) from error
        try:
            return Told(Entries(*read_entries(told.content)), told.trust, told.size)
        except SourceUnavailable as error:
            raise NotReadable(str(error)) from error

    async def _ask(self, page: Page[T], asked: dict[str, str], total: float) -> Told[T]:
        params = {**self._where, **self._consistency, **asked}
        url = self.url + page.path
        answer = await fetch(self._session, url, params=params, headers=_PLAIN, total=total, limit=page.limit)
        trust = read_trust(answer.headers)
        return Told(page.read(answer.body), trust, len(answer.body))


async def _patiently(question: Callable[[], Awaitable[T]]) -> T:
    """Ask again for a while where there are too many requests: that is no reason to read everything anew."""
    refused = 0

    def bear(error: SourceUnavailable) -> None:
        nonlocal refused
        # They are counted, since a question for changes may have waited long before it is refused.
        refused += 1
        if not is_busy(error) or refused == _TRIES:
            raise error

    return await persist(question, bear)
