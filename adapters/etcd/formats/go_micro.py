"""go-micro's records, of v2 to v5: `NAME/NODE` holds `{"name","version","metadata","nodes":[{"id","address",…}]}`.

The name is that of the key, in which the library writes `-` for a slash: what the record says counts as far as it is
the same but for that, since an instance could otherwise make itself one of another service (T01).
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from isthmus.adapters.etcd.formats.base import mapping, named
from isthmus.adapters.etcd.formats.instances import Instance, Said
from isthmus.adapters.instances import decode
from isthmus.registry import codes
from isthmus.registry.errors import RecordError


class _Node(Struct):
    address: str | None = None
    metadata: Any = None


class _Service(Struct):
    name: str | None = None
    version: str | None = None
    metadata: Any = None
    nodes: tuple[_Node, ...] | None = None


_SERVICE = msgspec.json.Decoder(_Service)


def read(path: str, value: bytes) -> tuple[Said, ...]:
    """Read the nodes of one record; the library writes one in each.

    What a node says in its metadata goes before what its service does, whose version goes by `version`.

    Raises RecordError: the key is outside of the layout, or the value garbled.
    """
    name = named(path)
    if "/" in name:
        reason = "the key is not `NAME/NODE` below the prefix: of go-micro 3 a prefix ends with the domain, as `micro/`"
        raise RecordError(codes.GARBLED, reason)
    said = decode(_SERVICE, value, "the value")
    if not said.nodes:
        raise RecordError(codes.GARBLED, "the value has no `nodes`")
    common = mapping(said.metadata)
    if said.version:
        common["version"] = said.version
    nodes = tuple(Instance(one.address or "", metadata=common | mapping(one.metadata)) for one in said.nodes)
    return (Said(said.name if said.name and said.name.replace("/", "-") == name else name, nodes),)
