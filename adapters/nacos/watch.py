"""One connection's life: everything is read and subscribed to, then followed until the connection ends.

Subscribing reads, too, so no change falls between the two. What a push, the answer to a subscription and a re-read say
is the whole service, and whichever the server made last counts (NA4). A list is only a hint at what there is: a service
is empty when reading it shows nobody (NA6).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from isthmus.adapters.kept import Kept
from isthmus.adapters.nacos.records import read_service
from isthmus.adapters.nacos.wire import Forbidden, TooLarge, Unreadable
from isthmus.adapters.tasks import first_error, for_each
from isthmus.registry import codes
from isthmus.registry.errors import SourceUnavailable
from isthmus.registry.model import Refusal

if TYPE_CHECKING:
    from isthmus.adapters.base import Sink
    from isthmus.adapters.nacos.connection import Node
    from isthmus.adapters.nacos.naming import NamingClient
    from isthmus.adapters.nacos.records import NacosRules
    from isthmus.adapters.nacos.scopes import Directory, Tenant
    from isthmus.adapters.nacos.wire import ServiceInfo
    from isthmus.registry.model import Service

_log = logging.getLogger("isthmus.nacos")

# Requests that wait for their answers at the same time: at first, and behind the pushes.
_AT_ONCE = 64
_AT_ONCE_BEHIND = 8
# In how many lists a service has to be missing before it is read to see whether anybody is left (NA6).
_MISSING_LISTS = 2
# How much of a server's time our lists may take.
_LISTING_SHARE = 0.2
# How long a push may take after the server has computed what a re-read shows already.
_PUSH_GRACE = 2.0
_HEALTH_CHECK_SECONDS = 5.0
# How often, and how many seconds apart, a service that could not be read is tried again before the first report.
_TRIES = 3
_TRY_PAUSE = 1.0


class Memory(Struct):
    """What the adapter knows, whatever the connection.

    refused: the services of which some records belong to none.
    tenants: the namespaces that were found, by id.
    """

    kept: Kept[Node] = msgspec.field(default_factory=Kept)
    refused: set[Node] = msgspec.field(default_factory=set)
    tenants: dict[str, Tenant] = msgspec.field(default_factory=dict)


class Intervals(Struct, frozen=True):
    """Seconds between two lists, and in which everything is read again behind the pushes."""

    listing: float
    reconcile: float


class Watch:
    """What one connection shows; times are the loop's."""

    def __init__(
        self,
        memory: Memory,
        naming: NamingClient,
        directory: Directory,
        rules: NacosRules,
        sink: Sink,
        intervals: Intervals,
    ) -> None:
        self._kept = memory.kept
        self._refused = memory.refused
        self._naming = naming
        self._directory = directory
        self._rules = rules
        self._sink = sink
        self._generation = sink.connected()
        self._intervals = intervals
        self._loop = asyncio.get_running_loop()
        # Servers' clocks differ, so what one made is compared with nothing that another made.
        self._made_at: dict[Node, int] = {}
        self._older: set[Node] = set()
        self._pushed_at: dict[Node, float] = {}
        self._missing: Counter[Node] = Counter()
        self._unsubscribed: set[Node] = set()
        self._hidden: set[str] = set()
        self._why = ""
        self._reported = False

    async def run(self) -> None:
        """Follow the registry until the connection ends. Raises SourceUnavailable and SourceDenied."""
        async with first_error(), asyncio.TaskGroup() as tasks:
            tasks.create_task(self._stay_in_contact())
            settled_in = await self._read_all()
            tasks.create_task(self._follow_pushes())
            tasks.create_task(self._follow_lists())
            tasks.create_task(self._read_behind(settled_in))

    async def _stay_in_contact(self) -> None:
        while True:
            await asyncio.sleep(_HEALTH_CHECK_SECONDS)
            await self._naming.connection.check_health()
            if self._reported:
                self._sink.contact(self._generation)

    # The first read.

    async def _read_all(self) -> float | None:
        """Subscribe to what is listed and to what was known, and report all of it; return as `Sink.sync` does.

        Raises SourceUnavailable: none of the services can be read.
        """
        wanted = sorted((await self._list()) | self._kept.places)
        done = 0

        async def read(node: Node) -> None:
            nonlocal done
            await self._subscribe(node)
            done += 1
            self._sink.progress(min(done, len(wanted)), len(wanted))

        await for_each(wanted, _AT_ONCE, read)
        for _ in range(_TRIES - 1):
            if self._unsubscribed:
                # What was never read has no last state to keep, and would be left out of the first report.
                await asyncio.sleep(_TRY_PAUSE)
                await for_each(sorted(self._unsubscribed), _AT_ONCE_BEHIND, self._subscribe_again)
        if wanted and len(self._unsubscribed) == len(wanted):
            raise SourceUnavailable(f"none of {len(wanted)} services can be read: {self._why}")
        self._reported = True
        return self._sink.sync(self._generation, self._kept.everything())

    async def _list(self) -> set[Node]:
        """Return what is listed; what is known of a namespace whose list we may not see counts as listed."""
        listing = await self._directory.services()
        for tenant, reason in listing.hidden.items():
            self._sink.refuse(self._generation, tenant, (Refusal(codes.DENIED, reason),))
        for tenant in self._hidden - listing.hidden.keys():
            self._sink.refuse(self._generation, tenant, ())
        self._hidden = set(listing.hidden)
        return listing.nodes | {node for node in self._kept.places if node.namespace in listing.hidden}

    async def _subscribe(self, node: Node) -> list[Service]:
        """Subscribe to a service; return those of its services that changed."""
        try:
            info = await self._naming.subscribe(node)
            if _is_unprotected(info):
                # Some versions answer a subscription without regard to the protection threshold (NA7).
                info = await self._naming.query(node)
        except (Forbidden, Unreadable) as error:
            self._unsubscribed.add(node)
            self._refuse(node, error)
            if isinstance(error, TooLarge):
                # The push that follows would end the connection, and with it all others.
                await self._unsubscribe(node)
            return []
        self._unsubscribed.discard(node)
        return self._take(node, info) or []

    async def _subscribe_again(self, node: Node) -> None:
        """Subscribe to a service that could not be read, once it can."""
        try:
            await self._naming.query(node)
        except (Forbidden, Unreadable) as error:
            self._refuse(node, error)
        else:
            await self._begin(node)

    async def _unsubscribe(self, node: Node) -> None:
        with suppress(Forbidden, Unreadable):
            await self._naming.unsubscribe(node)

    # What follows.

    async def _follow_pushes(self) -> None:
        while True:
            pushed = await self._naming.connection.pushed()
            now = self._loop.time()
            again: list[Node] = []
            for name, info in pushed.items():
                nodes = self._directory.nodes(name)
                for node in filter(self._kept.__contains__, nodes):
                    self._pushed_at[node] = now
                    # It is not known which of several namespaces a push speaks of.
                    changed = self._take(node, info) if len(nodes) == 1 else None
                    if changed is None:
                        again.append(node)
                    else:
                        self._put(changed)
            await for_each(again, _AT_ONCE_BEHIND, self._read_and_put)

    async def _read_and_put(self, node: Node) -> None:
        self._put(await self._read(node))

    async def _follow_lists(self) -> None:
        while True:
            asked_at = self._loop.time()
            listed = await self._list()
            took = self._loop.time() - asked_at
            await for_each(sorted(listed - self._kept.places), _AT_ONCE, self._begin)
            await for_each(self._reappeared(listed), _AT_ONCE, self._begin)
            await for_each(self._disappeared(listed), _AT_ONCE_BEHIND, self._end_if_empty)
            self._drop_long_empty()
            await asyncio.sleep(max(self._intervals.listing, took / _LISTING_SHARE))

    async def _begin(self, node: Node) -> None:
        self._put(await self._subscribe(node))

    def _reappeared(self, listed: set[Node]) -> list[Node]:
        """Return the services that are listed again: who knows what became of our subscriptions to them."""
        found = sorted(listed & self._missing.keys())
        for node in found:
            del self._missing[node]
        return found

    def _disappeared(self, listed: set[Node]) -> list[Node]:
        """Return the known services that have been missing in enough lists; a page can slip one (NA6)."""
        gone = self._kept.places - listed
        self._missing.update(gone)
        return sorted(node for node in gone if self._missing[node] >= _MISSING_LISTS)

    async def _end_if_empty(self, node: Node) -> None:
        """Read a service that is not listed any more; end the subscription where nothing of it is left to keep."""
        if self._kept.services(node):
            if self._missing[node] == _MISSING_LISTS:
                await self._read_and_put(node)
            return
        await self._unsubscribe(node)
        if not self._kept.services(node):
            self._forget(node)

    def _forget(self, node: Node) -> None:
        self._kept.forget(node)
        self._refuse_records(node, ())
        for known in (self._made_at, self._pushed_at, self._missing):
            known.pop(node, None)
        self._older.discard(node)
        self._unsubscribed.discard(node)

    def _drop_long_empty(self) -> None:
        for key in self._kept.drop_long_empty(self._loop.time()):
            self._sink.drop(self._generation, key)

    # Behind the pushes.

    async def _read_behind(self, settled_in: float | None) -> None:
        """Read everything again now and then, since pushes get lost (NA3), and count what no push had told (G6)."""
        while True:
            pause = self._intervals.reconcile * random.uniform(0.9, 1.1)  # noqa: S311 (jitter)
            await asyncio.sleep(pause if settled_in is None else min(pause, settled_in))
            try:
                await self._directory.refresh()
            except SourceUnavailable as error:
                # The namespaces that are known are enough to go on with.
                _log.info("the list of namespaces: %s", error)
            found: dict[Node, float] = {}

            async def read(node: Node, found: dict[Node, float] = found) -> None:
                asked_at = self._loop.time()
                if node in self._unsubscribed:
                    await self._subscribe_again(node)
                elif changed := await self._read(node):
                    found[node] = asked_at
                    self._put(changed)

            await for_each(sorted(self._kept.places), _AT_ONCE_BEHIND, read)
            await self._count_mended(found)
            settled_in = self._sink.sync(self._generation, self._kept.everything())

    async def _count_mended(self, found: dict[Node, float]) -> None:
        if not found:
            return
        await asyncio.sleep(_PUSH_GRACE)
        untold = [node for node, at in found.items() if self._pushed_at.get(node, float("-inf")) < at - _PUSH_GRACE]
        if untold:
            _log.warning("re-reading mended %d services that no push had told of: %s", len(untold), untold[:5])
            self._sink.mended(len(untold))

    async def _read(self, node: Node) -> list[Service]:
        """Read a service; return those of its services that changed."""
        try:
            for _ in range(2):
                info = await self._naming.query(node)
                if node not in self._kept:
                    # It was given up meanwhile.
                    return []
                if (changed := self._take(node, info)) is not None:
                    return changed
        except (Forbidden, Unreadable) as error:
            self._refuse(node, error)
        return []

    # What was read.

    def _take(self, node: Node, info: ServiceInfo) -> list[Service] | None:
        """Believe what a server made of a service; return what changed, None where it made something later before.

        The second one in a row that is older is believed: the server's clock was set back. One without hosts says
        nothing (NA1).
        """
        if info.hosts is None:
            return []
        if info.last_ref_time < self._made_at.get(node, 0) and node not in self._older:
            self._older.add(node)
            return None
        self._older.discard(node)
        self._made_at[node] = info.last_ref_time
        scope = self._directory.scope(node)
        reading = read_service(scope, node.name, map(bytes, info.hosts), self._rules)
        self._refuse_records(node, reading.refused)
        return self._kept.take(node, reading.services, self._loop.time())

    def _put(self, services: list[Service]) -> None:
        for service in services:
            self._sink.put(self._generation, service)

    def _refuse(self, node: Node, error: Forbidden | Unreadable) -> None:
        self._why = str(error)
        code = codes.DENIED if isinstance(error, Forbidden) else codes.GARBLED
        self._refuse_records(node, (Refusal(code, f"{error}; its last state is kept"),))
        # What was never read is a place, too: it is tried again behind the pushes.
        self._kept.hold(node)

    def _refuse_records(self, node: Node, refusals: tuple[Refusal, ...]) -> None:
        if refusals or node in self._refused:
            self._sink.refuse(self._generation, f"{node.namespace}/{node.group}/{node.name}", refusals)
        (self._refused.add if refusals else self._refused.discard)(node)


class _Health(Struct):
    healthy: bool = True


def _is_unprotected(info: ServiceInfo) -> bool:
    """Tell whether an instance is called unhealthy, and nothing was done about it."""
    return not info.reach_protection_threshold and not all(map(_is_healthy, info.hosts or ()))


def _is_healthy(host: msgspec.Raw) -> bool:
    try:
        return msgspec.json.decode(host, type=_Health).healthy
    except (msgspec.MsgspecError, RecursionError):
        return True
