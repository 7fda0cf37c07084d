"""adapters/eureka/wire.py and records.py: what a real Eureka server of Spring Cloud wrote, and what strangers might."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.adapters.applications import ApplicationPort
from isthmus.adapters.eureka.options import EurekaOptions
from isthmus.adapters.eureka.records import EurekaRules, Reading, overdue, rules_of
from isthmus.adapters.eureka.wire import open_json
from isthmus.registry import codes
from isthmus.registry.errors import SourceUnavailable
from isthmus.registry.model import Endpoint, Refusal
from isthmus.registry.policy import RECORD_LENGTH
from tests.unit.eureka_answers import GOLDEN, answer, endpoint, golden, instance, member, read, refusal


def test_a_real_registry() -> None:
    document = open_json((GOLDEN / "1-two-spring-cloud-services.apps.json").read_bytes())
    assert document is not None
    assert (document.version, document.hashcode) == (1, "STARTING_1_UP_2_")
    greeting, order, after = golden("1-two-spring-cloud-services.apps")
    assert [one.name for one in (greeting, order, after)] == ["GREETING-SERVICE", "ORDER-SERVICE", "AFTER"]
    (name, placed), *_ = greeting.members[0].placed
    assert name == "greeting-service"
    assert isinstance(placed, Endpoint)
    assert placed.workload.address == "127.0.0.1"
    assert placed.workload.ports == (("http", 9101),)
    assert placed.workload.labels == (("rev", "1-18"), ("version", "v2"))
    assert placed.workload.locality == "eu/z1"
    assert json.loads(placed.record)["metadata"]["management.port"] == "9101"
    assert greeting.members[0].version == (1795257278799, 1795257278788)


def test_EU7_only_what_is_up_serves_and_the_rest_says_its_status() -> None:
    _, order, _ = golden("1-two-spring-cloud-services.apps")
    greeting, _, _ = golden("2-greeting-out-of-service.apps")
    assert [(one.code, one.reason) for _, one in order.members[0].placed if isinstance(one, Refusal)] == [
        (codes.DISABLED, "status STARTING")
    ]
    assert [one.reason for _, one in greeting.members[0].placed if isinstance(one, Refusal)] == [
        "status OUT_OF_SERVICE"
    ]


@pytest.mark.parametrize(
    ("status", "overridden", "serves"),
    [
        ("UP", "UNKNOWN", True),
        ("UP", "", True),
        ("UP", None, True),
        ("up", "unknown", True),
        ("UP", "OUT_OF_SERVICE", False),
        ("DOWN", "UP", False),
        ("starting", "UP", False),
        ("OUT_OF_SERVICE", "UP", True),
        ("DOWN", "UNKNOWN", False),
        ("", "", False),
        (None, None, False),
    ],
)
@pytest.mark.parametrize("field", ["overriddenStatus", "overriddenstatus"])
def test_EU7_an_overridden_status_wins(status: str | None, overridden: str | None, serves: bool, field: str) -> None:
    fields: dict[str, Any] = {"overriddenStatus": None, "status": status, field: overridden}
    ((_, placed),) = member(**fields).placed
    assert isinstance(placed, Endpoint) == serves


def test_other_statuses_may_serve() -> None:
    rules = rules_of(EurekaOptions(address="", statuses=("UP", "starting")))
    assert endpoint(rules, status="STARTING").workload.address == "10.20.0.1"


def test_a_deletion_is_told() -> None:
    _, order = golden("3-order-service-stopped.apps-delta")
    assert order.members[0].deleted
    assert not golden("3-order-service-stopped.apps")[1].members[0].deleted


def test_EU7_a_list_of_one_may_be_its_element() -> None:
    alone = {"name": "SHOP", "instance": instance()}
    for application in (alone, [alone], [{"name": "SHOP", "instance": [instance()]}]):
        assert read(answer(application=application)) == read(answer(instance()))
    assert read(answer(application=None)) == []
    assert read(answer(application=[{"name": "SHOP"}])) == [Reading("SHOP", ())]
    assert read(b'{"applications":{}}') == []


@pytest.mark.parametrize("body", [b"", b" \n", b"null", b"{}", b'{"applications":null}'])
def test_G1_an_answer_that_says_nothing_is_not_an_empty_registry(body: bytes) -> None:
    assert open_json(body) is None


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"[]",
        b'{"applications":[]}',
        b'{"applications":{"application":[{"name":"A"},',
        b'{"applications":{"application":[{"instance":[]}]}}',
        b'{"applications":{"application":[7]}}',
    ],
)
def test_G1_a_garbled_registry_is_no_registry(body: bytes) -> None:
    with pytest.raises(SourceUnavailable):
        read(body)


@pytest.mark.parametrize(
    ("port", "number"),
    [
        ({"$": 80, "@enabled": "true"}, 80),
        ({"$": "8080", "@enabled": "true"}, 8080),
        ({"$": 8080, "@enabled": True}, 8080),
        ({"$": 8080}, 8080),
        (8080, 8080),
        ("8080", 8080),
        (65_535, 65_535),
    ],
)
def test_EU7_ports_are_numbers_or_strings(port: Any, number: int) -> None:
    assert endpoint(port=port).workload.ports == (("http", number),)


@pytest.mark.parametrize(
    "port", [0, -1, 65_536, "9" * 5_000, "0x50", "\uff18\uff10", 80.5, True, [], {}, {"$": None}, "", None]
)
def test_a_bad_port_costs_its_instance(port: Any) -> None:
    assert refusal(port=port).code == codes.BAD_PORT


def test_a_disabled_port_is_not_called() -> None:
    found = refusal(port={"$": 8080, "@enabled": "false"}, securePort={"$": 8443, "@enabled": "true"})
    assert found.code == codes.BAD_PORT
    assert "`securePort: always`" in found.reason


@pytest.mark.parametrize(
    ("secure_port", "protocol", "number"),
    [
        ("auto", "HTTP", 8080),
        ("auto", "HTTPS", 8443),
        ("auto", "TLS", 8443),
        ("never", "HTTPS", 8080),
        ("always", "HTTP", 8443),
    ],
)
def test_which_port_is_called(secure_port: str, protocol: str, number: int) -> None:
    options = EurekaOptions(address="", secure_port=secure_port, services={"Shop": ApplicationPort(443, protocol)})
    both = {"$": 8443, "@enabled": "true"}
    ports = endpoint(rules_of(options), securePort=both).workload.ports
    assert ports == ((protocol.lower(), number),)


def test_a_service_that_speaks_TLS_has_no_use_for_a_disabled_secure_port() -> None:
    rules = rules_of(EurekaOptions(address="", protocol="HTTPS"))
    assert refusal(rules).reason == "its secure port, which this service calls, is disabled"


def test_a_host_name_serves_only_where_it_is_an_address() -> None:
    assert endpoint(ipAddr=None, hostName="10.9.9.9").workload.address == "10.9.9.9"
    assert endpoint(ipAddr="unknown", hostName="2001:db8::1").workload.address == "2001:db8::1"
    # The house rules refuse these (IS205).
    assert endpoint(ipAddr="unknown", hostName="shop-1").workload.address == "unknown"
    assert endpoint(ipAddr=None, hostName="shop-1").workload.address == "shop-1"
    assert endpoint(ipAddr=None, hostName=None).workload.address == ""


def test_what_tells_instances_apart() -> None:
    amazon = {"name": "Amazon", "metadata": {"instance-id": "i-1", "availability-zone": "us-east-1a"}}
    assert member().key == "shop:1"
    assert member(instanceId=None, dataCenterInfo=amazon).key == "i-1"
    assert member(instanceId=None).key == "shop-1"
    assert endpoint(metadata=None, dataCenterInfo=amazon).workload.locality == "eu/us-east-1a"
    (reading,) = read(answer(instance(instanceId=None, hostName=None)))
    assert (reading.members, reading.refused[0].code) == ((), codes.GARBLED)
    (reading,) = read(answer(instance(port=1), instance(port=2)))
    assert [one.key for one in reading.members] == ["shop:1"]


@pytest.mark.parametrize(
    ("options", "zone", "locality"),
    [
        ({}, "z1", ""),
        ({"region": "eu"}, "z1", "eu/z1"),
        ({"region": "eu"}, None, "eu"),
        ({"region": "eu"}, "a/b/c", "eu"),
        ({"region": "eu"}, "z 1", "eu"),
        ({"zones": {"z1": "dc1/rack2"}}, "z1", "dc1/rack2"),
        ({"region": "eu", "zones": {"z1": "dc1/rack2"}}, "z2", "eu/z2"),
    ],
)
def test_the_locality(options: dict[str, Any], zone: str | None, locality: str) -> None:
    rules = rules_of(EurekaOptions(address="", **options))
    assert endpoint(rules, metadata={"zone": zone} if zone else {}).workload.locality == locality


@pytest.mark.parametrize("metadata", [None, "", [], 7, {"@class": "java.util.Collections$EmptyMap"}, {"zone": 7}])
def test_metadata_of_any_form(metadata: Any) -> None:
    workload = endpoint(metadata=metadata).workload
    assert (workload.labels, workload.locality) == ((), "eu")


def test_names_of_services() -> None:
    def names(name_from: str, **fields: Any) -> list[str]:
        return [name for name, _ in member(rules_of(EurekaOptions(address="", name_from=name_from)), **fields).placed]

    assert names("app") == ["shop"]
    assert names("app", app=None) == ["shop"]
    assert names("vip", vipAddress="Front, back,front,,") == ["front", "back"]
    assert names("vip", vipAddress=None, secureVipAddress="safe") == ["safe"]
    assert names("metadata:dns", metadata={"dns": "Pay"}) == ["pay"]


@pytest.mark.parametrize(
    ("name_from", "fields", "code"),
    [
        ("vip", {"vipAddress": " , "}, codes.GARBLED),
        ("vip", {"vipAddress": ",".join(map(str, range(17)))}, codes.TOO_MANY),
        ("metadata:dns", {}, codes.GARBLED),
    ],
)
def test_an_instance_without_a_name_belongs_to_no_service(name_from: str, fields: dict[str, Any], code: str) -> None:
    read = member(rules_of(EurekaOptions(address="", name_from=name_from)), **fields)
    assert read.placed == ()
    assert read.refused is not None
    assert read.refused.code == code


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"ipAddr": 7}, codes.GARBLED),
        ({"status": "UP", "vipAddress": ["a"]}, codes.GARBLED),
        ({"lastDirtyTimestamp": "soon"}, codes.GARBLED),
        ({"metadata": {"a": "x" * RECORD_LENGTH}}, codes.TOO_LONG),
    ],
)
def test_G8_one_bad_instance_costs_itself_and_counts_in_the_hash(fields: dict[str, Any], code: str) -> None:
    (reading,) = read(answer(instance(instanceId="bad", **fields), instance()))
    bad, good = reading.members
    assert (bad.status, bad.placed) == ("UP", ())
    assert bad.refused is not None
    assert bad.refused.code == code
    assert len(bad.refused.record) < 4_200
    assert isinstance(good.placed[0][1], Endpoint)


@pytest.mark.parametrize("bad", [7, None, "x", [], {}, {"instanceId": 7}])
def test_G8_what_is_no_instance_costs_itself(bad: Any) -> None:
    (reading,) = read(answer(bad, instance()))
    assert [one.key for one in reading.members] == ["shop:1"]
    assert [one.code for one in reading.refused] == [codes.GARBLED]


def test_G8_bytes_that_are_no_text_cost_their_instance() -> None:
    body = answer(instance(instanceId="bad", hostName="MARK"), instance())
    (reading,) = read(body.replace(b"MARK", b"\xff\xfe"))
    assert [one.refused is None for one in reading.members] == [False, True]


def test_G7_a_record_does_not_change_with_a_renewal_or_a_registration() -> None:
    before = member(leaseInfo={"lastRenewalTimestamp": 1, "durationInSecs": 90}, lastDirtyTimestamp="1")
    after = member(leaseInfo={"lastRenewalTimestamp": 9, "durationInSecs": 90}, lastUpdatedTimestamp="9")
    assert before != after
    assert before.says_the_same(after)


def test_EU6_a_lease_that_is_long_over_is_noticed() -> None:
    lease = {"renewalIntervalInSecs": 30, "durationInSecs": 90, "lastRenewalTimestamp": 1_000_000}
    readings = read(
        answer(
            instance(instanceId="1", leaseInfo=lease),
            instance(instanceId="2", leaseInfo=lease, status="DOWN"),
            instance(instanceId="3", leaseInfo={"durationInSecs": 90}),
            instance(instanceId="4", leaseInfo="?"),
        )
    )
    assert [overdue(readings, at) for at in (1_000.0, 1_090.0 + 150, 1_090.0 + 151)] == [0, 0, 1]


@pytest.mark.parametrize(
    ("renewed", "ended", "lease_s", "evicted"),
    [
        # As real servers wrote them: an end of a lease, a cancellation, a graceful stop.
        (1_795_257_287_000, 1_795_257_288_762, 1, True),
        (1_795_257_287_000, 1_795_257_287_041, 60, False),
        (1_795_257_287_000, 1_795_257_290_010, 15, False),
        (1_795_257_287_000, 0, 1, False),
        (0, 1_795_257_288_762, 1, False),
        (1_795_257_287_000, 1_795_257_288_762, 0, False),
    ],
)
def test_EU6_the_end_of_a_lease_is_told_from_leaving(renewed: int, ended: int, lease_s: int, evicted: bool) -> None:
    lease = {"durationInSecs": lease_s, "lastRenewalTimestamp": renewed, "evictionTimestamp": ended}
    assert member(leaseInfo=lease, actionType="DELETED").evicted == evicted
    assert not member(leaseInfo=lease, actionType="MODIFIED").evicted


def test_EU6_real_services_that_were_stopped_were_not_evicted() -> None:
    deleted = [
        one for reading in golden("3-order-service-stopped.apps-delta") for one in reading.members if one.deleted
    ]
    assert deleted
    assert not any(one.evicted for one in deleted)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    ),
    st.sampled_from(
        ["port", "securePort", "metadata", "leaseInfo", "dataCenterInfo", "status", "instanceId", "vipAddress"]
    ),
    st.sampled_from(["app", "vip", "metadata:zone"]),
)
def test_G8_nothing_that_is_JSON_breaks_the_reading(value: Any, field: str, name_from: str) -> None:
    rules = EurekaRules(region="eu", name_from=name_from, secure_port="always", labels={"a": "a"})
    body = json.dumps(
        {"applications": {"application": {"name": "SHOP", "instance": [{**instance(), field: value}, instance()]}}}
    )
    (reading,) = read(body.encode(), rules)
    assert "shop:1" in [one.key for one in reading.members]
