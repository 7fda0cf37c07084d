"""One connection's life: everything is read, then what changes is followed until the server fails.

Four questions wait at the server: for changes of the services, of the nodes, and of the checks that do not pass. Their
answers are hints at what to read again (G6); a service is taken away only by an answer about itself that is complete.
A change that no answer names, such as that of a port, is looked for: first where checks came and went, then in a sweep
of all services; and as several changes may wake but once, a sweep follows every wake sooner or later.
"""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar

from isthmus.adapters.consul.client import ALL_CHECKS, CRITICAL_CHECKS, NODES, SERVICES, WARNING_CHECKS
from isthmus.adapters.consul.pacing import LONGEST_REST, Bucket, Sweeps, rest_after, rest_after_work
from isthmus.adapters.consul.reader import TOLD_GRACE, Reader, require_catalogue
from isthmus.adapters.consul.records import OWN_SERVICE
from isthmus.adapters.consul.reports import Reports
from isthmus.adapters.consul.view import Doubt
from isthmus.adapters.consul.wire import CRITICAL, WARNING
from isthmus.adapters.losses import Losses, looks_lost
from isthmus.adapters.tasks import first_error
from isthmus.registry.errors import SourceUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from isthmus.adapters.base import Sink
    from isthmus.adapters.consul.client import ConsulClient, Page, Told
    from isthmus.adapters.consul.options import ConsulOptions
    from isthmus.adapters.consul.records import ConsulRules
    from isthmus.adapters.consul.view import Taken, View
    from isthmus.adapters.consul.wire import Check, Key, Node

_log = logging.getLogger("isthmus.consul")

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")
Names = dict[str, frozenset[str]]
Checks = dict[tuple[str, str], "Check"]

_PROBE_SECONDS: Final = 5.0
_QUIET_WITHIN: Final = 2.0
# In which what goes counts as going at once.
_LOSS_WINDOW: Final = 60.0
# Answers to one question that follow each other without a rest (CO4).
_BURST: Final = 2
_UNCHANGED_REST: Final = 0.25
_HIDDEN = "ACLs hide some services from this token; what it never saw is not served"


class Restored(SourceUnavailable):
    """The server's index went backwards: it has another past, such as that of a snapshot (CO1)."""


