"""One connection's life: everything is listed or taken up where it was left, then followed until the connection ends.

A list is at a revision, and a watch goes on from the next one, so no change falls between the two (ET1, ET2). After a
break the watches go on where they were left, unless other data was put in its place (ET6); one that cannot, since etcd
does not keep that revision any more, is listed and compared (ET3).
"""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import suppress
from typing import TYPE_CHECKING

from msgspec import Struct, field

from isthmus.adapters.etcd.client import Compacted, Forbidden, NoSuchRevision
from isthmus.adapters.etcd.keys import AT_ONCE, Keys
from isthmus.adapters.tasks import first_error
from isthmus.registry import codes
from isthmus.registry.errors import SourceUnavailable
from isthmus.registry.model import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from isthmus.adapters.base import Sink
    from isthmus.adapters.etcd.client import EtcdClient, Listed, WatchStream
    from isthmus.adapters.etcd.options import EtcdOptions
    from isthmus.adapters.etcd.told import Origin, Told
    from isthmus.registry.model import Service

_log = logging.getLogger("isthmus.etcd")

# How long the loop may be kept at one go by reading a large list.
_STINT = 0.02
# A member that is still replaying says nothing of its progress when it is asked.
_ASK_AGAIN = 1.0


class Memory(Struct):
    """What the adapter knows, whatever the connection.

    origin: of the newest answer; None: everything is to be listed.
    denied: the prefixes that we may not read.
    """

    keys: list[Keys]
    origin: Origin | None = None
    denied: set[str] = field(default_factory=set)


class _Watcher(Struct):
    """The watch of one prefix. number: how etcd calls it; reached: up to which revision it has told everything."""

    number: int
    keys: Keys
    running: bool = False
    compacted: bool = False
    reached: int = 0

    @property
    def prefix(self) -> str:
        return self.keys.prefix


