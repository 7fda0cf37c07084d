"""One Eureka server, read: everything, or what changed lately."""

from __future__ import annotations

import asyncio
import logging
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from msgspec import Struct

from isthmus.adapters.eureka.wire import Document, open_json
from isthmus.adapters.eureka.xml import XmlReader
from isthmus.adapters.web import Answer, HttpError, fetch
from isthmus.registry.errors import SourceDenied, SourceUnavailable

if TYPE_CHECKING:
    import aiohttp

    from isthmus.registry.errors import SourceError

_log = logging.getLogger("isthmus.eureka")

_JSON = "application/json"
_XML = "application/xml"
_NO_JSON = (406, 415)
# So much XML takes a few milliseconds.
_XML_PIECE = 65_536


class Told(Struct, frozen=True):
    """What a server told, and its clock at that in seconds since 1970; None: it does not say."""

    document: Document
    at: float | None


class EurekaClient:
    """Reads one server; `url` is its service URL without a slash at the end."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self.url = url
        self._accept = _JSON
        self._untold = False

    async def everything(self) -> Told:
        """Return the whole registry. Raises SourceDenied: 401 or 403. SourceUnavailable: no answer that says it."""
        try:
            answer = await self._get("/apps")
        except SourceDenied as error:
            raise SourceDenied(f"{error}; a Eureka server that is starting answers 403, too") from error
        document = await _document(answer)
        if document is None or not (document.lists or document.hashcode is not None):
            raise SourceUnavailable(f"{self.url}/apps answers without a registry")
        return Told(document, _clock(answer))

    async def changes(self) -> Told | None:
        """Return what changed in the last minutes; None: this server does not tell, not yet, or not readably (EU1).

        Raises SourceUnavailable: contact is lost. Whether a server that answers is of any use, a full read shows.
        """
        try:
            answer = await self._get("/apps/delta")
        except (SourceDenied, HttpError) as error:
            self._note_untold(error)
            return None
        try:
            document = await _document(answer)
        except SourceUnavailable as error:
            self._note_untold(error)
            return None
        self._untold = False
        return None if document is None else Told(document, _clock(answer))

    def _note_untold(self, error: SourceError) -> None:
        # Once: an error's text may have the time in it.
        if not self._untold:
            self._untold = True
            _log.info("%s tells no changes, so everything is read at each poll: %s", self.url, error)

    async def _get(self, path: str) -> Answer:
        try:
            return await fetch(self._session, self.url + path, headers={"Accept": self._accept})
        except HttpError as error:
            if error.status not in _NO_JSON or self._accept == _XML:
                raise
        self._accept = _XML
        return await fetch(self._session, self.url + path, headers={"Accept": self._accept})


async def _document(answer: Answer) -> Document | None:
    if not answer.content_type.endswith("xml"):
        return open_json(answer.body)
    if not answer.body.strip():
        return None
    reader = XmlReader()
    for start in range(0, len(answer.body), _XML_PIECE):
        reader.feed(answer.body[start : start + _XML_PIECE])
        await asyncio.sleep(0)
    return reader.close()


def _clock(answer: Answer) -> float | None:
    try:
        return parsedate_to_datetime(answer.headers.get("Date", "")).timestamp()
    except (ValueError, OverflowError):
        return None
