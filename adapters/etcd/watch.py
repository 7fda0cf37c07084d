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

from isthmus.adapters.etcd.client import Compacted, Forbidden, NoSuchRevision, TooLarge
from isthmus.adapters.etcd.keys import AT_ONCE, Keys
from isthmus.adapters.losses import Losses
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

# How long the loop may be kept at one go by reading much.
_STINT = 0.02
# A member that is still replaying says nothing of its progress when it is asked.
_ASK_AGAIN = 1.0
_LONGEST_REST = 1.0
# In which what goes counts as going at once.
_LOSS_WINDOW = 60.0


class Memory(Struct):
    """What the adapter knows, whatever the connection.

    origin: of the newest answer; None: everything is to be listed.
    denied: the prefixes that we may not read.
    """

    keys: list[Keys]
    origin: Origin | None = None
    denied: set[str] = field(default_factory=set)


class _Watched:
    """One prefix, and its watch while it runs. reached: up to which revision everything of it is known."""

    def __init__(self, keys: Keys, now: float) -> None:
        self.keys = keys
        self.followed = False
        self.stream: WatchStream | None = None
        self.created = False
        self.reached = 0
        self.heard_at = now

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
        self._prefixes = [_Watched(keys, self._loop.time()) for keys in memory.keys]
        self._known = memory.origin
        # 0: nothing was reported yet.
        self._generation = 0
        self._read_again_at = 0.0
        self._behind = asyncio.Event()
        self._losses = Losses(_LOSS_WINDOW)
        self._held_until = float("-inf")
        # Nothing is reported while a message or a list is half taken (ET5).
        self._taking = asyncio.Lock()
        self._moved = asyncio.Event()
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Follow the registry until the connection ends. Raises SourceUnavailable and SourceDenied."""
        goes_on = await self._can_go_on()
        if not goes_on:
            await self._list_all()
        async with first_error(), asyncio.TaskGroup() as tasks:
            for one in self._allowed():
                tasks.create_task(self._follow(one))
            tasks.create_task(self._stay_in_contact())
            await self._catch_up()
            # One that failed before it caught up would only prolong the settling time.
            self._generation = self._sink.connected()
            await self._report_all()
            tasks.create_task(self._publish())
            if goes_on:
                # A restored backup that was changed by deletions alone would pass for what was known (ET6).
                self._behind.set()
            await self._read_behind(tasks)

    def _allowed(self) -> list[_Watched]:
        return [one for one in self._prefixes if one.prefix not in self._memory.denied]

    # At first.

    async def _can_go_on(self) -> bool:
        """Tell whether etcd still holds what we know, so that watches can go on from there."""
        if self._known is None or self._memory.denied or not all(one.keys.revision for one in self._prefixes):
            return False
        try:
            for one in self._prefixes:
                newest = await self._client.newest(one.prefix.encode(), one.keys.revision)
                if not one.keys.agrees(newest):
                    _log.warning("%s: %s holds other data than was known, as restored", self._options.name, one.prefix)
                    return False
        except (Compacted, Forbidden):
            # Lists tell what is there, and whose rights are lacking.
            return False
        except NoSuchRevision:
            _log.warning("%s: etcd is older than what was known, as restored", self._options.name)
            return False
        return True

    async def _list_all(self) -> None:
        """List every prefix. Raises SourceDenied: we may read none of them."""
        self._memory.denied.clear()
        self._memory.origin = self._known = None
        refused: Forbidden | None = None
        for one in self._prefixes:
            one.keys.forget_revisions()
            try:
                await self._take_list(one, await self._client.list(one.prefix.encode()))
            except Forbidden as error:
                refused = error
                self._memory.denied.add(one.prefix)
        if refused and not self._allowed():
            raise refused
        self._known = self._memory.origin

    async def _catch_up(self) -> None:
        """Wait until every watch has told what happened until it began."""
        for one in self._allowed():
            while not one.created:
                await self._next_move()
        newest = self._memory.origin
        for one in self._allowed():
            await self._reach(one, newest.revision if newest else 0)

    async def _reach(self, one: _Watched, revision: int) -> None:
        """Wait until everything of a prefix up to a revision is known."""
        while one.reached < revision:
            if one.stream:
                await one.stream.ask_progress()
            await self._next_move()

    async def _next_move(self) -> None:
        self._moved.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(_ASK_AGAIN):
                await self._moved.wait()

    # What follows.

    async def _follow(self, one: _Watched) -> None:
        """Watch a prefix; list it where etcd has forgotten what the watch was to go on from (ET3)."""
        one.followed = True
        while True:
            async with self._client.watch() as stream:
                # That is from the next revision on (ET2); what happened at the last one comes once more and changes
                # nothing, since of a watch that begins in the future etcd 3.5 and 3.6 never say how far it is.
                await stream.begin(one.prefix.encode(), one.keys.revision)
                one.stream, one.heard_at = stream, self._loop.time()
                await self._read(one, stream)
            _log.info("%s: etcd has forgotten what happened under %r meanwhile: listed", self._options.name, one.prefix)
            # The token of the first stream may have ended (ET9).
            await self._client.log_in()
            listed = await self._list(one)
            await self._take_list(one, listed)
            self._changed.set()

    async def _read(self, one: _Watched, stream: WatchStream) -> None:
        """Take what a stream tells, until its watch has ended because of a compaction."""
        try:
            while not (told := await stream.read()).compacted:
                async with self._taking:
                    await self._take(one, told)
                # Behind the work: our own slowness is not the server's silence.
                one.heard_at = self._loop.time()
                if told.records:
                    self._changed.set()
                elif self._generation:
                    self._sink.contact(self._generation)
                self._moved.set()
        except TooLarge:
            # From there on it would be as large again; lists come in pages.
            self._memory.origin = None
            raise
        finally:
            one.stream = None

    async def _take(self, one: _Watched, told: Told) -> None:
        """Take a message. Raises SourceUnavailable: its watch has ended, or is one of other data."""
        if told.cancelled is not None:
            # Lists tell whether it is for lack of rights.
            self._memory.origin = None
            raise SourceUnavailable(f"{self._client.server} ends a watch: {told.cancelled}")
        if told.created:
            if self._known is not None and not told.origin.continues(self._known):
                self._forget()
            one.created = True
            one.reached = max(one.reached, min(told.origin.revision, one.keys.revision))
        elif told.asked:
            # In 3.4 to 3.5.7 that may run ahead of what a replaying watch has yet to tell: nothing goes on from there.
            one.reached = max(one.reached, told.origin.revision)
        else:
            await self._in_stints(one.keys.apply(told.records))
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

    async def _stay_in_contact(self) -> None:
        """Ask for a sign of life again and again: of a silent server nobody knows whether it is there (ET4)."""
        while True:
            await asyncio.sleep(self._options.timeout)
            for one in self._prefixes:
                if one.stream is None:
                    continue
                silent = self._loop.time() - one.heard_at
                if silent > 2 * self._options.timeout:
                    raise SourceUnavailable(f"{self._client.server} is silent for {silent:.0f} s, though it was asked")
                await one.stream.ask_progress()

    async def _read_behind(self, tasks: asyncio.TaskGroup) -> None:
        """List everything behind the watches now and then, and count what they had not told (G6)."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._read_again_at):
                    await self._behind.wait()
            self._behind.clear()
            for one in self._prefixes:
                await self._reconcile(one, tasks)
            await self._report_all()

    async def _reconcile(self, one: _Watched, tasks: asyncio.TaskGroup) -> None:
        try:
            listed = await self._list(one)
        except Forbidden:
            self._memory.denied.add(one.prefix)
            if not self._allowed():
                self._memory.origin = None
                raise
            return
        self._memory.denied.discard(one.prefix)
        if one.followed:
            # What is still on its way would count as not told.
            await self._reach(one, listed.origin.revision)
        await self._take_list(one, listed)
        if not one.followed:
            # Of its streams the first one needs a token that knows of the new right.
            await self._client.log_in()
            tasks.create_task(self._follow(one))
        elif one.keys.found:
            _log.warning("a list mended %d keys under %r that no watch had told of", one.keys.found, one.prefix)
            self._sink.mended(one.keys.found)

    async def _list(self, one: _Watched) -> Listed:
        """List a prefix whose watch may tell of it meanwhile. Raises as EtcdClient.list."""
        before = one.keys.revision
        one.keys.begin_list()
        try:
            listed = await self._client.list(one.prefix.encode())
        except Forbidden:
            one.keys.give_up_list()
            raise
        known = self._memory.origin
        if known and (listed.origin.cluster != known.cluster or listed.origin.revision < before):
            self._forget()
        return listed

    async def _take_list(self, one: _Watched, listed: Listed) -> None:
        async with self._taking:
            await self._in_stints(one.keys.replace(listed.records, listed.origin.revision), len(listed.records))
        one.reached = max(one.reached, listed.origin.revision)
        self._hear(listed.origin)
        self._moved.set()

    # What is reported.

    async def _publish(self) -> None:
        """Report what changed; who changes all the time is reported as often as there is time for (ET10)."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            began = self._loop.time()
            async with self._taking:
                await self._build()
                self._hold_losses()
                for one in self._prefixes:
                    one.keys.report(self._sink, self._generation)
                self._sink.contact(self._generation)
            await asyncio.sleep(min(self._loop.time() - began, _LONGEST_REST))

    def _hold_losses(self) -> None:
        """Begin a generation, in which the guard holds what goes, where much goes at once.

        Clients that cannot reach etcd lose their leases together, and what they registered with them (ET7, G4).
        """
        lost = sum(one.keys.take_lost() for one in self._prefixes)
        served = sum(one.keys.served for one in self._prefixes)
        now = self._loop.time()
        if self._losses.are_many(lost, served + lost, now) and now >= self._held_until:
            self._held_until = now + self._options.settle
            _log.warning("%s: much went at once; that is kept for the settling time", self._options.name)
            self._generation = self._sink.connected()
            self._behind.set()

    async def _report_all(self) -> None:
        """Report everything as complete; what the guard holds is released by the next such report."""
        async with self._taking:
            await self._build()
            everything: list[Service] = []
            for one in self._prefixes:
                everything += one.keys.take_everything(self._sink, self._generation, self._loop.time())
                self._sink.refuse(self._generation, f"{one.prefix}*", self._denial(one.prefix))
                # A complete list is believed, however much it lacks (ET3).
                one.keys.take_lost()
            settled_in = self._sink.sync(self._generation, everything)
        pause = self._options.reconcile * random.uniform(0.9, 1.1)  # noqa: S311 (jitter)
        self._read_again_at = self._loop.time() + (pause if settled_in is None else min(pause, settled_in))

    def _denial(self, prefix: str) -> tuple[Refusal, ...]:
        if prefix not in self._memory.denied:
            return ()
        return (Refusal(codes.DENIED, "we have no right to read what is under this prefix", prefix),)

    async def _build(self) -> None:
        for one in self._prefixes:
            await self._in_stints(one.keys.build(self._loop.time()))

    async def _in_stints(self, work: Iterator[None], total: int = 0) -> None:
        """Do work that stops now and then, and let others run meanwhile; tell how far a first list has come."""
        stint_ends = self._loop.time() + _STINT
        for done, _ in enumerate(work, start=1):
            if self._loop.time() > stint_ends:
                if total and not self._generation:
                    self._sink.progress(min(done * AT_ONCE, total), total)
                await asyncio.sleep(0)
                stint_ends = self._loop.time() + _STINT
