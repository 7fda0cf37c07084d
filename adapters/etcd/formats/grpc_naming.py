"""gRPC's naming in etcd: `TARGET/ANYTHING` holds `{"Op":0,"Addr":"host:port","Metadata":any}`.

So etcd's own client (naming/endpoints) writes it since 3.1, and gRPC's older resolver did. What follows the target is
the caller's, and taken for the last part. A target may have slashes in it: then its host has a hash (`a/b` is
`a-b-HASH.mesh`), unless the prefix ends before the last part of the target.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from isthmus.adapters.etcd.formats.base import mapping, named, number
from isthmus.adapters.etcd.formats.instances import Instance, Said
from isthmus.adapters.instances import decode
from isthmus.registry import codes

_DELETE = 1
_DELETED = (codes.DISABLED, "the record says `Op` 1, by which gRPC's older resolver deletes an address")


class _Update(Struct, rename="pascal"):
    op: int | None = 0
    addr: str | None = ""
    metadata: Any = None


_UPDATE = msgspec.json.Decoder(_Update)


def read(path: str, value: bytes) -> tuple[Said, ...]:
    """Read one address. Of metadata that is an object `weight` counts, where it is a number.

    Raises RecordError: the key is outside of the layout, or the value garbled.
    """
    name = named(path)
    said = decode(_UPDATE, value, "the value")
    metadata = mapping(said.metadata)
    weight = number(metadata.get("weight"))
    off = _DELETED if said.op == _DELETE else None
    return (Said(name, (Instance(said.addr or "", None, 1.0 if weight is None else weight, metadata, "", off),)),)
