"""Polls one server of a Eureka cluster: all once, then what changed, and all again where there is doubt (EU1 to EU5).

What a delta calls deleted has left: its owner said so, or the server ended its lease. What a full read merely lacks may
be lost by the server (EU5), and where it ends many leases it may be the server that is cut off (EU6). So after every
break of contact, and when much goes at once, a new generation begins, in which the guard holds what is not there (G4).
"""

from __future__ import annotations

import asyncio
import logging
import random
from functools import partial
from typing import TYPE_CHECKING

from isthmus.adapters.eureka.client import EurekaClient
from isthmus.adapters.eureka.records import Reading, overdue, read_in_pieces, rules_of
from isthmus.adapters.eureka.view import View
from isthmus.adapters.servers import LOGIN, Servers
from isthmus.adapters.web import web_session
from isthmus.registry.errors import SourceError, SourceUnavailable

if TYPE_CHECKING:
    import aiohttp

    from isthmus.adapters.base import Sink
    from isthmus.adapters.eureka.client import Told
    from isthmus.adapters.eureka.options import EurekaOptions
    from isthmus.adapters.eureka.records import EurekaRules
    from isthmus.adapters.eureka.wire import Document

_log = logging.getLogger("isthmus.eureka")

# A delta tells of the last three minutes (EU3).
_DELTA_REACHES = 150.0
# How long the loop may be kept at one go by reading a large answer.
_STINT = 0.02


class EurekaAdapter:
    """Reports the applications of one Eureka cluster."""

    def __init__(self, options: EurekaOptions) -> None:
        self._options = options
        self._rules = rules_of(options)
        self._view = View(self._rules)
        self._servers = Servers(options.address, LOGIN)

    async def run(self, sink: Sink) -> None:
        """Poll until cancelled.

        Raises SourceDenied: every server refuses us. SourceUnavailable: none can be read. SourceError: the address or
        the CA file cannot be used.
        """
        options = self._options
        async with web_session(options.ca, options.username, options.password) as session:
            while True:
                connection = await self._servers.first_good(partial(self._connect, session, sink))
                try:
                    await connection.follow()
                except SourceError as error:
                    _log.info("%s: %s", options.name, error)
                    sink.stale(connection.generation, str(error))
                    self._servers.pass_on()

    async def _connect(self, session: aiohttp.ClientSession, sink: Sink, url: str) -> Connection:
        """Read everything from a server (EU5). Raises SourceError: it cannot be read."""
        client = EurekaClient(session, url)
        connection = Connection(client, sink, self._view, self._rules, self._options)
        await connection.begin()
        return connection


