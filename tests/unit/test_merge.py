"""registry/merge.py: one resource per host, the same whatever the order of arrival."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from isthmus.registry import codes
from isthmus.registry.merge import EMPTY_LABEL, Contribution, merge
from isthmus.registry.model import Endpoint, Port
from tests.unit.builders import endpoint, service

ENDPOINTS = st.lists(
    st.builds(
        endpoint, st.sampled_from([f"10.0.0.{n}" for n in range(6)]), st.integers(1, 3), weight=st.integers(0, 2)
    ),
    max_size=8,
)


def test_F10_endpoints_of_one_service_come_from_every_source() -> None:
    merged = merge(
        [
            Contribution("zk", service("a.b", endpoint("10.0.0.2"))),
            Contribution("nacos", service("a.b", endpoint("10.0.0.1"))),
        ],
        "241.0.0.1",
    )

    assert [one.address for one in merged.entry.endpoints] == ["10.0.0.1", "10.0.0.2"]
    assert [source for source, _ in merged.origins] == ["nacos", "zk"]
    assert merged.entry.addresses == ("241.0.0.1",)
    assert merged.refused == ()


def test_an_address_that_two_sources_report_counts_once_and_the_first_has_its_say() -> None:
    merged = merge(
        [
            Contribution("zk", service("a.b", endpoint("10.0.0.1", weight=5))),
            Contribution("nacos", service("a.b", endpoint("10.0.0.1", weight=9))),
        ],
        None,
    )

    assert [one.weight for one in merged.entry.endpoints] == [5]
    assert [(source, refusal.code) for source, refusal in merged.refused] == [("nacos", codes.DUPLICATE)]


def test_the_same_registration_in_two_sources_is_no_fault() -> None:
    both = [Contribution(source, service("a.b", endpoint("10.0.0.1"))) for source in ("zk", "nacos")]

    assert merge(both, None).refused == ()


def test_T01_IS102_a_service_of_another_identity_never_answers_for_the_first() -> None:
    merged = merge(
        [
            Contribution("zk", service("com.foo.bar.dubbo", endpoint("10.0.0.1"), identity="dubbo:com.foo.Bar")),
            Contribution("zk", service("com.foo.bar.dubbo", endpoint("10.6.6.6"), identity="dubbo:com.foo.bar")),
        ],
        None,
    )

    assert [one.address for one in merged.entry.endpoints] == ["10.0.0.1"]
    assert [refusal.code for _, refusal in merged.refused] == [codes.HOST_CONFLICT]


def test_a_service_without_endpoints_keeps_no_host_from_a_live_one() -> None:
    empty = service("com.foo.bar.dubbo", identity="dubbo:COM.foo.Bar")
    live = service("com.foo.bar.dubbo", endpoint("10.0.0.1"), identity="dubbo:com.foo.Bar")
    merged = merge([Contribution("old", empty), Contribution("new", live)], None)

    assert [one.address for one in merged.entry.endpoints] == ["10.0.0.1"]
    assert [(source, refusal.code) for source, refusal in merged.refused] == [("old", codes.HOST_CONFLICT)]


def test_IS304_endpoints_without_a_number_for_a_port_are_not_called_at_a_number_nobody_said() -> None:
    other = service("a.b", endpoint("10.0.0.2"), ports=(Port(9090, "grpc", "GRPC"),))
    merged = merge([Contribution("zk", service("a.b", endpoint("10.0.0.1"))), Contribution("nacos", other)], None)

    assert [one.address for one in merged.entry.endpoints] == ["10.0.0.1"]
    assert [refusal.code for _, refusal in merged.refused] == [codes.PORTS_DIFFER]


def test_a_service_without_endpoints_changes_a_label_with_them() -> None:
    # Istio 1.14 to 1.29 keeps the last endpoint for ever otherwise (istio.md finding 15).
    assert merge([Contribution("zk", service("a.b"))], None).entry.labels == (EMPTY_LABEL,)
    assert merge([Contribution("zk", service("a.b", endpoint("10.0.0.1")))], None).entry.labels == ()


def test_providers_that_share_an_address_change_a_label_when_one_of_them_leaves() -> None:
    # Istio up to 1.29 keeps the one that left for ever otherwise (seen with 1.29.1).
    def labels(*ports: int) -> object:
        endpoints = [endpoint("10.0.0.1", port) for port in ports]
        return merge([Contribution("zk", service("a.b", endpoint("10.0.0.9"), *endpoints))], None).entry.labels

    assert labels(1) == ()
    assert len({labels(1, 2), labels(1, 3), labels(2, 3), labels(1, 2, 3), labels(1)}) == 5
    assert labels(2, 1) == labels(1, 2)


@given(ENDPOINTS, st.randoms())
def test_G7_the_order_of_the_records_changes_nothing(endpoints: list[Endpoint], chance: object) -> None:
    shuffled = list(endpoints)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    one = merge([Contribution("zk", service("a.b", *endpoints))], None).entry
    other = merge([Contribution("zk", service("a.b", *shuffled))], None).entry

    assert one == other
    places = [(workload.address, workload.ports) for workload in one.endpoints]
    assert places == sorted(set(places))
