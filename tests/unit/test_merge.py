"""registry/merge.py: one resource per host, the same whatever the order of arrival."""

from __future__ import annotations

import json

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from isthmus.adapters.dubbo import DubboRules, read_interface
from isthmus.adapters.eureka.records import EurekaRules, Member, read_instance
from isthmus.adapters.eureka.services import Services
from isthmus.adapters.eureka.state import Change
from isthmus.adapters.nacos.records import NacosRules, Scope, read_service
from isthmus.registry import codes
from isthmus.registry.merge import EMPTY_LABEL, Contribution, merge
from isthmus.registry.model import Endpoint, Port, Service
from tests.unit.builders import endpoint, service

ENDPOINTS = st.lists(
    st.builds(
        endpoint, st.sampled_from([f"10.0.0.{n}" for n in range(6)]), st.integers(1, 3), weight=st.integers(0, 2)
    ),
    max_size=8,
)
USUAL = [1, 100, 7]


def of_sources(*services: Service) -> list[Contribution]:
    """Return services as contributions of as many sources, in order."""
    return [Contribution(f"source{place}", one) for place, one in enumerate(services)]


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


def test_an_endpoint_without_a_weight_gets_what_is_usual_in_its_source_beside_one_that_has_one() -> None:
    merged = merge(
        of_sources(
            service("a.b", endpoint("10.0.0.1"), endpoint("10.0.0.2"), usual_weight=100),
            service("a.b", endpoint("10.0.0.3", weight=40), endpoint("10.0.0.4", weight=100), usual_weight=100),
            service("a.b", endpoint("10.0.0.5")),
        ),
        None,
    )

    assert [one.weight for one in merged.entry.endpoints] == [100, 100, 40, 100, 1]
    assert merged.refused == ()


def test_where_no_weight_is_said_none_is_published() -> None:
    usual = (service("a.b", endpoint(f"10.0.0.{n}"), usual_weight=n) for n in USUAL)

    assert {one.weight for one in merge(of_sources(*usual), None).entry.endpoints} == {0}


def test_a_weight_that_is_not_served_makes_others_say_none() -> None:
    plain = service("a.b", endpoint("10.0.0.1"), endpoint("10.0.0.2"), usual_weight=100)
    merged = merge(of_sources(plain, service("a.b", endpoint("10.0.0.1", weight=5))), None)

    assert [one.weight for one in merged.entry.endpoints] == [0, 0]
    assert [(source, refusal.code) for source, refusal in merged.refused] == [("source1", codes.DUPLICATE)]


def test_the_usual_weight_said_and_not_said_is_the_same_registration() -> None:
    plain = service("a.b", endpoint("10.0.0.1"), usual_weight=100)
    said = service("a.b", endpoint("10.0.0.1", weight=100), endpoint("10.0.0.2", weight=40), usual_weight=100)

    for services in ((plain, said), (said, plain)):
        merged = merge(of_sources(*services), None)
        assert [one.weight for one in merged.entry.endpoints] == [100, 40]
        assert merged.refused == ()


def test_what_is_not_said_in_two_sources_is_the_same_registration_whatever_is_usual() -> None:
    usual = (service("a.b", endpoint("10.0.0.1"), usual_weight=n) for n in USUAL)

    assert merge(of_sources(*usual), None).refused == ()


def test_dubbos_providers_in_zookeeper_and_in_nacos_are_weighed_on_one_scale() -> None:
    record = "dubbo%3A%2F%2F10.0.0.1%3A20880%2Fa.B%3Fside%3Dprovider"
    (zookeeper,) = read_interface("a.B", [record], DubboRules("legacy")).services.values()
    instances = [
        json.dumps({"ip": address, "port": 20880, "metadata": {"protocol": "dubbo", "weight": weight}}).encode()
        for address, weight in (("10.0.0.2", "100"), ("10.0.0.3", "200"))
    ]
    scope, rules = Scope("public", "DEFAULT_GROUP", (), "legacy"), NacosRules(DubboRules("legacy"))
    (nacos,) = read_service(scope, "providers:a.B::", instances, rules).services.values()

    assert [one.workload.weight for one in zookeeper.endpoints] == [0]
    for services in ((zookeeper, nacos), (nacos, zookeeper)):
        merged = merge(of_sources(*services), None)
        assert [one.weight for one in merged.entry.endpoints] == [100, 100, 200]
        assert merged.refused == ()


def test_applications_without_weights_are_weighed_on_the_scale_of_nacos() -> None:
    def nacos(**weights: float) -> Service:
        records = [json.dumps({"ip": ip, "port": 80, "weight": weight}).encode() for ip, weight in weights.items()]
        scope = Scope("public", "DEFAULT_GROUP", (), "default")
        return read_service(scope, "pay", records, NacosRules(DubboRules("default"))).services[
            "public/DEFAULT_GROUP/pay"
        ]

    record = msgspec.Raw(b'{"instanceId":"i","app":"PAY","ipAddr":"10.0.0.1","port":{"$":80},"status":"UP"}')
    member = read_instance(record, "PAY", EurekaRules())
    assert isinstance(member, Member)
    services = Services(EurekaRules())
    services.take([Change("PAY", "i", None, member)])
    (eureka,) = services.read("pay").values()
    alike = nacos(**{"10.0.0.2": 1.0})

    merged = merge(of_sources(eureka, alike, nacos(**{"10.0.0.3": 1.0, "10.0.0.4": 0.4})), None)
    assert [one.weight for one in merged.entry.endpoints] == [100, 100, 100, 40]
    assert {one.weight for one in merge(of_sources(eureka, alike), None).entry.endpoints} == {0}


@given(st.lists(st.tuples(ENDPOINTS, st.sampled_from(USUAL)), min_size=1, max_size=4), st.randoms())
def test_G7_all_weights_are_said_or_none_is(sources: list[tuple[list[Endpoint], int]], chance: object) -> None:
    services = [service("a.b", *endpoints, usual_weight=usual) for endpoints, usual in sources]
    merged = merge(of_sources(*services), None)
    usual_of = {f"source{place}": usual for place, (_, usual) in enumerate(sources)}

    # Who contributed each endpoint, and as what it is published.
    assert tuple(endpoint.workload for _, endpoint in merged.origins) == merged.entry.endpoints
    weights = [one.weight for one in merged.entry.endpoints]
    assert all(weights) or not any(weights)
    for source, origin in merged.origins:
        said = {one.workload.weight for one in _same_place(services[int(source[-1])], origin)}
        assert origin.workload.weight in said | ({usual_of[source]} if 0 in said and any(weights) else set())

    for endpoints, _ in sources:
        chance.shuffle(endpoints)  # type: ignore[attr-defined]
    shuffled = [service("a.b", *endpoints, usual_weight=usual) for endpoints, usual in sources]
    assert merge(of_sources(*shuffled), None).entry == merged.entry


def _same_place(one: Service, origin: Endpoint) -> list[Endpoint]:
    place = (origin.workload.address, origin.workload.ports)
    return [other for other in one.endpoints if (other.workload.address, other.workload.ports) == place]
