"""What a Eureka server writes, as it stands: the outer forms of its JSON, and the fields of an instance (pure).

Eureka's JSON is XML in disguise: a list of one may be its only element, numbers and booleans may be strings.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Annotated, Any, Final, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct, field

from isthmus.adapters.web import decode_json
from isthmus.registry import codes
from isthmus.registry.errors import RecordError, SourceUnavailable
from isthmus.registry.names import printable

T = TypeVar("T")
# An object that is not yet read: JSON as it came, or what XML stands for (xml.py).
RawObject = Raw | dict[str, Any]

# A time, duration or version: in 64 bits, as a server has it.
Number = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]

# Four times what is served of a service (policy): the rest may be in other statuses.
INSTANCE_LIMIT: Final = 20_000
APPLICATION_LIMIT: Final = 100_000

_LONGEST_REASON = 300
_A_COUNT = re.compile(r"_0*[1-9][0-9]*_", re.ASCII)


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
    last_updated_timestamp: Number | None = None
    last_dirty_timestamp: Number | None = None
    action_type: str | None = None


class Core(Struct, frozen=True, rename="camel"):
    """What an instance is counted and known by, where the rest of it cannot be read."""

    instance_id: str
    status: str | None = None
    last_updated_timestamp: Any = None
    action_type: str | None = None


class _Application(Struct, frozen=True):
    name: str
    instance: Raw = Raw(b"[]")


class Document(Struct, frozen=True):
    """One answer, its applications not yet read.

    version: counts up with every answer that the server made of its changes; 0: not said.
    hashcode: the number of instances by status that the server has (EU2); None: not said.
    lists: whether there is a list of applications, though it may be empty.
    """

    version: int
    hashcode: str | None
    applications: tuple[RawObject, ...]
    lists: bool = True

    @property
    def counts_instances(self) -> bool:
        """Whether the hash says that there are instances."""
        return _A_COUNT.search(self.hashcode or "") is not None


class _Applications(Struct, frozen=True):
    version: int | None = field(default=None, name="versions__delta")
    hashcode: str | None = field(default=None, name="apps__hashcode")
    application: Raw = Raw(b"null")


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
    applications = _one_or_many(said.application, APPLICATION_LIMIT)
    if applications is None:
        raise SourceUnavailable(f"the registry has more than {APPLICATION_LIMIT} applications")
    return Document(said.version or 0, said.hashcode, applications, bytes(said.application) != b"null")


def open_application(value: RawObject) -> tuple[str, tuple[RawObject, ...] | None]:
    """Return the name of an application and its instances; None in their place: they are more than INSTANCE_LIMIT.

    Raises SourceUnavailable: it has no name, or no form.
    """
    if isinstance(value, dict):
        name, instances = value.get("name"), tuple(value.get("instance", ()))
        if not isinstance(name, str) or not name:
            raise SourceUnavailable("an application of the registry has no name")
        return name, instances if len(instances) <= INSTANCE_LIMIT else None
    application = decode_json(value, _Application, "an application of the registry")
    return application.name, _one_or_many(application.instance, INSTANCE_LIMIT)


def _one_or_many(raw: Raw, limit: int) -> tuple[Raw, ...] | None:
    """Return the elements of a list, or of what stands for a list of one; None: there are more than `limit`."""
    text = memoryview(raw)
    match bytes(text[:1]):
        # Each element takes two bytes at least, so a short list is within the limit.
        case b"[" if len(text) <= 2 * limit:
            return tuple(decode_json(raw, list[Raw], "a list of the registry"))
        case b"[":
            fields = msgspec.structs.astuple(decode_json(raw, _first_elements(limit + 1), "a list of the registry"))
            return None if fields[-1] is not None else tuple(one for one in fields if one is not None)
        case b"{":
            return (raw,)
    return ()


@cache
def _first_elements(count: int) -> type[Struct]:
    """Return a form that takes so many elements of a list and passes over the others.

    As `list[Raw]` 64 MiB of `0,0,0` would take gigabytes; thus they are read in a tenth of a second, and take nothing.
    """
    fields = [(f"e{index}", Raw, None) for index in range(count)]
    return msgspec.defstruct("FirstElements", fields, array_like=True)


def read_as(form: type[T], value: RawObject) -> T:
    """Read an object as `form`, numbers in strings included. Raises RecordError: it has another form."""
    try:
        if isinstance(value, Raw):
            return msgspec.json.decode(value, type=form, strict=False)
        return msgspec.convert(value, form, strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RecordError(codes.GARBLED, printable(str(error))[:_LONGEST_REASON]) from error
