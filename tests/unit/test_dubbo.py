"""adapters/dubbo.py: provider URLs, as real Dubbo wrote them and as strangers might."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.adapters.dubbo import (
    MAX_WEIGHT,
    DubboName,
    DubboProtocol,
    DubboRules,
    dubbo_host,
    dubbo_service,
    parse_provider,
    read_interface,
    service_key,
)
from isthmus.registry import codes
from isthmus.registry.acceptance import host_fault
from isthmus.registry.errors import RecordError
from isthmus.registry.policy import RECORD_LENGTH

RULES = DubboRules("dubbo", labels={"dubbo.tag": "isthmus.io/tag", "zone": "zone"})
TREE = Path(__file__).parent.parent / "golden" / "zookeeper" / "tree.jsonl"


def real_records(interface: str) -> list[str]:
    """Return the provider nodes that real Dubbo 3.3.5 and 2.7.23 providers wrote."""
    paths = [json.loads(line)["path"] for line in TREE.read_text().splitlines()]
    prefix = f"/dubbo/{interface}/providers/"
    return [path.removeprefix(prefix) for path in paths if path.startswith(prefix)]


def url(text: str) -> str:
    return quote(text, safe="")


def read_one(text: str) -> tuple[str, int]:
    provider = parse_provider(url(text), RULES)
    assert provider is not None
    return provider.address, provider.port


def refused(text: str) -> str:
    with pytest.raises(RecordError) as error:
        parse_provider(text, RULES)
    assert error.value.reason
    return error.value.code


def test_what_real_dubbo_wrote_gives_a_service_per_protocol_group_and_version() -> None:
    reading = read_interface("rig.GreetingService", real_records("rig.GreetingService"), RULES)

    assert reading.refused == ()
    assert {service.host: len(service.endpoints) for service in reading.services.values()} == {
        "rig.greetingservice.dubbo": 4,
        "rig.greetingservice.2-0-0.gray.dubbo": 4,
        "rig.greetingservice.tri": 1,
        "rig.greetingservice.2-0-0.gray.tri": 1,
    }
    gray = reading.services["dubbo:gray/rig.GreetingService:2.0.0"]
    assert [(port.number, port.name, port.protocol) for port in gray.ports] == [(20880, "tcp-dubbo", "TCP")]
    assert {one.workload.ports for one in gray.endpoints} == {
        (("tcp-dubbo", 20881),),
        (("tcp-dubbo", 20882),),
        (("tcp-dubbo", 20887),),
    }
    assert {one.workload.weight for one in gray.endpoints} == {200}
    assert {one.workload.labels for one in gray.endpoints} == {(("isthmus.io/tag", "canary"), ("zone", "z1"))}
    plain = reading.services["dubbo:rig.GreetingService"]
    assert {one.workload.weight for one in plain.endpoints} == {0}


@pytest.mark.parametrize(
    ("interface", "version", "group", "host"),
    [
        ("com.foo.Bar", "", "", "com.foo.bar.dubbo"),
        ("com.foo.Bar", "1.0.0", "", "com.foo.bar.1-0-0.dubbo"),
        ("com.foo.Bar", "", "gray", "com.foo.bar.gray.dubbo"),
        ("com.foo.Bar", "1.0.0", "gray", "com.foo.bar.1-0-0.gray.dubbo"),
        ("com.foo.Bar", "2.1.0.release", "", "com.foo.bar.2-1-0-release.dubbo"),
    ],
)
def test_the_host_is_readable_where_it_can_be(interface: str, version: str, group: str, host: str) -> None:
    assert dubbo_host(interface, version, group, "dubbo") == host


def test_hosts_that_would_fall_together_are_kept_apart() -> None:
    names = [
        ("com.foo.Bar", "1.0.0", ""),
        ("com.foo.Bar", "1-0-0", ""),
        ("com.foo.Bar", "1.0-0", ""),
        ("com.foo.Bar", "", "1.0.0"),
        ("com.foo.Bar", "", "1-0-0"),
        ("com.foo.Bar", "gray", ""),
        ("com.foo.Bar", "", "gray"),
        ("com.foo.Bar", "", "Gray"),
        ("com.foo.Bar", "", "a.b"),
        ("com.foo.Bar", "", "a_b"),
    ]

    assert len({dubbo_host(*name, "dubbo") for name in names}) == len(names)


def test_a_scope_of_a_registry_is_never_taken_for_a_group() -> None:
    names = [("", ""), ("", "gray"), ("1.0.0", ""), ("1.0.0", "gray")]
    scopes: list[tuple[str, ...]] = [(), ("gray",), ("GRAY",), ("1-0-0",), ("gray", "shop"), ("shop", "gray")]
    services = [
        dubbo_service(DubboName("dubbo", "com.foo.Bar", version, group, scope), [], RULES)
        for version, group in names
        for scope in scopes
    ]

    assert len({service.host for service in services}) == len(services)
    assert len({service.identity for service in services}) == len(services)
    assert services[1].identity == "dubbo:com.foo.Bar@gray"


@given(st.text(min_size=1, max_size=300), *(st.text(max_size=80) for _ in range(3)))
def test_every_name_gives_a_host_that_istiod_takes(interface: str, version: str, group: str, scope: str) -> None:
    assert host_fault(dubbo_host(interface, version, group, "dubbo")) is None
    assert host_fault(dubbo_host(interface, version, group, "dubbo", (scope,))) is None


@pytest.mark.parametrize(
    ("version", "group", "key"),
    [("", "", "a.B"), ("1.0", "", "a.B:1.0"), ("", "g", "g/a.B"), ("1.0", "g", "g/a.B:1.0")],
)
def test_the_key_is_the_one_that_dubbo_uses(version: str, group: str, key: str) -> None:
    assert service_key("a.B", version, group) == key


def test_no_two_services_share_a_key() -> None:
    names = [
        ("a.B", "1.0", ""),
        ("a.B:1.0", "", ""),
        ("a.B", "", "g"),
        ("g/a.B", "", ""),
        ("a.B", "1:0", ""),
        ("a%3AB", "", ""),
    ]
    names += [("a:B", "", ""), ("a.B", "1.0", "g"), ("a.B:1.0", "", "g"), ("a.B", "", "g/a")]

    assert len({service_key(*name) for name in names}) == len(names)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("dubbo://10.0.0.1:20880/a.B?application=x", ("10.0.0.1", 20880)),
        ("dubbo://user:pa:ss@10.0.0.1:20880/a.B", ("10.0.0.1", 20880)),
        ("tri://[2001:db8::1]:50051/a.B?x=y", ("2001:db8::1", 50051)),
        ("dubbo://2001:db8:0:0:0:0:0:1:20880/a.B", ("2001:db8:0:0:0:0:0:1", 20880)),
        ("dubbo://fe80:0:0:0:894:aeec:f37d:23e1%en0:20880/a.B", ("fe80:0:0:0:894:aeec:f37d:23e1%en0", 20880)),
        ("dubbo://10.0.0.1:20880", ("10.0.0.1", 20880)),
    ],
)
def test_addresses_as_dubbo_writes_them(text: str, place: tuple[str, int]) -> None:
    assert read_one(text) == place


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (url("dubbo://10.0.0.1:0/a.B"), codes.BAD_PORT),
        (url("dubbo://10.0.0.1:65536/a.B"), codes.BAD_PORT),
        # Python reads no number of more than 4,300 digits.
        (url(f"dubbo://10.0.0.1:{'9' * 5000}/a.B"), codes.BAD_PORT),
        (url("dubbo://10.0.0.1:٣٤/a.B"), codes.BAD_PORT),
        (url("dubbo://10.0.0.1/a.B"), codes.BAD_PORT),
        (url("dubbo:///a.B"), codes.BAD_PORT),
        (url("rest://10.0.0.1:8080/a.B"), codes.UNKNOWN_SCHEME),
        (url("://10.0.0.1:8080/a.B"), codes.UNKNOWN_SCHEME),
        ("", codes.GARBLED),
        ("garbage", codes.GARBLED),
        ("dubbo%3A%2F%2F10.0.0.1%3A20880%2Fa.B%3Fx%3D%FF%FE", codes.GARBLED),
        # Once decoded it is still encoded: one decoding is all there is (ZK11).
        (quote(url("dubbo://10.0.0.1:20880/a.B"), safe=""), codes.GARBLED),
        (url("dubbo://10.0.0.1:20880/a.B?disabled=true"), codes.DISABLED),
        (url("dubbo://10.0.0.1:20880/a.B?enabled=false"), codes.DISABLED),
        (url("dubbo://10.0.0.1:20880/a.B?weight=0"), codes.ZERO_WEIGHT),
        (url("dubbo://10.0.0.1:20880/a.B?weight=-5"), codes.ZERO_WEIGHT),
        ("x" * (RECORD_LENGTH + 1), codes.TOO_LONG),
    ],
)
def test_ZK11_what_cannot_be_read_is_refused_with_its_reason(text: str, code: str) -> None:
    assert refused(text) == code


def test_ZK11_a_refused_record_does_not_touch_its_neighbours() -> None:
    good = url("dubbo://10.0.0.1:20880/a.B")
    reading = read_interface("a.B", ["garbage", good, url("thrift://10.0.0.2:1/a.B"), "%ff"], RULES)

    assert [one.workload.address for one in reading.services["dubbo:a.B"].endpoints] == ["10.0.0.1"]
    assert sorted(refusal.code for refusal in reading.refused) == [
        codes.UNKNOWN_SCHEME,
        codes.GARBLED,
        codes.GARBLED,
    ]


def test_ZK11_empty_is_dubbos_word_for_no_provider() -> None:
    assert read_interface("a.B", [url("empty://0.0.0.0/a.B?category=providers")], RULES).refused == ()


@pytest.mark.parametrize(
    ("parameter", "weights"),
    [("weight=1000000000000", {100}), ("weight=99999999999", {MAX_WEIGHT, 100}), ("weight=abc", {0}), ("weight=", {0})],
)
def test_weights_are_bounded_and_a_typo_withdraws_nobody(parameter: str, weights: set[int]) -> None:
    records = [url(f"dubbo://10.0.0.1:20880/a.B?{parameter}"), url("dubbo://10.0.0.2:20880/a.B")]
    service = read_interface("a.B", records, RULES).services["dubbo:a.B"]

    assert {one.workload.weight for one in service.endpoints} <= weights | {0}
    assert len(service.endpoints) == 2


def test_a_scheme_that_the_operator_adds_is_served() -> None:
    rules = DubboRules("dubbo", protocols={"rest": DubboProtocol(8080, "HTTP", "rest")})
    service = read_interface("a.B", [url("rest://10.0.0.1:9000/a.B")], rules).services["rest:a.B"]

    assert service.host == "a.b.rest"
    assert service.ports[0].name == "http-rest"


@given(st.lists(st.one_of(st.text(max_size=60), st.text(max_size=60).map(lambda text: url(f"dubbo://{text}")))))
def test_no_record_can_make_the_reading_fail(records: list[str]) -> None:
    reading = read_interface("a.B", records, RULES)

    served = sum(len(service.endpoints) for service in reading.services.values())
    assert served + len(reading.refused) <= len(records)


@given(st.randoms(), st.lists(st.sampled_from(real_records("rig.GreetingService")), unique=True))
def test_ZK10_the_order_of_the_children_changes_nothing(chance: object, records: list[str]) -> None:
    shuffled = list(records)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]

    assert read_interface("rig.GreetingService", records, RULES) == read_interface(
        "rig.GreetingService", shuffled, RULES
    )
