"""Addresses that list the servers of one registry as URLs (pure)."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

# The keys of a source that credentials belong under, as an error names them.
LOGIN: Final = "`username` and `password`"
ACL: Final = "`token`"


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
