"""Reads services, by themselves: all of them at first, then those that changed and those of a sweep, within bounds."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from isthmus.adapters.consul.backlog import Backlog
from isthmus.adapters.consul.client import SERVICES
from isthmus.adapters.consul.pacing import Bucket
from isthmus.adapters.consul.patience import NotReadable, Patience
from isthmus.adapters.consul.records import read_service
from isthmus.adapters.consul.view import Doubt, Taken
from isthmus.adapters.tasks import first_error, for_each
from isthmus.registry import codes
from isthmus.registry.errors import SourceDenied, SourceUnavailable
from isthmus.registry.model import Refusal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from isthmus.adapters.consul.client import ConsulClient, Entries, Told
    from isthmus.adapters.consul.options import ConsulOptions
    from isthmus.adapters.consul.records import ConsulRules
    from isthmus.adapters.consul.trust import Trust
    from isthmus.adapters.consul.view import View

# Requests for services that wait for their answers at the same time.
AT_ONCE: Final = 16
# A sweep after a quiet time may be as fast as the server answers: so many seconds' worth of requests are saved for it.
_SAVED_SECONDS: Final = 10.0
# How much older than an empty answer the list of services may be that shows that it is empty, and not hidden.
_CATALOGUE_SECONDS: Final = 1.0
# How long a wake may come after a re-read that shows the change already.
TOLD_GRACE: Final = 2.0


class Reader:
    """Reads services into a view; times are the loop's seconds."""

    def __init__(self, client: ConsulClient, view: View, rules: ConsulRules, options: ConsulOptions) -> None:
        self._client = client
        self._view = view
        self._rules = rules
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._backlog = Backlog()
        self._waiting = asyncio.Event()
        self._ended = asyncio.Event()
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._patience = Patience(AT_ONCE)
        self._catalogue = asyncio.Lock()
        self._catalogue_at = float("-inf")
        self._tokens = Bucket(max(1, int(options.requests * _SAVED_SECONDS)))
        self._told_at: dict[str, float] = {}
        self._found: dict[str, float] = {}
        self._indexes: dict[str, frozenset[int]] = {}

    # What is to be read.

    def add(self, names: Iterable[str]) -> None:
        """Have services read that are told to have changed."""
        names = {name for name in names if name}
        self._told_at.update(dict.fromkeys(names, self._loop.time()))
        self._backlog.add(names)
        self._waiting.set()

    def sweep(self, names: Iterable[str]) -> None:
        """Have all these read, behind those that changed."""
        names = set(names)
        self._found.clear()
        for known in (self._told_at, self._indexes):
            for name in known.keys() - names:
                del known[name]
        self._backlog.sweep(sorted(names))
        self._waiting.set()

    async def quiet(self) -> None:
        """Wait until all that was told to have changed is read."""
        while not self._backlog.is_quiet:
            await self._ended.wait()

    async def swept(self) -> None:
        """Wait until a sweep is done."""
        while not self._backlog.is_swept:
            await self._ended.wait()

    def explains(self, index: int) -> bool:
        """Tell whether a service was read whose last change was at this index."""
        return any(index in indexes for indexes in self._indexes.values())

    def untold(self) -> list[str]:
        """Return what the last sweep found to have changed, and nobody has told of yet (G6)."""
        never = float("-inf")
        return sorted(name for name, at in self._found.items() if self._told_at.get(name, never) < at - TOLD_GRACE)

    # Reading.

    async def read_all(self, names: Iterable[str], progress: Callable[[int, int], None]) -> None:
        """Read all these as fast as the server answers. Raises SourceUnavailable: an answer may be of another time."""
        wanted = sorted(names)
        done = 0

        async def read(name: str) -> None:
            nonlocal done
            told = await self._ask(name)
            if told is not None:
                if fault := told.trust.age_fault(self._options.max_stale):
                    raise SourceUnavailable(f"{self._client.url}: {fault}")
                await self._take(name, told)
            done += 1
            progress(done, len(wanted))

        await for_each(wanted, AT_ONCE, read)

    async def run(self, after: Callable[[Taken, Doubt], Awaitable[None]]) -> None:
        """Read what is to be read, at most so many at once and a second; `after` each of them."""
        async with first_error(), asyncio.TaskGroup() as tasks:
            while True:
                await self._slots.acquire()
                name = await self._next()
                tasks.create_task(self._read(name, after))

    async def _next(self) -> str:
        while True:
            while not self._backlog:
                self._waiting.clear()
                await self._waiting.wait()
            await asyncio.sleep(self._tokens.wait(self._loop.time(), 1 / self._options.requests))
            # Not before the wait: what changed meanwhile goes first.
            if (name := self._backlog.take()) is not None:
                return name

    async def _read(self, name: str, after: Callable[[Taken, Doubt], Awaitable[None]]) -> None:
        try:
            asked_at = self._loop.time()
            taken, doubt = Taken(changed=False, gone=0), Doubt.NONE
            if (told := await self._ask(name)) is not None:
                taken, doubt = await self._take(name, told)
            if taken.changed:
                self._found[name] = asked_at
            await after(taken, doubt)
        finally:
            self._slots.release()
            self._backlog.done(name)
            self._waiting.set()
            self._ended.set()
            self._ended = asyncio.Event()

    async def _ask(self, name: str) -> Told[Entries] | None:
        try:
            return await self._patience.ask(lambda: self._client.service(name))
        except NotReadable as error:
            self._view.cannot_read(name, Refusal(codes.GARBLED, f"{error}; what was known of it is kept"))
            return None

    async def _take(self, name: str, told: Told[Entries]) -> tuple[Taken, Doubt]:
        entries = told.content
        if not entries.good and not self._options.token and self._view.has_instances(name):
            await self._check_catalogue()
        reading = read_service(entries.good, entries.faults, self._rules)
        doubt = self._doubt(told.trust)
        self._indexes[name] = frozenset({told.trust.index, *(one.service.modify_index for one in entries.good)})
        return self._view.take(name, reading, doubt), doubt

    async def _check_catalogue(self) -> None:
        """Require that something is listed still. Of somebody without a token Consul does not say what it hides.

        An answer is good for all that are emptied at once: the list of a large Consul has megabytes.
        """
        emptied_at = self._loop.time()
        async with self._catalogue:
            # Read slowly it is older than that, and asked for after those that wait for it were read all the same.
            if self._catalogue_at < emptied_at - _CATALOGUE_SECONDS:
                asked_at = self._loop.time()
                require_catalogue(await self._client.read(SERVICES), self._options, known=True)
                self._catalogue_at = asked_at

    def _doubt(self, trust: Trust) -> Doubt:
        if trust.age_fault(self._options.max_stale):
            return Doubt.OLD
        return Doubt.HIDDEN if trust.filtered else Doubt.NONE


def require_catalogue(told: Told[dict[str, frozenset[str]]], options: ConsulOptions, *, known: bool) -> None:
    """Raise SourceDenied where a catalogue is empty that ACLs may have emptied (CO8).

    known: whether there are services to read, one by one: somebody with a token is told of each whether it is gone or
    hidden.
    """
    if told.content:
        return
    if not options.token:
        raise SourceDenied("there is no service at all to see without a token: ACLs may hide them; say a `token`")
    if told.trust.filtered and not known:
        raise SourceDenied(
            "ACLs hide every service from this token: it needs the right to read services and their nodes "
            '(`service_prefix "" { policy = "read" }` and `node_prefix "" { policy = "read" }`)'
        )
