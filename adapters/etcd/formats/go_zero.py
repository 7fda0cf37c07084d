"""go-zero's records: `KEY/LEASE` holds `host:port` and nothing else.

A URL is read too: whoever uses go-kit's `sd/etcdv3` writes one, by its examples. KEY is the name of the service, and
may have slashes in it.
"""

from __future__ import annotations

import re

from isthmus.adapters.etcd.formats.base import named
from isthmus.adapters.etcd.formats.instances import Instance, Said
from isthmus.registry import codes
from isthmus.registry.errors import RecordError

_LONGEST_PLACE = 1_024
# What JSON has, and no place: else its end would be taken for a port.
_FOREIGN = re.compile(r'[^!-~]|["{}]')


def read(path: str, value: bytes) -> tuple[Said, ...]:
    """Read one instance. Raises RecordError: the key is outside of the layout, or the value no place."""
    return (Said(named(path), (Instance(_place(value)),)),)


def _place(value: bytes) -> str:
    text = value.decode("ascii", "replace").strip()
    if len(text) > _LONGEST_PLACE or ":" not in text or _FOREIGN.search(text):
        raise RecordError(codes.GARBLED, "the value is not `host:port`, nor a URL")
    return text
