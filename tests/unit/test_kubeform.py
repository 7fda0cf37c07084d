"""Kubernetes documents to the model and back."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from isthmus.adapters.yamldoc import read_documents
from isthmus.registry.errors import RecordError
from isthmus.registry.kubeform import (
    WorkloadEntryDocument,
    document_from_entry,
    entry_from_document,
    expand,
)
from isthmus.registry.model import Port, ServiceEntry, WorkloadEntry, pairs

TEXT = st.text(max_size=12)
TEXTS = st.lists(TEXT, max_size=3).map(tuple)
MAPS = st.dictionaries(TEXT, TEXT, max_size=3).map(pairs)
NUMBERS = st.integers(0, 2**32 - 1)
PORTS = st.builds(Port, NUMBERS, TEXT, TEXT, NUMBERS)
WORKLOADS = st.builds(
    WorkloadEntry,
    address=TEXT,
    ports=st.dictionaries(TEXT, NUMBERS, max_size=3).map(lambda ports: tuple(sorted(ports.items()))),
    labels=MAPS,
    weight=NUMBERS,
    locality=TEXT,
    network=TEXT,
    service_account=TEXT,
)
SERVICES = st.builds(
    ServiceEntry,
    namespace=TEXT,
    name=TEXT,
    hosts=TEXTS,
    addresses=TEXTS,
    ports=st.lists(PORTS, max_size=3).map(tuple),
    location=st.sampled_from(["MESH_EXTERNAL", "MESH_INTERNAL"]),
    resolution=st.sampled_from(["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"]),
    endpoints=st.lists(WORKLOADS, max_size=3).map(tuple),
    workload_selector=st.none() | MAPS,
    export_to=TEXTS,
    subject_alt_names=TEXTS,
    labels=MAPS,
    annotations=MAPS,
)


def service(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": "orders", "namespace": "shop"},
        "spec": {"hosts": ["orders.legacy"], **spec},
    }


@given(SERVICES)
def test_a_service_entry_comes_back_as_it_went(entry: ServiceEntry) -> None:
    document = document_from_entry(entry)
    assert entry_from_document(document) == entry
    assert entry_from_document(json.loads(json.dumps(document))) == entry


@given(SERVICES)
def test_a_service_entry_survives_yaml(entry: ServiceEntry) -> None:
    text = yaml.safe_dump(document_from_entry(entry))
    assert [entry_from_document(document.value) for document in read_documents(text)] == [entry]


def test_the_document_is_what_kubectl_takes() -> None:
    entry = ServiceEntry(
        "shop",
        "orders",
        ("orders.legacy",),
        ports=(Port(80, "http", "HTTP", 8080),),
        endpoints=(WorkloadEntry("10.0.0.1", service_account="orders"),),
        export_to=(".",),
        subject_alt_names=("spiffe://a/b",),
        labels=(("app", "orders"),),
    )
    assert document_from_entry(entry) == {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": "orders", "namespace": "shop", "labels": {"app": "orders"}},
        "spec": {
            "hosts": ["orders.legacy"],
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP", "targetPort": 8080}],
            "location": "MESH_INTERNAL",
            "resolution": "STATIC",
            "endpoints": [{"address": "10.0.0.1", "serviceAccount": "orders"}],
            "exportTo": ["."],
            "subjectAltNames": ["spiffe://a/b"],
        },
    }


def test_what_is_left_out_has_the_default_of_istio() -> None:
    document = service()
    del document["metadata"]["namespace"]
    assert entry_from_document(document) == ServiceEntry(
        "default", "orders", ("orders.legacy",), location="MESH_EXTERNAL", resolution="NONE"
    )


@pytest.mark.parametrize("version", ["v1", "v1beta1", "v1alpha3"])
def test_every_served_version_is_read(version: str) -> None:
    document = service() | {"apiVersion": f"networking.istio.io/{version}"}
    assert entry_from_document(document) == entry_from_document(service())


def test_what_kubernetes_adds_is_not_read() -> None:
    document = service(endpoints=None, ports=None, workloadSelector=None)
    document["metadata"] |= {"uid": "1", "creationTimestamp": None, "managedFields": [{"a": 1}], "labels": None}
    document["status"] = {"conditions": []}
    assert entry_from_document(document) == entry_from_document(service())


def test_a_workload_entry_is_read_with_its_metadata() -> None:
    document = {
        "apiVersion": "networking.istio.io/v1beta1",
        "kind": "WorkloadEntry",
        "metadata": {"name": "vm1", "namespace": "shop", "labels": {"b": "2", "a": "1"}, "annotations": {"x": "y"}},
        "spec": {"address": "10.0.0.1", "ports": {"http": 80, "grpc": 81}, "labels": {"app": "orders"}, "weight": 3},
    }
    assert entry_from_document(document) == WorkloadEntryDocument(
        "shop",
        "vm1",
        WorkloadEntry("10.0.0.1", (("grpc", 81), ("http", 80)), (("app", "orders"),), weight=3),
        labels=(("a", "1"), ("b", "2")),
        annotations=(("x", "y"),),
    )


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (service(ports=[{"number": "80"}]), "spec.ports[0].number: expected `int`, got `str`"),
        (service(ports=[{"number": True}]), "spec.ports[0].number: expected `int`, got `bool`"),
        (service(hosts="a.b"), "spec.hosts: expected `array`, got `str`"),
        (service(endpoints=[None]), "spec.endpoints[0]: expected `object`, got `null`"),
        (service(endpoints=[{"labels": {"a": 1}}]), "spec.endpoints[0].labels[...]: expected `str`, got `int`"),
        (service(endpoints=[{"labels": {"a": None}}]), "spec.endpoints[0].labels[...]: expected `str`, got `null`"),
        (service(workloadSelector={"labels": {1: "a"}}), "spec.workloadSelector.labels (a key): expected `str`"),
        (service(resolution="static"), "spec.resolution: invalid enum value 'static'"),
        (service(target_port=1), "spec.target_port: there is no such field"),
        (service(ports=[{"targetport": 1}]), "spec.ports[0].targetport: there is no such field"),
        (service() | {"kind": "Service"}, "kind: invalid value 'Service'"),
        (service() | {"kind": ["List"]}, "kind: expected `str`, got `list`"),
        (service() | {"kind": "List", "items": {}}, "kind: invalid value 'List'"),
        (service() | {"apiVersion": "v1"}, "apiVersion: invalid enum value 'v1'"),
        (service() | {"metadata": {}}, "metadata: object missing required field `name`"),
        (service() | {"extra": 1}, "extra: there is no such field"),
        ({}, "object missing required field `kind`"),
        (None, "expected `object`, got `null`"),
        ("text", "expected `object`, got `str`"),
        ([], "expected `object`, got `array`"),
        ({1: 2}, "object missing required field `kind`"),
    ],
)
def test_G8_what_is_no_such_document_is_named_by_its_path(document: object, reason: str) -> None:
    with pytest.raises(RecordError) as caught:
        entry_from_document(document)
    assert caught.value.reason.startswith(reason)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["apiVersion", "kind", "metadata", "spec", "ports", "items"]) | st.integers() | TEXT,
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


def entry_or_reason(document: object) -> str:
    try:
        return entry_from_document(document).name
    except RecordError as error:
        return error.reason


@given(ANYTHING, st.sampled_from(["metadata", "spec", "kind", "apiVersion", "status"]))
def test_G8_no_document_breaks_the_reader(anything: object, field: str) -> None:
    for document in (anything, service() | {field: anything}, service(ports=anything, endpoints=[anything])):
        assert all(entry_or_reason(single) for _, single in expand(document))


def test_lists_are_expanded_with_their_paths() -> None:
    listed = {"apiVersion": "v1", "kind": "List", "items": ["a", {"kind": "ServiceEntryList", "items": ["b"]}]}
    assert expand(listed) == [("items[0]", "a"), ("items[1].items[0]", "b")]
    assert expand([listed, "c"]) == [("[0].items[0]", "a"), ("[0].items[1].items[0]", "b"), ("[1]", "c")]
    assert expand("d") == [("", "d")]
    assert expand([]) == []
