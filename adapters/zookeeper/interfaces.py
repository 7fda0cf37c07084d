"""Dubbo's interface-level registrations: `/dubbo/INTERFACE/providers/URL`, one child watch on each `providers`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from isthmus.adapters.dubbo import DubboRules, read_interface
from isthmus.adapters.zookeeper.branch import Branch, Contact
from isthmus.registry.errors import SourceDenied

if TYPE_CHECKING:
    from isthmus.adapters.zookeeper.nodes import Nodes
    from isthmus.registry.model import Service

# Dubbo keeps these beside the interfaces.
_NOT_INTERFACES = frozenset({"config", "mapping", "metadata"})


class Interfaces(Branch):
    """Each place is an interface."""

    def __init__(self, root: str, nodes: Nodes, apart: str, rules: DubboRules) -> None:
        super().__init__(root, nodes, apart)
        self._rules = rules

    def is_place(self, name: str) -> bool:
        """Tell interfaces from what Dubbo keeps beside them."""
        return name not in _NOT_INTERFACES

    def goes_with_its_node(self, place: str) -> bool:
        """Dubbo never deletes the node of an interface: whoever did wants it gone."""
        del place
        return True

    def scope(self, place: str) -> str:
        """An interface goes by its name."""
        return place

    def watched(self, place: str) -> tuple[str, ...]:
        """Return the node of the interface's providers."""
        return (self._providers(place),)

    async def read(self, contact: Contact, places: list[str], changed: set[str] | None) -> list[Service]:
        """Read the providers of some interfaces; a missing `providers` is none yet (ZK7)."""
        del changed
        answers = await asyncio.gather(*(self.children(contact, self._providers(place)) for place in places))
        services: list[Service] = []
        for place, answer in zip(places, answers, strict=True):
            if isinstance(answer, SourceDenied):
                self.keep_denied(contact, place, self._providers(place))
            else:
                records = answer.names if answer else ()
                services += self.take(contact, place, read_interface(place, records, self._rules))
        return services

    def _providers(self, place: str) -> str:
        return f"{self.node(place)}/providers"