class Connection:
    """What is known of one server while it answers, and when to ask it what."""

    def __init__(
        self, client: EurekaClient, sink: Sink, view: View, rules: EurekaRules, options: EurekaOptions
    ) -> None:
        self._client = client
        self._sink = sink
        self._view = view
        self._rules = rules
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._version = 0
        self._polls = 0
        self._read_at = 0.0
        self._confirm_at: float | None = None
        self._preserved = 0
        self._lag: float | None = None
        self.generation = 0

    async def begin(self) -> None:
        """Read everything, and begin a generation with it: one that failed would only prolong the settling time."""
        everything, readings = await self._everything(telling=True)
        while left := self._doubt_left(readings):
            self.generation = self._sink.connected()
            self._sink.stale(self.generation, self._why_doubted())
            await asyncio.sleep(min(left, self._options.poll))
            everything, readings = await self._everything(telling=True)
        # What another server told, or this one before it failed, is nothing to compare with.
        self._view.forget_told()
        self._view.replace(readings, self._loop.time())
        await self._build()
        self.generation = self._sink.connected()
        self._report_all()
        self._note_preserved(readings, everything.at)

    def _doubt_left(self, readings: list[Reading]) -> float:
        """Return for how many seconds more a registry that was empty from the start is not believed, 0 otherwise."""
        empty_for = self._view.empty_for(readings, self._loop.time())
        return 0.0 if empty_for is None else max(0.0, self._options.settle - empty_for)

    def _why_doubted(self) -> str:
        return (
            f"{self._client.url} has no instance at all, as after a restart; that is believed once it lasts for "
            f"{self._options.settle:g} s"
        )

    async def follow(self) -> None:
        """Ask for changes, until the server fails. Raises SourceError."""
        while True:
            wait = self._options.poll * random.uniform(0.9, 1.1)  # noqa: S311 (jitter)
            if self._confirm_at is not None:
                wait = min(wait, self._confirm_at - self._loop.time())
            await asyncio.sleep(max(0.0, wait))
            await self._poll()

    async def _poll(self) -> None:
        now = self._loop.time()
        if now - self._read_at > _DELTA_REACHES:
            # After so long a silence a delta would not tell all (EU3).
            self._view.forget_told()
            await self._read_all()
        elif self._confirm_at is not None and now >= self._confirm_at:
            # What the guard holds is released by this.
            await self._read_all()
        elif (told := await self._client.changes()) is None:
            await self._read_all()
        elif 0 < told.document.version < self._version:
            # It counts from its start: this one started after the last answer, or is another one under the same name.
            self._version = told.document.version
            await self._read_restarted()
        else:
            self._version = told.document.version
            await self._take_changes(told)

    async def _read_restarted(self) -> None:
        self._view.forget_told()
        # Within a settling time it is held already, and one name for several servers would hold it for long.
        if begun := self._confirm_at is None or self._loop.time() >= self._confirm_at:
            self._begin_anew("seems to have been restarted")
        await self._read_all(begun=begun)

    async def _take_changes(self, told: Told) -> None:
        document = told.document
        try:
            readings = await self._readings(document)
        except SourceUnavailable:
            # Of no use, as one that tells nothing (EU1).
            await self._read_all()
            return
        if cut_off := self._view.evicts_many(readings, self._loop.time()):
            self._begin_anew("ends the leases of many at once")
        changed_at = self._view.apply(readings, self._loop.time())
        if changed_at is not None and told.at is not None:
            self._lag = max(0.0, told.at - changed_at)
        self._polls += 1
        self._read_at = self._loop.time()
        await self._build()
        self._view.report(self._sink, self.generation)
        self._note()
        # Equal hashes are not yet equal content (EU2).
        if cut_off or document.hashcode != self._view.hashcode or self._polls >= self._options.full_every:
            await self._read_all(begun=cut_off, mending=document.hashcode is not None and not cut_off)

    def _begin_anew(self, what_it_does: str) -> None:
        """Begin a generation within this connection, in which the guard holds what is lacking (G4)."""
        _log.warning(
            "%s: %s %s; what it lost is kept for the settling time", self._options.name, self._client.url, what_it_does
        )
        self.generation = self._sink.connected()

    async def _read_all(self, *, begun: bool = False, mending: bool = False) -> None:
        """Read everything and report it as complete.

        begun: what it lacks is held as it is. mending: the deltas should have told it all.
        """
        everything, readings = await self._everything()
        if not begun and self._view.looks_lost(readings):
            self._view.forget_told()
            self._begin_anew("seems to have lost much of what it had")
            mending = False
        found = self._view.replace(readings, self._loop.time())
        await self._build()
        if mending and found:
            _log.info("%s: a full read found %d instances other than the deltas said", self._options.name, found)
            self._sink.mended(found)
        self._report_all()
        self._note_preserved(readings, everything.at)

    async def _build(self) -> None:
        for _ in self._view.build(self._loop.time()):
            await asyncio.sleep(0)

    def _report_all(self) -> None:
        self._polls = 0
        self._read_at = self._loop.time()
        settled_in = self._view.report_all(self._sink, self.generation, self._read_at)
        self._confirm_at = None if settled_in is None else self._read_at + settled_in

    async def _everything(self, *, telling: bool = False) -> tuple[Told, list[Reading]]:
        """Read everything. Raises SourceError: it fails, or says at once that there are instances and that none is."""
        everything = await self._client.everything()
        readings = await self._readings(everything.document, telling=telling)
        if everything.document.counts_instances and not any(one.members or one.refused for one in readings):
            raise SourceUnavailable(f"{self._client.url} lists no instance, but counts some: it may be starting")
        return everything, readings

    async def _readings(self, document: Document, *, telling: bool = False) -> list[Reading]:
        """Read an answer's applications, and let others run meanwhile."""
        readings: list[Reading] = []
        stint_ends = self._loop.time() + _STINT
        for application in document.applications:
            for piece in read_in_pieces(application, self._rules):
                if piece is not None:
                    readings.append(piece)
                if self._loop.time() > stint_ends:
                    if telling:
                        self._sink.progress(len(readings), len(document.applications))
                    await asyncio.sleep(0)
                    stint_ends = self._loop.time() + _STINT
        return readings

    def _note_preserved(self, readings: list[Reading], at: float | None) -> None:
        """Say when the server keeps instances that renew no lease, and once when that is over (EU6)."""
        late = overdue(readings, at) if at is not None else 0
        if bool(late) != bool(self._preserved):
            if late:
                _log.warning("%s: %s", self._options.name, _preserved(late))
            else:
                _log.info("%s: all instances renew their leases again", self._options.name)
        self._preserved = late
        self._note()

    def _note(self) -> None:
        """Say what is no failure: how old the news is (EU4), and what the server keeps on purpose (EU6)."""
        notes = []
        if self._lag is not None:
            notes.append(
                f"the last change was {self._lag:.0f} s old when it was told: up to {self._options.poll:g} s by the "
                "poll, the rest by the server's own cache"
            )
        if self._preserved:
            notes.append(_preserved(self._preserved))
        self._sink.note(self.generation, tuple(notes))


def _preserved(count: int) -> str:
    return (
        f"the server keeps {count} instances that have not renewed their leases (self-preservation), and so do we: "
        "they may be dead"
    )
