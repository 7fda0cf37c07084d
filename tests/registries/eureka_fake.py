"""A Eureka that says what it is told to: for what no real one can be brought to say, or not at the right moment.

It lies about deltas and hashes, breaks off, speaks XML only, and is another server from one answer to the next.
"""

from __future__ import annotations

import json
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from tests.rig.eureka import Instance

FULL, DELTA = "/eureka/apps", "/eureka/apps/delta"


class FakeEureka:
    """Answers from `instances` and `changed`, unless `answers` has a status, a body or both for the path.

    version: of the deltas. hashcode: of the deltas; None: the true one. refuse_json: the status that a request for JSON
    is answered with. asked: the paths so far.
    """

    def __init__(self) -> None:
        self.instances: list[Instance] = []
        self.changed: list[tuple[Instance, str]] = []
        self.version = 1
        self.hashcode: str | None = None
        self.refuse_json = 200
        self.answers: dict[str, tuple[bytes, int, str]] = {}
        self.asked: list[str] = []
        self.port = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/eureka"

    def hold(self, *instances: Instance) -> None:
        """Have these instances and no others."""
        self.instances = list(instances)

    def say(self, path: str, body: bytes = b"", status: int = 200, kind: str = "application/json") -> None:
        """Give this answer to every request for a path."""
        self.answers[path] = (body, status, kind)

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        if "json" in request.headers["Accept"] and self.refuse_json != 200:
            return web.Response(status=self.refuse_json)
        if said := self.answers.get(request.path):
            body, status, kind = said
            return web.Response(body=body, status=status, content_type=kind)
        if request.path == FULL:
            return self._registry(1, ((one, "ADDED") for one in self.instances))
        if request.path == DELTA:
            return self._registry(self.version, self.changed)
        return web.Response(status=404)

    def _registry(self, version: int, records: Iterable[tuple[Instance, str]]) -> web.Response:
        applications: dict[str, list[dict[str, Any]]] = {}
        for one, action in records:
            record = {**one.record(), "lastUpdatedTimestamp": str(self.version), "actionType": action}
            applications.setdefault(one.app.upper(), []).append(record)
        counts = Counter(one.status for one in self.instances)
        true = "".join(f"{status}_{counts[status]}_" for status in sorted(counts))
        content = {
            "versions__delta": str(version),
            "apps__hashcode": true if self.hashcode is None else self.hashcode,
            "application": [{"name": name, "instance": found} for name, found in applications.items()],
        }
        return web.Response(text=json.dumps({"applications": content}), content_type="application/json")


@asynccontextmanager
async def fake_eureka() -> AsyncIterator[FakeEureka]:
    """Give a fake on a free port."""
    fake = FakeEureka()
    application = web.Application()
    application.router.add_get("/{path:.*}", fake.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        fake.port = runner.addresses[0][1]
        yield fake
    finally:
        await runner.cleanup()
