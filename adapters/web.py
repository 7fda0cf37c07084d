"""Bounded HTTP for the adapters whose registries speak it: one request, one whole answer or an error in words.

The server at the other end is not trusted: its answer is bounded in bytes after decompression and in time (T15), it
cannot send us elsewhere (T16), its certificate is verified (T18), and nothing of a failure that is reported holds a
credential (T17). Only addresses from the configuration are opened, never one from a registry's data.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import zlib
from base64 import b64decode, b64encode
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

import aiohttp
import msgspec
from aiohttp import hdrs
from msgspec import Struct
from yarl import URL

from isthmus.adapters.tls import tls_context, tls_fault
from isthmus.registry.errors import SourceDenied, SourceError, SourceUnavailable
from isthmus.registry.names import printable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Mapping

T = TypeVar("T")

BODY_LIMIT = 64 * 2**20
TOTAL_SECONDS = 30.0
CONNECT_SECONDS = 5.0
_INFLATE_STEP = 2**20
_BASIC = "Basic "
# Spring puts its message behind a stack trace.
_EXCERPT_BYTES = 65_536
_LONGEST_EXCERPT = 200
# A shorter value is a page number, not a secret, and would tear holes into every text.
_SHORTEST_SECRET = 4
_OWN_HEADERS: dict[str, str] = {hdrs.USER_AGENT: "isthmus", hdrs.ACCEPT_ENCODING: "gzip"}
_STATUS_WORDS = {429: ", too many requests at once", 503: ", not available for now"}


class HttpError(SourceUnavailable):
    """The server answered with another status than 200; `status` is the number."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


class TooLong(SourceUnavailable):
    """The answer has more bytes than are read (T15); that says nothing of other pages."""


class NotFound(HttpError):
    """The server has nothing at this path (404), which says nothing of what was there before (G1)."""


class Answer(Struct, frozen=True):
    """A whole answer of status 200: its body, decompressed, and its headers, whose names match in any case."""

    body: bytes
    headers: Mapping[str, str]

    @property
    def content_type(self) -> str:
        return self.headers.get(hdrs.CONTENT_TYPE, "").partition(";")[0].strip().lower()


@asynccontextmanager
async def web_session(
    ca_file: str = "",
    username: str = "",
    password: str = "",
    headers: Mapping[str, str] | None = None,
    *,
    cert_file: str = "",
    key_file: str = "",
) -> AsyncIterator[aiohttp.ClientSession]:
    """Open a session for one registry; it keeps no cookies and takes no proxy or password from the environment.

    ca_file: PEM file of the authorities that may vouch for the servers, and no others; empty: those of the system.
    username, password: basic authentication; an empty username: none.
    headers: sent with every request; their values are masked in errors.
    cert_file, key_file: PEM files of the client certificate and of its key, without a password; empty: none.

    Raises SourceError: a file cannot be used, or the user name cannot be sent.
    """
    context = await asyncio.to_thread(tls_context, ca_file, cert_file, key_file)
    sent = {**_OWN_HEADERS, **(headers or {})}
    if username:
        sent[hdrs.AUTHORIZATION] = _basic(username, password)
    connector = aiohttp.TCPConnector(ssl=context)
    async with aiohttp.ClientSession(
        connector=connector,
        headers=sent,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
    ) as session:
        yield session


async def fetch(
    session: aiohttp.ClientSession,
    url: str,
    *,
    method: str = "GET",
    params: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    form: Mapping[str, str] | None = None,
    total: float = TOTAL_SECONDS,
    connect: float = CONNECT_SECONDS,
    limit: int = BODY_LIMIT,
) -> Answer:
    """Send one request and return the answer whole; redirects are not followed (T16).

    params, form: the query, and the body of a POST. total, connect: seconds, to the last byte and to a connection.
    limit: bytes of the body after decompression (T15).

    Raises SourceDenied: 401 or 403. NotFound: 404. HttpError: any other status than 200. SourceUnavailable: no
    connection, no trust in the certificate, no whole answer in time, or one beyond the limit (TooLong). SourceError:
    the URL cannot be used, or holds credentials.
    """
    target = _target(url)
    place = printable(f"{target.host_subcomponent}:{target.port}")
    secrets = _secrets(session, params, headers, form)
    try:
        async with session.request(
            method,
            target,
            params=params,
            headers=headers,
            data=form,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=total, connect=connect),
        ) as response:
            if response.status != 200:
                raise await _refusal(response, place, secrets)
            body = await _read(response, place, limit)
            return Answer(body, response.headers)
    except (aiohttp.ClientError, OSError) as error:
        fault = tls_fault(error) if target.scheme == "https" else None
        raise SourceUnavailable(f"{place}: {fault or _fault(error, total, connect)}") from error


