"""One Eureka server, read: everything, or what changed lately."""

from __future__ import annotations

import asyncio
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from msgspec import Struct

from isthmus.adapters.eureka.wire import Document, open_json
from isthmus.adapters.eureka.xml import XmlReader
from isthmus.adapters.web import Answer, HttpError, NotFound, fetch
from isthmus.registry.errors import SourceDenied, SourceUnavailable

if TYPE_CHECKING:
    import aiohttp

_JSON = "application/json"
_XML = "application/xml"
_NO_JSON = (406, 415)
# So much XML takes a few milliseconds.
_XML_PIECE = 65_536


class Everything(Struct, frozen=True):
    """A full read, and the server's clock at it in seconds since 1970; None: it does not say."""

    document: Document
    at: float | None


class EurekaClient:
    """Reads one server; `url` is its service URL without a slash at the end."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self.url = url
        self._accept = _JSON

    async def everything(self) -> Everything:
        """Return the whole registry. Raises SourceDenied: 401 or 403. SourceUnavailable: no answer that says it."""
        try:
            answer = await self._get("/apps")
        except SourceDenied as error:
            raise SourceDenied(f"{error}; a Eureka server that is starting answers 403, too") from error
        document = await _document(answer)
        if document is None:
            raise SourceUnavailable(f"{self.url}/apps answers without a registry")
        return Everything(document, _clock(answer))

    async def changes(self) -> Document | None:
        """Return what changed in the last minutes; None: this server does not tell, or not yet (EU1).

        Raises SourceUnavailable: no answer that can be read.
        """
        try:
            answer = await self._get("/apps/delta")
        except (SourceDenied, NotFound):
            return None
        return await _document(answer)

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
    except ValueError:
        return None
