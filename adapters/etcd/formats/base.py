"""What the formats of etcd's records have in common (pure).

A record is data from strangers: its length is bounded, each is read on its own, and what cannot be read is refused with
a reason while its neighbours live on.
"""

from __future__ import annotations

import re
from math import isfinite
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from msgspec import Struct

from isthmus.adapters.dubbo import Provider, shown
from isthmus.adapters.instances import Member, bare_address
from isthmus.registry import codes
from isthmus.registry.errors import RecordError
from isthmus.registry.model import Refusal, Service
from isthmus.registry.policy import RECORD_LENGTH

if TYPE_CHECKING:
    from collections.abc import Mapping

_PORT_DIGITS = 5
_AFTER_AUTHORITY = re.compile("[/?#]")
_LONGEST_SAID = 100


class Provided(Struct, frozen=True, gc=False):
    """A provider of Dubbo's, with the record it was read from."""

    record: str
    provider: Provider


# What one key holds: instances that serve and those that do not, or a provider of Dubbo's.
Item: TypeAlias = tuple[Member | Refusal, ...] | Provided


class Placed(Struct, frozen=True, gc=False):
    """What a key holds of one service; `place` names the service within its prefix."""

    place: str
    item: Item


class Format(Protocol):
    """How one library writes its instances below a prefix."""

    def read(self, key: str, value: bytes) -> tuple[Placed, ...]:
        """Return what a key holds, of no two services at one place; () where it is no instance and nobody's mistake.

        `key` is what follows the prefix. Raises RecordError: the key or its value cannot be read.
        """

    def service(self, place: str, items: Mapping[str, Item]) -> Service:
        """Return the service at a place, of what its keys hold; their order does not matter.

        Its key is the prefix and the place.
        """


class Layout:
    """Where the names of services begin in the keys that a prefix begins.

    A prefix that ends with a slash, or is followed by one, is a folder, and names begin below it. Any other ends within
    a name: `shop.` is the beginning of `shop.user/1`. `may_be_service`: a folder with instances in it is a service
    itself.
    """

    def __init__(self, prefix: str, *, may_be_service: bool = False) -> None:
        self._ends_with_slash = prefix.endswith("/")
        self._last = prefix.rstrip("/").rpartition("/")[2]
        self._may_be_service = may_be_service

    def path(self, key: str) -> str:
        """Return the path of a key from the beginning of the service's name on."""
        if not self._last:
            return key
        if not self._ends_with_slash:
            if not key.startswith("/"):
                return f"{self._last}{key}"
            key = key[1:]
        return f"{self._last}/{key}" if self._may_be_service and "/" not in key else key


def named(path: str) -> str:
    """Return the name of the service that an instance belongs to: its path but the last part.

    Raises RecordError: there are no two parts.
    """
    name, _, instance = path.rpartition("/")
    if not name or not instance:
        raise RecordError(codes.GARBLED, "the key is not `NAME/INSTANCE` below the prefix")
    return name


def require_length(key: str, value: bytes) -> None:
    """Raise RecordError where a record is longer than a registration may be."""
    if len(key) + len(value) > RECORD_LENGTH:
        raise RecordError(
            codes.TOO_LONG, f"the key and its value have more than the {RECORD_LENGTH} bytes that are read"
        )


def record_of(key: str, value: bytes) -> str:
    """Return a record as `explain` shows it: `key = value`, whatever they hold."""
    return f"{key} = {_text(value)}"


def refusal_of(error: RecordError, key: str, value: bytes) -> Refusal:
    """Return a record's error as what is refused of its service."""
    return Refusal(error.code, error.reason, f"{shown(key)} = {shown(_text(value))}")


def _text(value: bytes) -> str:
    return value.decode(errors="backslashreplace")


def place_of(text: str) -> tuple[str, int]:
    """Read `address:port`, or a URL that begins with them; IPv6 may have brackets, and need not: Go's printf has none.

    Raises RecordError: there is no address, or no port.
    """
    authority = authority_of(text)
    host, _, digits = authority.rpartition(":")
    return require_host(host, text), port_number(digits)


def authority_of(text: str) -> str:
    """Return the `host:port` of a URL; any other text is taken for one."""
    _, mark, rest = text.partition("://")
    return _AFTER_AUTHORITY.split(rest, 1)[0].rpartition("@")[2] if mark else text


def require_host(host: str, text: str) -> str:
    """Return an address without brackets, of which it is judged later whether it is one.

    Raises RecordError: it is empty.
    """
    bare = bare_address(host)
    if not bare:
        reason = f"{text[:_LONGEST_SAID]!r} has no address: register the IP address that others reach the instance at"
        raise RecordError(codes.NOT_AN_ADDRESS, reason)
    return bare


def port_number(digits: str) -> int:
    """Read a port. Raises RecordError: it is no number from 1 to 65535."""
    numeric = digits.isascii() and digits.isdigit()
    # Bounded first: Python refuses to read a number of more than 4,300 digits.
    if numeric and len(digits) <= _PORT_DIGITS and 0 < int(digits) < 65_536:
        return int(digits)
    # The end of another text could be a secret, and has lost what would show that.
    what = f"port {digits[:40]!r}" if numeric else "what stands for the port"
    raise RecordError(codes.BAD_PORT, f"{what} is not a number from 1 to 65535")


def number(said: object) -> float | None:
    """Return a number, or a text that is one; None for anything else, since a typo shall withdraw nobody."""
    if isinstance(said, bool) or not isinstance(said, int | float | str):
        return None
    try:
        found = float(said)
    except (ValueError, OverflowError):
        return None
    return found if isfinite(found) else None


def mapping(said: object) -> dict[str, Any]:
    """Return a JSON object; {} for anything else, since what is wrong in metadata costs the metadata only."""
    return said if isinstance(said, dict) else {}
