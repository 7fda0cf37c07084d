"""Which services are to be read: those that changed first, then those of a sweep (G9; pure).

There is no queue: a name is in it once, and one that changes again while it is being read is read once more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable


# So many that changed are read before one of a sweep that waits: more may change than can be read.
_BEFORE_SWEEP: Final = 3
# Of a sweep so many are read at the same time, and no more: what changes meanwhile shall not wait for it.
SWEPT_AT_ONCE: Final = 4


class Backlog:
    """The names that wait, and those that are being read."""

    def __init__(self) -> None:
        self._dirty: dict[str, None] = {}
        self._sweep: dict[str, None] = {}
        # Which of the two it was taken from; a name of both counts for both.
        self._reading: dict[str, tuple[bool, bool]] = {}
        # How many were taken before the sweep since one of it was.
        self._preferred = 0

    def __bool__(self) -> bool:
        """Tell whether there is a name to be taken now."""
        return self._next() is not None

    @property
    def is_quiet(self) -> bool:
        """Whether all that changed has been read."""
        return not self._dirty and not any(changed for changed, _ in self._reading.values())

    @property
    def is_swept(self) -> bool:
        """Whether nothing of a sweep is left."""
        return not self._sweep and not any(swept for _, swept in self._reading.values())

    def add(self, names: Iterable[str]) -> None:
        """Have what changed read, before all else but a part of a sweep."""
        self._dirty.update(dict.fromkeys(names))

    def sweep(self, names: Iterable[str]) -> None:
        """Have these read when nothing else is to be."""
        self._sweep.update(dict.fromkeys(names))

    def take(self) -> str | None:
        """Return the next name; it is being read until it is `done`. None: there is none that is not."""
        name = self._next()
        if name is not None:
            self._reading[name] = (name in self._dirty, name in self._sweep)
            self._preferred = self._preferred + 1 if self._sweep and name not in self._sweep else 0
            self._dirty.pop(name, None)
            self._sweep.pop(name, None)
        return name

    def _next(self) -> str | None:
        swept = sum(1 for changed, _ in self._reading.values() if not changed)
        waits = [self._dirty]
        if swept < SWEPT_AT_ONCE:
            waits.insert(0 if self._preferred >= _BEFORE_SWEEP else 1, self._sweep)
        return next((name for waiting in waits for name in waiting if name not in self._reading), None)

    def done(self, name: str) -> None:
        """Note that a name has been read."""
        self._reading.pop(name, None)
