"""What of a Eureka cluster was reported, and what each read changes of it (pure but for the calls of the sink).

Nothing that was noted is lost where a read fails half-way: what is dirty stays so until it is reported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from isthmus.adapters.eureka.services import Services
from isthmus.adapters.eureka.state import Registry
from isthmus.adapters.kept import Kept

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from isthmus.adapters.base import Sink
    from isthmus.adapters.eureka.records import EurekaRules, Reading
    from isthmus.adapters.eureka.state import Change
    from isthmus.registry.model import Refusal, Service

# The share of instances that a server in good health does not lose at once: Eureka's own figure (G4).
_LOST_SHARE = 0.15
# So many services are built in a few milliseconds.
_AT_ONCE = 200


class View:
    """Keeps the registry and the services made of it; times are monotonic seconds."""

    def __init__(self, rules: EurekaRules) -> None:
        self._registry = Registry()
        self._services = Services(rules)
        self._kept: Kept[str] = Kept()
        self._refused: dict[str, tuple[Refusal, ...]] = {}
        self._dirty_services: set[str] = set()
        self._changed: dict[str, Service] = {}
        self._dirty_applications: set[str] = set()

    @property
    def hashcode(self) -> str:
        """What the server's `apps__hashcode` has to be for both to know the same (EU2)."""
        return self._registry.hashcode

    def looks_lost(self, readings: Iterable[Reading]) -> bool:
        """Tell whether a full read lacks so much that the server may have lost it: all, or several and over 15 % (EU5).

        One instance alone, unless it is all there was, may have left between two reads.
        """
        gone, known = self._registry.vanished(readings), len(self._registry)
        return gone > 0 and (gone == known or (gone > 1 and gone > known * _LOST_SHARE))

    def replace(self, readings: Iterable[Reading], now: float) -> int:
        """Take a full read; return how many instances are other than before."""
        readings = list(readings)
        self._dirty_applications.update(self._refused, (one.name for one in readings))
        return self._note(self._registry.replace(readings, now))

    def apply(self, readings: Iterable[Reading], now: float) -> None:
        """Take a delta."""
        self._note(self._registry.apply(readings, now))

    def build(self, now: float) -> Iterator[None]:
        """Build the services that the reads concern, which a report needs; it stops between some and the next."""
        for count, name in enumerate(sorted(self._dirty_services), start=1):
            for service in self._kept.take(name, self._services.read(name), now):
                self._changed[service.key] = service
            self._dirty_services.discard(name)
            if count % _AT_ONCE == 0:
                yield

    def report(self, sink: Sink, generation: int) -> None:
        """Report what changed since the last report."""
        for service in self._changed.values():
            sink.put(generation, service)
        self._changed.clear()
        self._report_refused(sink, generation)

    def report_all(self, sink: Sink, generation: int, now: float) -> float | None:
        """Report everything as complete; return after how many seconds that is to be done again (Sink.sync)."""
        self._changed.clear()
        self._report_refused(sink, generation)
        # What has been empty for long is left out, and so withdrawn.
        self._kept.drop_long_empty(now)
        return sink.sync(generation, self._kept.everything())

    def _note(self, changes: list[Change]) -> int:
        self._dirty_services |= self._services.take(changes)
        self._dirty_applications.update(change.application for change in changes)
        return len(changes)

    def _report_refused(self, sink: Sink, generation: int) -> None:
        for application in sorted(self._dirty_applications):
            refused = self._registry.refused(application)
            if refused != self._refused.get(application, ()):
                sink.refuse(generation, application, refused)
            if refused:
                self._refused[application] = refused
            else:
                self._refused.pop(application, None)
        self._dirty_applications.clear()
