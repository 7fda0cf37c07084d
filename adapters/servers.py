"""Addresses that list the servers of one registry as URLs, and which of these is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlsplit

from isthmus.registry.errors import SourceDenied, SourceError, SourceUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")

# The keys of a source that credentials belong under, as an error names them.
LOGIN: Final = "`username` and `password`"
ACL: Final = "`token`"


class Servers:
    """The servers of one registry: one of them is used until it fails, and then the next one."""

    def __init__(self, address: str, credentials: str, *, paths: bool = True) -> None:
        """Take what `service_urls` takes; a fault of the address shows when a server is to be used."""
        self._address = address
        self._credentials = credentials
        self._paths = paths
        self._turn = 0

    def current(self) -> str:
        """Return the URL of the server in use. Raises SourceError: the address cannot be used."""
        urls = self._urls()
        return urls[self._turn % len(urls)]

    def pass_on(self) -> None:
        """Have the next server used from now on."""
        self._turn += 1

    async def first_good(self, begin: Callable[[str], Awaitable[T]]) -> T:
        """Return what can be begun with a server's URL, of the first one that does not fail, from the one in use on.

        Raises SourceDenied: every server refuses us. SourceUnavailable: none is good. SourceError: the address cannot
        be used.
        """
        failures: list[SourceError] = []
        for _ in self._urls():
            try:
                return await begin(self.current())
            except SourceError as error:
                failures.append(error)
                self.pass_on()
        reason = "; ".join(map(str, failures))
        if all(isinstance(error, SourceDenied) for error in failures):
            raise SourceDenied(reason)
        raise SourceUnavailable(reason)

    def _urls(self) -> tuple[str, ...]:
        try:
            return service_urls(self._address, self._credentials, paths=self._paths)
        except ValueError as error:
            raise SourceError(f"the address cannot be used: {error}") from error


def service_urls(address: str, credentials: str, *, paths: bool = True) -> tuple[str, ...]:
    """Return the URLs that an address lists, the scheme in small letters and without a slash at their ends.

    credentials: `LOGIN` or `ACL`.
    paths: whether a URL may have a path.

    Raises ValueError, whose text says what is wrong and does not hold the value.
    """
    urls = [url.strip() for url in address.split(",")]
    for number, url in enumerate(urls, start=1):
        if fault := _fault(url, credentials, paths=paths):
            raise ValueError(f"server {number} {fault}")
    return tuple(_plain(url) for url in urls)


def _fault(url: str, credentials: str, *, paths: bool) -> str | None:
    if "@" in url:
        return f"has credentials: say them under {credentials}"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "is no URL"
    end = "/path" if paths else ""
    if parts.scheme not in ("http", "https") or not host or port == 0:
        return f"is no `http://host:port{end}` or `https://host:port{end}`"
    if parts.query or parts.fragment or (parts.path.strip("/") and not paths):
        return f"has something after its {'path' if paths else 'port'}"
    return None


def _plain(url: str) -> str:
    scheme, separator, rest = url.rstrip("/").partition("://")
    return f"{scheme.lower()}{separator}{rest}"
