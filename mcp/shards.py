"""What is published: the encoded resources of each type, and what changed since when.

Streams read from here and keep no queue of their own: a stream that was slow asks what changed since the revision it
knows, so slowness costs it names and never messages (G9).
"""

from __future__ import annotations

import logging
from hashlib import blake2b
from typing import TYPE_CHECKING

from isthmus.mcp.encode import Frame, encode_service_entry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from isthmus.registry.catalog import Change

_log = logging.getLogger("isthmus.mcp")

SERVICE_ENTRY_URLS = tuple(f"networking.istio.io/{version}/ServiceEntry" for version in ("v1", "v1beta1", "v1alpha3"))
WORKLOAD_ENTRY_URLS = tuple(f"networking.istio.io/{version}/WorkloadEntry" for version in ("v1", "v1beta1", "v1alpha3"))


class ResourceSet:
    """The resources of one type, by name, with a revision that grows with every change.

    full_state: whether a state-of-the-world response must hold all resources, as it must for every type of istiod's.
    """

    def __init__(self, *, full_state: bool = True) -> None:
        self.full_state = full_state
        self.revision = 0
        self._frames: dict[str, Frame] = {}
        # Name -> revision of its last change, the latest last; names that are gone stay until `_forget_gone`.
        self._changed: dict[str, int] = {}
        self._floor = 0
        self._sum = 0
        self._names: list[str] | None = None
        self._joined: tuple[int, bytes] | None = None

    @property
    def frames(self) -> Mapping[str, Frame]:
        """The resources by name. Read only."""
        return self._frames

    @property
    def version(self) -> str:
        """The version of the whole set: the same wherever the same resources stand, however they came there."""
        return f"{self._sum:016x}"

    def update(self, changes: Iterable[tuple[str, Frame | None]]) -> bool:
        """Apply changes, None for a resource that is gone, as one revision; return whether anything is other."""
        revision = self.revision + 1
        for name, frame in changes:
            known = self._frames.get(name)
            if (known.version if known else None) == (frame.version if frame else None):
                continue
            self._replace(name, known, frame)
            self._changed.pop(name, None)
            self._changed[name] = revision
            self.revision = revision
        if self.revision != revision:
            return False
        self._forget_gone()
        return True

    def changed_since(self, revision: int) -> list[str] | None:
        """Return the names that changed after `revision`; None where that is too long ago to know."""
        if revision < self._floor:
            return None
        names: list[str] = []
        for name, changed in reversed(self._changed.items()):
            if changed <= revision:
                break
            names.append(name)
        return names

    def names(self) -> list[str]:
        """Return all names in order."""
        if self._names is None:
            self._names = sorted(self._frames)
        return self._names

    def joined(self) -> bytes:
        """Return all resources as the body of a state-of-the-world response, in the order of their names."""
        if self._joined is None or self._joined[0] != self.revision:
            frames = self._frames
            self._joined = (self.revision, b"".join([frames[name].sotw for name in self.names()]))
        return self._joined[1]

    def _replace(self, name: str, known: Frame | None, frame: Frame | None) -> None:
        if known is not None:
            self._sum ^= _digest(name, known.version)
        if frame is None:
            del self._frames[name]
        else:
            self._sum ^= _digest(name, frame.version)
            self._frames[name] = frame
        if (known is None) != (frame is None):
            self._names = None

    def _forget_gone(self) -> None:
        """Keep the log within twice the resources: without this, names that come and go would fill it (G9)."""
        if len(self._changed) <= 2 * len(self._frames) + 1024:
            return
        gone = [name for name in self._changed if name not in self._frames]
        self._floor = max(self._changed[name] for name in gone)
        for name in gone:
            del self._changed[name]


def _digest(name: str, version: str) -> int:
    return int.from_bytes(blake2b(f"{name}\0{version}".encode(), digest_size=8).digest())


class Shard:
    """What one port serves: a set for each type that we have, and silence or emptiness for the others.

    Until `open` is called the types that we do have are held: a client that asks for them hears nothing, because an
    empty answer would delete what it knows (G2). All other types are answered empty at once.

    others: sets of more types by their URL, fed by whoever made them; the streams know nothing of any type.
    """

    def __init__(self, others: Mapping[str, ResourceSet] | None = None) -> None:
        service_entries = ResourceSet()
        workload_entries = ResourceSet()
        self.service_entries = service_entries
        self._sets: dict[str, ResourceSet] = {
            **dict.fromkeys(SERVICE_ENTRY_URLS, service_entries),
            **dict.fromkeys(WORKLOAD_ENTRY_URLS, workload_entries),
            **(others or {}),
        }
        self._nothing = ResourceSet()
        self.held = True

    def open(self) -> None:
        """Let the held types speak, once the sources are read."""
        self.held = False

    def publish(self, changes: Iterable[Change]) -> bool:
        """Encode and take changed resources; return whether anything is other than before."""
        return self.service_entries.update(self._encoded(changes))

    def _encoded(self, changes: Iterable[Change]) -> Iterator[tuple[str, Frame | None]]:
        for name, entry in changes:
            try:
                yield name, encode_service_entry(entry) if entry is not None else None
            except (UnicodeEncodeError, ValueError):
                # The last good bytes stay, and the others go out (X62, T11).
                _log.exception("resource %r cannot be encoded", name)

    def has(self, type_url: str) -> bool:
        """Tell whether a type is one that we have resources of, or could have."""
        return type_url in self._sets

    def lookup(self, type_url: str) -> ResourceSet | None:
        """Return the resources of a type; None while they are held."""
        known = self._sets.get(type_url)
        if known is None:
            return self._nothing
        return None if self.held else known