class Watch:
    """What one server shows; times are the loop's."""

    def __init__(
        self, client: ConsulClient, sink: Sink, view: View, rules: ConsulRules, options: ConsulOptions
    ) -> None:
        self._client = client
        self._sink = sink
        self._view = view
        self._rules = rules
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._reader = Reader(client, view, rules, options)
        self._reports = Reports(sink, view)
        self._losses = Losses(_LOSS_WINDOW)
        self._held_until = float("-inf")
        self._sweeps = Sweeps(self._loop.time() + self._next_reconcile())
        self._sweeps_changed = asyncio.Event()
        # The checks that do not pass, by status, and the services, as last told.
        self._unhealthy: dict[Page[Checks], Mapping[Key, Check]] = {}
        self._names: Names = {}
        # When, and at which index, services last changed.
        self._woke = asyncio.Event()
        self._woke_at = float("-inf")
        self._woke_index = 0
        self._hinted = False

    async def run(self) -> None:
        """Follow the server until it fails. Raises SourceUnavailable and SourceDenied; Restored: ask it anew (CO1)."""
        async with first_error(), asyncio.TaskGroup() as tasks:
            tasks.create_task(self._probe())
            services, nodes = await self._first(SERVICES), await self._first(NODES)
            critical, warning = await self._first(CRITICAL_CHECKS), await self._first(WARNING_CHECKS)
            self._take_names(services)
            await self._reader.read_all(self._all_names(), self._sink.progress)
            self._unhealthy = {CRITICAL_CHECKS: critical.content, WARNING_CHECKS: warning.content}
            self._foresee()
            # Not before: one that failed would only prolong the settling time.
            self._reports.begin()
            await self._report_all()
            tasks.create_task(self._reader.run(self._after))
            tasks.create_task(self._follow(SERVICES, services, self._on_services))
            tasks.create_task(self._follow(NODES, nodes, self._on_nodes))
            tasks.create_task(self._follow(CRITICAL_CHECKS, critical, self._on_checks(CRITICAL_CHECKS)))
            tasks.create_task(self._follow(WARNING_CHECKS, warning, self._on_checks(WARNING_CHECKS)))
            tasks.create_task(self._explain())
            tasks.create_task(self._sweep())

    async def _first(self, page: Page[T]) -> Told[T]:
        told = await self._client.read(page)
        if fault := told.trust.age_fault(self._options.max_stale):
            raise SourceUnavailable(f"{self._client.url}: {fault}")
        return told

    async def _probe(self) -> None:
        """Ask for the leader now and then: a frozen server would go unnoticed while a question waits."""
        while True:
            await asyncio.sleep(_PROBE_SECONDS * random.uniform(0.9, 1.1))  # noqa: S311 (jitter)
            await self._client.check_leader()
            self._reports.contact()

    # What wakes.

    async def _follow(self, page: Page[T], told: Told[T], changed: Callable[[Told[T], Told[T]], None]) -> None:
        bucket = Bucket(_BURST)
        while True:
            news = await self._client.next(page, told.trust.index)
            if news.trust.index <= told.trust.index:
                # A restored snapshot wakes a question with what was before it; asked on from there, Consul would keep
                # silent about it for the whole `wait`. One that does not wait shows what there is now.
                news = await self._client.read(page)
            if news.trust.index < told.trust.index:
                raise Restored(f"{self._client.url} went back to an older state: all of it is read again")
            changed(told, news)
            # What wakes a question about checks all the time, and is no change of theirs, is an output.
            idle = _UNCHANGED_REST if page.wakes_idly and told.content == news.content else 0.0
            told = news
            await asyncio.sleep(bucket.wait(self._loop.time(), max(idle, rest_after(told.size))))

    def _on_services(self, before: Told[Names], now: Told[Names]) -> None:
        if now.trust.index == before.trust.index and now.content == before.content:
            return
        self._take_names(now)
        if now.trust.is_complete(self._options.max_stale):
            self._expect_losses(self._view.served_of(before.content.keys() - now.content.keys()))
        self._reader.add(_differing(before.content, now.content) - {OWN_SERVICE})
        self._woke_index, self._woke_at = now.trust.index, self._loop.time()
        self._woke.set()

    def _expect_losses(self, count: int) -> None:
        """Begin to settle before anything is read where a page shows that much is lost (G4)."""
        if looks_lost(count, self._view.served):
            self._begin_anew()

    def _take_names(self, told: Told[Names]) -> None:
        require_catalogue(told, self._options, known=bool(self._view.names))
        self._names = told.content
        self._view.see_names(told.content.keys() if told.trust.is_complete(self._options.max_stale) else None)
        self._reports.hidden = _HIDDEN if told.trust.filtered else ""

    def _on_nodes(self, before: Told[dict[str, Node]], now: Told[dict[str, Node]]) -> None:
        if now.trust.is_complete(self._options.max_stale):
            self._expect_losses(self._view.served_on(before.content.keys() - now.content.keys()))
        changed = _differing(before.content, now.content)
        self._reader.add(name for node in changed for name in self._view.on_node(node))
        self._ask_if_stale(changed)

    def _on_checks(self, page: Page[Checks]) -> Callable[[Told[Checks], Told[Checks]], None]:
        def changed(before: Told[Checks], now: Told[Checks]) -> None:
            keys = _differing(before.content, now.content)
            if keys:
                self._unhealthy[page] = now.content
                self._foresee()
            checks = [one[key] for key in keys for one in (before.content, now.content) if key in one]
            self._reader.add({name for check in checks for name in self._view.concerned(check)} - {OWN_SERVICE})
            self._ask_if_stale(keys)
            if not keys and before.trust.index < now.trust.index:
                # Checks that pass came or went, as with an instance: services wake somewhat later.
                self._hinted = True
                self._woke.set()

        return changed

    def _foresee(self) -> None:
        pages = {CRITICAL: CRITICAL_CHECKS, WARNING: WARNING_CHECKS}
        unhealthy = [self._unhealthy[page] for status, page in pages.items() if status not in self._rules.healthy]
        self._view.foresee(check for checks in unhealthy for check in checks.values())

    def _ask_if_stale(self, changed: object) -> None:
        """Have all read later where another server, which may not know of it yet, may answer what is read now."""
        if changed and self._options.consistency == "stale":
            self._ask_for_sweep(soon=False)

    # What is looked for.

    async def _explain(self) -> None:
        """Find out what changed where no answer names it.

        A change that was read has the index of the wake. Else an instance may have come or gone, which the checks show
        at once where it has any; and if they do not, all services are read.
        """
        bucket = Bucket(_BURST)
        explained = self._woke_index
        while True:
            await self._woke.wait()
            self._woke.clear()
            rest = 0.0
            if self._hinted or not await self._is_explained(self._woke_index):
                self._hinted = False
                rest = rest_after_work(await self._compare_checks())
            if self._woke_index != explained:
                explained = self._woke_index
                self._ask_for_sweep(soon=not await self._is_explained(explained))
            if rest:
                await asyncio.sleep(bucket.wait(self._loop.time(), rest))

    async def _compare_checks(self) -> float:
        """Have the services read of which instances with a check came or went; return how many seconds that took."""
        began = self._loop.time()
        try:
            checks = await self._client.read(ALL_CHECKS)
        except SourceUnavailable as error:
            # Of all checks that would be too much, or too slow: all services tell the same, one by one. Where it is the
            # server that fails, the other questions and the probe notice.
            _log.debug("%s: not by its checks: %s", self._options.name, error)
            self._ask_for_sweep(soon=True)
            return LONGEST_REST
        self._reader.add(self._view.differing(checks.content) - {OWN_SERVICE})
        return self._loop.time() - began

    async def _is_explained(self, index: int) -> bool:
        """Tell whether what changed at an index has been read, when what is to be read now is."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_QUIET_WITHIN):
                await self._reader.quiet()
        return self._reader.explains(index)

    def _ask_for_sweep(self, *, soon: bool) -> None:
        lasts = len(self._all_names()) / self._options.requests
        self._sweeps.ask(self._loop.time(), soon=soon, lasts=lasts)
        self._sweeps_changed.set()

    async def _sweep(self) -> None:
        """Read all services again when that is due, and report them as complete."""
        while True:
            await self._wait_for_sweep()
            began = self._loop.time()
            asked = self._sweeps.begin(began, self._next_reconcile())
            self._take_names(await self._client.read(SERVICES))
            if self._reports.hidden:
                self._view.see_nodes((await self._client.read(NODES)).content.keys())
            self._reader.sweep(self._all_names())
            await self._reader.swept()
            await self._report_all()
            if not asked:
                await self._count_mended(began)

    async def _wait_for_sweep(self) -> None:
        while (left := self._sweeps.at - self._loop.time()) > 0:
            self._sweeps_changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._sweeps_changed.wait()

    async def _count_mended(self, began: float) -> None:
        """Count what a sweep found that nobody asked for, unless its news was only on its way (G6)."""
        await asyncio.sleep(TOLD_GRACE)
        found = self._reader.untold()
        if found and self._woke_at < began - TOLD_GRACE:
            _log.warning("%s: re-reading mended %d services: %s", self._options.name, len(found), found[:5])
            self._sink.mended(len(found))

    def _all_names(self) -> set[str]:
        return (self._names.keys() | self._view.names) - {OWN_SERVICE}

    def _next_reconcile(self) -> float:
        return self._options.reconcile * random.uniform(0.9, 1.1)  # noqa: S311 (jitter)

    # What is reported.

    async def _after(self, taken: Taken, doubt: Doubt) -> None:
        if self._losses.are_many(taken.gone, self._view.served + taken.gone, self._loop.time()):
            self._begin_anew()
        if doubt is Doubt.OLD:
            self._ask_for_sweep(soon=False)
        await self._reports.publish()

    def _begin_anew(self) -> None:
        """Begin a generation within this connection, in which the guard holds what is lacking (G4)."""
        now = self._loop.time()
        if now < self._held_until:
            # It is held already, and one that loses more and more would be held for ever.
            return
        self._held_until = now + self._options.settle
        _log.warning(
            "%s: %s seems to have lost much of what it had; that is kept for the settling time",
            self._options.name,
            self._client.url,
        )
        self._reports.begin()
        self._ask_for_sweep(soon=True)

    async def _report_all(self) -> None:
        settled_in = await self._reports.publish_all()
        if settled_in is not None:
            self._sweeps.confirm(self._loop.time() + settled_in)
            self._sweeps_changed.set()


def _differing(before: Mapping[K, V], now: Mapping[K, V]) -> set[K]:
    """Return the keys whose values are not the same in both, or that one of the two lacks."""
    return {key for key in before.keys() | now.keys() if before.get(key) != now.get(key)}
