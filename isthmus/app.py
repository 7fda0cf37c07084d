"""The wiring: sources into the catalog, the catalog's changes onto the streams, all in one TaskGroup."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from msgspec import Struct

from isthmus.adapters import open_adapter
from isthmus.adapters.supervise import Backoff, supervise
from isthmus.listening import doors, listening, with_port
from isthmus.mcp.hub import Hub
from isthmus.mcp.services import Health
from isthmus.mcp.shards import Publication
from isthmus.meshconfig.layout import confirm_layout
from isthmus.readback.reader import readbacks_of, run_readbacks
from isthmus.registry.catalog import Catalog
from isthmus.registry.policy import Policy
from isthmus.registry.vips import Vips

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence

    from isthmus.adapters import SourceOptions
    from isthmus.config import Config
    from isthmus.listening import Bound
    from isthmus.registry.model import Refusal, Service

_log = logging.getLogger("isthmus")

_PROGRESS_SECONDS = 0.5


class CatalogSink:
    """What an adapter reports to: the catalog, under the name of its source and with the time."""

    def __init__(self, catalog: Catalog, source: str) -> None:
        self._catalog = catalog
        self._source = source
        self._told_at = time.monotonic()
        self._lost: str | None = None
        self._read_before = False

    def connected(self) -> int:
        self._told_at = time.monotonic()
        return self._catalog.connect(self._source, time.monotonic())

    def sync(self, generation: int, services: Iterable[Service]) -> float | None:
        settled_in = self._catalog.sync(self._source, generation, services, time.monotonic())
        self._read_before = True
        if self._lost is not None:
            self._lost = None
            until = f"; nothing is withdrawn for {settled_in:.0f} s" if settled_in else ""
            _log.info("source %s: in contact again, all is read%s", self._source, until)
        return settled_in

    def put(self, generation: int, service: Service) -> None:
        self._catalog.put(self._source, generation, service, time.monotonic())

    def drop(self, generation: int, key: str) -> None:
        self._catalog.drop(self._source, generation, key, time.monotonic())

    def refuse(self, generation: int, scope: str, refusals: tuple[Refusal, ...]) -> None:
        self._catalog.refuse(self._source, generation, scope, refusals)

    def contact(self, generation: int) -> None:
        self._catalog.contact(self._source, generation, time.monotonic())

    def note(self, generation: int, notes: tuple[str, ...]) -> None:
        self._catalog.note(self._source, generation, notes)

    def stale(self, generation: int, reason: str) -> None:
        self._catalog.stale(self._source, generation, reason, time.monotonic())
        if reason != self._lost:
            self._lost = reason
            _log.warning("source %s: %s; what was known is kept", self._source, reason)

    def progress(self, done: int, total: int) -> None:
        self._catalog.progress(self._source, done, total)
        now = time.monotonic()
        if not self._read_before and now - self._told_at >= _PROGRESS_SECONDS:
            self._told_at = now
            _log.info("source %s: %d of %d read", self._source, done, total)

    def mended(self, count: int) -> None:
        self._catalog.mended(self._source, count)


class Bridge:
    """Everything that runs in one process; the debug endpoint reads it and changes nothing."""

    def __init__(self, config: Config) -> None:
        from isthmus.debug.over_xds import debug_pages

        self.config = config
        self.started_at = time.monotonic()
        self.catalog = catalog_of(config, self.started_at)
        self.hub = Hub(Publication(), config.push.gap)
        self.health = Health()
        self.hub.debug_pages = debug_pages(self)
        by_name = {listener.name: doors(listener)[0] for listener in config.all_listeners}
        self.readbacks = readbacks_of(config.istiods, self.hub.publication, by_name)
        self.stopping = False
        self.listening: Sequence[Bound] = ()
        self.debug_port = 0
        self._publish_soon: asyncio.Handle | None = None
        self.catalog.on_change(self._note_change)

    @property
    def xds_address(self) -> str:
        """Where xDS is: the first port of the first listener, as it was bound."""
        return self.listening[0].addresses[0]

    @property
    def debug_address(self) -> str:
        """Where the debug pages are, with the port that was bound."""
        return with_port(self.config.debug, self.debug_port)

    @property
    def missing(self) -> list[str]:
        """Why ServiceEntry is held back, one line for each source that was not read yet."""
        now = time.monotonic()
        waiting = self.catalog.missing(now, self.config.startup_grace)
        return [
            f"source {source.name}: not read yet ({source.last_error or source.phase.lower()}, "
            f"{now - source.added_at:.0f} s)"
            for source in waiting
        ]

    @property
    def ready(self) -> bool:
        """Whether ServiceEntry is served, and the process is not on its way out."""
        return not self.stopping and not self.hub.publication.held

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Bridge]:
        """Open the ports, start the sources, and yield; on leaving, streams end without an empty push (X57).

        Raises ConfigError: a port or a certificate is not to be had, or a listener served another number of shards.
        """
        confirm_layout(self.config)
        async with AsyncExitStack() as stack:
            self.listening = await stack.enter_async_context(listening(self.hub, self.config, self.health))
            if self.config.debug:
                from isthmus.debug.server import serve_debug

                self.debug_port = await stack.enter_async_context(serve_debug(self, self.config.debug))
            where = "; ".join(f"{one.listener.name} on {one}" for one in self.listening)
            _log.info("xDS: %s; sources: %s", where, ", ".join(one.name for one in self.config.sources))
            async with _one_error(), asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(run_source(self.catalog, source)) for source in self.config.sources]
                running.append(tasks.create_task(self._open_after_grace()))
                # Listeners may share a certificate.
                running += [tasks.create_task(tls.watch()) for tls in {one.tls for one in self.listening if one.tls}]
                running.append(tasks.create_task(run_readbacks(self.readbacks)))
                try:
                    yield self
                finally:
                    self.stopping = True
                    self.health.stop()
                    if self._publish_soon is not None:
                        self._publish_soon.cancel()
                    for task in running:
                        task.cancel()

    def _note_change(self) -> None:
        # Reports that come in one turn of the loop are published together.
        if self._publish_soon is None:
            self._publish_soon = asyncio.get_running_loop().call_soon(self._publish)

    def _publish(self) -> None:
        self._publish_soon = None
        publication = self.hub.publication
        if publication.held:
            self._open_if_read()
        elif publication.publish(self.catalog.take_changes()):
            self.hub.changed()

    def _open_if_read(self) -> None:
        publication = self.hub.publication
        if not publication.held or self.catalog.missing(time.monotonic(), self.config.startup_grace):
            return
        # All sources at once, so that what depends on the order of names does not depend on who was read first.
        publication.publish(self.catalog.take_changes())
        seconds = time.monotonic() - self.started_at
        served = publication.resources
        if unread := ", ".join(source.name for source in self.catalog.sources if not source.synced):
            _log.warning("%d services are served after %.1f s; not read yet: %s", len(served), seconds, unread)
        else:
            _log.info("all sources read after %.1f s: %d services are served", seconds, len(served))
        self.hub.open()
        self.health.set(serving=True)

    async def _open_after_grace(self) -> None:
        """Stop waiting for the sources that are not required, once the start-up grace is over (G2)."""
        await asyncio.sleep(self.config.startup_grace)
        self._open_if_read()


def catalog_of(config: Config, now: float) -> Catalog:
    """Return a catalog that knows the sources of a configuration, and nothing yet of what they hold."""
    catalog = Catalog(Vips(config.vips.range))
    for source in config.sources:
        catalog.add_source(policy_of(source), required=source.required, now=now)
    return catalog


async def run_source(catalog: Catalog, options: SourceOptions) -> None:
    """Have a source report to the catalog until cancelled, and start it anew when it fails."""
    sink = CatalogSink(catalog, options.name)
    backoff = Backoff(random.Random())  # noqa: S311 (jitter)
    await supervise(options.name, open_adapter(options), sink, backoff)


def policy_of(options: SourceOptions) -> Policy:
    """Return the house rules that an operator's options make for a source."""
    return Policy(
        source=options.name,
        locality=options.locality,
        network=options.network,
        vip=options.vip == "auto",
        export_to=options.export_to,
        allow=options.allow,
        settle=options.settle,
        revisions=options.revisions,
    )


@asynccontextmanager
async def _one_error() -> AsyncIterator[None]:
    """Let an error of the block out as itself: a TaskGroup would wrap it, and nobody could answer it."""
    try:
        yield
    except BaseExceptionGroup as group:
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from None
        raise


class Stopped(Struct, frozen=True):
    """Why a process ends: the signal's name."""

    signal: str


async def run_until_signal(config: Config, started: Callable[[Bridge], None] | None = None) -> Stopped:
    """Run a bridge until SIGTERM or SIGINT; call `started` once its ports are open.

    Raises ConfigError: a port cannot be had.
    """
    import signal

    loop = asyncio.get_running_loop()
    stop: asyncio.Future[Stopped] = loop.create_future()

    def request_stop(number: signal.Signals) -> None:
        if not stop.done():
            stop.set_result(Stopped(number.name))

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, request_stop, number)
    async with Bridge(config).running() as bridge:
        if started is not None:
            started(bridge)
        return await stop
