"""The ServiceEntries in istiod's `/debug/configz`, of which no more is decoded than the comparison needs (pure).

The page lists everything that istiod has of every kind: 20 MB for 10,000 services of 10 endpoints, decoded in 25 ms.
"""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct, field

from isthmus.adapters.web import decode_json
from isthmus.registry.merge import IDENTITY_ANNOTATION

_KIND: Final = "ServiceEntry"
# The API server counts its versions in decimal, and no count comes near this length.
_OUR_VERSION: Final = re.compile("[0-9a-f]{16}")


class Stored(Struct, frozen=True, gc=False):
    """A ServiceEntry as istiod has it. ours: Isthmus made it; False: it comes from Kubernetes or from a third."""

    version: str
    ours: bool


class _Annotations(Struct, frozen=True, gc=False):
    service: str | None = field(name=IDENTITY_ANNOTATION, default=None)


class _Metadata(Struct, frozen=True, gc=False):
    name: str = ""
    namespace: str = ""
    version: str = field(name="resourceVersion", default="")
    annotations: _Annotations = _Annotations()


class _Item(Struct, frozen=True, gc=False):
    kind: str = ""
    metadata: _Metadata = _Metadata()


def stored_entries(body: bytes) -> dict[str, Stored]:
    """Return what the page holds of ServiceEntry, by `namespace/name`. Raises SourceUnavailable: it is no such page."""
    items = decode_json(body, list[_Item], "the list of what it stored")
    return {f"{one.namespace}/{one.name}": _stored(one) for one in _of_our_kind(items)}


def _of_our_kind(items: list[_Item]) -> list[_Metadata]:
    return [item.metadata for item in items if item.kind == _KIND]


def _stored(metadata: _Metadata) -> Stored:
    # Who applies one of our resources with kubectl takes the annotation along, and is another source all the same.
    ours = metadata.annotations.service is not None and _OUR_VERSION.fullmatch(metadata.version) is not None
    return Stored(metadata.version, ours)
