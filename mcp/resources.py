"""The encoded resources of one type, and what changed since when.

Streams read from here and keep no queue of their own: a stream that was slow asks what changed since the revision it
knows, so slowness costs it names and never messages (G9).
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from isthmus.mcp.encode import Frame

_DELTAS_KEPT = 8


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
        # What changed since some revision, as delta says it: subscribers in step with each other ask for the same.
        self._deltas: tuple[int, dict[tuple[str, ...], bytes]] = (0, {})

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

    def delta(self, names: Sequence[str]) -> bytes:
        """Return resources as the body of a delta response, in the order of `names`."""
        if self._deltas[0] != self.revision or len(self._deltas[1]) > _DELTAS_KEPT:
            self._deltas = (self.revision, {})
        kept, key = self._deltas[1], tuple(names)
        if (body := kept.get(key)) is None:
            body = kept[key] = b"".join([self._frames[name].delta for name in names])
        return body

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
