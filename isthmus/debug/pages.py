"""All debug pages: what each shows, and what it may be asked; served over HTTP and over xDS."""

from __future__ import annotations

import platform
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import msgspec
from msgspec import Struct

from isthmus import __version__
from isthmus.debug.configz import ConfigzQuery, list_configz
from isthmus.debug.istiods import list_istiods
from isthmus.debug.listeners import list_listeners
from isthmus.debug.query import HostQuery, ListQuery, Problem, Query, RefusalsQuery, ServicesQuery, read_query
from isthmus.debug.redact import effective_config
from isthmus.debug.services import list_services, show_host
from isthmus.debug.shapes import LinkShape, Listing, ProblemShape, VersionShape
from isthmus.debug.sources import list_refusals, list_sources
from isthmus.debug.subscribers import list_pushes, list_subscribers, list_turned_away
from isthmus.debug.syncz import list_syncz

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from isthmus.app import Bridge

LIVE: Final = ("/healthz/live",)
READY: Final = ("/healthz/ready", "/ready", "/readyz")
METRICS: Final = "/metrics"
# What is no JSON, and is served over HTTP only.
PLAIN: Final = {
    LIVE[0]: "Whether the process answers.",
    READY[0]: "Whether ServiceEntry is served; if not, one reason a line.",
    METRICS: "Metrics for Prometheus.",
}


class Page(Struct, frozen=True):
    """A JSON page: its path, one sentence for the index, its query, and the function that makes it."""

    path: str
    about: str
    query: type[Query]
    view: Callable[[Bridge, Any, float], object]

    @property
    def name(self) -> str:
        """What the page is called where there are no paths."""
        return self.path.removeprefix("/debug").strip("/")

    def parts(self, name: str) -> dict[str, str] | None:
        """Return the parts that a name has in the place of the path's `{part}`; None: it is not this page's."""
        match = re.fullmatch(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", self.name), name)
        return None if match is None else {part: unquote(value) for part, value in match.groupdict().items()}


def show(bridge: Bridge, page: Page, given: Iterable[tuple[str, str]], path: Mapping[str, str], now: float) -> bytes:
    """Return the JSON of a page. given: the pairs of the query; path: the parts of the path; now: monotonic seconds.

    Raises Problem: it is not asked as it can be, or there is nothing of that name.
    """
    query = read_query(page.query, given, path)
    body = msgspec.json.encode(page.view(bridge, query, now))
    return msgspec.json.format(body, indent=2) + b"\n" if query.pretty else body


def show_problem(problem: Problem) -> bytes:
    """Return the JSON of a problem."""
    title, status = problem.status.phrase, problem.status
    return msgspec.json.encode(ProblemShape(title=title, status=status, detail=str(problem), nearest=problem.nearest))


def _show_config(bridge: Bridge, _query: Query, _now: float) -> object:
    return effective_config(bridge.config)


def _show_version(bridge: Bridge, _query: Query, now: float) -> VersionShape:
    return VersionShape(version=__version__, python=platform.python_version(), running_seconds=now - bridge.started_at)


def _show_index(_bridge: Bridge, _query: Query, _now: float) -> Listing[LinkShape]:
    items = [LinkShape(path=page.path, about=page.about) for page in PAGES]
    items += [LinkShape(path=path, about=about) for path, about in PLAIN.items()]
    return Listing(items=items, total=len(items))


PAGES: Final = (
    Page("/debug", "This list.", Query, _show_index),
    Page(
        "/debug/sources", "What each source said last, how fresh that is, and what is refused.", ListQuery, list_sources
    ),
    Page("/debug/sources/{name}/refusals", "All that is refused of one source, and why.", RefusalsQuery, list_refusals),
    Page(
        "/debug/services",
        "What istiod is told, in short; filters are source, namespace, host, q (a part of a name) and problems=true.",
        ServicesQuery,
        list_services,
    ),
    Page(
        "/debug/services/{host}",
        "One host: the ServiceEntry for kubectl, each endpoint and its record, what is refused, who was sent it.",
        HostQuery,
        show_host,
    ),
    Page("/debug/listeners", "Where xDS is, how many use it, and its certificates.", ListQuery, list_listeners),
    Page("/debug/subscribers", "Who is connected, what was sent and what acknowledged.", ListQuery, list_subscribers),
    Page("/debug/pushes", "The last responses that went out.", ListQuery, list_pushes),
    Page("/debug/refusals", "The last streams and connections refused, and why.", ListQuery, list_turned_away),
    Page("/debug/istiods", "What each istiod stored of what it acknowledged, and what not.", ListQuery, list_istiods),
    Page("/debug/configz", "All that is published, as istiod's own page says it.", ConfigzQuery, list_configz),
    Page("/debug/syncz", "Who was sent what, as istiod's own page says it.", Query, list_syncz),
    Page("/debug/config", "The configuration in effect, without its secrets.", Query, _show_config),
    Page("/version", "What runs here, and for how long.", Query, _show_version),
)
