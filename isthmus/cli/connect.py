"""Contacts the sources of a configuration once, each with its own adapter; nothing is served."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from msgspec import Struct

from isthmus.app import catalog_of, run_source
from isthmus.debug.redact import shown
from isthmus.debug.sources import address_of, tally

if TYPE_CHECKING:
    from isthmus.adapters import SourceOptions
    from isthmus.config import Config
    from isthmus.registry.catalog import Catalog, SourceState


class Contact(Struct, frozen=True, kw_only=True, rename="camel"):
    """What came of one source; its texts are fit to show.

    services, endpoints: how many would be served. refused: how many records would not be, by code.
    reason: why the source was not read; None: it was. notes: what is worth knowing of it and is no failure.
    """

    name: str
    kind: str
    address: str
    ok: bool
    services: int
    endpoints: int
    refused: dict[str, int]
    reason: str | None
    notes: tuple[str, ...]


async def contact_sources(config: Config, seconds: float) -> list[Contact]:
    """Read all sources at the same time; return, in their order, what came of each until all are read or time is over.

    A source that fails is tried again as long as there is time: the next of its servers may answer.
    """
    catalog = await _read_once(config, seconds)
    # Merging tells which of them are in each other's way.
    catalog.take_changes()
    pairs = zip(config.sources, catalog.sources, strict=True)
    return [_contact(catalog, source, options, seconds) for options, source in pairs]


async def read_names(config: Config, seconds: float) -> tuple[list[str], list[str]]:
    """Read all sources as `contact_sources` does; return the names of the resources, and of the sources not read."""
    catalog = await _read_once(config, seconds)
    names = [change.name for change in catalog.take_changes() if change.entry is not None]
    return names, [source.name for source in catalog.sources if not source.synced]


async def _read_once(config: Config, seconds: float) -> Catalog:
    catalog = catalog_of(config, time.monotonic())
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(run_source(catalog, source)) for source in config.sources]
        await _wait_until_read(catalog, seconds)
        for task in running:
            task.cancel()
    return catalog


async def _wait_until_read(catalog: Catalog, seconds: float) -> None:
    reported = asyncio.Event()
    catalog.on_change(reported.set)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not all(source.synced for source in catalog.sources):
                reported.clear()
                await reported.wait()


def _contact(catalog: Catalog, source: SourceState, options: SourceOptions, seconds: float) -> Contact:
    counted = tally(catalog, source)
    address = address_of(options)
    return Contact(
        name=source.name,
        kind=str(options.__struct_config__.tag),
        address=address,
        ok=source.synced,
        services=counted.services,
        endpoints=counted.endpoints,
        refused=dict(sorted(counted.refused.items())),
        reason=None if source.synced else _why_not(source, address, seconds),
        notes=tuple(map(shown, source.notes)),
    )


def _why_not(source: SourceState, address: str, seconds: float) -> str:
    if source.reading is not None:
        done, total = source.reading
        return f"{address}: {done} of {total} read in {seconds:g} s"
    return f"{address}: no answer in {seconds:g} s" if source.last_error is None else shown(source.last_error)
