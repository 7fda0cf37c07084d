"""ServiceEntry to the exact bytes of one resource, once, when it changes.

The version of a resource is the hash of its content, so that replicas and restarts give equal versions and istiod sees
no change where there is none; equal content means equal bytes because every map is written in order (G7).
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

from google.protobuf.timestamp_pb2 import Timestamp
from msgspec import Struct

from isthmus.mcp.frames import any_message, delta_resource, field
from isthmus.protos import mcp_pb2, networking_pb2

if TYPE_CHECKING:
    from isthmus.registry.model import ServiceEntry, WorkloadEntry

RESOURCE_TYPE = "type.googleapis.com/istio.mcp.v1alpha1.Resource"
# istiod knows no other message: `networking.istio.io/v1` is a name for the same one (istio.md finding 1).
SERVICE_ENTRY_TYPE = "type.googleapis.com/istio.networking.v1alpha3.ServiceEntry"

# Of two resources with one host istiod takes the older: ours must be younger than any that a user wrote, and the same
# in every replica (G7, T04). 2100-01-01.
CREATE_TIME = 4_102_444_800


class Frame(Struct, frozen=True, gc=False):
    """One resource as it goes out: `sotw` is field 2 of a DiscoveryResponse, and the inside of it an Any."""

    name: str
    version: str
    sotw: bytes
    any_start: int

    @property
    def delta(self) -> bytes:
        """Field 2 of a DeltaDiscoveryResponse."""
        return delta_resource(self.name, self.version, self.sotw[self.any_start :])


def encode_service_entry(entry: ServiceEntry, create_time: int = CREATE_TIME) -> Frame:
    """Encode one resource. Raises UnicodeEncodeError: a text holds a lone surrogate, which no policy lets through."""
    body = networking_pb2.ServiceEntry(
        hosts=entry.hosts,
        addresses=entry.addresses,
        ports=[
            networking_pb2.ServicePort(
                number=port.number, protocol=port.protocol, name=port.name, target_port=port.target_port
            )
            for port in entry.ports
        ],
        location=entry.location,
        resolution=entry.resolution,
        endpoints=[encode_workload(endpoint) for endpoint in entry.endpoints],
        export_to=entry.export_to,
        subject_alt_names=entry.subject_alt_names,
        workload_selector=_selector(entry),
    )
    content = any_message(SERVICE_ENTRY_TYPE, body.SerializeToString(deterministic=True))
    metadata = mcp_pb2.Metadata(
        name=f"{entry.namespace}/{entry.name}",
        create_time=Timestamp(seconds=create_time),
        labels=dict(entry.labels),
        annotations=dict(entry.annotations),
    )
    return encode_resource(metadata, content)


def encode_resource(metadata: mcp_pb2.Metadata, content: bytes) -> Frame:
    """Wrap an encoded body (an Any) and its metadata, whose version this sets, into a frame."""
    version = content_version(metadata.SerializeToString(deterministic=True), content)
    metadata.version = version
    resource = field(1, metadata.SerializeToString(deterministic=True)) + field(2, content)
    any_bytes = any_message(RESOURCE_TYPE, resource)
    sotw = field(2, any_bytes)
    return Frame(metadata.name, version, sotw, len(sotw) - len(any_bytes))


def encode_removal(name: str, revision: str) -> bytes:
    """Encode that a resource is gone as Slime's istiod reads it: field 2 of a response, a resource without a body.

    It carries the client's revision: without one that passes, Slime's client drops the news of the removal (slime.md
    2.2 rule 4).
    """
    labels = {"istio.io/rev": revision} if revision else {}
    metadata = mcp_pb2.Metadata(name=name, create_time=Timestamp(seconds=CREATE_TIME), labels=labels)
    return field(2, any_message(RESOURCE_TYPE, field(1, metadata.SerializeToString(deterministic=True))))


def encode_workload(workload: WorkloadEntry) -> networking_pb2.WorkloadEntry:
    """Return an endpoint as Istio's message."""
    return networking_pb2.WorkloadEntry(
        address=workload.address,
        ports=dict(workload.ports),
        labels=dict(workload.labels),
        network=workload.network,
        locality=workload.locality,
        weight=workload.weight,
        service_account=workload.service_account,
    )


def content_version(*parts: bytes) -> str:
    """Return the version of a content: sixteen hexadecimal digits, never empty, never a counter."""
    digest = blake2b(digest_size=8)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _selector(entry: ServiceEntry) -> networking_pb2.WorkloadSelector | None:
    if entry.workload_selector is None:
        return None
    return networking_pb2.WorkloadSelector(labels=dict(entry.workload_selector))