def decode_json(body: bytes, type: type[T], what: str = "the answer") -> T:  # noqa: A002 (msgspec's own word for it)
    """Decode JSON as `type`, numbers in strings included; `what` is how an error calls it.

    Raises SourceUnavailable: it is garbled, cut short, nested too deeply or of another form (T14).
    """
    try:
        return msgspec.json.decode(body, type=type, strict=False)
    except RecursionError as error:
        raise SourceUnavailable(f"{what} is nested too deeply to be read") from error
    except UnicodeDecodeError as error:
        raise SourceUnavailable(f"{what} is not UTF-8") from error
    except msgspec.ValidationError as error:
        raise SourceUnavailable(f"{what} has another form than expected: {_short(str(error))}") from error
    except msgspec.DecodeError as error:
        raise SourceUnavailable(f"{what} is no whole JSON: {_short(str(error))}") from error


def _basic(username: str, password: str) -> str:
    if ":" in username:
        raise SourceError("a user name with ':' in it cannot be sent")
    return f"{_BASIC}{b64encode(f'{username}:{password}'.encode()).decode()}"


def _target(url: str) -> URL:
    try:
        target = URL(url)
        host = target.host or ""
        host.encode("idna")
    except ValueError as error:
        raise SourceError("the address is no URL, or has no host name that can be") from error
    if target.scheme not in ("http", "https") or not host:
        raise SourceError("the address is no `http://` or `https://` URL with a host")
    if target.raw_user is not None or target.raw_password is not None:
        raise SourceError("there are credentials in the address: say them under `username` and `password`")
    return target


async def _read(response: aiohttp.ClientResponse, place: str, limit: int) -> bytes:
    inflate = _inflater(response, place)
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_any():
        for part in inflate.parts(chunk) if inflate else (chunk,):
            size += len(part)
            if size > limit:
                # What is still on its way is not wanted: the connection goes with it.
                response.close()
                raise TooLong(f"{place}: the answer is longer than {limit} bytes, the most that is read")
            chunks.append(part)
    if inflate and not inflate.complete:
        raise SourceUnavailable(f"{place}: the answer's compressed data broke off")
    return b"".join(chunks)


class _Inflater:
    """Gzip in small steps, so that a bomb is noticed when it has passed the limit by no more than one of them.

    aiohttp's own takes data that broke off for whole.
    """

    def __init__(self, place: str) -> None:
        self._gzip = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        self._place = place

    @property
    def complete(self) -> bool:
        return self._gzip.eof and not self._gzip.unused_data

    def parts(self, data: bytes) -> Iterator[bytes]:
        """Yield what the data stands for. Raises SourceUnavailable: it is no gzip."""
        while data and not self._gzip.eof:
            try:
                part = self._gzip.decompress(data, _INFLATE_STEP)
            except zlib.error as error:
                raise SourceUnavailable(f"{self._place}: the answer cannot be decompressed") from error
            yield part
            data = self._gzip.unconsumed_tail


def _inflater(response: aiohttp.ClientResponse, place: str) -> _Inflater | None:
    match response.headers.get(hdrs.CONTENT_ENCODING, "").strip().lower():
        case "" | "identity":
            return None
        case "gzip" | "x-gzip":
            return _Inflater(place)
        case other:
            response.close()
            raise SourceUnavailable(f"{place}: the answer is compressed as {_short(other)}, which nobody asked for")