class Watch:
    """What one connection shows; times are the loop's."""

    def __init__(self, memory: Memory, client: EtcdClient, sink: Sink, options: EtcdOptions) -> None:
        self._memory = memory
        self._client = client
        self._sink = sink
        self._options = options
        self._loop = asyncio.get_running_loop()
        # etcd chooses a number itself where it is 0.
        self._watchers = [_Watcher(number, keys) for number, keys in enumerate(memory.keys, start=1)]
        self._generation: int | None = None
        self._known = memory.origin
        self._heard_at = self._loop.time()
        self._read_again_at = 0.0
        # Nothing is reported while a list is half taken.
        self._taking = asyncio.Lock()
        self._moved = asyncio.Event()
        self._behind = asyncio.Event()

    async def run(self) -> None:
        """Follow the registry until the connection ends. Raises SourceUnavailable and SourceDenied."""
        if not await self._can_go_on():
            await self._list_all()
        async with self._client.watch() as stream, first_error(), asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow(stream))
            tasks.create_task(self._stay_in_contact(stream))
            for one in self._allowed():
                await self._begin(stream, one)
            await self._catch_up(stream)
            # One that failed before it caught up would only prolong the settling time.
            self._generation = self._sink.connected()
            await self._report_all(self._generation)
            await self._read_behind(stream, self._generation)

    def _allowed(self) -> list[_Watcher]:
        return [one for one in self._watchers if one.prefix not in self._memory.denied]

    # At first.

    async def _can_go_on(self) -> bool:
        """Tell whether etcd still holds what we know, so that watches can go on from there."""
        if self._known is None:
            return False
        try:
            for one in self._allowed():
                newest = await self._client.newest(one.prefix.encode(), one.keys.revision)
                if not (one.keys.revision and one.keys.agrees(newest)):
                    _log.warning("%s: %s holds other data than was known, as restored", self._options.name, one.prefix)
                    return False
        except Compacted:
            return False
        except NoSuchRevision:
            _log.warning("%s: etcd is older than what was known, as after a restore", self._options.name)
            return False
        except Forbidden:
            # Lists tell whose rights are lacking.
            return False
        return True

    async def _list_all(self) -> None:
        """List every prefix. Raises SourceDenied: we may read none of them."""
        self._memory.denied.clear()
        self._memory.origin = self._known = None
        refused: Forbidden | None = None
        for one in self._watchers:
            one.keys.forget_revisions()
            try:
                listed = await self._client.list(one.prefix.encode())
            except Forbidden as error:
                refused = error
                self._memory.denied.add(one.prefix)
            else:
                await self._take_list(one, listed)
        if refused and not self._allowed():
            raise refused
        self._known = self._memory.origin

    async def _begin(self, stream: WatchStream, one: _Watcher) -> None:
        """Watch a prefix on from where it is known.

        That is the next revision (ET2); what happened at the last one comes once more and changes nothing, since of a
        watch that begins in the future etcd 3.5 and 3.6 do not say how far it is, however often they are asked.
        """
        one.compacted = False
        await stream.begin(one.number, one.prefix.encode(), one.keys.revision)

    async def _catch_up(self, stream: WatchStream) -> None:
        """Wait until every watch has begun and has told what happened until then; list those that cannot."""
        for one in self._allowed():
            while not (one.running or one.compacted):
                await self._next_move()
        newest = self._memory.origin
        for one in self._allowed():
            await self._reach(stream, one, newest.revision if newest else 0)
        await self._begin_anew(stream)

    async def _reach(self, stream: WatchStream, one: _Watcher, revision: int) -> None:
        """Wait until a watch has told everything up to a revision, or has ended."""
        while one.running and one.reached < revision:
            await stream.ask_progress()
            await self._next_move()

    async def _next_move(self) -> None:
        self._moved.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(_ASK_AGAIN):
                await self._moved.wait()

    # What follows.

    async def _follow(self, stream: WatchStream) -> None:
        while True:
            told = await stream.read()
            self._heard_at = self._loop.time()
            async with self._taking:
                self._take(told)
                await self._report(told)
            self._moved.set()

    def _take(self, told: Told) -> None:
        """Take a message. Raises SourceUnavailable: its watch has ended, or is one of other data."""
        watchers = [one for one in self._watchers if told.watch in (None, one.number)]
        if told.cancelled is not None:
            # It is not said whose rights are lacking; lists tell.
            self._memory.origin = None
            raise SourceUnavailable(f"{self._client.server} ends a watch: {told.cancelled}")
        if told.created and self._known is not None and not told.origin.continues(self._known):
            self._forget()
        for one in watchers:
            if told.compacted:
                one.running, one.compacted = False, True
                self._behind.set()
            elif told.created:
                one.running = True
                one.reached = min(told.origin.revision, one.keys.revision)
            elif told.watch is None:
                # That may run ahead of what a replaying watch has yet to tell, in 3.4 to 3.5.7: it moves no watch on.
                one.reached = max(one.reached, told.origin.revision)
            else:
                one.keys.apply(told.records)
                if not told.records:
                    one.keys.reach(told.origin.revision)
                one.reached = max(one.reached, one.keys.revision)
        self._hear(told.origin)

    def _hear(self, origin: Origin) -> None:
        known = self._memory.origin
        if known is None or origin.revision > known.revision or origin.term > known.term:
            self._memory.origin = origin

    def _forget(self) -> None:
        self._memory.origin = None
        raise SourceUnavailable(
            f"{self._client.server} has another or an older state than was known, as after a restore; it is read anew"
        )

    async def _stay_in_contact(self, stream: WatchStream) -> None:
        """Ask for a sign of life again and again: of a silent server nobody knows whether it is there (ET4)."""
        while True:
            await asyncio.sleep(self._options.timeout)
            silent = self._loop.time() - self._heard_at
            if silent > 2 * self._options.timeout:
                raise SourceUnavailable(
                    f"{self._client.server} says nothing for {silent:.0f} s, though it was asked to"
                )
            await stream.ask_progress()

    async def _read_behind(self, stream: WatchStream, generation: int) -> None:
        """List everything now and then, and at once what is watched no more."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._read_again_at):
                    await self._behind.wait()
            self._behind.clear()
            if await self._begin_anew(stream):
                async with self._taking:
                    await self._put_changes(generation)
            if self._loop.time() >= self._read_again_at:
                await self._reconcile(stream)
                await self._report_all(generation)

    async def _begin_anew(self, stream: WatchStream) -> bool:
        """List the prefixes whose watches were to begin with what is not kept any more, and watch them again (ET3).

        Return whether there was one.
        """
        ended = [one for one in self._allowed() if one.compacted]
        for one in ended:
            _log.info("%s: etcd has forgotten what happened under %r meanwhile: listed", self._options.name, one.prefix)
            await self._take_list(one, await self._client.list(one.prefix.encode()))
            await self._begin(stream, one)
        return bool(ended)

    async def _reconcile(self, stream: WatchStream) -> None:
        """List everything behind the watches, and count what they had not told (G6)."""
        for one in self._watchers:
            one.keys.begin_list()
            try:
                listed = await self._client.list(one.prefix.encode())
            except Forbidden:
                one.keys.give_up_list()
                self._memory.denied.add(one.prefix)
                continue
            # What is still on its way would count as not told.
            await self._reach(stream, one, listed.origin.revision)
            watched = one.running
            await self._take_list(one, listed)
            if watched and one.keys.found:
                _log.warning("a list mended %d keys under %s that no watch had told of", one.keys.found, one.prefix)
                self._sink.mended(one.keys.found)
            if one.prefix in self._memory.denied:
                self._memory.denied.discard(one.prefix)
                await self._begin(stream, one)

    async def _take_list(self, one: _Watcher, listed: Listed) -> None:
        known = self._memory.origin
        if known and (listed.origin.cluster != known.cluster or listed.origin.revision < one.keys.revision):
            self._forget()
        async with self._taking:
            await self._in_stints(one.keys.replace(listed.records, listed.origin.revision), len(listed.records))
        self._hear(listed.origin)

    # What is reported.

    async def _report(self, told: Told) -> None:
        """Report what a message changed, or that there is contact, once everything was reported."""
        if (generation := self._generation) is None:
            return
        if told.records:
            await self._put_changes(generation)
        self._sink.contact(generation)

    async def _put_changes(self, generation: int) -> None:
        await self._build()
        for one in self._watchers:
            one.keys.report(self._sink, generation)

    async def _report_all(self, generation: int) -> None:
        """Report everything as complete; what the guard holds is released by the next such report."""
        async with self._taking:
            await self._build()
            everything: list[Service] = []
            for one in self._watchers:
                everything += one.keys.take_everything(self._sink, generation, self._loop.time())
                self._sink.refuse(generation, one.prefix, self._denial(one.prefix))
            settled_in = self._sink.sync(generation, everything)
        pause = self._options.reconcile * random.uniform(0.9, 1.1)  # noqa: S311 (jitter)
        self._read_again_at = self._loop.time() + (pause if settled_in is None else min(pause, settled_in))

    def _denial(self, prefix: str) -> tuple[Refusal, ...]:
        if prefix not in self._memory.denied:
            return ()
        return (Refusal(codes.DENIED, "we have no right to read what is under this prefix", prefix),)

    async def _build(self) -> None:
        for one in self._watchers:
            await self._in_stints(one.keys.build(self._loop.time()), 0)

    async def _in_stints(self, work: Iterator[None], total: int) -> None:
        """Do work that stops now and then, and let others run meanwhile; tell how far the first read has come."""
        stint_ends = self._loop.time() + _STINT
        for done, _ in enumerate(work, start=1):
            if self._loop.time() > stint_ends:
                if total and self._generation is None:
                    self._sink.progress(min(done * AT_ONCE, total), total)
                await asyncio.sleep(0)
                stint_ends = self._loop.time() + _STINT
