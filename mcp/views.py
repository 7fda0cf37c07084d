"""What a port offers, and what of it one subscriber is shown (pure).

The operator's door says what may be had there at all. A subscriber can ask for less by the metadata of its node, never
for more, and of the services that are for some Istio revisions only it is shown those of its own (X60).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from isthmus.registry.audience import Audience
from isthmus.registry.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Mapping

# Upstream istiod names its one revision, Slime's may name several with commas between them (slime.md 2.2).
REVISION = "ISTIO_REVISION"
TYPES, NAMESPACES, SOURCES = "ISTHMUS_TYPES", "ISTHMUS_NAMESPACES", "ISTHMUS_SOURCES"


class Part(Struct, frozen=True):
    """One of `count` shards, from 0; the only one of one is the whole."""

    count: int = 1
    index: int = 0


WHOLE = Part()


class View(Struct, frozen=True):
    """What one subscriber is shown: kinds such as ServiceEntry, namespaces, and as whom it sees; None: all."""

    kinds: frozenset[str] | None = None
    namespaces: frozenset[str] | None = None
    audience: Audience = Audience()

    def has_kind(self, type_url: str) -> bool:
        """Tell whether resources of a type are shown."""
        return self.kinds is None or type_url.rpartition("/")[2] in self.kinds

    def has_namespace(self, name: str) -> bool:
        """Tell whether a resource is shown, by the namespace in its name."""
        return self.namespaces is None or name.partition("/")[0] in self.namespaces


EVERYTHING = View()


class Door(Struct, frozen=True):
    """What one port offers.

    listener: the name that the operator gave it.
    part: the shard that is served.
    closed: why nobody is served here; empty: everybody is.
    form: `slime` for the increments of Slime's istiod (mcp/slime.py).
    view: what may be had here.
    debug: whether the debug pages are given.
    """

    listener: str = "xds"
    part: Part = WHOLE
    closed: str = ""
    form: Literal["standard", "slime"] = "standard"
    view: View = EVERYTHING
    debug: bool = False

    def enter(self) -> None:
        """Pass the door. Raises ProtocolError: it is closed."""
        if self.closed:
            raise ProtocolError("FAILED_PRECONDITION", self.closed)

    def view_of(self, metadata: Mapping[str, object]) -> View:
        """Return what a subscriber with this node metadata is shown. Raises ProtocolError: the metadata is unusable."""
        audience = Audience(
            _both(self.view.audience.sources, _asked(metadata, SOURCES)), self._revisions(_words(metadata, REVISION))
        )
        return View(
            _both(self.view.kinds, _asked(metadata, TYPES)),
            _both(self.view.namespaces, _asked(metadata, NAMESPACES)),
            audience,
        )

    def _revisions(self, named: frozenset[str]) -> frozenset[str] | None:
        # As Slime's own server does; to any other client that names no revision, what is for everybody is shown.
        return None if self.form == "slime" and not named else named


def _asked(metadata: Mapping[str, object], key: str) -> frozenset[str] | None:
    return _words(metadata, key) or None


def _words(metadata: Mapping[str, object], key: str) -> frozenset[str]:
    """Read a list, or a text with commas. Raises ProtocolError: it is neither."""
    value = metadata.get(key, "")
    words = value.split(",") if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ProtocolError("INVALID_ARGUMENT", f"{key} in the metadata of the node is no list of words")
    return frozenset(filter(None, (word.strip() for word in words)))


def _both(one: frozenset[str] | None, other: frozenset[str] | None) -> frozenset[str] | None:
    if one is None or other is None:
        return other if one is None else one
    return one & other
