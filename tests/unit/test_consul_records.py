"""adapters/consul/wire.py, records.py and services.py: from what a Consul answers to services."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from isthmus.adapters.applications import ApplicationPort
from isthmus.adapters.consul.options import ConsulOptions
from isthmus.adapters.consul.records import PassedBy, rules_of
from isthmus.adapters.consul.services import service_of
from isthmus.adapters.consul.wire import read_checks, read_entries, read_names, read_nodes
from isthmus.registry import codes
from isthmus.registry.errors import SourceUnavailable
from isthmus.registry.model import Port
from tests.unit.consul_answers import RULES, body, entry, golden, instance, read

if TYPE_CHECKING:
    from isthmus.adapters.consul.records import ConsulRules, Reading
    from isthmus.registry.model import Service


def service(reading: Reading, rules: ConsulRules = RULES, *, panics: bool = False) -> Service:
    return service_of("web", reading.instances, reading.refused, (), rules, panics=panics)


def workloads(name: str) -> list[tuple[str, int, str]]:
    endpoints = service(read(golden(name))).endpoints
    return [(one.workload.address, one.workload.weight, dict(one.workload.labels)["version"]) for one in endpoints]


def test_what_a_real_consul_answers() -> None:
    # Of the first, web-2 has never been heard of and is critical; of two weights both are said.
    assert workloads("health_service_web.1-start") == [("10.20.0.1", 0, "v1")]
    assert workloads("health_service_web.2-web1-critical-web2-passing") == [("10.20.0.2", 0, "v2")]
    assert workloads("health_service_web.3-web2-maintenance") == []
    kept = service(read(golden("health_service_web.2-web1-critical-web2-passing")), panics=True)
    assert [one.workload.weight for one in kept.endpoints] == [1000, 100]
    assert (kept.key, kept.identity, kept.host) == ("app:web", "app:web", "web.mesh")
    assert kept.ports == (Port(80, "http", "HTTP"),)
    in_maintenance = service(read(golden("health_service_web.3-web2-maintenance")))
    assert [(one.code, one.reason) for one in in_maintenance.refused] == [
        (codes.UNHEALTHY, "its checks are critical"),
        (codes.UNHEALTHY, "it is in maintenance mode"),
    ]


def test_the_pages_of_a_real_consul() -> None:
    assert read_names(golden("catalog_services.1-start")) == {
        "consul": frozenset(),
        "db": frozenset(),
        "web": frozenset({"v1", "v2", "primary", "istio.rev=1-18"}),
    }
    checks = read_checks(golden("health_state_any.3-web2-maintenance"))
    assert checks["vm", "_service_maintenance:web-2"].service_name == "web"
    assert checks["vm", "serfHealth"].service_id == ""
    assert read_nodes(golden("catalog_nodes.1-start"))["vm"].address == "127.0.0.1"


def test_names_are_the_same_in_any_case_as_consul_looks_them_up() -> None:
    assert read_names(b'{"Web": ["a"], "web": ["b"], "db": null}') == {"web": frozenset("ab"), "db": frozenset()}
    assert rules_of(ConsulOptions(address="", services={"Web": ApplicationPort(443, "HTTPS")})).port_of(
        "web"
    ) == ApplicationPort(443, "HTTPS")


@pytest.mark.parametrize("page", [read_names, read_nodes, read_checks, read_entries])
@pytest.mark.parametrize("answer", [b"", b"null", b"<html>", b"[1, 2]", b'[{"Node": "cut sho', b'{"error": {}}'])
def test_G1_what_is_no_page_is_no_empty_page(page: Any, answer: bytes) -> None:
    if page is read_entries and answer == b"[1, 2]":
        entries, faults = page(answer)
        assert (entries, [error.code for error, _ in faults]) == ([], [codes.GARBLED] * 2)
        return
    with pytest.raises(SourceUnavailable):
        page(answer)


def test_G8_an_entry_that_cannot_be_read_costs_itself_only() -> None:
    reading = read(body(entry(), {"Node": {"Node": 7}}, entry(ID="web-2", Port="http"), entry(ID="web-3")))
    assert list(reading.instances) == [("n1", "web-1"), ("n1", "web-3")]
    assert [one.code for one in reading.refused] == [codes.GARBLED, codes.GARBLED]


def test_a_long_list_of_nonsense_is_refused_and_not_taken_apart() -> None:
    with pytest.raises(SourceUnavailable):
        read_entries(b"[" + b"0," * 2**20 + b"0]")


@given(st.permutations([(node, one) for node in ("n1", "n2") for one in ("a", "b")]))
def test_CO12_instances_are_sorted_by_node_and_id_and_ids_are_unique_per_node(order: list[tuple[str, str]]) -> None:
    entries = [entry(node={"Node": node}, ID=one, Address=f"10.0.{node[1]}.{ord(one)}") for node, one in order]
    reading = read(body(*entries))
    assert list(reading.instances) == sorted(order)
    assert [one.workload.address for one in service(reading).endpoints] == [
        "10.0.1.97",
        "10.0.1.98",
        "10.0.2.97",
        "10.0.2.98",
    ]


LAN = {"lan": {"Address": "10.1.1.1", "Port": 81}, "wan": {"Address": "192.0.2.1"}}


@pytest.mark.parametrize(
    ("wanted", "fields", "place"),
    [
        ("", {}, ("10.20.0.1", 8080)),
        ("", {"Address": ""}, ("10.0.0.1", 8080)),
        ("", {"TaggedAddresses": LAN}, ("10.20.0.1", 8080)),
        ("lan", {"TaggedAddresses": LAN}, ("10.1.1.1", 81)),
        ("wan", {"TaggedAddresses": LAN}, ("192.0.2.1", 8080)),
        ("virtual", {"TaggedAddresses": LAN}, ("10.20.0.1", 8080)),
        ("wan", {"Address": "", "node": {"TaggedAddresses": {"wan": "192.0.2.7"}}}, ("192.0.2.7", 8080)),
        ("wan", {"Address": "", "node": {"TaggedAddresses": {"lan": "10.0.0.7"}}}, ("10.0.0.1", 8080)),
        ("wan", {"node": {"TaggedAddresses": {"wan": "192.0.2.7"}}}, ("10.20.0.1", 8080)),
        ("", {"Address": "[2001:db8::1]"}, ("2001:db8::1", 8080)),
        (
            "",
            {"Port": 0, "Ports": [{"Name": "a", "Port": 1}, {"Name": "b", "Port": 2, "Default": True}]},
            ("10.20.0.1", 2),
        ),
        ("", {"Port": 0, "Ports": [{"Name": "a", "Port": 1}]}, ("10.20.0.1", 1)),
    ],
)
def test_CO13_where_an_instance_is(wanted: str, fields: dict[str, Any], place: tuple[str, int]) -> None:
    one = instance(replace(RULES, tagged_address=wanted), **fields)
    assert (one.address, one.port, one.fault) == (*place, None)


@pytest.mark.parametrize(
    ("code", "fields"),
    [
        (codes.BAD_PORT, {"Port": 0}),
        (codes.BAD_PORT, {"Port": -1}),
        (codes.BAD_PORT, {"Port": 65_536}),
        (codes.ZERO_WEIGHT, {"Weights": {"Passing": 0, "Warning": 1}}),
        (codes.TOO_LONG, {"Meta": {"a": "b" * 70_000}}),
    ],
)
def test_who_is_no_endpoint_whatever_its_health(code: str, fields: dict[str, Any]) -> None:
    one = instance(**fields)
    assert one.fault is not None
    assert (one.fault.code, "web-1" in one.fault.record) == (code, True)
    assert service(read(body(entry(**fields)))).endpoints == ()


def test_weights_are_those_of_the_status() -> None:
    warning = replace(RULES, healthy=frozenset({"passing", "warning"}))
    weights = {"Weights": {"Passing": 10, "Warning": 0}}
    assert instance(warning, **weights).weight == 10
    late = instance(warning, checks={"c": "warning"}, **weights)
    assert late.fault is not None
    assert late.fault.code == codes.ZERO_WEIGHT
    assert instance(warning, checks={"c": "warning"}, Weights={"Passing": 10, "Warning": 3}).weight == 3


def test_labels_come_from_meta_then_from_tags_with_a_value_then_from_plain_tags() -> None:
    tags = ["version=of-a-tag", "zone=z1", "zone", "canary", "secret=x"]
    assert instance(Tags=tags, Meta={"version": "v1"}).labels == (("canary", "true"), ("version", "v1"), ("zone", "z1"))
    assert instance(Tags=list(reversed(tags))).labels == instance(Tags=tags).labels
    assert instance(replace(RULES, labels={}), Tags=tags).labels == ()


@pytest.mark.parametrize(
    ("own", "of_node", "locality"),
    [
        ({"Region": "eu", "Zone": "a"}, {"Region": "us", "Zone": "b"}, "eu/a"),
        (None, {"Region": "us", "Zone": "b"}, "us/b"),
        ({"Region": "eu"}, None, "eu"),
        ({"Zone": "a"}, {"Region": "us"}, "us"),
        ({"Region": "eu/x", "Zone": "a"}, None, ""),
        ({"Region": "eu", "Zone": "a/b"}, None, "eu"),
        (None, None, ""),
    ],
)
def test_localities(own: object, of_node: object, locality: str) -> None:
    assert instance(Locality=own, node={"Locality": of_node}).locality == locality


def test_who_is_passed_by() -> None:
    reading = read(
        body(
            entry(),
            entry(ID="k1", Tags=["k8s"], checks={"c": "passing"}),
            entry(ID="k2", Meta={"external-source": "kubernetes"}),
            entry(ID="p", Kind="connect-proxy"),
            entry(ID="g", Kind="mesh-gateway"),
        )
    )
    assert (list(reading.instances), reading.passed_by) == ([("n1", "web-1")], PassedBy(2, 2))
    assert reading.checked == {("n1", "k1")}
    assert read(body(entry(Tags=["k8s"])), replace(RULES, kubernetes_tag="")).passed_by == PassedBy()


def test_a_record_is_the_same_while_nothing_happens() -> None:
    first = entry(checks={"c": "passing", "serf@node": "passing"})
    later = json.loads(json.dumps(first))
    later["Service"]["ModifyIndex"] = 7
    later["Checks"][0]["Output"] = "another"
    later["Checks"].append({"Node": "n1", "CheckID": "d", "Status": "passing", "ServiceID": "web-1"})
    assert read(body(later)) == read(body(first))
    later["Checks"][0]["Status"] = "critical"
    assert read(body(later)) != read(body(first))


def test_what_is_left_out_is_bounded() -> None:
    entries = [entry(ID=f"web-{number}", checks={"c": "critical"}) for number in range(150)]
    refused = service(read(body(*entries))).refused
    assert [one.code for one in refused] == [codes.UNHEALTHY] * 100 + [codes.TOO_MANY]
    assert refused[-1].reason == "50 more are refused and not shown"
