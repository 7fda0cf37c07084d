"""What of a Eureka cluster was reported, and what each read changes of it (pure but for the calls of the sink).

Nothing that was noted is lost where a read fails half-way: what is dirty stays so until it is reported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from isthmus.adapters.eureka.services import Services
from isthmus.adapters.eureka.state import Registry
from isthmus.adapters.kept import Kept
from isthmus.adapters.losses import Losses, looks_lost

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from isthmus.adapters.base import Sink
    from isthmus.adapters.eureka.records import EurekaRules, Reading
    from isthmus.adapters.eureka.state import Change
    from isthmus.registry.model import Refusal, Service

# So many services are built in a few milliseconds.
_AT_ONCE = 200
# A server looks at leases every 60 s, and tells of it for three minutes.
_EVICTIONS_WINDOW = 180.0


class View:
    """Keeps the registry and the services made of it; times are monotonic seconds."""

    def __init__(self, rules: EurekaRules) -> None:
        self._registry = Registry()
        self._evictions = Losses(_EVICTIONS_WINDOW)
        self._was_read = False
        self._empty_since: float | None = None
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

    def empty_for(self, readings: Iterable[Reading], now: float) -> float | None:
        """Return for how many seconds nothing was read since the start but registries without any instance.

        None: there is one, or was before.
        """
        if self._was_read or any(one.members or one.refused for one in readings):
            return None
        if self._empty_since is None:
            self._empty_since = now
        return now - self._empty_since

    def looks_lost(self, readings: Iterable[Reading]) -> bool:
        """Tell whether a full read lacks so much that the server may have lost it: all, or several and over 15 % (EU5).

        Counted are the instances that serve. One alone, unless it is all there was, may have left between two reads.
        """
        gone, known = self._registry.lost(readings), self._registry.serving
        return gone > 0 and (gone == known or looks_lost(gone, known))

    def evicts_many(self, readings: Iterable[Reading], now: float) -> bool:
        """Tell whether with this delta, which is to be applied next, the server has ended too many leases (EU6).

        A server without self-preservation that cannot be reached by its clients ends the leases of all of them, 15 % a
        round. One that leaves says so itself, and is believed however many do.
        """
        evicted = self._registry.evicted(readings)
        return self._evictions.are_many(evicted, self._registry.serving if evicted else 0, now)

    def forget_told(self) -> None:
        """Let the next full read outweigh all that deltas told (Registry.forget_told)."""
        self._registry.forget_told()

    def replace(self, readings: Iterable[Reading], now: float) -> int:
        """Take a full read; return how many instances are other than before."""
        readings = list(readings)
        self._was_read = True
        self._dirty_applications.update(self._refused, (one.name for one in readings))
        return self._note(self._registry.replace(readings, now))

    def apply(self, readings: Iterable[Reading], now: float) -> float | None:
        """Take a delta; return when the server last changed what is new in it, in seconds since 1970."""
        changes = self._registry.apply(readings, now)
        self._note(changes)
        return max((one.after.version[0] / 1000 for one in changes if one.after is not None), default=None)

    def build(self, now: float) -> Iterator[None]:
        """Build the services that the reads concern, which a report needs; it stops between some and the next."""
        for count, name in enumerate(sorted(self._dirty_services), start=1):
            for service in self._kept.take(name, self._services.read(name), now):
                self._changed[service.key] = service
            self._dirty_services.discard(name)
            if count % _AT_ONCE == 0:
                yield

    def report(self, sink: Sink, generation: int) -> None:
        """Report what changed since the last report, or that nothing did."""
        if not self._changed:
            sink.contact(generation)
        for service in self._changed.values():
            sink.put(generation, service)
        self._changed.clear()
        self._report_refused(sink, generation)

    def report_all(self, sink: Sink, generation: int, now: float) -> float | None:
        """Report everything as complete; return after how many seconds that is to be done again (Sink.sync)."""
        self._changed.clear()
        self._report_refused(sink, generation)
        # What has been empty for long is left out, and so withdrawn.
        self._kept.forget_long_empty(now)
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
