"""The HTTP server of the pages, the health checks and the metrics: it reads the bridge and changes nothing.

Who may ask: anybody that reaches the port for health and metrics, only this machine for the pages; and nobody under a
foreign name, so that a web page cannot reach here by making its own name lead to loopback (T22).
"""

from __future__ import annotations

import logging
import time
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Final

from aiohttp import hdrs, web
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from isthmus import __version__
from isthmus.config.rules import host_port
from isthmus.debug.metrics import metrics_of
from isthmus.debug.pages import LIVE, METRICS, PAGES, PLAIN, READY, show, show_problem
from isthmus.debug.query import Problem, nearest
from isthmus.debug.redact import shown
from isthmus.registry.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from aiohttp.typedefs import Handler, Middleware

    from isthmus.app import Bridge
    from isthmus.debug.pages import Page

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
    for path in LIVE:
        router.add_get(path, _live, allow_head=False)
    for path in READY:
        router.add_get(path, partial(_ready, bridge), allow_head=False)
    registry = metrics_of(bridge, __version__, time.monotonic)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={hdrs.CONTENT_TYPE: CONTENT_TYPE_PLAIN_0_0_4})

    router.add_get(METRICS, metrics, allow_head=False)


async def _show_page(bridge: Bridge, page: Page, request: web.Request) -> web.Response:
    return _json(show(bridge, page, request.query.items(), request.match_info, time.monotonic()))


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
            near = nearest(request.path, [*(page.path for page in PAGES), *PLAIN])
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
    response = _json(show_problem(problem), problem.status, "application/problem+json")
    response.headers.update(headers or {})
    return response


def _json(body: bytes, status: int = HTTPStatus.OK, content_type: str = "application/json") -> web.Response:
    return web.Response(body=body, status=status, content_type=content_type, charset="utf-8")