async def _refusal(response: aiohttp.ClientResponse, place: str, secrets: Iterable[str]) -> SourceError:
    status = response.status
    if 300 <= status < 400:
        return HttpError(f"{place} answers {status}, a redirect{_location(response)}; it is not followed", status)
    # Which page is not there is what tells a wrong path from a wrong server.
    what = f"{status} to {_short(response.url.path)}" if status == 404 else f"{status}{_STATUS_WORDS.get(status, '')}"
    said = f"{place} answers {what}{await _excerpt(response, secrets)}"
    response.close()
    if status in (401, 403):
        return SourceDenied(f"{said}: check the credentials and rights of this source")
    return NotFound(said, status) if status == 404 else HttpError(said, status)


def _location(response: aiohttp.ClientResponse) -> str:
    """Return where a redirect leads to, without a query or user information, which may be secret."""
    try:
        location = URL(response.headers.get(hdrs.LOCATION, "")).with_query(None).with_fragment(None)
        if location.absolute:
            location = location.with_user(None)
    except ValueError:
        return ""
    return f" to {_short(str(location))}" if str(location) else ""


async def _excerpt(response: aiohttp.ClientResponse, secrets: Iterable[str]) -> str:
    """Return what an error says, or how its text begins, if that is for people, without what we sent (T11, T17)."""
    if response.content_type == "text/html" or hdrs.CONTENT_ENCODING in response.headers:
        return ""
    body = await _beginning(response)
    text = _message(body) or body.decode("utf-8", "replace")
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, "***")
    text = " ".join(text.split())
    return f" ({_short(text)})" if text else ""


async def _beginning(response: aiohttp.ClientResponse) -> bytes:
    """Return the first bytes of a body, or as many as come before it breaks off."""
    body = bytearray()
    with suppress(aiohttp.ClientError, OSError):
        while chunk := await response.content.read(_EXCERPT_BYTES - len(body)):
            body += chunk
    return bytes(body)


class _ErrorBody(Struct):
    """How Spring (both) and Nacos (`message`) say in JSON what is wrong."""

    message: Any = None
    error: Any = None


def _message(body: bytes) -> str:
    """Return what an error in JSON says, without the time beside it, which makes each answer another; empty: none."""
    try:
        said = decode_json(body, _ErrorBody)
    except SourceUnavailable:
        return ""
    return next((text for text in (said.message, said.error) if isinstance(text, str) and text.strip()), "")


def _secrets(session: aiohttp.ClientSession, *parts: Mapping[str, str] | None) -> list[str]:
    """Return the values that we send, one of which an error's text could repeat."""
    given = {name: value for name, value in session.headers.items() if name not in _OWN_HEADERS}
    basic = session.headers.get(hdrs.AUTHORIZATION, "")
    token = basic.removeprefix(_BASIC) if basic.startswith(_BASIC) else ""
    password = b64decode(token).decode().partition(":")[2]
    return [password, token, *(value for part in (given, *parts) for value in (part or {}).values())]


def _short(text: str) -> str:
    clean = printable(text)
    return clean if len(clean) <= _LONGEST_EXCERPT else f"{clean[:_LONGEST_EXCERPT]}…"


def _fault(error: aiohttp.ClientError | OSError, total: float, connect: float) -> str:
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return f"its certificate is not trusted: {_short(_why_distrusted(error))}; `ca` names who vouches for it"
        case aiohttp.ClientConnectorSSLError():
            return "no TLS connection: the server speaks none, or none that is still safe"
        case aiohttp.ClientConnectorDNSError():
            return "its name cannot be resolved"
        case aiohttp.ClientConnectorError():
            return f"no connection: {_reason(error.os_error)}"
        case aiohttp.ConnectionTimeoutError():
            return f"no connection within {connect:g} s"
        case TimeoutError():
            return f"no whole answer within {total:g} s"
        case aiohttp.ClientPayloadError():
            return "the answer broke off"
        case aiohttp.ClientResponseError():
            return "what answers there speaks no HTTP that can be read"
    return "the connection broke"


def _why_distrusted(error: aiohttp.ClientConnectorCertificateError) -> str:
    why = error.certificate_error
    return why.verify_message if isinstance(why, ssl.SSLCertVerificationError) else "it cannot be verified"


def _reason(error: OSError) -> str:
    # Where several addresses were tried, the text of the error is a list of them.
    return os.strerror(error.errno).lower() if error.errno and error.errno > 0 else "it was refused"
