"""Kratos's records: `NAME/ID` holds `{"id","name","version","metadata","endpoints":["grpc://host:port"]}`.

There is one service per URL scheme, as Dubbo has one per protocol: clients of one scheme know nothing of the other. An
instance is in those whose scheme it has, with the first endpoint of it, which is the one that Kratos takes. A secure
endpoint has a scheme of its own, `grpcs` for `grpc`; older releases wrote `grpc://…?isSecure=true`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import msgspec
from msgspec import Struct

from isthmus.adapters.etcd.formats.base import mapping, named, number
from isthmus.adapters.etcd.formats.instances import Instance, Said
from isthmus.adapters.instances import decode
from isthmus.registry import codes
from isthmus.registry.errors import RecordError

if TYPE_CHECKING:
    from collections.abc import Collection

    from isthmus.adapters.etcd.formats.instances import Reader

# What Kratos's balancers take for an instance that says none.
_USUAL_WEIGHT = 100
# By Go's strconv.ParseBool.
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})


class _Instance(Struct):
    name: str | None = None
    version: str | None = None
    metadata: Any = None
    endpoints: tuple[str, ...] | None = None


_INSTANCE = msgspec.json.Decoder(_Instance)


def reader(schemes: Collection[str]) -> Reader:
    """Return the reader of instances that speak these schemes.

    An instance without endpoints serves nobody, and is nobody's mistake: an application without servers registers too.
    """

    def read(path: str, value: bytes) -> tuple[Said, ...]:
        said = decode(_INSTANCE, value, "the value")
        name = _name(path, said.name)
        if not said.endpoints:
            return ()
        first: dict[str, str] = {}
        for endpoint in said.endpoints:
            first.setdefault(_scheme(endpoint), endpoint)
        known = [scheme for scheme in schemes if scheme in first]
        if not known:
            have, wanted = ", ".join(first), ", ".join(schemes)
            reason = f"no endpoint has a scheme of {wanted}, but {have[:100]}: say under `schemes` how it is published"
            raise RecordError(codes.UNKNOWN_SCHEME, reason)
        metadata = mapping(said.metadata)
        if said.version:
            metadata.setdefault("version", said.version)
        weight = number(metadata.get("weight"))
        weight = 1.0 if weight is None else weight / _USUAL_WEIGHT
        return tuple(Said(name, (Instance(first[scheme], None, weight, metadata),), scheme) for scheme in known)

    return read


def _name(path: str, said: str | None) -> str:
    """Return the name of the service: what the instance says, as far as its key is below that name.

    The id after it may have slashes. Kratos's own clients pass by an instance that claims another name (T01).
    """
    if not said:
        return named(path)
    if not path.startswith(f"{said}/") or path == f"{said}/":
        raise RecordError(codes.GARBLED, f"the key is not below the name that the instance says, {said[:100]!r}")
    return said


def _scheme(endpoint: str) -> str:
    scheme, _, rest = endpoint.partition("://")
    if "isSecure" in rest:
        said = parse_qs(rest.partition("?")[2]).get("isSecure", [""])
        return f"{scheme}s" if said[0] in _TRUE else scheme
    return scheme
