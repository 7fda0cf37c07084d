"""The HTTP server of the pages, the health checks and the metrics: it reads the bridge and changes nothing.

Who may ask: anybody that reaches the port for health and metrics, only this machine for the pages; and nobody under a
foreign name, so that a web page cannot reach here by making its own name lead to loopback (T22).
"""

from __future__ import annotations

import logging
import platform
import time
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Any, Final

import msgspec
from aiohttp import hdrs, web
from msgspec import Struct
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from isthmus import __version__
from isthmus.config.rules import host_port
from isthmus.debug.metrics import metrics_of
from isthmus.debug.query import HostQuery, ListQuery, Problem, Query, RefusalsQuery, ServicesQuery, nearest, read_query
from isthmus.debug.redact import effective_config, shown
from isthmus.debug.services import list_services, show_host
from isthmus.debug.shapes import LinkShape, Listing, ProblemShape, VersionShape
from isthmus.debug.sources import list_refusals, list_sources
from isthmus.debug.subscribers import list_pushes, list_subscribers
from isthmus.registry.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from aiohttp.typedefs import Handler, Middleware

    from isthmus.app import Bridge

_log = logging.getLogger("isthmus.debug")

_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'",
    "Cache-Control": "no-store",
    "Server": "isthmus",
}
_LOCAL_NAMES: Final = frozenset(("localhost", "127.0.0.1", "::1"))
# A page takes milliseconds: nothing is worth waiting for when the process ends.
_SHUTDOWN_SECONDS: Final = 1.0


class Page(Struct, frozen=True):
    """A JSON page: its path, one sentence for the index, its query, and the function that makes it."""

    path: str
    about: str
    query: type[Query]
    view: Callable[[Bridge, Any, float], object]


def _show_config(bridge: Bridge, _query: Query, _now: float) -> object:
    return effective_config(bridge.config)


def _show_version(bridge: Bridge, _query: Query, now: float) -> VersionShape:
    return VersionShape(version=__version__, python=platform.python_version(), running_seconds=now - bridge.started_at)


def _show_index(_bridge: Bridge, _query: Query, _now: float) -> Listing[LinkShape]:
    items = [LinkShape(path=page.path, about=page.about) for page in PAGES]
    items += [LinkShape(path=path, about=about) for path, about in _PLAIN.items()]
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
    Page("/debug/subscribers", "Who is connected, what was sent and what acknowledged.", ListQuery, list_subscribers),
    Page("/debug/pushes", "The last responses that went out.", ListQuery, list_pushes),
    Page("/debug/config", "The configuration in effect, without its secrets.", Query, _show_config),
    Page("/version", "What runs here, and for how long.", Query, _show_version),
)
_LIVE: Final = ("/healthz/live",)
_READY: Final = ("/healthz/ready", "/ready", "/readyz")
_METRICS: Final = "/metrics"
_PLAIN: Final = {
    _LIVE[0]: "Whether the process answers.",
    _READY[0]: "Whether ServiceEntry is served; if not, one reason a line.",
    _METRICS: "Metrics for Prometheus.",
}


