"""What a service is: the values that adapters report and that istiod is told.

Left of the catalog stand `Service` and `Endpoint`, what one source says; right of it `ServiceEntry`, the merged
resource in Istio's own terms. All values are immutable and free of cycles, so they can be shared between readers and
left out of garbage collection (`gc=False`; measured in docs/decisions/0002-model.md).

Maps are tuples of pairs, sorted by key: equal content is then an equal value, and equal bytes on the wire (G7).
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Pairs = tuple[tuple[str, str], ...]
PortMap = tuple[tuple[str, int], ...]
Resolution = Literal["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"]
Location = Literal["MESH_EXTERNAL", "MESH_INTERNAL"]


class Port(Struct, frozen=True, gc=False):
    """A port of a service, as its clients see it: `number` 1..65535, `name` unique within the service."""

    number: int
    name: str
    protocol: str = "TCP"
    target_port: int = 0


class WorkloadEntry(Struct, frozen=True, gc=False):
    """One address that serves; field for field Istio's `WorkloadEntry`.

    `ports` maps a service port's name to the number at this address; `weight` 0 means "not said", which istiod reads
    as 1; `locality` is `region/zone/subzone`.
    """

    address: str
    ports: PortMap = ()
    labels: Pairs = ()
    weight: int = 0
    locality: str = ""
    network: str = ""
    service_account: str = ""


class ServiceEntry(Struct, frozen=True, gc=False):
    """One resource for istiod: what is served under (namespace, host), merged over all sources."""

    namespace: str
    name: str
    hosts: tuple[str, ...]
    addresses: tuple[str, ...] = ()
    ports: tuple[Port, ...] = ()
    location: Location = "MESH_INTERNAL"
    resolution: Resolution = "STATIC"
    endpoints: tuple[WorkloadEntry, ...] = ()
    workload_selector: Pairs | None = None
    export_to: tuple[str, ...] = ()
    subject_alt_names: tuple[str, ...] = ()
    labels: Pairs = ()
    annotations: Pairs = ()


class Endpoint(Struct, frozen=True, gc=False):
    """A workload together with the raw record it was read from, which `explain` shows."""

    workload: WorkloadEntry
    record: str = ""


class Refusal(Struct, frozen=True, gc=False):
    """A record, endpoint or label that is not served; `code` is stable, `reason` is for people."""

    code: str
    reason: str
    record: str = ""


class Service(Struct, frozen=True, gc=False):
    """What one source says of one service.

    `key` is the source's own name of it, unique within the source; `identity` is the name that the same service has
    in any source: two services that share a host and differ in identity are a conflict and never merged.
    `usual_weight` is what an endpoint whose weight is not said is worth on the scale of the source's weights.
    `revisions` are the Istio revisions that get it; empty: every subscriber does.
    """

    key: str
    identity: str
    namespace: str
    host: str
    ports: tuple[Port, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    refused: tuple[Refusal, ...] = ()
    export_to: tuple[str, ...] = ()
    usual_weight: int = 1
    revisions: tuple[str, ...] = ()


def pairs(mapping: dict[str, str]) -> Pairs:
    """Return a mapping in the model's form: pairs sorted by key."""
    return tuple(sorted(mapping.items()))
