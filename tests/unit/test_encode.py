"""What goes out for a ServiceEntry: equal content is equal bytes, and says what istiod expects (G7)."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING, TypeVar

import pytest
from google.protobuf.any_pb2 import Any
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from isthmus.mcp.encode import Frame, content_version, encode_service_entry
from isthmus.protos import mcp_pb2, networking_pb2, xds_pb2
from isthmus.registry.model import Port, ServiceEntry, WorkloadEntry, pairs

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

T = TypeVar("T")

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
PLAIN = st.text("abc-", min_size=1, max_size=4)
MAPS = st.dictionaries(TEXTS, TEXTS, max_size=4).map(pairs)
UINT32 = st.integers(0, 2**32 - 1)


def tuples(values: SearchStrategy[T]) -> SearchStrategy[tuple[T, ...]]:
    return st.lists(values, max_size=3).map(tuple)


WORKLOADS = st.builds(
    WorkloadEntry,
    address=TEXTS,
    ports=st.dictionaries(TEXTS, UINT32, max_size=3).map(lambda ports: tuple(sorted(ports.items()))),
    labels=MAPS,
    weight=UINT32,
    locality=TEXTS,
    network=TEXTS,
    service_account=TEXTS,
)
ENTRIES = st.builds(
    ServiceEntry,
    namespace=PLAIN,
    name=PLAIN,
    hosts=tuples(TEXTS),
    addresses=tuples(TEXTS),
    ports=tuples(st.builds(Port, number=UINT32, name=TEXTS, protocol=TEXTS, target_port=UINT32)),
    location=st.sampled_from(["MESH_EXTERNAL", "MESH_INTERNAL"]),
    resolution=st.sampled_from(["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"]),
    endpoints=tuples(WORKLOADS),
    workload_selector=st.none() | MAPS,
    export_to=tuples(TEXTS),
    subject_alt_names=tuples(TEXTS),
    labels=MAPS,
    annotations=MAPS,
)
ORDERS = ServiceEntry(
    namespace="legacy",
    name="orders.legacy",
    hosts=("orders.legacy",),
    addresses=("240.240.0.1",),
    ports=(Port(20880, "tcp-dubbo"),),
    endpoints=(WorkloadEntry("10.0.0.1", (("tcp-dubbo", 20880),), (("group", "a"), ("version", "1.0")), 3),),
    labels=(("a", "1"), ("b", "2")),
    annotations=(("isthmus.io/identity", "com.example.Orders"),),
)


def resource_of(frame: Frame) -> mcp_pb2.Resource:
    """Decode a frame as a client does."""
    (outer,) = xds_pb2.DiscoveryResponse.FromString(frame.sotw).resources
    assert outer.type_url == "type.googleapis.com/istio.mcp.v1alpha1.Resource"
    return mcp_pb2.Resource.FromString(outer.value)


def decoded(frame: Frame) -> ServiceEntry:
    """Return the resource that a client reads out of a frame."""
    resource = resource_of(frame)
    metadata = resource.metadata
    body = networking_pb2.ServiceEntry.FromString(resource.body.value)
    namespace, name = metadata.name.split("/")
    return ServiceEntry(
        namespace=namespace,
        name=name,
        hosts=tuple(body.hosts),
        addresses=tuple(body.addresses),
        ports=tuple(Port(port.number, port.name, port.protocol, port.target_port) for port in body.ports),
        location=networking_pb2.ServiceEntry.Location.Name(body.location),  # type: ignore[arg-type]
        resolution=networking_pb2.ServiceEntry.Resolution.Name(body.resolution),  # type: ignore[arg-type]
        endpoints=tuple(map(_workload, body.endpoints)),
        workload_selector=pairs(dict(body.workload_selector.labels)) if body.HasField("workload_selector") else None,
        export_to=tuple(body.export_to),
        subject_alt_names=tuple(body.subject_alt_names),
        labels=pairs(dict(metadata.labels)),
        annotations=pairs(dict(metadata.annotations)),
    )


def _workload(workload: networking_pb2.WorkloadEntry) -> WorkloadEntry:
    return WorkloadEntry(
        address=workload.address,
        ports=tuple(sorted(workload.ports.items())),
        labels=pairs(dict(workload.labels)),
        weight=workload.weight,
        locality=workload.locality,
        network=workload.network,
        service_account=workload.service_account,
    )


@given(ENTRIES)
def test_a_client_reads_what_was_written(entry: ServiceEntry) -> None:
    frame = encode_service_entry(entry)
    assert decoded(frame) == entry
    metadata = resource_of(frame).metadata
    assert (metadata.name, metadata.version) == (frame.name, frame.version)


@given(ENTRIES, ENTRIES, st.sampled_from(ServiceEntry.__struct_fields__))
def test_G7_the_version_is_other_where_the_content_is_other(
    entry: ServiceEntry, other: ServiceEntry, field: str
) -> None:
    near = replace(entry, **{field: getattr(other, field)})
    frame, changed = encode_service_entry(entry), encode_service_entry(near)
    assert (frame.version == changed.version) == (entry == near)
    assert (frame == changed) == (entry == near)


@given(ENTRIES, st.randoms(use_true_random=False))
def test_G7_the_order_of_a_map_is_nothing(entry: ServiceEntry, random: object) -> None:
    def shuffled(items: tuple[T, ...]) -> tuple[T, ...]:
        return tuple(random.sample(items, len(items)))  # type: ignore[attr-defined]

    mixed = replace(
        entry,
        labels=shuffled(entry.labels),
        annotations=shuffled(entry.annotations),
        workload_selector=shuffled(entry.workload_selector) if entry.workload_selector else entry.workload_selector,
        endpoints=tuple(
            replace(one, labels=shuffled(one.labels), ports=shuffled(one.ports)) for one in entry.endpoints
        ),
    )
    assert encode_service_entry(mixed) == encode_service_entry(entry)


@given(ENTRIES)
def test_both_forms_carry_the_same_bytes(entry: ServiceEntry) -> None:
    frame = encode_service_entry(entry)
    (outer,) = xds_pb2.DiscoveryResponse.FromString(frame.sotw).resources
    (resource,) = xds_pb2.DeltaDiscoveryResponse.FromString(frame.delta).resources
    assert resource.resource == outer
    assert (resource.name, resource.version) == (frame.name, frame.version)


@given(ENTRIES)
@settings(max_examples=20)
def test_G7_the_time_of_creation_is_the_same_for_all_and_younger_than_any_users(entry: ServiceEntry) -> None:
    created = resource_of(encode_service_entry(entry)).metadata.create_time
    assert created.ToJsonString() == "2100-01-01T00:00:00Z"


def test_the_types_are_those_that_istiod_knows() -> None:
    (outer,) = xds_pb2.DiscoveryResponse.FromString(encode_service_entry(ORDERS).sotw).resources
    assert outer.type_url == "type.googleapis.com/istio.mcp.v1alpha1.Resource"
    # v1alpha3 in every version of the type that is asked for (X65).
    body = resource_of(encode_service_entry(ORDERS)).body
    assert body.type_url == "type.googleapis.com/istio.networking.v1alpha3.ServiceEntry"


def test_the_bytes_are_protobufs() -> None:
    resource = resource_of(encode_service_entry(ORDERS))
    outer = Any(
        type_url="type.googleapis.com/istio.mcp.v1alpha1.Resource",
        value=resource.SerializeToString(deterministic=True),
    )
    expected = xds_pb2.DiscoveryResponse(resources=[outer]).SerializeToString()
    assert encode_service_entry(ORDERS).sotw == expected


def test_G7_an_upgrade_of_the_bridge_is_no_change_to_istiod() -> None:
    # These are on the wire: where they change, every istiod loads every resource anew. Then say so in the changelog.
    frame = encode_service_entry(ORDERS)
    assert frame.version == "ff23c330427ffbba"
    assert hashlib.sha256(frame.sotw).hexdigest() == "3adeedfe7d0f6c4904be9735547a8006e73565967fd8b73f17861eca32703dde"


PROGRAM = """
from isthmus.mcp.encode import encode_service_entry
from isthmus.registry.model import ServiceEntry, WorkloadEntry, pairs
labels = pairs({key: key.upper() for key in {"a", "b", "c", "d", "e", "f"}})
entry = ServiceEntry("reg", "a", ("a.reg",), endpoints=(WorkloadEntry("10.0.0.1", labels=labels),), labels=labels)
print(encode_service_entry(entry).sotw.hex())
"""


def test_X58_another_process_writes_the_same_bytes() -> None:
    outputs = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1] != ""


LONE_SURROGATE = "a\ud800"
UNUSABLE = {
    "name": replace(ORDERS, name=LONE_SURROGATE),
    "host": replace(ORDERS, hosts=(LONE_SURROGATE,)),
    "label": replace(ORDERS, labels=((LONE_SURROGATE, ""),)),
    "annotation": replace(ORDERS, annotations=(("a", LONE_SURROGATE),)),
    "address": replace(ORDERS, endpoints=(WorkloadEntry(LONE_SURROGATE),)),
    "endpoint label": replace(ORDERS, endpoints=(WorkloadEntry("10.0.0.1", labels=(("a", LONE_SURROGATE),)),)),
    "port": replace(ORDERS, ports=(Port(80, LONE_SURROGATE),)),
}


@pytest.mark.parametrize("entry", UNUSABLE.values(), ids=UNUSABLE)
def test_X62_a_text_that_is_not_unicode_is_an_error(entry: ServiceEntry) -> None:
    with pytest.raises(UnicodeEncodeError):
        encode_service_entry(entry)


def test_the_version_of_a_content_is_sixteen_digits() -> None:
    assert len(content_version(b"")) == 16
    assert int(content_version(b"a", b"b"), 16) != int(content_version(b"a", b"c"), 16)