@asynccontextmanager
async def serve_debug(bridge: Bridge, address: str) -> AsyncIterator[int]:
    """Serve the pages of a bridge on `host:port` (port 0: any) and yield the port.

    Raises ConfigError: the address cannot be bound.
    """
    host, port = _parted(address)
    application = web.Application(middlewares=[_safely(host)])
    _add_routes(application.router, bridge)
    runner = web.AppRunner(application, handle_signals=False, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        await _bind(runner, host, port, address)
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def may_ask(path: str, peer: str | None) -> bool:
    """Tell whether a peer, by its IP address, may see a path: pages are for this machine, the rest is open."""
    if not path.startswith("/debug"):
        return True
    try:
        address = ip_address(peer or "")
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


def host_of(header: str) -> str:
    """Return the host of a Host header, without port and brackets, in lower case; empty where there is none."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.partition(":")[0].lower()


def _parted(address: str) -> tuple[str, int]:
    try:
        return host_port(address)
    except ValueError as error:
        raise ConfigError([f"debug: {address!r} is not `host:port`: it {error}"]) from error


async def _bind(runner: web.AppRunner, host: str, port: int, address: str) -> None:
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        raise ConfigError([f"debug: cannot bind {address}: {error.strerror or error}"]) from error


def _add_routes(router: web.UrlDispatcher, bridge: Bridge) -> None:
    for page in PAGES:
        router.add_get(page.path, partial(_show_page, bridge, page), allow_head=False)
    for path in _LIVE:
        router.add_get(path, _live, allow_head=False)
    for path in _READY:
        router.add_get(path, partial(_ready, bridge), allow_head=False)
    registry = metrics_of(bridge, __version__, time.monotonic)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={hdrs.CONTENT_TYPE: CONTENT_TYPE_PLAIN_0_0_4})

    router.add_get(_METRICS, metrics, allow_head=False)


async def _show_page(bridge: Bridge, page: Page, request: web.Request) -> web.Response:
    query = read_query(page.query, request.query.items(), request.match_info)
    shape = page.view(bridge, query, time.monotonic())
    return _json(shape, pretty=query.pretty)


async def _live(_: web.Request) -> web.Response:
    return web.Response(text="ok\n")


async def _ready(bridge: Bridge, _: web.Request) -> web.Response:
    if bridge.ready:
        return web.Response(text="ok\n")
    reasons = [shown(reason) for reason in bridge.missing]
    if bridge.stopping:
        reasons.append("stopping")
    text = "\n".join(reasons or ["the sources are read and are being published"])
    return web.Response(text=f"{text}\n", status=HTTPStatus.SERVICE_UNAVAILABLE)


def _safely(bound: str) -> Middleware:
    """Return the middleware that lets through who may ask, and turns what goes wrong into a problem to act on."""

    @web.middleware
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        response: web.StreamResponse
        try:
            _check_access(bound, request)
            response = await handler(request)
        except Problem as problem:
            response = _problem(problem)
        except web.HTTPMethodNotAllowed:
            response = _problem(Problem(HTTPStatus.METHOD_NOT_ALLOWED, "pages can only be read"), {hdrs.ALLOW: "GET"})
        except web.HTTPNotFound:
            near = nearest(request.path, [*(page.path for page in PAGES), *_PLAIN])
            response = _problem(Problem(HTTPStatus.NOT_FOUND, "there is no such page; /debug lists them all", near))
        except Exception:  # noqa: BLE001
            # The border that keeps one page's bug from the others, and from the sources and streams beside them.
            _log.exception("the page %s: a bug, please report it", shown(request.path))
            response = _problem(Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "a bug, told in the log; please report it"))
        response.headers.update(_HEADERS)
        return response

    return answer


def _check_access(bound: str, request: web.Request) -> None:
    transport = request.transport
    own = str(transport.get_extra_info("sockname")[0]) if transport else ""
    if host_of(request.headers.get(hdrs.HOST, "")) not in {*_LOCAL_NAMES, bound.lower(), own}:
        raise Problem(HTTPStatus.FORBIDDEN, "ask by the address of this server, or as localhost")
    if not may_ask(request.path, request.remote):
        raise Problem(HTTPStatus.FORBIDDEN, "pages are only for this machine; health and metrics are open")


def _problem(problem: Problem, headers: Mapping[str, str] | None = None) -> web.Response:
    status = problem.status
    shape = ProblemShape(title=status.phrase, status=status, detail=str(problem), nearest=problem.nearest)
    response = _json(shape, pretty=False, status=status, content_type="application/problem+json")
    response.headers.update(headers or {})
    return response


def _json(
    shape: object, *, pretty: bool, status: int = HTTPStatus.OK, content_type: str = "application/json"
) -> web.Response:
    body = msgspec.json.encode(shape)
    if pretty:
        body = msgspec.json.format(body, indent=2) + b"\n"
    return web.Response(body=body, status=status, content_type=content_type, charset="utf-8")
