"""Watches Dubbo's interfaces in ZooKeeper: one child watch on the root, one on each interface's providers (ZK10).

An event is only a hint to read its node again (G6); what is read is compared with what was known, and the difference
is reported. After every reconnect, within the session or not, all is read again and compared before anything is
withdrawn (ZK2 to ZK4).
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING

from msgspec.structs import replace

from isthmus.adapters.dubbo import DubboRules, Reading, read_interface
from isthmus.adapters.zookeeper.client import Children, Disconnected, ZookeeperClient, connect
from isthmus.registry import codes
from isthmus.registry.errors import SourceDenied
from isthmus.registry.model import Refusal, Service

if TYPE_CHECKING:
    from collections.abc import Iterable

    from isthmus.adapters.base import Sink
    from isthmus.adapters.zookeeper.options import ZookeeperOptions

_log = logging.getLogger("isthmus.zookeeper")

# Dubbo keeps these beside the interfaces.
_NOT_INTERFACES = frozenset({"config", "mapping", "metadata"})
# Reads sent before the first answer is waited for: enough to hide the way there and back, few enough that the loop
# is never blocked for long by the parsing of one batch.
_BATCH = 200
# How long a service without providers is kept as an empty one, which is cheaper for the mesh than delete and create.
_EMPTY_KEPT = 3600.0


class ZookeeperAdapter:
    """Reports the Dubbo services of one ZooKeeper ensemble."""

    def __init__(self, options: ZookeeperOptions) -> None:
        self._options = options
        self._root = options.root.rstrip("/") or "/"
        self._rules = DubboRules(options.namespace, options.protocols, options.labels)
        self._interfaces: dict[str, dict[str, Service]] = {}
        self._refused: set[str] = set()
        self._zxids: dict[str, int] = {}
        self._emptied: dict[str, float] = {}

    async def run(self, sink: Sink) -> None:
        """Watch until cancelled. Raises SourceDenied: the credentials or the rights on the root do not do."""
        async with connect(self._options) as client:
            while True:
                await self._until_connected(client, sink)
                generation = sink.connected()
                try:
                    while True:
                        settled_in = await self._read_all(client, sink, generation)
                        await self._follow(client, sink, generation, settled_in)
                except Disconnected as lost:
                    sink.stale(generation, str(lost))

    async def _until_connected(self, client: ZookeeperClient, sink: Sink) -> None:
        while not await client.until_connected(self._options.session_timeout):
            sink.stale(sink.connected(), f"no session with {self._options.address}")

    async def _read_all(self, client: ZookeeperClient, sink: Sink, generation: int) -> float | None:
        """Read everything and report it as complete; wait while the root is not there.

        Return after how many seconds everything is to be read again (Sink.sync).
        """
        while True:
            root = await self._children(client, self._root)
            if root is None:
                # Dubbo never deletes its root: these are other servers, or they lost their data, or the chroot is wrong
                # (G1).
                sink.stale(generation, self._root_is_missing())
                await client.changes(self._options.reconcile)
                continue
            listed = _interfaces(root)
            for gone in self._interfaces.keys() - listed:
                self._forget(gone, sink, generation)
            done = 0
            for batch in _batches(listed):
                await self._read_batch(client, batch, sink, generation)
                done += len(batch)
                sink.progress(done, len(listed))
            return self._report_all(sink, generation)

    def _report_all(self, sink: Sink, generation: int) -> float | None:
        return sink.sync(generation, [one for services in self._interfaces.values() for one in services.values()])

    async def _follow(self, client: ZookeeperClient, sink: Sink, generation: int, settled_in: float | None) -> None:
        """Read again what a watch tells, and everything now and then, until the root is gone."""
        loop = asyncio.get_running_loop()
        reconcile_at = loop.time() + (self._until_reconcile() if settled_in is None else settled_in)
        while True:
            changed = await client.changes(max(0.0, reconcile_at - loop.time()))
            if changed and not await self._read_changed(client, changed, sink, generation):
                return
            if loop.time() >= reconcile_at:
                if not await self._reconcile(client, sink, generation):
                    return
                reconcile_at = loop.time() + self._until_reconcile()

    def _until_reconcile(self) -> float:
        return self._options.reconcile * random.uniform(0.9, 1.1)  # noqa: S311 (jitter)

    async def _read_changed(self, client: ZookeeperClient, changed: set[str], sink: Sink, generation: int) -> bool:
        """Read what changed and report it; return False, having read nothing else, where the root is gone."""
        names = {name for path in changed if (name := self._interface_of(path)) in self._interfaces}
        if self._root in changed:
            new = await self._read_root(client, sink, generation)
            if new is None:
                # Whatever else is missing went with the root.
                return False
            names = (names & self._interfaces.keys()) | new
        for batch in _batches(names):
            for service in await self._read_batch(client, batch, sink, generation):
                sink.put(generation, service)
        return True

    def _root_is_missing(self) -> str:
        if self._interfaces:
            return f"{self._root} is gone; the last state is kept until it is back"
        return f"{self._root} is not there: is the chroot right? Create it if nothing was ever registered"

    async def _read_root(self, client: ZookeeperClient, sink: Sink, generation: int) -> set[str] | None:
        """Read the list of interfaces; report the gone ones and return the new ones, None if the root is gone."""
        root = await self._children(client, self._root)
        if root is None:
            return None
        listed = _interfaces(root)
        for gone in self._interfaces.keys() - listed:
            for key in self._forget(gone, sink, generation):
                sink.drop(generation, key)
        return listed - self._interfaces.keys()

    async def _reconcile(self, client: ZookeeperClient, sink: Sink, generation: int) -> bool:
        """Read everything again behind the watches, and count what they had not told (G6); False: the root is gone."""
        before = dict(self._interfaces)
        everything = {self._root} | {self._providers(name) for name in before}
        if not await self._read_changed(client, everything, sink, generation):
            return False
        await client.settle()
        told = client.take_changes()
        found = [name for name in self._interfaces.keys() | before.keys() if self._mended(name, before, told)]
        if found:
            _log.warning("reconcile mended %d interfaces that no watch had told of: %s", len(found), found[:5])
            sink.mended(len(found))
        if not await self._read_changed(client, told, sink, generation):
            return False
        self._drop_long_empty(sink, generation)
        self._report_all(sink, generation)
        return True

    def _mended(self, name: str, before: dict[str, dict[str, Service]], told: set[str]) -> bool:
        if name in self._interfaces and name in before:
            return self._interfaces[name] != before[name] and self._providers(name) not in told
        return self._root not in told

    def _drop_long_empty(self, sink: Sink, generation: int) -> None:
        now = asyncio.get_running_loop().time()
        for services in self._interfaces.values():
            for key in [key for key in services if now - self._emptied.get(key, now) > _EMPTY_KEPT]:
                del services[key]
                del self._emptied[key]
                sink.drop(generation, key)

    async def _read_batch(
        self, client: ZookeeperClient, names: list[str], sink: Sink, generation: int
    ) -> list[Service]:
        """Read some interfaces at once; return the services that are other than before."""
        answers = await asyncio.gather(*(self._read_records(client, name) for name in names))
        changed: list[Service] = []
        for name, records in zip(names, answers, strict=True):
            if records is not None:
                changed += self._take(name, read_interface(name, records, self._rules), sink, generation)
            else:
                reason = f"no right to read {self._providers(name)}; its last state is kept"
                self._refuse(name, (Refusal(codes.DENIED, reason),), sink, generation)
                self._interfaces.setdefault(name, {})
        return changed

    async def _read_records(self, client: ZookeeperClient, name: str) -> tuple[str, ...] | None:
        """Return an interface's records; None where we may not read them, which is not "none" (ZK8)."""
        try:
            children = await self._children(client, self._providers(name))
        except SourceDenied:
            return None
        return children.names if children else ()

    def _take(self, name: str, reading: Reading, sink: Sink, generation: int) -> list[Service]:
        """Replace what is known of an interface; a service whose last provider left stays, empty."""
        known = self._interfaces.get(name, {})
        now = asyncio.get_running_loop().time()
        services = dict(reading.services)
        for key in known.keys() - services.keys():
            services[key] = replace(known[key], endpoints=())
            self._emptied.setdefault(key, now)
        for key in reading.services:
            self._emptied.pop(key, None)
        self._refuse(name, reading.refused, sink, generation)
        self._interfaces[name] = services
        return [service for key, service in services.items() if service != known.get(key)]

    def _refuse(self, name: str, refusals: tuple[Refusal, ...], sink: Sink, generation: int) -> None:
        if refusals or name in self._refused:
            sink.refuse(generation, name, refusals)
        (self._refused.add if refusals else self._refused.discard)(name)

    def _forget(self, name: str, sink: Sink, generation: int) -> Iterable[str]:
        self._refuse(name, (), sink, generation)
        self._zxids.pop(self._providers(name), None)
        services = self._interfaces.pop(name)
        for key in services:
            self._emptied.pop(key, None)
        return services

    async def _children(self, client: ZookeeperClient, path: str) -> Children | None:
        """Read a node's children, again where the server is behind what an earlier one showed (ZK6)."""
        children = await client.children(path)
        known = self._zxids.get(path, 0)
        if (children.zxid if children else 0) < known:
            await client.catch_up(path)
            children = await client.children(path)
        self._zxids[path] = children.zxid if children else 0
        return children

    def _providers(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}/providers"

    def _interface_of(self, path: str) -> str:
        return path.removesuffix("/providers").rpartition("/")[2]


def _interfaces(root: Children | None) -> set[str]:
    return set(root.names) - _NOT_INTERFACES if root else set()


def _batches(names: Iterable[str]) -> Iterable[list[str]]:
    ordered = sorted(names)
    return (ordered[start : start + _BATCH] for start in range(0, len(ordered), _BATCH))
