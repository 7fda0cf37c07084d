"""Answers that no registry gives in good health, over HTTP and over gRPC, and a port that gives none."""

from __future__ import annotations

import gzip
import socket
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING

import grpc
import grpc.aio
from aiohttp import web

from tests.rig.process import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

Page = Callable[[web.Request], Awaitable[web.StreamResponse]]

# In every secret of these tests, and in no text that is shown.
SECRET = "hush"
HUGE = 100_000_000
PIECE = b"x" * 1_000_000
TRUNCATED = b'{"resultCode": 200, "accessToken": "token", "tokenTtl": 18000'
DEEP = b'{"resultCode": 200, "pad": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"


def huge() -> bytes:
    return b'{"resultCode": 200, "pad": "' + b"x" * HUGE + b'"}'


@cache
def huge_packed() -> bytes:
    return gzip.compress(huge(), 1)


async def truncated_page(_: web.Request) -> web.StreamResponse:
    return _json(TRUNCATED)


async def page_that_breaks_off(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": str(2 * len(TRUNCATED))})
    await response.prepare(request)
    await response.write(TRUNCATED)
    assert request.transport is not None
    request.transport.close()
    return response


async def deep_page(_: web.Request) -> web.StreamResponse:
    return _json(DEEP)


async def huge_page(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": str(HUGE)})
    with suppress(ConnectionResetError):
        await response.prepare(request)
        for _ in range(HUGE // len(PIECE)):
            await response.write(PIECE)
    return response


async def huge_packed_page(_: web.Request) -> web.StreamResponse:
    return _json(huge_packed(), {"Content-Encoding": "gzip"})


async def redirect(request: web.Request) -> web.StreamResponse:
    return web.Response(status=302, headers={"Location": f"http://{request.host}/elsewhere?token={SECRET}"})


def _json(body: bytes, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(body=body, content_type="application/json", headers=headers)


# Each with a word of the reason; of one name there may be several.
PAGES: dict[str, tuple[tuple[Page, str], ...]] = {
    "truncated answer": ((truncated_page, "no whole JSON"), (page_that_breaks_off, "broke off")),
    "deeply nested answer": ((deep_page, "nested too deeply"),),
    "100 MB answer": ((huge_page, "the answer is longer than"), (huge_packed_page, "the answer is longer than")),
    "redirect": ((redirect, "302, a redirect"),),
}
GRPC_ANSWERS: dict[str, tuple[Callable[[], bytes], str]] = {
    "truncated answer": (lambda: TRUNCATED, "no whole JSON"),
    "deeply nested answer": (lambda: DEEP, "nested too deeply"),
    "100 MB answer": (huge, "larger than max"),
}


@asynccontextmanager
async def site(page: Page) -> AsyncIterator[int]:
    """Answer every request thus; give the port, which is below those that the system gives out."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", page)
    # One that waits for something would keep the site from ending.
    runner = web.AppRunner(application, handler_cancellation=True)
    await runner.setup()
    try:
        port = free_port()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield port
    finally:
        await runner.cleanup()


@asynccontextmanager
async def grpc_site(**answers: bytes) -> AsyncIterator[int]:
    """Speak gRPC, with these methods of etcd's and what each answers, and with no others; give the port."""
    server = grpc.aio.server()
    for service in ("KV", "Auth"):
        methods = {name: grpc.unary_unary_rpc_method_handler(_always(body)) for name, body in answers.items()}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(f"etcdserverpb.{service}", methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


def _always(body: bytes) -> Callable[..., Awaitable[bytes]]:
    async def answer(*_: object) -> bytes:
        return body

    return answer


@contextmanager
def silent_port() -> Iterator[int]:
    """Take connections, and say nothing on them; give the port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]
