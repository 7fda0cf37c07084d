"""istiod's acceptance rules (G8): every verdict of Istio's own validators, and what the corpus leaves out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from isthmus.registry import acceptance
from isthmus.registry.kubeform import WorkloadEntryDocument, entry_from_document
from isthmus.registry.model import Pairs, Port, Resolution, ServiceEntry, WorkloadEntry

if TYPE_CHECKING:
    import ipaddress

CORPUS = json.loads((Path(__file__).parent.parent / "golden" / "istio_acceptance.json").read_text())
HTTP = Port(80, "http", "HTTP")
ENDPOINT = WorkloadEntry("10.0.0.1", ports=(("http", 8080),), labels=(("version", "v1"),))
SERVICE = ServiceEntry("reg", "orders", ("orders.legacy",), ports=(HTTP,), endpoints=(ENDPOINT,))


def reasons_of(row: dict[str, Any]) -> tuple[str, ...]:
    entry = entry_from_document(
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": row["kind"],
            "metadata": {
                "namespace": row["namespace"],
                "name": row["name"],
                "annotations": row.get("annotations", {}),
            },
            "spec": row["spec"],
        }
    )
    if isinstance(entry, WorkloadEntryDocument):
        metadata = acceptance.resource_reasons(entry.namespace, entry.name, entry.annotations)
        return metadata + acceptance.workload_entry_reasons(entry.workload)
    return acceptance.service_entry_reasons(entry)


def test_G8_the_corpus_is_whole() -> None:
    assert len(CORPUS) == len({row["id"] for row in CORPUS}) == 208
    assert {row["kind"] for row in CORPUS} == {"ServiceEntry", "WorkloadEntry"}
    assert {row["ok"] for row in CORPUS} == {True, False}


@pytest.mark.parametrize("row", CORPUS, ids=[row["id"] for row in CORPUS])
def test_G8_every_verdict_of_istio(row: dict[str, Any]) -> None:
    reasons = reasons_of(row)
    assert (reasons == ()) == row["ok"], reasons
    assert all(reasons)


# Beyond the corpus: each verdict below was given by the validators of Istio 1.29.1 too.
ACCEPTED_SERVICES = {
    "wildcard": replace(SERVICE, hosts=("*.orders",)),
    "wildcard before the root": replace(SERVICE, hosts=("*.",)),
    "digits alone, with endpoints": replace(SERVICE, hosts=("123",)),
    "digits before a trailing dot": replace(SERVICE, hosts=("orders.123.",)),
    "last part beyond 64 bits": replace(SERVICE, hosts=("orders.9223372036854775808",)),
    "host of 255": replace(SERVICE, hosts=("x." * 127 + "y",)),
    "mapped address": replace(SERVICE, endpoints=(WorkloadEntry("::ffff:10.0.0.1"),)),
    "zone with anything in it": replace(SERVICE, endpoints=(WorkloadEntry("fe80::1%a%b/c"),)),
    "elsewhere in a network": replace(SERVICE, endpoints=(WorkloadEntry("", network="vm"),)),
    "endpoint with socket": replace(SERVICE, endpoints=(WorkloadEntry("unix://@orders"),)),
    "heaviest": replace(SERVICE, endpoints=(WorkloadEntry("10.0.0.1", weight=2**32 - 1),)),
    "CIDR with host bits": replace(SERVICE, addresses=("10.1.1.5/24", "::/0", "2001:2::1/128")),
    "slashes in a zone": replace(SERVICE, addresses=("fe80::1%a/b/c",)),
    "selector without labels": replace(SERVICE, endpoints=(), workload_selector=()),
    "exported to nobody": replace(SERVICE, export_to=("~",)),
    "exported here and there": replace(SERVICE, export_to=(".", "Other")),
    "dynamic": replace(
        SERVICE,
        hosts=("*.orders",),
        endpoints=(),
        resolution="DYNAMIC_DNS",
        location="MESH_EXTERNAL",
    ),
}


@pytest.mark.parametrize("entry", ACCEPTED_SERVICES.values(), ids=ACCEPTED_SERVICES.keys())
def test_G8_accepted_though_odd(entry: ServiceEntry) -> None:
    assert acceptance.service_entry_reasons(entry) == ()


def refused(place: str, offender: str, **fields: Any) -> Any:
    return pytest.param(replace(SERVICE, **fields), place, offender, id=f"{place}-{offender}")


def refused_endpoint(place: str, offender: str, **fields: Any) -> Any:
    return refused(f"endpoints[1]: {place}", offender, endpoints=(ENDPOINT, replace(ENDPOINT, **fields)))


@pytest.mark.parametrize(
    ("entry", "place", "offender"),
    [
        refused("hosts[1]", "'_b.c'", hosts=("a.b", "_b.c")),
        refused("hosts[0]", "'*'", hosts=("*",)),
        refused("hosts[0]", "the name is empty", hosts=("",)),
        refused("hosts[0]", "longer than 255", hosts=("x." * 128,)),
        refused("hosts[0]", "'9223372036854775807'", hosts=("a.9223372036854775807",)),
        refused("hosts[0]", "'orders\\n'", hosts=("orders\n",)),
        refused("hosts[0]", "'b.é'", hosts=("b.é",)),
        refused("hosts[0]", "'*.a'", hosts=("*.a",), resolution="DNS", endpoints=()),
        refused("hosts[0]", "'123'", hosts=("123",), resolution="DNS_ROUND_ROBIN", endpoints=()),
        refused("hosts", "'TCP'", hosts=("a.b", "c.d"), ports=(HTTP, Port(81, "tcp"))),
        refused("addresses[0]", "'10.0.0.1/033'", addresses=("10.0.0.1/033",)),
        refused("addresses[0]", "'::/129'", addresses=("::/129",)),
        refused("addresses[0]", "'fe80::%a/64'", addresses=("fe80::%a/64",)),
        refused("addresses[0]", "'10.0.0.1/٣'", addresses=("10.0.0.1/٣",)),
        refused("addresses[1]", "'10.0.0.0/8'", addresses=("10.0.0.1", "10.0.0.0/8"), resolution="DNS"),
        refused("ports[0]", "'a_b'", ports=(Port(80, "a_b"),), endpoints=()),
        refused("ports[0]", "65536", ports=(Port(65536, "http"),)),
        refused("ports[0]", "'Dubbo'", ports=(Port(80, "http", "Dubbo"),)),
        refused("ports[0].targetPort", "-1", ports=(Port(80, "http", "HTTP", -1),)),
        refused("ports[1]", "name 'http'", ports=(HTTP, Port(81, "http"))),
        refused("ports[1]", "number 80", ports=(HTTP, Port(80, "other"))),
        refused("endpoints", "DNS_ROUND_ROBIN", endpoints=(ENDPOINT, ENDPOINT), resolution="DNS_ROUND_ROBIN"),
        refused("endpoints", "NONE", resolution="NONE"),
        refused("endpoints", "DYNAMIC_DNS", hosts=("*.a",), resolution="DYNAMIC_DNS", location="MESH_EXTERNAL"),
        refused("addresses", "DYNAMIC_DNS", addresses=("10.0.0.1",), resolution="DYNAMIC_DNS"),
        refused("hosts[0]", "'orders.legacy'", endpoints=(), resolution="DYNAMIC_DNS"),
        refused("ports[0]", "'GRPC'", ports=(Port(80, "grpc", "GRPC"),), resolution="DYNAMIC_DNS"),
        refused("location", "MESH_INTERNAL", resolution="DYNAMIC_DNS"),
        refused_endpoint("address", "'a.b'", address="a.b"),
        refused_endpoint("an address is needed", "", address=""),
        refused_endpoint("address", "'[::1]'", address="[::1]"),
        refused_endpoint("address", "'10.0.0.01'", address="10.0.0.01"),
        refused_endpoint("address", "'fe80::1%'", address="fe80::1%"),
        refused_endpoint("address", "'1.1.1.1%eth0'", address="1.1.1.1%eth0"),
        refused_endpoint("address", "'unix:///a/'", address="unix:///a/", ports=()),
        refused_endpoint("ports", "'unix:///a'", address="unix:///a"),
        refused_endpoint("ports", "'https'", ports=(("https", 80),)),
        refused_endpoint("ports", "'a_b'", ports=(("a_b", 80),)),
        refused_endpoint("ports", "65536", ports=(("http", 65536),)),
        refused_endpoint("labels", "'a:b'", labels=(("a:b", ""),)),
        refused_endpoint("labels", "'a/b'", labels=(("x", "a/b"),)),
        refused_endpoint("labels", "longer than 253", labels=(("x" * 254 + "/a", ""),)),
        refused_endpoint("weight", "-1", weight=-1),
        refused("workloadSelector", "endpoints", workload_selector=(("app", "a"),)),
        refused("workloadSelector.labels", "'a'", endpoints=(), workload_selector=(("", "a"),)),
        refused("workloadSelector.labels", "'a*=b'", endpoints=(), workload_selector=(("a*", "b"),)),
        refused("exportTo[1]", "'reg'", export_to=(".", "reg")),
        refused("exportTo[0]", "'A_B'", export_to=("A_B",)),
        refused("exportTo[0]", "'A_B'", export_to=(".",), namespace="A_B"),
        refused("exportTo", "'*'", export_to=("*", "a")),
        refused("exportTo", "'~'", export_to=("~", "a")),
        refused("metadata.name", "'a/b'", name="a/b"),
        refused("metadata.annotations", "'istio.io/dry-run'", annotations=(("istio.io/dry-run", "true"),)),
    ],
)
def test_G8_the_reason_names_place_and_offender(entry: ServiceEntry, place: str, offender: str) -> None:
    reasons = acceptance.service_entry_reasons(entry)
    assert [reason for reason in reasons if reason.startswith(place) and offender in reason], reasons


def test_G8_all_reasons_are_told() -> None:
    endpoint = WorkloadEntry("nope", ports=(("http", 0),), labels=(("@class", "a$b"),))
    entry = replace(SERVICE, hosts=("a_b", "c_d"), endpoints=(endpoint,), export_to=("A_B",))
    places = [reason.split(" ")[0] for reason in acceptance.service_entry_reasons(entry)]
    assert places == ["hosts[0]:", "hosts[1]:", *["endpoints[0]:"] * 4, "exportTo[0]:"]


@pytest.mark.parametrize("address", ["", "10.1", "unix://", "a_b", "10.0.0.0/8"])
def test_G8_workload_entry_of_its_own(address: str) -> None:
    assert acceptance.workload_entry_reasons(replace(ENDPOINT, address=address))
    assert acceptance.workload_entry_reasons(replace(ENDPOINT, address="a.b", labels=())) == ()


def test_T11_offenders_are_escaped_and_cut() -> None:
    fault = acceptance.label_value_fault("\x1b[31m\u202e" + "x" * 1000)
    assert fault is not None
    assert fault.isprintable()
    assert len(fault) < 200


LABEL_TEXT = st.text(alphabet="aZ09-_./ :é\n", max_size=12)
ADDRESSES = st.one_of(
    st.ip_addresses().map(str),
    st.text(alphabet="0123456789abF.:%/[]", max_size=20),
    st.sampled_from(["", "a.b", "unix:///run/a", "unix://@a", "unix://a", "::ffff:10.0.0.1"]),
)
ENDPOINTS = st.builds(
    WorkloadEntry,
    address=ADDRESSES,
    ports=st.dictionaries(st.sampled_from(["http", "other"]), st.integers(-1, 70_000)).map(
        lambda ports: tuple(sorted(ports.items()))
    ),
    labels=st.dictionaries(LABEL_TEXT, LABEL_TEXT, max_size=3).map(lambda labels: tuple(sorted(labels.items()))),
    network=st.sampled_from(["", "vm"]),
)
RESOLUTIONS = st.sampled_from(["STATIC", "DNS"])


@given(st.lists(ENDPOINTS, max_size=4), RESOLUTIONS)
def test_T07_without_the_offending_endpoints_the_service_is_accepted(
    endpoints: list[WorkloadEntry], resolution: Resolution
) -> None:
    judged = [(one, acceptance.endpoint_reasons(one, {"http"}, resolution)) for one in endpoints]
    whole = replace(SERVICE, endpoints=tuple(endpoints), resolution=resolution)
    rest = replace(whole, endpoints=tuple(one for one, reasons in judged if not reasons))
    assert acceptance.service_entry_reasons(rest) == ()
    assert bool(acceptance.service_entry_reasons(whole)) == any(reasons for _, reasons in judged)


@given(st.dictionaries(LABEL_TEXT, LABEL_TEXT, max_size=6).map(lambda labels: tuple(sorted(labels.items()))))
def test_T07_without_the_offending_labels_the_endpoint_is_accepted(labels: Pairs) -> None:
    kept = tuple(
        (key, value)
        for key, value in labels
        if not acceptance.label_key_fault(key) and not acceptance.label_value_fault(value)
    )
    assert acceptance.endpoint_reasons(replace(ENDPOINT, labels=kept), {"http"}, "STATIC") == ()
    whole = acceptance.endpoint_reasons(replace(ENDPOINT, labels=labels), {"http"}, "STATIC")
    assert bool(whole) == (kept != labels)


@given(st.ip_addresses())
def test_T05_every_address_in_its_canonical_form_is_one(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    assert acceptance.is_ip_address(str(address))
    assert acceptance.is_ip_address(address.exploded)
    assert not acceptance.is_ip_address(f"[{address}]")
    assert not acceptance.is_ip_address(f"{address}/32")
    assert not acceptance.is_ip_address(f" {address}")


@given(st.text())
def test_T11_no_text_breaks_a_check(text: str) -> None:
    faults = (
        acceptance.host_fault(text),
        acceptance.domain_fault(text),
        acceptance.label_key_fault(text),
        acceptance.label_value_fault(text),
        acceptance.port_name_fault(text),
        acceptance.protocol_fault(text),
        acceptance.address_fault(text, None),
    )
    assert all(fault is None or fault.isprintable() for fault in faults)
    odd = ServiceEntry(text, text, (text,), (text,), (Port(1, text, text),), export_to=(text,))
    assert all(reason.isprintable() for reason in acceptance.service_entry_reasons(odd))
