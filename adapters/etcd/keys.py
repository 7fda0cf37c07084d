"""What is known of the keys under one prefix, and the services made of them (pure; time is passed in).

Each key is decoded once, when it is put: etcd tells of a deletion only which key it was (ET8). Whatever a list shows is
compared with what the watch told by the revisions of both, so it does not matter which of them is first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from isthmus.adapters.kept import Kept
from isthmus.registry import codes
from isthmus.registry.errors import RecordError
from isthmus.registry.model import Refusal
from isthmus.registry.names import printable, short_hash

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from isthmus.adapters.base import Sink
    from isthmus.adapters.etcd.client import Newest
    from isthmus.adapters.etcd.records import Format, Item, Placed
    from isthmus.adapters.etcd.told import Record
    from isthmus.registry.model import Service

# So many keys or services are handled in a few milliseconds.
AT_ONCE = 200
_LONGEST_KEY_SHOWN = 200


class _Key(Struct, frozen=True, gc=False):
    """A key as it was put at a revision; `content` tells whether the same revision of another history says the same."""

    revision: int
    content: int
    places: tuple[str, ...]


class Keys:
    """The keys under one prefix.

    revision: everything up to it is known; 0: nothing was read yet. served: how many endpoints the services have.
    """

    def __init__(self, prefix: str, form: Format) -> None:
        self.prefix = prefix
        self.revision = 0
        self.served = 0
        self._lost = 0
        self._form = form
        self._listed_at = 0
        self.found = 0
        self._skip = len(prefix)
        self._known: dict[bytes, _Key] = {}
        self._members: dict[str, dict[str, Item]] = {}
        self._refused: dict[str, Refusal] = {}
        self._dirty: set[str] = set()
        self._dirty_refused: set[str] = set()
        self._kept: Kept[str] = Kept()
        self._changed: dict[str, Service] = {}
        # While a list is on its way: which keys the watch told to be deleted, and when.
        self._deleted: dict[bytes, int] | None = None

    def apply(self, records: Iterable[Record]) -> Iterator[None]:
        """Take what a watch told, a part at a time; what a list has shown already is passed by.

        Where it is broken off, what is left begins with the revision after `revision`.
        """
        latest = self.revision
        for count, record in enumerate(records, start=1):
            if record.revision > latest:
                self.revision, latest = latest, record.revision
            if record.revision > self._listed_at:
                self._note(record)
            if count % AT_ONCE == 0:
                yield
        self.revision = latest

    def reach(self, revision: int) -> None:
        """Note that nothing happened up to a revision (ET2)."""
        self.revision = max(self.revision, revision)

    def agrees(self, newest: Newest) -> bool:
        """Tell whether what etcd held at our revision is what we know: as many keys, and the same one put last.

        Another history, which a restored backup goes on with, has another one even where its numbers fit (ET6).
        """
        if newest.count != len(self._known):
            return False
        if newest.record is None:
            return True
        known = self._known.get(newest.record.key)
        latest = max(one.revision for one in self._known.values())
        return known is not None and (known.revision, known.content) == (latest, hash(newest.record.value))

    def begin_list(self) -> None:
        """Remember from now on what the watch tells to be deleted, which a list that is on its way may still have."""
        self._deleted = {}

    def give_up_list(self) -> None:
        """Take note that the list will not come."""
        self._deleted = None

    def replace(self, listed: Iterable[Record], revision: int) -> Iterator[None]:
        """Take a complete list at a revision, a part at a time; the watch may have told of later changes already.

        A key that is not in it and was not put later is gone (ET3). `found` counts what the list changed.
        """
        self.found = 0
        if revision < self._listed_at:
            # Another list overtook this one, and nobody remembers what was deleted between the two.
            return
        seen: set[bytes] = set()
        for count, record in enumerate(listed, start=1):
            seen.add(record.key)
            known = self._known.get(record.key)
            if not (known and known.revision > revision) and not self._deleted_after(record):
                self.found += self._note(record)
            if count % AT_ONCE == 0:
                yield
        for key in [key for key, known in self._known.items() if key not in seen and known.revision <= revision]:
            self._forget(key)
            self.found += 1
        self._deleted = None
        self._listed_at = revision
        self.revision = max(self.revision, revision)

    def forget_revisions(self) -> None:
        """Let the next list outweigh everything: its revisions are of another history (ET6)."""
        self.revision = self._listed_at = 0
        self.give_up_list()
        self._known = {key: _Key(0, known.content, known.places) for key, known in self._known.items()}

    def build(self, now: float) -> Iterator[None]:
        """Build the services that changed, which a report needs; it stops between some and the next."""
        for count, place in enumerate(sorted(self._dirty), start=1):
            members = self._members.get(place)
            service = self._form.service(place, members) if members else None
            before = self._endpoints(place)
            for one in self._kept.take(place, {service.key: service} if service else {}, now):
                self._changed[one.key] = one
            self._dirty.discard(place)
            came = self._endpoints(place) - before
            self.served += came
            self._lost -= came
            if count % AT_ONCE == 0:
                yield

    def take_lost(self) -> int:
        """Return how many endpoints went, less those that came, in what was built since the last call."""
        lost, self._lost = self._lost, 0
        return lost

    def _endpoints(self, place: str) -> int:
        return sum(len(one.endpoints) for one in self._kept.services(place).values())

    def report(self, sink: Sink, generation: int) -> None:
        """Report what changed since the last report."""
        for service in self._changed.values():
            sink.put(generation, service)
        self._changed.clear()
        self._report_refused(sink, generation)

    def take_everything(self, sink: Sink, generation: int, now: float) -> list[Service]:
        """Return everything for a complete report, and report what is refused."""
        self._changed.clear()
        self._report_refused(sink, generation)
        # What has been empty for long is left out, and so withdrawn.
        self._kept.forget_long_empty(now)
        return self._kept.everything()

    def _report_refused(self, sink: Sink, generation: int) -> None:
        for scope in sorted(self._dirty_refused):
            refusal = self._refused.get(scope)
            sink.refuse(generation, scope, (refusal,) if refusal else ())
        self._dirty_refused.clear()

    def _deleted_after(self, record: Record) -> bool:
        return self._deleted is not None and self._deleted.get(record.key, 0) > record.revision

    def _note(self, record: Record) -> bool:
        """Take what a key holds now; return whether that is other than before."""
        if record.value is None:
            if self._deleted is not None:
                self._deleted[record.key] = record.revision
            return self._forget(record.key)
        known = self._known.get(record.key)
        content = hash(record.value)
        if known and known.content == content:
            self._known[record.key] = _Key(record.revision, content, known.places)
            return False
        key = _text(record.key)
        placed = self._read(record.key, key, record.value)
        self._leave(key, known)
        for one in placed:
            self._members.setdefault(one.place, {})[key] = one.item
            self._dirty.add(one.place)
        self._known[record.key] = _Key(record.revision, content, tuple(one.place for one in placed))
        return True

    def _read(self, raw: bytes, key: str, value: bytes) -> tuple[Placed, ...]:
        scope = _scope(key)
        if self._refused.pop(scope, None):
            self._dirty_refused.add(scope)
        try:
            _require_text(key, raw)
            return self._form.read(key[self._skip :], value)
        except RecordError as error:
            self._refused[scope] = Refusal(error.code, error.reason, scope)
            self._dirty_refused.add(scope)
            return ()

    def _forget(self, raw: bytes) -> bool:
        known = self._known.pop(raw, None)
        if known is None:
            return False
        key = _text(raw)
        self._leave(key, known)
        if self._refused.pop(_scope(key), None):
            self._dirty_refused.add(_scope(key))
        return True

    def _leave(self, key: str, known: _Key | None) -> None:
        for place in known.places if known else ():
            members = self._members.get(place)
            if members and members.pop(key, None) is not None:
                self._dirty.add(place)
                if not members:
                    del self._members[place]


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")


def _require_text(key: str, raw: bytes) -> None:
    if key.encode() != raw:
        raise RecordError(codes.GARBLED, "the key is not UTF-8")


def _scope(key: str) -> str:
    """Return what refusals of a key are kept under: all of it, if that is not too long."""
    return printable(key if len(key) <= _LONGEST_KEY_SHOWN else f"{key[:_LONGEST_KEY_SHOWN]}…{short_hash(key)}")
