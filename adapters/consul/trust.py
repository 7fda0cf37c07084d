"""What an answer is worth, by its headers (CO2, CO7, CO8; pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from isthmus.registry.errors import SourceUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

_INDEX = "X-Consul-Index"
_KNOWN_LEADER = "X-Consul-KnownLeader"
_LAST_CONTACT = "X-Consul-LastContact"
_FILTERED = "X-Consul-Results-Filtered-By-ACLs"
_DIGITS = 20


class Trust(Struct, frozen=True):
    """What the headers of an answer say.

    index: to be asked with next, at least 1 (CO2).
    leader: whether the server knows a leader. contact: for how many seconds it had been out of touch with that (CO7).
    filtered: whether ACLs took something away; said to those only who have a token (CO8).
    """

    index: int
    leader: bool = True
    contact: float = 0.0
    filtered: bool = False

    def age_fault(self, max_stale: float) -> str:
        """Return why the answer may be of another time; empty: it is of now."""
        if not self.leader:
            return "the cluster has no leader"
        if self.contact > max_stale:
            return f"the server had not heard of its leader for {self.contact:g} s; `maxStale` is {max_stale:g} s"
        return ""

    def is_complete(self, max_stale: float) -> bool:
        """Tell whether what the answer lacks is not there."""
        return not self.filtered and not self.age_fault(max_stale)


def read_trust(headers: Mapping[str, str]) -> Trust:
    """Read the headers of an answer. Raises SourceUnavailable: it has no index, so it is not Consul's."""
    index = headers.get(_INDEX, "")
    if not _is_number(index.removeprefix("-")):
        raise SourceUnavailable(f"the answer has no {_INDEX}: is there a Consul behind this address?")
    contact = headers.get(_LAST_CONTACT, "")
    return Trust(
        max(1, int(index)),
        headers.get(_KNOWN_LEADER, "").lower() == "true",
        int(contact) / 1000 if _is_number(contact) else 0.0,
        headers.get(_FILTERED, "").lower() == "true",
    )


def _is_number(text: str) -> bool:
    # Bounded first: Python refuses to read a number of more than 4,300 digits.
    return len(text) <= _DIGITS and text.isascii() and text.isdigit()
