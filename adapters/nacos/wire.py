"""Nacos's messages: JSON texts with a type name, in a protobuf envelope (pure).

Only what is used is declared; Nacos adds fields from version to version, and they are passed by.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec
from google.protobuf.message import DecodeError
from msgspec import Raw, Struct

from isthmus.adapters.web import decode_json
from isthmus.protos.nacos_pb2 import Payload
from isthmus.registry.errors import SourceDenied, SourceUnavailable

OK = 200
# The one code that says our connection is not (or no longer) known to the server.
UNREGISTERED = 301
DENIED = 403

T = TypeVar("T")


class Unreadable(SourceUnavailable):
    """One question has no answer of use: garbled, too deep, late, or refused as such. Others have theirs (G8)."""


class TooLarge(Unreadable):
    """The answer is larger than may be received, and so will be the push that follows a subscription."""


class Forbidden(SourceDenied):
    """We may not ask this; it says nothing of what else we may ask."""


class Answer(Struct, rename="camel"):
    """What every response says first. `result_code` 200: it is an answer; else `error_code` and `message` say why.

    A field without a default is one that Nacos always writes: without it the answer says nothing.
    """

    result_code: int
    error_code: int = 0
    message: str | None = None


class ListAnswer(Answer):
    """A page of the names of a group's services; an error has neither field."""

    count: int | None = None
    service_names: list[str] | None = None


class ServiceInfo(Struct, rename="camel"):
    """A service as Nacos's query, subscription and push show it.

    name, group_name: what it is called; which namespace it is in Nacos does not say.
    hosts: its instances, each still JSON; None where the server could not say (NA1).
    last_ref_time: when the server made this, in milliseconds of its clock.
    reach_protection_threshold: so few instances are healthy that Nacos shows all of them as healthy (NA7).
    """

    name: str = ""
    group_name: str = ""
    hosts: tuple[Raw, ...] | None = None
    last_ref_time: int = 0
    reach_protection_threshold: bool = False


class ServiceAnswer(Answer):
    """The answer to a subscription or a query."""

    service_info: ServiceInfo | None = None


class ServerRequest(Struct, rename="camel"):
    """What the server asks of us over the stream; it wants the id back."""

    request_id: str | None = None


class Push(ServerRequest):
    """A service that changed, whole."""

    service_info: ServiceInfo | None = None


class Login(Struct, rename="camel"):
    """The answer to a login; the token ends after `token_ttl` seconds."""

    access_token: str
    token_ttl: float = 18_000.0


class Namespace(Struct, rename="camel"):
    """A namespace: its id, and the name that people gave it. The id of `public` is empty in older versions."""

    namespace: str = ""
    namespace_show_name: str = ""


def encode(kind: str, body: object, headers: dict[str, str] | None = None) -> bytes:
    """Return a payload of the message type `kind`."""
    payload = Payload()
    payload.metadata.type = kind
    payload.metadata.headers.update(headers or {})
    payload.body.value = msgspec.json.encode(body)
    return bytes(payload.SerializeToString())


def envelope(raw: bytes) -> tuple[str, bytes]:
    """Return the type and the JSON text of a payload. Raises Unreadable: it is none."""
    try:
        payload = Payload.FromString(raw)
    except DecodeError as error:
        raise Unreadable("Nacos's answer is no payload of its own protocol") from error
    return payload.metadata.type, payload.body.value


def decode(text: bytes, wanted: type[T]) -> T:
    """Read a JSON text. Raises Unreadable: it is garbled, too deep, or has other types than Nacos's."""
    try:
        return decode_json(text, wanted, "Nacos's answer")
    except SourceUnavailable as error:
        raise Unreadable(str(error)) from error
