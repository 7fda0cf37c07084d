"""The contract of an adapter: read one registry, report whole services, never touch the catalog.

An adapter is built from its options by `open_adapter` and then runs until it is cancelled. It reports through its
`Sink`; each call carries the generation of the connection that the data was read through, so that a late answer of an
older connection is dropped before it can do harm (G5). An error is never an empty list (G1): it is `stale`, or a
`SourceError` that ends `run` and brings the supervisor (adapters/supervise.py) to try again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterable

    from isthmus.registry.model import Refusal, Service


class SourceOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """What every source is told by the operator, whatever its kind.

    name: how pages, metrics and logs call this source; unique in the configuration.
    namespace: Kubernetes namespace that its services are published in.
    required: whether ServiceEntry stays silent until this source was read once (G2); a source that is not required
        is waited for only as long as the start-up grace lasts.
    settle: seconds after a reconnect in which nothing is withdrawn (G4): longer than the registry takes to end the
        sessions of its clients and they to register anew.
    vip: `auto` gives each host a stable address of its own, `none` leaves `addresses` empty.
    labels: registry metadata that may go out as endpoint labels: metadata key -> label key. Nothing else does (T09).
    locality: `region/zone/subzone` of every endpoint of this source; empty: not said.
    network: Istio network of every endpoint of this source; empty: not said.
    export_to: namespaces that see the services; empty: Istio's default, all.
    revisions: Istio revisions that get the services, and no other subscriber does; empty: every subscriber (X60).
    allow: CIDRs whose addresses pass although the house rules refuse them (loopback, link-local and so on: T05).
    """

    name: str = ""
    namespace: str = "default"
    required: bool = True
    settle: float = 60.0
    vip: str = "auto"
    labels: dict[str, str] = {}
    locality: str = ""
    network: str = ""
    export_to: tuple[str, ...] = ()
    revisions: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()


class Sink(Protocol):
    """Where an adapter reports; every call returns at once and may be made from the event loop only."""

    def connected(self) -> int:
        """Begin a new generation, at every connection; what older ones still report is dropped."""

    def sync(self, generation: int, services: Iterable[Service]) -> float | None:
        """Report one complete, successful, fresh read: these services and no others.

        Return after how many seconds another such read is needed to release what the guard holds (G4); None: none is.
        """

    def put(self, generation: int, service: Service) -> None:
        """Report one service as a fresh read of it shows it, with all of its endpoints."""

    def drop(self, generation: int, key: str) -> None:
        """Report that one service is really gone, by a fresh read that lacks it."""

    def refuse(self, generation: int, scope: str, refusals: tuple[Refusal, ...]) -> None:
        """Report the records under one node that belong to no service; replaces the last report of that node."""

    def contact(self, generation: int) -> None:
        """Report that the source answered, and that nothing is new; after a `sync` of the same generation."""

    def note(self, generation: int, notes: tuple[str, ...]) -> None:
        """Say what is worth knowing of the source and is no failure; replaces what was said before."""

    def stale(self, generation: int, reason: str) -> None:
        """Report that contact is lost: the state stays and is marked with its age (G3)."""

    def progress(self, done: int, total: int) -> None:
        """Report how far a first read has come, in the registry's own units."""

    def mended(self, count: int) -> None:
        """Count differences that a reconcile found and no watch had told: 0 in a healthy system (G6)."""


class Adapter(Protocol):
    """One source of truth."""

    async def run(self, sink: Sink) -> None:
        """Watch the registry until cancelled; raise `SourceError` when it has to be run anew.

        The same object is run again, so what it remembers survives its own failures.
        """
