"""From the instances of applications to the services of the mesh (pure).

A service is a name, and whoever bears it: with VIP addresses one instance may be in several services, and one service
may have instances of several applications.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from isthmus.adapters.applications import application_host, application_identity, port_of
from isthmus.adapters.weights import USUAL_WEIGHT
from isthmus.registry.model import Endpoint, Refusal, Service

if TYPE_CHECKING:
    from collections.abc import Iterable

    from isthmus.adapters.eureka.records import EurekaRules
    from isthmus.adapters.eureka.state import Change

_Place = tuple[str, str]


class Services:
    """Who is in which service; a change of one instance costs time for its services only."""

    def __init__(self, rules: EurekaRules) -> None:
        self._rules = rules
        self._members: dict[str, dict[_Place, Endpoint | Refusal]] = {}

    def take(self, changes: Iterable[Change]) -> set[str]:
        """Note what changed; return the names of the services that it may concern."""
        names: set[str] = set()
        for change in changes:
            place = (change.application, change.key)
            for name, _ in change.before.placed if change.before else ():
                names.add(name)
                self._members[name].pop(place, None)
                if not self._members[name]:
                    del self._members[name]
            for name, one in change.after.placed if change.after else ():
                names.add(name)
                self._members.setdefault(name, {})[place] = one
        return names

    def read(self, name: str) -> dict[str, Service]:
        """Return the service of a name by its key, nothing where nobody bears it."""
        members = self._members.get(name)
        if members is None:
            return {}
        identity = application_identity(name)
        ordered = [one for _, one in sorted(members.items(), key=lambda member: member[0])]
        service = Service(
            key=identity,
            identity=identity,
            namespace=self._rules.namespace,
            host=application_host(name, self._rules.suffix),
            ports=(port_of(self._rules.port_of(name)),),
            endpoints=tuple(one for one in ordered if isinstance(one, Endpoint)),
            refused=tuple(one for one in ordered if isinstance(one, Refusal)),
            usual_weight=USUAL_WEIGHT,
        )
        return {identity: service}
