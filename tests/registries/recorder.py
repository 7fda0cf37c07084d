"""A sink that keeps what an adapter reports, and everything it ever reported."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from isthmus.registry.model import Refusal, Service


class Recorder:
    """The state that the reports add up to; `history` names each report."""

    def __init__(self) -> None:
        self.generation = 0
        self.services: dict[str, Service] = {}
        self.refused: dict[str, tuple[Refusal, ...]] = {}
        self.stale_reason: str | None = "not read yet"
        self.syncs = 0
        self.mended_count = 0
        self.notes: tuple[str, ...] = ()
        self.contacts = 0
        self.history: list[str] = []
        self.fewest: dict[str, int] = {}

    def connected(self) -> int:
        self.generation += 1
        return self.generation

    def sync(self, generation: int, services: Iterable[Service]) -> float | None:
        assert generation == self.generation
        self.services = {service.key: service for service in services}
        self.syncs += 1
        self._note("sync")
        return None

    def put(self, generation: int, service: Service) -> None:
        assert generation == self.generation
        self.services[service.key] = service
        self._note(f"put {service.key}")

    def drop(self, generation: int, key: str) -> None:
        assert generation == self.generation
        del self.services[key]
        self._note(f"drop {key}")

    def refuse(self, generation: int, scope: str, refusals: tuple[Refusal, ...]) -> None:
        assert generation == self.generation
        self.refused[scope] = refusals

    def contact(self, generation: int) -> None:
        assert generation == self.generation
        self.contacts += 1
        self.stale_reason = None

    def note(self, generation: int, notes: tuple[str, ...]) -> None:
        assert generation == self.generation
        self.notes = notes

    def stale(self, generation: int, reason: str) -> None:
        assert generation == self.generation
        self.stale_reason = reason
        self.history.append(f"stale {reason}")

    def progress(self, done: int, total: int) -> None:
        self.history.append(f"progress {done}/{total}")

    def mended(self, count: int) -> None:
        self.mended_count += count

    def _note(self, what: str) -> None:
        self.stale_reason = None
        self.history.append(what)
        for key in self.fewest:
            self.fewest[key] = min(self.fewest[key], len(self.addresses(key)))

    def addresses(self, key: str) -> list[str]:
        """Return `address:port` of each endpoint of a service, in order; nothing where there is no such service."""
        service = self.services.get(key)
        if service is None:
            return []
        return sorted(
            f"{one.workload.address}:{number}" for one in service.endpoints for _, number in one.workload.ports
        )

    def watch_fewest(self) -> None:
        """Keep, from now on, the lowest number of endpoints that each service had."""
        self.fewest = {key: len(self.addresses(key)) for key in self.services}
