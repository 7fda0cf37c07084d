"""A Eureka that says what it is told to: for what no real one can be brought to say, or not at the right moment.

It lies about deltas and hashes, breaks off, speaks XML only, and is another server from one answer to the next.
"""

from __future__ import annotations

import json
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.registries.eureka_watch import TIMEOUT
from tests.rig.eureka import Instance
from tests.rig.wait import wait_for_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

FULL, DELTA = "/eureka/apps", "/eureka/apps/delta"
LEASE_S = 60
RENEWED_MS = 1_795_257_287_000
SHOP = "app:shop"


class FakeEureka:
    """Answers from `instances` and `changed`, unless `answers` has a status, a body or both for the path.

    changed: instances and what the deltas say of them: ADDED, MODIFIED, DELETED, or EVICTED, which is DELETED after the
    end of a lease. version: of the deltas, and of all that is told. hashcode: in all answers; None: the true one.
    says_hash: whether there is one at all. refuse_json: the status that a request for JSON is answered with. broken:
    paths whose requests end with the connection. asked: the paths so far.
    """

    def __init__(self) -> None:
        self.instances: list[Instance] = []
        self.changed: list[tuple[Instance, str]] = []
        self.version = 1
        self.hashcode: str | None = None
        self.says_hash = True
        self.refuse_json = 200
        self.broken: set[str] = set()
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
        if request.path in self.broken and request.transport is not None:
            request.transport.close()
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

    def freeze(self, path: str = FULL) -> None:
        """Go on answering a path with what is true now, as a cache does."""
        registry = self._registry(1, ((one, "ADDED") for one in self.instances))
        self.say(path, registry.body)  # type: ignore[arg-type]

    def _record(self, one: Instance, action: str) -> dict[str, Any]:
        lease = {"durationInSecs": LEASE_S, "lastRenewalTimestamp": RENEWED_MS, "evictionTimestamp": 0}
        if action in ("DELETED", "EVICTED"):
            lived = LEASE_S * 1_000 if action == "EVICTED" else 41
            lease["evictionTimestamp"] = RENEWED_MS + lived
        return {
            **one.record(),
            "lastUpdatedTimestamp": str(self.version),
            "lastDirtyTimestamp": "1",
            "actionType": "DELETED" if action == "EVICTED" else action,
            "leaseInfo": lease,
        }

    def _registry(self, version: int, records: Iterable[tuple[Instance, str]]) -> web.Response:
        applications: dict[str, list[dict[str, Any]]] = {}
        for one, action in records:
            applications.setdefault(one.app.upper(), []).append(self._record(one, action))
        counts = Counter(one.status for one in self.instances)
        true = "".join(f"{status}_{counts[status]}_" for status in sorted(counts))
        content: dict[str, Any] = {
            "versions__delta": str(version),
            "application": [{"name": name, "instance": found} for name, found in applications.items()],
        }
        if self.says_hash:
            content["apps__hashcode"] = true if self.hashcode is None else self.hashcode
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


def shop(number: int, **more: object) -> Instance:
    """Return one instance of the application SHOP."""
    return Instance("SHOP", f"shop:{number}", ip=f"10.0.0.{number}", **more)  # type: ignore[arg-type]


def shops(count: int) -> list[Instance]:
    """Return the first instances of the application SHOP."""
    return [shop(number) for number in range(1, count + 1)]


async def polls(fake: FakeEureka, count: int, path: str = DELTA) -> None:
    """Wait for so many further answers at a path, so that the last but one was taken in."""
    seen = fake.asked.count(path)
    await wait_for_async(lambda: fake.asked.count(path) > seen + count, TIMEOUT, f"{count} more of {path}")
