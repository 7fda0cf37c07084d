"""Polls one server of a Eureka cluster: all once, then what changed, and all again where there is doubt (EU1 to EU5).

What a delta calls deleted has left: its owner said so, or the server ended its lease. What a full read merely lacks may
be lost by the server (EU5), so after every break of contact, and when much is lacking at once, a new generation begins,
in which the guard holds what is not there (G4).
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING

from isthmus.adapters.eureka.client import EurekaClient
from isthmus.adapters.eureka.options import service_urls
from isthmus.adapters.eureka.records import Reading, overdue, read_application, rules_of
from isthmus.adapters.eureka.view import View
from isthmus.adapters.web import web_session
from isthmus.registry.errors import SourceDenied, SourceError, SourceUnavailable

if TYPE_CHECKING:
    import aiohttp

    from isthmus.adapters.base import Sink
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
        self._server = 0

    async def run(self, sink: Sink) -> None:
        """Poll until cancelled.

        Raises SourceDenied: every server refuses us. SourceUnavailable: none can be read. SourceError: the address or
        the CA file cannot be used.
        """
        options = self._options
        async with web_session(options.ca, options.username, options.password) as session:
            while True:
                connection = await self._connect(session, sink)
                try:
                    await connection.follow()
                except SourceError as error:
                    _log.info("%s: %s", options.name, error)
                    sink.stale(connection.generation, str(error))
                    self._server += 1

    async def _connect(self, session: aiohttp.ClientSession, sink: Sink) -> Connection:
        """Read everything from the server that was good last, or from the next one that is (EU5)."""
        urls = self._urls()
        failures: list[SourceError] = []
        for _ in urls:
            client = EurekaClient(session, urls[self._server % len(urls)])
            connection = Connection(client, sink, self._view, self._rules, self._options)
            try:
                await connection.begin()
            except SourceError as error:
                failures.append(error)
                self._server += 1
            else:
                return connection
        reason = "; ".join(map(str, failures))
        if all(isinstance(error, SourceDenied) for error in failures):
            raise SourceDenied(reason)
        raise SourceUnavailable(reason)

    def _urls(self) -> tuple[str, ...]:
        try:
            return service_urls(self._options.address)
        except ValueError as error:
            raise SourceError(f"the address cannot be used: {error}") from error


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
        self._preserved = False
        self.generation = 0

    async def begin(self) -> None:
        """Read everything, and begin a generation with it: one that failed would only prolong the settling time."""
        everything = await self._client.everything()
        readings = await self._readings(everything.document, telling=True)
        self._view.replace(readings, self._loop.time())
        await self._build()
        self.generation = self._sink.connected()
        self._report_all()
        self._note_preserved(readings, everything.at)

    async def follow(self) -> None:
        """Ask for changes, until the server fails. Raises SourceError."""
        while True:
            wait = self._options.poll * random.uniform(0.9, 1.1)  # noqa: S311 (jitter)
            if self._confirm_at is not None:
                wait = min(wait, self._confirm_at - self._loop.time())
            await asyncio.sleep(max(0.0, wait))
            await self._poll()

    async def _poll(self) -> None:
        document = None if self._doubts_deltas() else await self._client.changes()
        if document is None:
            await self._read_all()
        elif 0 < document.version < self._version:
            # It counts from its start: this one started after the last answer, or is another one under the same name.
            self._version = document.version
            await self._read_all(restarted=True)
        else:
            self._version = document.version
            await self._take_changes(document)

    def _doubts_deltas(self) -> bool:
        """Tell whether all is to be read: to release what the guard holds, or after too long a silence (EU3)."""
        now = self._loop.time()
        return (self._confirm_at is not None and now >= self._confirm_at) or now - self._read_at > _DELTA_REACHES

    async def _take_changes(self, document: Document) -> None:
        readings = await self._readings(document)
        self._view.apply(readings, self._loop.time())
        self._polls += 1
        if document.hashcode != self._view.hashcode or self._polls >= self._options.full_every:
            # Equal hashes are not yet equal content (EU2).
            await self._read_all(mending=True)
        else:
            self._read_at = self._loop.time()
            await self._build()
            self._view.report(self._sink, self.generation)

    async def _read_all(self, *, restarted: bool = False, mending: bool = False) -> None:
        """Read everything and report it as complete; `mending`: the deltas should have told it all."""
        everything = await self._client.everything()
        readings = await self._readings(everything.document)
        now = self._loop.time()
        settling = self._confirm_at is not None and now < self._confirm_at
        # Within a settling time it is held already; to begin anew each time would hold it for ever.
        if not settling and (restarted or self._view.looks_lost(readings)):
            _log.warning(
                "%s: %s seems to have been restarted; what it lost is kept for the settling time",
                self._options.name,
                self._client.url,
            )
            self.generation = self._sink.connected()
            mending = False
        found = self._view.replace(readings, now)
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

    async def _readings(self, document: Document, *, telling: bool = False) -> list[Reading]:
        """Read an answer's applications, and let others run meanwhile."""
        readings: list[Reading] = []
        stint_ends = self._loop.time() + _STINT
        for application in document.applications:
            readings.append(read_application(application, self._rules))
            if self._loop.time() > stint_ends:
                if telling:
                    self._sink.progress(len(readings), len(document.applications))
                await asyncio.sleep(0)
                stint_ends = self._loop.time() + _STINT
        return readings

    def _note_preserved(self, readings: list[Reading], at: float | None) -> None:
        """Say once when the server keeps instances that renew no lease, and once when that is over (EU6)."""
        late = overdue(readings, at) if at is not None else 0
        if bool(late) == self._preserved:
            return
        self._preserved = bool(late)
        if late:
            _log.warning(
                "%s: the server keeps %d instances that have not renewed their leases (self-preservation), and so do "
                "we: they may be dead",
                self._options.name,
                late,
            )
        else:
            _log.info("%s: all instances renew their leases again", self._options.name)
