"""What a Eureka server writes, as it stands: the outer forms of its JSON, and the fields of an instance (pure).

Eureka's JSON is XML in disguise: a list of one may be its only element, numbers and booleans may be strings.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from msgspec import Raw, Struct, field

from isthmus.adapters.web import decode_json
from isthmus.registry import codes
from isthmus.registry.errors import RecordError, SourceUnavailable
from isthmus.registry.names import printable

T = TypeVar("T")
# An object that is not yet read: JSON as it came, or what XML stands for (xml.py).
RawObject = Raw | dict[str, Any]

_LONGEST_REASON = 300


class Instance(Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """An instance as a server writes it; what may have several forms is any value here."""

    instance_id: str | None = None
    app: str | None = None
    host_name: str | None = None
    ip_addr: str | None = None
    status: str | None = None
    overridden_status: str | None = None
    # Thus in XML, and in the JSON of old servers.
    overriddenstatus: str | None = None
    port: Any = None
    secure_port: Any = None
    vip_address: str | None = None
    secure_vip_address: str | None = None
    metadata: Any = None
    data_center_info: Any = None
    lease_info: Any = None
    last_updated_timestamp: int | None = None
    last_dirty_timestamp: int | None = None
    action_type: str | None = None


class Core(Struct, frozen=True, rename="camel"):
    """What an instance is counted and known by, where the rest of it cannot be read."""

    instance_id: str
    status: str | None = None
    last_updated_timestamp: int | None = None
    action_type: str | None = None


class _Application(Struct, frozen=True):
    name: str
    instance: Raw = Raw(b"[]")


class Document(Struct, frozen=True):
    """One answer, its applications not yet read.

    version: counts up with every answer that the server made of its changes; 0: not said.
    hashcode: the number of instances by status that the server has (EU2); None: not said.
    """

    version: int
    hashcode: str | None
    applications: tuple[RawObject, ...]


class _Applications(Struct, frozen=True):
    version: int | None = field(default=None, name="versions__delta")
    hashcode: str | None = field(default=None, name="apps__hashcode")
    application: Raw = Raw(b"[]")


class _Envelope(Struct, frozen=True):
    applications: _Applications | None = None


def open_json(body: bytes) -> Document | None:
    """Read the outermost form of an answer; None where it says nothing (`null`, or an empty body), which is not "none".

    Raises SourceUnavailable: it is garbled, or something else.
    """
    if body.strip() in (b"", b"null"):
        return None
    said = decode_json(body, _Envelope, "the registry").applications
    if said is None:
        return None
    return Document(said.version or 0, said.hashcode, _one_or_many(said.application))


def open_application(value: RawObject) -> tuple[str, tuple[RawObject, ...]]:
    """Return the name of an application and its instances. Raises SourceUnavailable: it has no name, or no form."""
    if isinstance(value, dict):
        if not value.get("name"):
            raise SourceUnavailable("an application of the registry has no name")
        return value["name"], tuple(value.get("instance", ()))
    application = decode_json(value, _Application, "an application of the registry")
    return application.name, _one_or_many(application.instance)


def _one_or_many(raw: Raw) -> tuple[Raw, ...]:
    first = bytes(memoryview(raw)[:1])
    if first == b"[":
        return tuple(decode_json(raw, list[Raw], "a list of the registry"))
    return (raw,) if first == b"{" else ()


def read_as(form: type[T], value: RawObject) -> T:
    """Read an object as `form`, numbers in strings included. Raises RecordError: it has another form."""
    try:
        if isinstance(value, Raw):
            return msgspec.json.decode(value, type=form, strict=False)
        return msgspec.convert(value, form, strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RecordError(codes.GARBLED, printable(str(error))[:_LONGEST_REASON]) from error
