"""A bridge and its pages over real HTTP, for the tests of this folder."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp
import msgspec

from isthmus.adapters.files import FilesOptions
from isthmus.adapters.zookeeper.options import ZookeeperOptions
from isthmus.app import Bridge, CatalogSink
from isthmus.config import Config, PushOptions
from isthmus.debug.server import serve_debug
from isthmus.mcp.pacing import DEFAULT_GAP
from tests.rig.wait import wait_for_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from isthmus.adapters import SourceOptions
    from isthmus.registry.model import Refusal, Service

TIMEOUT = 120.0


class Answer(NamedTuple):
    """What a request was answered; `json` fails where that is none."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.text)


class Pages:
    """The pages of one bridge. `bridge` and `port` are open to the tests."""

    def __init__(self, session: aiohttp.ClientSession, bridge: Bridge, port: int) -> None:
        self._session = session
        self.bridge = bridge
        self.port = port

    async def ask(
        self, path: str, *, method: str = "GET", headers: dict[str, str] | None = None, at: str = "127.0.0.1"
    ) -> Answer:
        """Ask for a path, whatever the answer."""
        url = f"http://{at}:{self.port}{path}"
        async with self._session.request(method, url, headers=headers) as response:
            return Answer(response.status, dict(response.headers), await response.text())

    async def get(self, path: str) -> Any:
        """Return the JSON of a page, which must be there."""
        answer = await self.ask(path)
        assert answer.status == 200, answer
        assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
        return answer.json

    async def pushed(self, count: int) -> None:
        """Wait until the hub has counted so many responses, which it does after the client may have read them."""
        hub = self.bridge.hub
        await wait_for_async(lambda: sum(hub.pushed.values()) == count, TIMEOUT, f"{count} responses counted")

    async def synced(self, name: str) -> None:
        """Wait until a source was read once."""
        state = next(state for state in self.bridge.catalog.sources if state.name == name)
        await wait_for_async(lambda: state.synced, TIMEOUT, f"source {name} read")

    async def problem(self, path: str, status: int) -> Any:
        """Return the problem that a path is answered."""
        answer = await self.ask(path)
        assert answer.status == status, answer
        assert answer.headers["Content-Type"] == "application/problem+json; charset=utf-8"
        assert answer.json["status"] == status
        return answer.json


@asynccontextmanager
async def pages_of(bridge: Bridge, address: str = "127.0.0.1:0") -> AsyncIterator[Pages]:
    """Serve the pages of a bridge, whatever else of it runs."""
    async with serve_debug(bridge, address) as port, aiohttp.ClientSession() as session:
        yield Pages(session, bridge, port)


@asynccontextmanager
async def running(
    directory: Path, *others: SourceOptions, gap: float = DEFAULT_GAP, **settings: Any
) -> AsyncIterator[Pages]:
    """Run a whole bridge on a directory of services, and serve its pages.

    gap: seconds between pushes. settings: fields of Config.
    """
    sources = (FilesOptions(name="files", directory=str(directory)), *others)
    async with Bridge(config(*sources, gap=gap, **settings)).running() as bridge, pages_of(bridge) as pages:
        yield pages


def config(*sources: SourceOptions, gap: float = DEFAULT_GAP, **settings: Any) -> Config:
    """Return a configuration on free ports. settings: fields of Config."""
    return Config(sources=sources, listen="127.0.0.1:0", debug="", push=PushOptions(gap=gap), **settings)


def bridge_of(*names: str, **settings: Any) -> Bridge:
    """Return a bridge whose sources, of these names, say what the test makes them say. settings: fields of Config."""
    sources = (ZookeeperOptions(name=name, address="10.0.0.9:2181") for name in names)
    return Bridge(config(*sources, **settings))


class Source:
    """A source in the hands of a test: it reports as an adapter does."""

    def __init__(self, bridge: Bridge, name: str) -> None:
        self._sink = CatalogSink(bridge.catalog, name)
        self.generation = self._sink.connected()

    def sync(self, *services: Service) -> None:
        self._sink.sync(self.generation, services)

    def put(self, service: Service) -> None:
        self._sink.put(self.generation, service)

    def drop(self, key: str) -> None:
        self._sink.drop(self.generation, key)

    def refuse(self, scope: str, *refusals: Refusal) -> None:
        self._sink.refuse(self.generation, scope, refusals)

    def note(self, *notes: str) -> None:
        self._sink.note(self.generation, notes)

    def stale(self, reason: str) -> None:
        self._sink.stale(self.generation, reason)

    def progress(self, done: int, total: int) -> None:
        self._sink.progress(done, total)

    def mended(self, count: int) -> None:
        self._sink.mended(count)


SERVICE = """\
services:
- host: {host}
  ports: [{{number: 8080, name: http, protocol: HTTP}}]
  endpoints: [{{address: {address}, ports: {{http: 18080}}}}]
"""


def write(directory: Path, host: str, address: str = "10.0.0.1") -> None:
    """Put a service with one endpoint into the directory, in a file of its own."""
    (directory / f"{host}.yaml").write_text(SERVICE.format(host=host, address=address))
