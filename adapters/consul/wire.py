"""What a Consul answers, as it stands: the pages that are watched, and the entries of a service (pure).

Only what is used is declared; Consul adds fields from version to version, and they are passed by.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar

import msgspec
from msgspec import Raw, Struct, field

from isthmus.adapters.web import decode_json
from isthmus.registry import codes
from isthmus.registry.errors import RecordError, SourceUnavailable
from isthmus.registry.names import printable
from isthmus.registry.policy import RECORD_LENGTH

T = TypeVar("T")
Key = tuple[str, str]

PASSING: Final = "passing"
WARNING: Final = "warning"
CRITICAL: Final = "critical"

# One kind of entry was refused as a whole where another would do: then each is read by itself, unless that would take
# too much. Of the shortest ones this is half a million.
_READ_ONE_BY_ONE: Final = 2**20
_LONGEST_REASON = 300


class Locality(Struct, frozen=True, gc=False, rename="pascal"):
    """Where a node or an instance is."""

    region: str = ""
    zone: str = ""


class Node(Struct, frozen=True, gc=False, rename="pascal", omit_defaults=True):
    """The node of an instance."""

    node: str
    address: str = ""
    datacenter: str = ""
    partition: str = ""
    tagged_addresses: dict[str, str] | None = None
    meta: dict[str, str] | None = None
    locality: Locality | None = None


class Place(Struct, frozen=True, gc=False, rename="pascal"):
    """A tagged address of an instance."""

    address: str = ""
    port: int = 0


class NamedPort(Struct, frozen=True, gc=False, rename="pascal", omit_defaults=True):
    """One of the ports of an instance that has several (Consul 1.22)."""

    name: str = ""
    port: int = 0
    default: bool = False


class Weights(Struct, frozen=True, gc=False, rename="pascal"):
    """What an instance counts."""

    passing: int = 1
    warning: int = 1


class Registered(Struct, frozen=True, gc=False, rename="pascal", omit_defaults=True):
    """An instance as it was registered; `modify_index` tells its last change."""

    id: str = field(name="ID")
    service: str
    kind: str = ""
    tags: list[str] | None = None
    address: str = ""
    tagged_addresses: dict[str, Place] | None = None
    meta: dict[str, str] | None = None
    port: int = 0
    ports: list[NamedPort] | None = None
    weights: Weights | None = None
    locality: Locality | None = None
    namespace: str = ""
    modify_index: int = 0


class Check(Struct, frozen=True, gc=False, rename="pascal", omit_defaults=True):
    """A check of an instance, or of its node; then `service_id` is empty."""

    check_id: str = field(name="CheckID")
    status: str
    node: str = ""
    name: str = ""
    service_id: str = field(name="ServiceID", default="")
    service_name: str = ""


class Checked(Struct, frozen=True, gc=False, rename="pascal"):
    """Of a check only whose it is: all checks of a large Consul are read in half of the time."""

    node: str = ""
    service_id: str = field(name="ServiceID", default="")
    service_name: str = ""


class Entry(Struct, frozen=True, gc=False, rename="pascal"):
    """One instance with its node, its own checks and those of the node."""

    node: Node
    service: Registered
    checks: list[Check] | None = None


def read_names(body: bytes) -> dict[str, frozenset[str]]:
    """Return the tags of each service by its name, which is lower-cased: Consul looks services up in any case.

    Their order means nothing: two answers at one index differ in it. Raises SourceUnavailable: it is no list of them.
    """
    names: dict[str, frozenset[str]] = {}
    for name, tags in decode_json(body, dict[str, list[str] | None], "the list of services").items():
        names[name.lower()] = names.get(name.lower(), frozenset()).union(tags or ())
    return names


def read_nodes(body: bytes) -> dict[str, Node]:
    """Return the nodes by their names, but for what no endpoint is made of. Raises SourceUnavailable."""
    return {one.node: one for one in decode_json(body, list[Node], "the list of nodes")}


def read_checks(body: bytes) -> dict[Key, Check]:
    """Return checks by node and id, without what tells nothing of health. Raises SourceUnavailable."""
    return {(one.node, one.check_id): one for one in decode_json(body, list[Check], "the list of checks")}


def read_checked(body: bytes) -> list[Checked]:
    """Return whose each of all checks is. Raises SourceUnavailable."""
    return decode_json(body, list[Checked], "the list of checks")


def read_entries(body: bytes) -> tuple[list[Entry], list[tuple[RecordError, str]]]:
    """Return the entries of a service, and for each that cannot be read why, with what stands there.

    Raises SourceUnavailable: it is no list.
    """
    try:
        return decode_json(body, list[Entry], "a service"), []
    except SourceUnavailable:
        if len(body) > _READ_ONE_BY_ONE:
            raise
    entries: list[Entry] = []
    faults: list[tuple[RecordError, str]] = []
    for raw in decode_json(body, list[Raw], "a service"):
        try:
            entries.append(_read_as(Entry, raw))
        except RecordError as error:
            faults.append((error, bytes(raw).decode(errors="backslashreplace")))
    return entries, faults


def record_of(entry: Entry) -> str:
    """Return an entry in JSON without what may change and means nothing: outputs of checks, and checks that pass.

    Raises RecordError: it is too long.
    """
    lasting: dict[str, Any] = {
        "Node": entry.node,
        "Service": msgspec.structs.replace(entry.service, modify_index=0),
        "Checks": [_lasting(check) for check in entry.checks or () if check.status != PASSING],
    }
    text = msgspec.json.encode(lasting)
    if len(text) > RECORD_LENGTH:
        raise RecordError(codes.TOO_LONG, f"the record has {len(text)} bytes; {RECORD_LENGTH} are read")
    return text.decode()


def _lasting(check: Check) -> dict[str, str]:
    own = {"ServiceID": check.service_id} if check.service_id else {}
    return {"CheckID": check.check_id, "Status": check.status, **own}


def _read_as(form: type[T], raw: Raw) -> T:
    try:
        return msgspec.json.decode(raw, type=form, strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RecordError(codes.GARBLED, printable(str(error))[:_LONGEST_REASON]) from error
