"""Sources of a catalog that tell a server what they have, as adapters do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from isthmus.registry.catalog import Catalog
from isthmus.registry.policy import Policy
from tests.unit.builders import endpoint, service

if TYPE_CHECKING:
    from isthmus.registry.model import Service
    from tests.protocol.served import Served


class Sources:
    """A catalog before a server; times are all 0, since nothing settles here.

    policies: what the operator says of each source, in their order; one called `zk` that says nothing if not given.
    """

    def __init__(self, server: Served, *policies: Policy) -> None:
        self._server = server
        self._catalog = Catalog()
        self._generations: dict[str, int] = {}
        for policy in policies or (Policy("zk"),):
            self._catalog.add_source(policy, required=True, now=0.0)
            self._generations[policy.source] = self._catalog.connect(policy.source, 0.0)

    def say(self, *services: Service, source: str = "zk") -> bool:
        """Report services and publish what follows; return whether there was anything to push."""
        for one in services:
            self._catalog.put(source, self._generations[source], one, 0.0)
        return self._server.take(self._catalog.take_changes())

    def drop(self, *keys: str, source: str = "zk") -> bool:
        """Report that services are gone, and publish that."""
        for key in keys:
            self._catalog.drop(source, self._generations[source], key, 0.0)
        return self._server.take(self._catalog.take_changes())


def on(host: str, *revisions: str, address: str = "10.0.0.1") -> Service:
    """Make a service `legacy/HOST` for some revisions, or for all."""
    return service(host, endpoint(address), revisions=tuple(sorted(revisions)))
