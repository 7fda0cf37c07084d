"""What an adapter remembers of each place it reads, so that it can tell what changed (pure; time is passed in).

A service whose last endpoint left stays for an hour, empty: that is cheaper for the mesh than delete and create.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from msgspec.structs import replace

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, KeysView, Mapping

    from isthmus.registry.model import Service

EMPTY_KEPT_SECONDS = 3600.0

Place = TypeVar("Place", bound="Hashable")


class Kept(Generic[Place]):
    """The services of each place of a registry (an interface, an application, a name), by key."""

    def __init__(self) -> None:
        self._places: dict[Place, dict[str, Service]] = {}
        self._emptied: dict[str, float] = {}

    def __contains__(self, place: object) -> bool:
        return place in self._places

    @property
    def places(self) -> KeysView[Place]:
        return self._places.keys()

    def services(self, place: Place) -> Mapping[str, Service]:
        """Return what is known of a place."""
        return self._places.get(place, {})

    def everything(self) -> list[Service]:
        """Return all services."""
        return [service for services in self._places.values() for service in services.values()]

    def take(self, place: Place, read: Mapping[str, Service], now: float) -> list[Service]:
        """Replace what is known of a place by a read of it; return the services that are other than before.

        One that is new and has neither endpoints nor refused ones is nobody's yet, and is passed by.
        """
        known = self._places.get(place, {})
        services = {key: one for key, one in read.items() if one.endpoints or one.refused or key in known}
        for key in known.keys() - services.keys():
            services[key] = replace(known[key], endpoints=(), refused=())
        for key, service in services.items():
            if service.endpoints or service.refused:
                self._emptied.pop(key, None)
            else:
                self._emptied.setdefault(key, now)
        self._places[place] = services
        return [service for key, service in services.items() if service != known.get(key)]

    def hold(self, place: Place) -> None:
        """Know a place, whether anything of it could be read or not."""
        self._places.setdefault(place, {})

    def forget(self, place: Place) -> Iterable[str]:
        """Forget a place that is gone; return the keys of its services."""
        services = self._places.pop(place, {})
        for key in services:
            self._emptied.pop(key, None)
        return services

    def drop_long_empty(self, now: float) -> list[str]:
        """Forget the services that have been empty for an hour; return their keys."""
        expired = [key for key, since in self._emptied.items() if now - since > EMPTY_KEPT_SECONDS]
        for key in expired:
            del self._emptied[key]
        if expired:
            gone = set(expired)
            for place, services in self._places.items():
                if gone & services.keys():
                    self._places[place] = {key: one for key, one in services.items() if key not in gone}
        return expired

    def forget_long_empty(self, now: float) -> None:
        """Forget the services that have been empty for an hour, and the places where nothing else was."""
        if self.drop_long_empty(now):
            for place in [place for place in self._places if not self._places[place]]:
                self.forget(place)
