"""The reading: one istiod's debug page every so often, over bounded HTTP; a failure is shown and ends nothing."""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from isthmus.adapters.web import NotFound, fetch, web_session
from isthmus.config.listeners import MAIN
from isthmus.mcp.views import REVISION
from isthmus.readback.compare import Comparison, Snapshot, described
from isthmus.readback.configz import stored_entries
from isthmus.registry.errors import SourceDenied, SourceError
from isthmus.registry.names import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from isthmus.config.listeners import IstiodOptions
    from isthmus.mcp.shards import Publication
    from isthmus.mcp.views import Door, View
    from isthmus.readback.compare import Report
    from isthmus.readback.configz import Stored

_log = logging.getLogger("isthmus.readback")

# istiod writes its whole list at each reading: 1.5 s of a processor for 10,000 services of 10 endpoints, in 20 MB.
BODY_LIMIT: Final = 256 * 2**20
TOTAL_SECONDS: Final = 60.0
# A large istiod takes several seconds for a change; its acknowledgement is waited for no longer than 30.
SETTLE_SECONDS: Final = 10.0
_PAGE: Final = "/debug/configz"
_TOKEN_LIMIT: Final = 65_536
_NAMES_LOGGED: Final = 3


class Readback:
    """One istiod that is read back. Its state is open to the pages; times are monotonic seconds.

    expected: gives what it should hold now; None: nothing is published yet, and nothing compared.
    settle: seconds for which a difference has to last before it counts.
    """

    def __init__(
        self,
        options: IstiodOptions,
        expected: Callable[[], Snapshot | None],
        settle: float = SETTLE_SECONDS,
    ) -> None:
        self.options = options
        self.name = options.name or options.address
        self.started_at = time.monotonic()
        self.report: Report | None = None
        self.read_at: float | None = None
        self.errors = 0
        self.last_error: str | None = None
        self._expected = expected
        self._comparison = Comparison(settle)

    async def run(self) -> None:
        """Read until cancelled. Never sooner because of a change: a reading costs istiod more than the change did."""
        while True:
            await self.read()
            await asyncio.sleep(self.options.interval)

    async def read(self) -> None:
        """Read and compare once; what goes wrong is kept and logged."""
        before = self._expected()
        try:
            stored = await read_stored(self.options)
        except SourceError as error:
            self._note_failure(str(error))
            return
        self._note_success()
        after = self._expected()
        if before is not None and after is not None:
            self._take(await asyncio.to_thread(self._comparison.compare, before, after, stored, time.monotonic()))

    def _take(self, report: Report) -> None:
        was_right = self.report is None or self.report.right
        self.report = report
        if was_right and not report.right:
            wrong = printable(described(report, _NAMES_LOGGED))
            text = "istiod %s: it stored %d of %d as published: %s; all: /debug/istiods, and why: istiod's own log"
            _log.warning(text, self.name, report.stored, report.published, wrong)
        elif report.right and not was_right:
            _log.info("istiod %s: right again, it stored %d of %d", self.name, report.stored, report.published)

    def _note_failure(self, reason: str) -> None:
        self.errors += 1
        if reason != self.last_error:
            self.last_error = reason
            _log.warning("istiod %s: what it stored cannot be read: %s", self.name, reason)

    def _note_success(self) -> None:
        self.read_at = time.monotonic()
        if self.last_error is not None:
            self.last_error = None
            _log.info("istiod %s: what it stored can be read again", self.name)


def readbacks_of(
    istiods: Iterable[IstiodOptions], publication: Publication, doors: Mapping[str, Door]
) -> tuple[Readback, ...]:
    """Return what reads back each istiod, against what it is shown. doors: by the names of their listeners."""

    def expected(view: View) -> Snapshot | None:
        if publication.held:
            return None
        return Snapshot(publication.expected(view), dict(publication.resources))

    return tuple(
        Readback(options, partial(expected, doors[options.listener or MAIN].view_of({REVISION: options.revision})))
        for options in istiods
    )


async def run_readbacks(readbacks: Iterable[Readback]) -> None:
    """Read every istiod back until cancelled."""
    async with asyncio.TaskGroup() as tasks:
        for readback in readbacks:
            tasks.create_task(readback.run())


async def read_stored(options: IstiodOptions) -> dict[str, Stored]:
    """Read which ServiceEntries an istiod holds, by name, over a connection of its own.

    Token and certificates are read anew each time, so that both can be rotated. Raises SourceError: no connection, no
    right, no such page, or one that cannot be read.
    """
    token = await asyncio.to_thread(read_token, options.token_file) if options.token_file else ""
    headers = {"Authorization": f"Bearer {token}"} if token else None
    url = f"{options.address.rstrip('/')}{_PAGE}"
    try:
        async with web_session(options.ca) as session:
            answer = await fetch(session, url, headers=headers, total=TOTAL_SECONDS, limit=BODY_LIMIT)
    except SourceError as error:
        reason = _reason(error, options)
        raise SourceError(reason.replace(token, "***") if token else reason) from error
    # In a thread, so that the streams wait for the decoding at most, and not for what is made of it.
    return await asyncio.to_thread(stored_entries, answer.body)


def read_token(file: str) -> str:
    """Return the token in a file. Raises SourceError, which never holds a part of it."""
    try:
        with Path(file).open("rb") as opened:
            token = opened.read(_TOKEN_LIMIT).strip()
    except OSError as error:
        raise SourceError(f"{file} cannot be read: {error.strerror}") from error
    if not token or len(token) == _TOKEN_LIMIT or not all(0x21 <= byte <= 0x7E for byte in token):
        raise SourceError(f"{file} holds no token, which is one word of printable ASCII")
    return token.decode("ascii")


def _reason(error: SourceError, options: IstiodOptions) -> str:
    match error:
        case SourceDenied() if options.token_file:
            return f"it refuses the token in {options.token_file}: docs/xds.md says whose it takes"
        case SourceDenied():
            return "it shows its debug pages only to who has a token: name the file of one as `tokenFile`"
        case NotFound():
            return f"it has no {_PAGE}: is this the port of its debug pages, 15014?"
    return str(error)
