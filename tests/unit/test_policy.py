"""registry/policy.py: the offender is refused with a reason, and its service lives on (G8)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from isthmus.registry import codes
from isthmus.registry.acceptance import workload_entry_reasons
from isthmus.registry.model import Endpoint, WorkloadEntry
from isthmus.registry.policy import ENDPOINT_LIMIT, LABEL_LIMIT, Policy, admit, forbidden_host
from tests.unit.builders import endpoint, service

PLAIN = Policy("zk")


@pytest.mark.parametrize(
    ("address", "code"),
    [
        *[(address, codes.FORBIDDEN_ADDRESS) for address in ("127.0.0.1", "127.8.8.8", "0.0.0.0", "0.1.2.3")],
        *[(address, codes.FORBIDDEN_ADDRESS) for address in ("169.254.169.254", "224.0.0.1", "255.255.255.255")],
        *[(address, codes.FORBIDDEN_ADDRESS) for address in ("::1", "::", "fe80::1", "ff02::1", "fe80::1%eth0")],
        *[(address, codes.FORBIDDEN_ADDRESS) for address in ("::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::")],
        *[(address, codes.FORBIDDEN_ADDRESS) for address in ("::127.0.0.1", "64:ff9b:1::7f00:1", "2001:0:7f00:1::")],
        ("241.0.0.7", codes.FORBIDDEN_ADDRESS),
        *[(address, codes.NOT_AN_ADDRESS) for address in ("0177.0.0.1", "2130706433", "010.0.0.1", "10.0.0.1:80")],
        *[(address, codes.NOT_AN_ADDRESS) for address in ("unix:///var/run/docker.sock", "unix://@x", "localhost", "")],
        *[(address, codes.NOT_AN_ADDRESS) for address in ("[::1]", " 10.0.0.1", "10.0.0.0/8", "10.0.0.1\n")],
    ],
)
def test_T05_T06_an_address_that_leads_astray_is_refused_alone(address: str, code: str) -> None:
    admitted = admit(service("a.b", endpoint(address), endpoint("10.0.0.1")), PLAIN)

    assert [one.workload.address for one in admitted.endpoints] == ["10.0.0.1"]
    assert [refusal.code for refusal in admitted.refused] == [code]
    assert admitted.refused[0].record == f"record of {address}:8080"


def test_T08_a_text_that_is_far_too_long_for_an_address_is_neither_kept_nor_shown() -> None:
    admitted = admit(service("a.b", endpoint("1" * 60_000)), PLAIN)

    assert admitted.refused[0].code == codes.NOT_AN_ADDRESS
    assert len(admitted.refused[0].reason) < 100


@pytest.mark.parametrize("bad", [{"weight": -1}, {"weight": 2**32}, {"ports": (("htpp", 81),)}])
def test_G8_an_endpoint_that_istiod_would_refuse_does_not_take_its_service_with_it(bad: dict[str, object]) -> None:
    workload = replace(endpoint("10.0.0.2").workload, **bad)
    admitted = admit(service("a.b", Endpoint(workload, "bad"), endpoint("10.0.0.1")), PLAIN)

    assert [one.workload.address for one in admitted.endpoints] == ["10.0.0.1"]
    assert [(refusal.code, refusal.record) for refusal in admitted.refused] == [(codes.NOT_ACCEPTABLE, "bad")]


@pytest.mark.parametrize("namespace", ["a/b", "", "A", "a" * 64, "a.b"])
def test_a_namespace_that_Kubernetes_cannot_have_is_refused(namespace: str) -> None:
    admitted = admit(replace(service("a.b", endpoint("10.0.0.1")), namespace=namespace), PLAIN)

    assert admitted.endpoints == ()
    assert admitted.refused[-1].code == codes.INVALID_HOST


def test_an_operator_may_allow_what_the_house_rules_forbid() -> None:
    admitted = admit(service("a.b", endpoint("127.0.0.1")), Policy("zk", allow=("127.0.0.0/8",)))

    assert len(admitted.endpoints) == 1


def test_IPv6_addresses_are_published_in_one_form() -> None:
    admitted = admit(service("a.b", endpoint("2001:DB8:0:0::1")), PLAIN)

    assert admitted.endpoints[0].workload.address == "2001:db8::1"


@pytest.mark.parametrize("port", [0, -1, 65536, 70000])
def test_T12_a_port_out_of_range_is_refused(port: int) -> None:
    admitted = admit(service("a.b", endpoint("10.0.0.1", port)), PLAIN)

    assert admitted.endpoints == ()
    assert admitted.refused[0].code == codes.BAD_PORT


@pytest.mark.parametrize(
    "key",
    ["istio.io/rev", "security.istio.io/tlsMode", "topology.istio.io/network", "app.kubernetes.io/name", "x.k8s.io/a"],
)
def test_T09_labels_that_steer_istio_are_left_out(key: str) -> None:
    admitted = admit(service("a.b", endpoint("10.0.0.1", labels=((key, "x"), ("zone", "z1")))), PLAIN)

    assert admitted.endpoints[0].workload.labels == (("zone", "z1"),)
    assert admitted.refused[0].code == codes.LABEL_REFUSED


def test_T07_a_label_that_istiod_would_refuse_does_not_take_the_endpoint_with_it() -> None:
    admitted = admit(service("a.b", endpoint("10.0.0.1", labels=(("methods", "a,b"), ("v", "x" * 64)))), PLAIN)

    assert admitted.endpoints[0].workload.labels == ()
    assert len(admitted.refused) == 2


def test_T08_too_many_labels_and_endpoints_are_refused_visibly() -> None:
    labels = tuple((f"k{index:03}", "v") for index in range(LABEL_LIMIT + 3))
    admitted = admit(service("a.b", endpoint("10.0.0.1", labels=labels)), PLAIN)
    assert len(admitted.endpoints[0].workload.labels) == LABEL_LIMIT
    assert len(admitted.refused) == 3

    many = [endpoint(f"10.{index >> 8}.{index & 255}.1") for index in range(ENDPOINT_LIMIT + 1)]
    admitted = admit(service("a.b", *many), PLAIN)
    assert len(admitted.endpoints) == ENDPOINT_LIMIT
    assert [refusal.code for refusal in admitted.refused] == [codes.TOO_MANY]


@pytest.mark.parametrize(
    "host",
    [
        *("kubernetes.default.svc.cluster.local", "a.svc", "a.b.svc.example.org", "x.cluster.local", "localhost"),
        *("orders", "orders.", "*.com", "*", "a.localhost", "KUBERNETES.DEFAULT.SVC", "a_b.c", ""),
    ],
)
def test_T02_T03_hosts_that_only_the_cluster_may_own_are_refused(host: str) -> None:
    assert forbidden_host(host)
    admitted = admit(service(host, endpoint("10.0.0.1")), PLAIN)
    assert admitted.endpoints == ()
    assert admitted.refused[-1].code == codes.INVALID_HOST


def test_what_the_operator_says_wins_over_the_registry() -> None:
    policy = Policy("zk", locality="dc1/r1", network="vm", export_to=("shop",))
    admitted = admit(service("a.b", endpoint("10.0.0.1", locality="evil", network="evil"), export_to=("*",)), policy)

    assert admitted.endpoints[0].workload.locality == "dc1/r1"
    assert admitted.endpoints[0].workload.network == "vm"
    assert admitted.export_to == ("shop",)


@given(
    st.lists(
        st.builds(
            WorkloadEntry,
            address=st.one_of(st.text(max_size=20), st.ip_addresses().map(str)),
            ports=st.just((("http", 80),)),
            labels=st.dictionaries(st.text(max_size=10), st.text(max_size=10), max_size=3).map(
                lambda labels: tuple(sorted(labels.items()))
            ),
        ),
        max_size=5,
    )
)
def test_G8_whatever_is_admitted_istiod_takes_and_all_else_has_a_reason(workloads: list[WorkloadEntry]) -> None:
    admitted = admit(service("a.b", *(Endpoint(workload, "r") for workload in workloads)), PLAIN)

    assert all(not workload_entry_reasons(one.workload) for one in admitted.endpoints)
    refused = [refusal for refusal in admitted.refused if refusal.code != codes.LABEL_REFUSED]
    assert len(admitted.endpoints) + len(refused) == len(workloads)
