"""Application-level registrations: `/services/APPLICATION/INSTANCE`, whose data is Curator's JSON.

One child watch on each application, one data watch on each instance: Spring Cloud changes the status of an instance in
its data. Only what is new, or was told of, is read again; after a reconnect, when all watches are gone, everything.
Curator makes the nodes of applications as containers, which ZooKeeper deletes some time after their last child, and the
root with them. So a missing node says no more than an empty one: the application stays, empty, for an hour.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from msgspec import Struct

from isthmus.adapters.dubbo import Reading
from isthmus.adapters.zookeeper.branch import Branch, Contact, denied
from isthmus.adapters.zookeeper.instances import read_application
from isthmus.adapters.zookeeper.nodes import batches
from isthmus.registry.errors import SourceDenied

if TYPE_CHECKING:
    from collections.abc import Iterable

    from isthmus.adapters.instances import ApplicationRules
    from isthmus.adapters.zookeeper.nodes import Nodes
    from isthmus.registry.model import Service


class _Record(Struct, frozen=True, gc=False):
    """The data of an instance as last read, None where it never was; `denied`: it may not be read now."""

    data: bytes | None
    denied: bool = False


class Applications(Branch):
    """Each place is an application."""

    def __init__(self, root: str, nodes: Nodes, apart: str, rules: ApplicationRules) -> None:
        super().__init__(root, nodes, apart)
        self._rules = rules
        # By application, and by the node of the instance.
        self._records: dict[str, dict[str, _Record]] = {}

    def is_place(self, name: str) -> bool:
        """All children of the root are applications."""
        return bool(name)

    def goes_with_its_node(self, place: str) -> bool:
        """A container goes when it is empty, and its services when they have been so for an hour."""
        return not self.kept.services(place)

    def watched(self, place: str) -> tuple[str, ...]:
        """Return the node of the application, and those of its instances."""
        return (self.node(place), *self._records.get(place, ()))

    async def read(self, contact: Contact, places: list[str], changed: set[str] | None) -> list[Service]:
        """Read the instances of some applications, of each only what is not known or has changed."""
        answers = await asyncio.gather(*(self.children(contact, self.node(place)) for place in places))
        listed: dict[str, list[str]] = {}
        for place, answer in zip(places, answers, strict=True):
            if isinstance(answer, SourceDenied):
                self.keep_denied(contact, place, self.node(place))
            else:
                listed[place] = [f"{self.node(place)}/{name}" for name in answer.names] if answer else []
        wanted = {
            path: self._records.get(place, {}).get(path)
            for place, paths in listed.items()
            for path in paths
            if changed is None or path in changed or self._is_unknown(place, path)
        }
        read: dict[str, _Record | None] = {}
        for batch in batches(wanted):
            records = await asyncio.gather(*(self._read_record(contact, path, wanted[path]) for path in batch))
            read |= zip(batch, records, strict=True)
        return [service for place, paths in listed.items() for service in self._take(contact, place, paths, read)]

    def _is_unknown(self, place: str, path: str) -> bool:
        known = self._records.get(place, {}).get(path)
        # No watch tells that a right was given.
        return known is None or known.denied

    async def _read_record(self, contact: Contact, path: str, known: _Record | None) -> _Record | None:
        """Return the record of an instance, None where it has gone since it was listed."""
        try:
            content = await self._nodes.content(contact.client, path)
        except SourceDenied:
            return _Record(known.data if known else None, denied=True)
        return _Record(content.data) if content else None

    def _take(
        self, contact: Contact, place: str, paths: Iterable[str], read: dict[str, _Record | None]
    ) -> list[Service]:
        known = self._records.get(place, {})
        records = {path: record for path in paths if (record := read[path] if path in read else known[path])}
        for gone in known.keys() - records.keys():
            self._nodes.forget(gone)
        self._records[place] = records
        said = [record.data for record in records.values() if record.data is not None]
        reading = read_application(self.root, place, said, self._rules)
        unread = tuple(denied(path) for path, record in sorted(records.items()) if record.denied)
        return self.take(contact, place, Reading(reading.services, (*reading.refused, *unread)))

    def _forget(self, contact: Contact, place: str) -> Iterable[str]:
        keys = super()._forget(contact, place)
        self._records.pop(place, None)
        return keys
