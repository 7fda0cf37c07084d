"""Kitex's records (registry-etcd): `SERVICE/ADDRESS` holds `{"network","address","weight","tags"}`.

Kitex's own resolver takes a weight that is not above 0 for the usual one, 10; that is 1.0 here, so that endpoints of
one service from two registries are on one scale.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from isthmus.adapters.etcd.formats.base import mapping, named, number
from isthmus.adapters.etcd.formats.instances import Instance, Said
from isthmus.adapters.instances import decode
from isthmus.registry import codes
from isthmus.registry.errors import RecordError

_USUAL_WEIGHT = 10


class _Info(Struct):
    network: str | None = None
    address: str | None = None
    weight: Any = None
    tags: Any = None


_INFO = msgspec.json.Decoder(_Info)


def read(path: str, value: bytes) -> tuple[Said, ...]:
    """Read one instance. Raises RecordError: the key is outside of the layout, or the value garbled."""
    name = named(path)
    if "/" in name:
        raise RecordError(codes.GARBLED, "the key is not `SERVICE/ADDRESS` below the prefix")
    said = decode(_INFO, value, "the value")
    off = None
    if said.network and not said.network.startswith("tcp"):
        off = (codes.NOT_AN_ADDRESS, f"network {said.network[:40]!r} is not TCP")
    weight = number(said.weight) or 0.0
    weight = weight / _USUAL_WEIGHT if weight > 0 else 1.0
    return (Said(name, (Instance(said.address or "", None, weight, mapping(said.tags), "", off),)),)
