"""A Consul that says what it is told to: for what no real one can be brought to say, or not at the right moment.

Its index is below 1, its leader is long out of touch, it has no leader and answers all the same, it has had enough of
us, it takes away a right from whoever has no token.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.registries.consul_watch import TIMEOUT
from tests.rig.wait import wait_for_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

LEADER, SERVICES, NODES = "/v1/status/leader", "/v1/catalog/services", "/v1/catalog/nodes"
OK = 200
HEALTH, STATES = "/v1/health/service/", "/v1/health/state/"


class FakeConsul:
    """Answers from `instances`, name -> (address, status) of each, unless `answers` has a status and a body for a path.

    index: of all answers but where `indexes` has one. Each change by `hold` adds one, and wakes whoever waits.
    churning: a path whose index is another one at each question, which so never waits.
    stumbling: by which status each so manieth question for a service is answered; 0: the connection breaks.
    headers: instead of those of a server in good health, on all pages but the leader's.
    asked: the path and the query of each request so far.
    """

    def __init__(self) -> None:
        self.instances: dict[str, list[tuple[str, str]]] = {}
        self.index = 10
        self.indexes: dict[str, int] = {}
        self.churning = ""
        self.stumbling: tuple[int, int] | None = None
        self.headers: dict[str, str] = {}
        self.answers: dict[str, tuple[int, bytes]] = {}
        self.asked: list[tuple[str, Mapping[str, str]]] = []
        self.port = 0
        self._service_questions = 0
        self._changed = asyncio.Event()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def hold(self, **instances: list[tuple[str, str]]) -> None:
        """Have these instances and no others."""
        self.instances = instances
        self.wake()

    def wake(self, by: int = 1) -> None:
        """Move the index, and answer whoever waits."""
        self.index += by
        self._changed.set()
        self._changed = asyncio.Event()

    def count(self, path: str) -> int:
        """Return how often a path was asked for."""
        return sum(one == path for one, _ in self.asked)

    async def answer(self, request: web.Request) -> web.Response:
        path, query = request.path, dict(request.query)
        self.asked.append((path, query))
        if path.startswith(HEALTH) and self.stumbling:
            self._service_questions += 1
            status, each = self.stumbling
            if self._service_questions % each == 0:
                if not status and request.transport:
                    request.transport.abort()
                return web.Response(status=status or OK)
        if path in self.answers:
            status, body = self.answers[path]
            return web.Response(status=status, body=body, headers=self._headers(path) if status == OK else {})
        if path == LEADER:
            return web.json_response("127.0.0.1:8300")
        if "index" in query and self._index(path) <= int(query["index"]):
            try:
                async with asyncio.timeout(float(query["wait"].removesuffix("s"))):
                    await self._changed.wait()
            except TimeoutError:
                pass
        return web.json_response(self._page(path), headers=self._headers(path))

    def _headers(self, path: str) -> dict[str, str]:
        good = {"X-Consul-KnownLeader": "true", "X-Consul-LastContact": "0"}
        return {**good, "X-Consul-Index": str(self._index(path)), **self.headers}

    def _index(self, path: str) -> int:
        if path == self.churning:
            return 1_000 + self.count(path)
        # A service has an index of its own, which tells nothing here.
        return self.indexes.get(path, 1 if path.startswith(HEALTH) else self.index)

    def _page(self, path: str) -> object:
        if path == SERVICES:
            return {name: [] for name in self.instances}
        if path == NODES:
            return [{"Node": "n1", "Address": "10.0.0.1"}]
        if path.startswith(HEALTH):
            name = path.removeprefix(HEALTH)
            return [self._entry(name, *one) for one in self.instances.get(name, [])]
        state = path.removeprefix(STATES)
        checks = [check for name, many in self.instances.items() for one in many for check in self._checks(name, *one)]
        return [check for check in checks if state in ("any", check["Status"])]

    def _entry(self, name: str, address: str, status: str) -> dict[str, Any]:
        service = {"ID": f"{name}-{address}", "Service": name, "Address": address, "Port": 8080}
        node = {"Node": "n1", "Address": "10.0.0.1"}
        return {"Node": node, "Service": service, "Checks": self._checks(name, address, status)}

    def _checks(self, name: str, address: str, status: str) -> list[dict[str, Any]]:
        one = f"{name}-{address}"
        return [{"Node": "n1", "CheckID": one, "Status": status, "ServiceID": one, "ServiceName": name}]


@asynccontextmanager
async def fake_consul() -> AsyncIterator[FakeConsul]:
    """Give a fake on a free port."""
    fake = FakeConsul()
    application = web.Application()
    application.router.add_get("/{path:.*}", fake.answer)
    runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        fake.port = runner.addresses[0][1]
        yield fake
    finally:
        await runner.cleanup()


def passing(*addresses: str) -> list[tuple[str, str]]:
    """Return healthy instances at these addresses."""
    return [(address, "passing") for address in addresses]


async def asked_again(fake: FakeConsul, path: str, times: int = 1) -> None:
    """Wait for so many further requests of a path."""
    seen = fake.count(path)
    await wait_for_async(lambda: fake.count(path) >= seen + times, TIMEOUT, f"{times} more of {path}")
