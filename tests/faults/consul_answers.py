"""A real Consul behind a site that spoils one of its answers, since no Consul can be brought to do that itself."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

import aiohttp
from aiohttp import web

from tests.faults.bad_answers import huge_packed_page, huge_page, page_that_breaks_off, redirect, site

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.faults.bad_answers import Page
    from tests.rig.consul import Consul

LEADER = "/v1/status/leader"
NAMES = "/v1/catalog/services"
# What the adapter reads before it reads services; the last two are lists of what has fields.
PATHS = {
    "leader": LEADER,
    "names": NAMES,
    "nodes": "/v1/catalog/nodes",
    "critical": "/v1/health/state/critical",
    "warning": "/v1/health/state/warning",
}
DEEP = b'[{"Pad": ' + b"[" * 100_000 + b"]" * 100_000 + b"}]"


class Spoiling(NamedTuple):
    """One way to spoil an answer, with a word of how that is told.

    page: what is answered instead; None: the true answer with another body, that of `body`.
    """

    word: str
    page: Page | None = None
    body: Callable[[bytes], bytes] = bytes


SPOILINGS = {
    "no-json": Spoiling("no whole JSON", body=lambda _: b"<html>"),
    "cut": Spoiling("no whole JSON", body=lambda body: body.rstrip()[:-1]),
    "deep": Spoiling("nested too deeply", body=lambda _: DEEP),
    "broken": Spoiling("broke off", page_that_breaks_off),
    "redirect": Spoiling("302, a redirect", redirect),
}
HUGE_SPOILINGS = {
    "huge": Spoiling("the answer is longer than", huge_page),
    "packed": Spoiling("the answer is longer than", huge_packed_page),
}


@asynccontextmanager
async def spoiled(server: Consul, path: str, spoiling: Spoiling) -> AsyncIterator[str]:
    """Forward to a Consul and spoil the answers of one path; give the URL to ask instead."""
    async with aiohttp.ClientSession(server.url) as session:

        async def answer(request: web.Request) -> web.StreamResponse:
            if request.path == path and spoiling.page:
                return await spoiling.page(request)
            headers = {name: value for name, value in request.headers.items() if name.startswith("X-Consul")}
            async with session.get(request.rel_url, headers=headers) as told:
                body = await told.read()
                kept = {name: value for name, value in told.headers.items() if name.startswith("X-Consul")}
            return web.Response(
                body=spoiling.body(body) if request.path == path else body, status=told.status, headers=kept
            )

        async with site(answer) as port:
            yield f"http://127.0.0.1:{port}"
