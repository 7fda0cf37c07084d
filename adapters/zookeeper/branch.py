"""One branch of ZooKeeper's tree: a root, and below it a node for each place that services are registered at."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from msgspec import Struct

from isthmus.adapters.kept import Kept
from isthmus.registry import codes
from isthmus.registry.errors import SourceDenied
from isthmus.registry.model import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from isthmus.adapters.base import Sink
    from isthmus.adapters.dubbo import Reading
    from isthmus.adapters.zookeeper.client import Children, ZookeeperClient
    from isthmus.adapters.zookeeper.nodes import Nodes
    from isthmus.registry.model import Service


class Contact(Struct, frozen=True):
    """One connection: whom it reads from and where it reports."""

    client: ZookeeperClient
    sink: Sink
    generation: int


class Branch(ABC):
    """What is known of one branch; it outlives connections (G1)."""

    def __init__(self, root: str, nodes: Nodes, apart: str) -> None:
        """`apart` is the root of another branch, which may lie below this one and is no place of it; "" for none."""
        self.root = root
        self._apart = f"{apart}/"
        self.kept: Kept[str] = Kept()
        self._nodes = nodes
        self._refused: set[str] = set()

    # What each kind of branch has of its own.

    @abstractmethod
    def is_place(self, name: str) -> bool:
        """Tell whether a child of the root is a place."""

    @abstractmethod
    def goes_with_its_node(self, place: str) -> bool:
        """Tell whether a place whose node is gone is to be forgotten at once, and not read as an empty one."""

    @abstractmethod
    def watched(self, place: str) -> Iterable[str]:
        """Return the nodes that are watched for a place."""

    @abstractmethod
    async def read(self, contact: Contact, places: list[str], changed: set[str] | None) -> list[Service]:
        """Read some places at once; return the services that are other than before.

        changed: the nodes that watches have told of; None: all are to be read.
        """

    # What they share.

    async def list_places(self, contact: Contact) -> set[str] | None:
        """Read which places there are; None where the root is not there. Raises SourceDenied: no right to read it."""
        root = await self._nodes.children(contact.client, self.root)
        if root is None:
            return None
        return {
            name for name in root.names if self.is_place(name) and not self._apart.startswith(f"{self.node(name)}/")
        }

    def forget_gone(self, contact: Contact, listed: set[str]) -> list[str]:
        """Forget what is not listed any more; return the keys of its services."""
        gone = [place for place in self.kept.places - listed if self.goes_with_its_node(place)]
        return [key for place in gone for key in self._forget(contact, place)]

    def node(self, place: str) -> str:
        """Return the node of a place."""
        return f"{self.root}/{place}"

    def places_of(self, paths: Iterable[str]) -> set[str]:
        """Return the places that nodes belong to; those outside of this branch belong to none."""
        below = f"{self.root}/"
        return {path.removeprefix(below).partition("/")[0] for path in paths if path.startswith(below)}

    def refuse(self, contact: Contact, scope: str, refusals: tuple[Refusal, ...]) -> None:
        """Report what was refused in a scope; nothing where nothing is nor was."""
        if refusals or scope in self._refused:
            contact.sink.refuse(contact.generation, scope, refusals)
        (self._refused.add if refusals else self._refused.discard)(scope)

    def scope(self, place: str) -> str:
        """Return how the refusals of a place are called."""
        return self.node(place)

    def take(self, contact: Contact, place: str, reading: Reading) -> list[Service]:
        """Replace what is known of a place; return the services that are other than before."""
        self.refuse(contact, self.scope(place), reading.refused)
        return self.kept.take(place, reading.services, asyncio.get_running_loop().time())

    def keep_denied(self, contact: Contact, place: str, path: str) -> None:
        """Keep what is known of a place that we may not read, which is not "none", and say so (ZK8)."""
        self.refuse(contact, self.scope(place), (denied(path),))
        self.kept.hold(place)

    async def children(self, contact: Contact, path: str) -> Children | SourceDenied | None:
        """Read the children of a node; a denial is a value here, as the neighbours are to be read, too."""
        try:
            return await self._nodes.children(contact.client, path)
        except SourceDenied as error:
            return error

    def _forget(self, contact: Contact, place: str) -> Iterable[str]:
        self.refuse(contact, self.scope(place), ())
        for path in self.watched(place):
            self._nodes.forget(path)
        return self.kept.forget(place)


def denied(path: str) -> Refusal:
    """Return the refusal of a node that we may not read."""
    return Refusal(codes.DENIED, f"no right to read {path}; its last state is kept")
