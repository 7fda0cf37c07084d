"""adapters/nacos/records.py: instances, as real clients registered them and as strangers might."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.adapters.applications import ApplicationPort
from isthmus.adapters.dubbo import DubboProtocol, DubboRules, Reading, read_interface
from isthmus.adapters.nacos.records import NacosRules, Scope, parse_instance, read_service
from isthmus.registry import codes
from isthmus.registry.errors import RecordError
from isthmus.registry.merge import Contribution, merge
from isthmus.registry.model import Port, Service
from isthmus.registry.policy import RECORD_LENGTH, Policy, admit

GOLDEN = Path(__file__).parent.parent / "golden"
HOME = Scope("public", "DEFAULT_GROUP", (), "legacy")
PAY = Scope("shop", "PAY_GROUP", ("PAY_GROUP", "shop"), "shop")
LABELS = {"dubbo.tag": "isthmus.io/tag", "zone": "zone"}
DUBBO = DubboRules("legacy", labels=LABELS)
RULES = NacosRules(DUBBO, labels={"version": "version", "zone": "zone"})
GREETING = "providers:rig.GreetingService:2.0.0:gray"


def instance(ip: str = "10.0.0.1", port: object = 8080, **fields: object) -> bytes:
    """Return an instance as Nacos writes it, with other values where they are given."""
    said: dict[str, object] = {"ip": ip, "port": port, "weight": 1.0, "healthy": True, "enabled": True}
    said |= {"clusterName": "DEFAULT", "metadata": {}} | fields
    return json.dumps(said).encode()


def application(*endpoints: tuple[int, str], ip: str = "10.0.0.1", port: int = 20880, **fields: object) -> bytes:
    """Return an instance as Dubbo 3 registers an application."""
    exposed = json.dumps([{"port": number, "protocol": protocol} for number, protocol in endpoints])
    return instance(ip, port, metadata={"dubbo.endpoints": exposed}, **fields)


def golden(version: str, name: str) -> list[bytes]:
    """Return the instances of a service that real clients registered in a real Nacos, as its HTTP shows them."""
    page = GOLDEN / "nacos" / version / f"instances.DEFAULT_GROUP.{name.replace(':', '_')}.json"
    hosts: list[Any] = json.loads(page.read_text())["hosts"]
    return [json.dumps(host).encode() for host in hosts]


def read(name: str, *hosts: bytes, scope: Scope = HOME, rules: NacosRules = RULES) -> Reading:
    return read_service(scope, name, hosts, rules)


def only(reading: Reading) -> Service:
    """Return the one service of a reading in which nothing was left out."""
    (service,) = reading.services.values()
    assert (reading.refused, service.refused) == ((), ())
    return service


def places(service: Service) -> list[tuple[str, int]]:
    return [(one.workload.address, one.workload.ports[0][1]) for one in service.endpoints]


# What real clients wrote.


def test_a_real_spring_cloud_service_is_an_application() -> None:
    service = only(read("user-service", *golden("3.1.0", "user-service")))

    assert (service.key, service.identity) == ("public/DEFAULT_GROUP/user-service", "app:user-service")
    assert (service.namespace, service.host) == ("legacy", "user-service.mesh")
    assert service.ports == (Port(80, "http", "HTTP"),)
    (endpoint,) = service.endpoints
    assert endpoint.workload.ports == (("http", 8080),)
    # Neither where it was registered from nor its Istio revision: only what the operator names (T09).
    assert endpoint.workload.labels == (("version", "v1"),)
    assert endpoint.workload.weight == 0
    assert json.loads(endpoint.record)["instanceId"] == "10.20.0.1#8080#HZ#DEFAULT_GROUP@@user-service"


def test_a_real_dubbo_3_application_is_one_under_dubbos_suffix() -> None:
    service = only(read("shop-dubbo3-nacos", *golden("3.1.0", "shop-dubbo3-nacos")))

    assert service.key == "public/DEFAULT_GROUP/shop-dubbo3-nacos#dubbo"
    assert (service.identity, service.host) == ("dubbo-app:shop-dubbo3-nacos", "shop-dubbo3-nacos.dubbo")
    assert service.ports == (Port(20880, "tcp-dubbo", "TCP"),)
    assert service.endpoints[0].workload.ports == (("tcp-dubbo", 20883),)


def test_a_real_instance_that_its_health_check_failed_is_refused_or_taken_as_configured() -> None:
    (sick,) = golden("3.1.0", "legacy-db")
    (service,) = read("legacy-db", sick).services.values()

    assert service.endpoints == ()
    assert [refusal.code for refusal in service.refused] == [codes.UNHEALTHY]
    taken = only(read("legacy-db", sick, rules=NacosRules(DUBBO, healthy_only=False)))
    assert places(taken) == [("10.20.0.3", 3306)]


@pytest.mark.parametrize(("version", "port"), [("2.2.4", 20884), ("3.1.0", 20883)])
def test_a_real_dubbo_interface_is_what_it_is_in_zookeeper(version: str, port: int) -> None:
    service = only(read(GREETING, *golden(version, GREETING)))

    assert service.key == f"public/DEFAULT_GROUP/{GREETING}#dubbo"
    assert (service.identity, service.host) == (
        "dubbo:gray/rig.GreetingService:2.0.0",
        "rig.greetingservice.2-0-0.gray.dubbo",
    )
    (endpoint,) = service.endpoints
    assert endpoint.workload.ports == (("tcp-dubbo", port),)
    assert endpoint.workload.weight == 200
    assert endpoint.workload.labels == (("isthmus.io/tag", "canary"), ("zone", "z1"))


@pytest.mark.parametrize("version", ["2.2.4", "3.1.0"])
@pytest.mark.parametrize(
    ("name", "identity"),
    [
        (GREETING, "dubbo:gray/rig.GreetingService:2.0.0"),
        ("providers:rig.GreetingService::", "dubbo:rig.GreetingService"),
        ("providers:rig.OrderService:1.0.0:", "dubbo:rig.OrderService:1.0.0"),
    ],
)
def test_what_is_in_zookeeper_and_in_nacos_merges(version: str, name: str, identity: str) -> None:
    interface = name.split(":")[1]
    theirs = read_interface(interface, zookeeper_records(interface), DUBBO).services[identity]
    ours = only(read(name, *golden(version, name)))

    assert (ours.identity, ours.host, ours.ports) == (theirs.identity, theirs.host, theirs.ports)
    merged = merge([Contribution("zk", theirs), Contribution("nacos", ours)], None)
    assert merged.refused == ()
    assert len(merged.entry.endpoints) == len(theirs.endpoints) + 1


def test_one_provider_that_registers_in_both_is_one_endpoint() -> None:
    record = next(one for one in zookeeper_records("rig.GreetingService") if "version%3D2.0.0" in one)
    url, _, query = unquote(record).partition("?")
    address, port = url.removeprefix("dubbo://").partition("/")[0].split(":")
    # As Dubbo does it: the parameters of the URL, and what is beside them in it.
    metadata = dict(part.split("=") for part in query.split("&")) | {"protocol": "dubbo", "category": "providers"}
    ours = only(read(GREETING, instance(address, int(port), metadata=metadata)))
    (theirs,) = read_interface("rig.GreetingService", [record], DUBBO).services.values()

    assert [one.workload for one in ours.endpoints] == [one.workload for one in theirs.endpoints]
    merged = merge([Contribution("zk", theirs), Contribution("nacos", ours)], None)
    assert (len(merged.entry.endpoints), merged.refused) == (1, ())


def zookeeper_records(interface: str) -> list[str]:
    """Return the provider nodes that real Dubbo providers wrote in ZooKeeper."""
    tree = (GOLDEN / "zookeeper" / "tree.jsonl").read_text()
    prefix = f"/dubbo/{interface}/providers/"
    paths = [json.loads(line)["path"] for line in tree.splitlines()]
    return [path.removeprefix(prefix) for path in paths if path.startswith(prefix)]


# Applications.


def test_instances_with_different_ports_have_one_service_port() -> None:
    service = only(read("user-service", instance("10.0.0.1", 8080), instance("10.0.0.2", 9090)))

    assert service.ports == (Port(80, "http", "HTTP"),)
    assert places(service) == [("10.0.0.1", 8080), ("10.0.0.2", 9090)]


def test_a_service_can_have_a_port_of_its_own() -> None:
    rules = NacosRules(DUBBO, port=ApplicationPort(8080, "HTTP"), services={"pay": ApplicationPort(9000, "GRPC")})

    assert only(read("pay", instance(), rules=rules)).ports == (Port(9000, "grpc", "GRPC"),)
    assert only(read("user", instance(), rules=rules)).ports == (Port(8080, "http", "HTTP"),)


def test_a_chinese_name_is_served_under_a_hash() -> None:
    service = admit(only(read("订单服务", instance())), Policy("nacos"))

    assert service.host.startswith("x-")
    assert service.key == "public/DEFAULT_GROUP/订单服务"
    assert len(service.endpoints) == 1


def test_two_scopes_share_neither_host_nor_identity_nor_key() -> None:
    readings = [
        only(read(name, record, scope=scope))
        for scope in (HOME, PAY)
        for name, record in (("pay", instance()), ("pay", application((20880, "dubbo"))), (GREETING, instance()))
    ]

    for names in ({one.host for one in readings}, {one.identity for one in readings}, {one.key for one in readings}):
        assert len(names) == len(readings)
    assert {one.namespace for one in readings[3:]} == {"shop"}


def test_a_scope_is_not_taken_for_a_group_of_dubbos() -> None:
    gray = Scope("public", "gray", ("gray",), "legacy")

    ours = only(read("providers:a.B::", instance(), scope=gray))
    assert ours.host != only(read("providers:a.B::gray", instance())).host
    assert ours.identity == "dubbo:a.B@gray"


def test_a_key_keeps_its_parts_apart() -> None:
    names = ["a#dubbo", "a", "a/b", "a%2Fb"]
    keys = [key for name in names for key in read(name, instance(), application((20880, "dubbo"))).services]

    assert len(set(keys)) == 2 * len(names)


@pytest.mark.parametrize(
    ("weights", "numbers"),
    [
        ([1.0, 1.0], [0, 0]),
        ([0.4, 1.0], [40, 100]),
        ([None, 3], [100, 300]),
        (["2.5", 1.0], [250, 100]),
        # Neither is a weight, and a typo withdraws nobody.
        (["NaN", "Infinity", "-Infinity", "abc", {}, [], 2.0], [100, 100, 100, 100, 100, 100, 200]),
        ([10**400, 2.0], [100, 200]),
    ],
)
def test_weights_keep_their_ratios(weights: list[object], numbers: list[int]) -> None:
    hosts = [instance(f"10.0.0.{place}", weight=weight) for place, weight in enumerate(weights)]

    assert [one.workload.weight for one in only(read("user-service", *hosts)).endpoints] == numbers


def test_only_the_clusters_that_are_wanted_are_read_and_lie_where_the_operator_says() -> None:
    rules = NacosRules(DUBBO, clusters=("HZ", "DEFAULT"), localities={"HZ": "cn/hz"})
    hosts = [instance(f"10.0.0.{place}", clusterName=name) for place, name in enumerate(("HZ", "BJ", None))]

    for name in ("user-service", "providers:a.B::"):
        service = only(read(name, *hosts, rules=rules))
        assert [(one.workload.address, one.workload.locality) for one in service.endpoints] == [
            ("10.0.0.0", "cn/hz"),
            ("10.0.0.2", ""),
        ]


@pytest.mark.parametrize(
    ("value", "label"),
    [("v1", (("version", "v1"),)), (2, (("version", "2"),)), (True, (("version", "true"),)), (None, ()), ({}, ())],
)
def test_T09_labels_are_those_that_the_operator_names(value: object, label: tuple[tuple[str, str], ...]) -> None:
    metadata = {"version": value, "istio.io/rev": "canary", "security.istio.io/tlsMode": "disabled"}

    assert only(read("user-service", instance(metadata=metadata))).endpoints[0].workload.labels == label


def test_what_nacos_leaves_out_is_as_nacos_presumes() -> None:
    nulls = instance(weight=None, healthy=None, enabled=None, clusterName=None, metadata=None)
    for record in (b'{"ip":"10.0.0.1","port":8080}', nulls):
        assert places(only(read("user-service", record))) == [("10.0.0.1", 8080)]


def test_a_bracketed_ipv6_address_is_one() -> None:
    service = admit(only(read("user-service", instance("[2001:db8::1]"))), Policy("nacos"))

    assert places(service) == [("2001:db8::1", 8080)]


@pytest.mark.parametrize("ip", ["vm-17.corp.example", "", "10.0.0.1:8080", "unix:///run/x.sock"])
def test_T06_what_is_no_ip_address_is_refused_by_the_house_rules(ip: str) -> None:
    service = admit(only(read("user-service", instance(ip))), Policy("nacos"))

    assert service.endpoints == ()
    assert [refusal.code for refusal in service.refused] == [codes.NOT_AN_ADDRESS]


# Dubbo's applications.


@pytest.mark.parametrize(
    ("endpoints", "host", "port"),
    [
        ([(20880, "dubbo")], "shop.dubbo", 20880),
        ([(50051, "tri"), (20880, "dubbo")], "shop.dubbo", 20880),
        ([(20880, "rest"), (20880, "tri")], "shop.tri", 20880),
        # None has the instance's port, and of the others only the second is known.
        ([(8081, "rest"), (50052, "tri"), (20881, "dubbo")], "shop.tri", 50052),
        ([], "shop.mesh", 20880),
    ],
)
def test_an_application_is_called_where_it_speaks(endpoints: list[tuple[int, str]], host: str, port: int) -> None:
    service = only(read("shop", application(*endpoints)))

    assert (service.host, places(service)) == (host, [("10.0.0.1", port)])


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('[{"port":20880,"protocol":"rest"}]', codes.UNKNOWN_SCHEME),
        ('[{"port":20880}]', codes.GARBLED),
        ("dubbo", codes.GARBLED),
        ("[" * 10_000, codes.GARBLED),
        ('[{"port":70000,"protocol":"dubbo"}]', codes.BAD_PORT),
    ],
)
def test_an_application_that_cannot_be_called_is_refused(text: str, code: str) -> None:
    reading = read("shop", instance(port=8080, metadata={"dubbo.endpoints": text}))

    refused = [*reading.refused, *(one for service in reading.services.values() for one in service.refused)]
    assert [refusal.code for refusal in refused] == [code]
    assert all(service.endpoints == () for service in reading.services.values())


def test_one_name_can_be_an_application_of_dubbos_and_another_at_once() -> None:
    hosts = [application((20880, "dubbo"), weight=0.4), application((20880, "dubbo"), ip="10.0.0.3"), instance()]
    reading = read("shop", *hosts)

    assert {key: (service.host, places(service)) for key, service in reading.services.items()} == {
        "public/DEFAULT_GROUP/shop": ("shop.mesh", [("10.0.0.1", 8080)]),
        "public/DEFAULT_GROUP/shop#dubbo": ("shop.dubbo", [("10.0.0.1", 20880), ("10.0.0.3", 20880)]),
    }
    dubbo = reading.services["public/DEFAULT_GROUP/shop#dubbo"]
    assert [one.workload.weight for one in dubbo.endpoints] == [40, 100]


# Dubbo's interfaces.


def test_an_interface_with_two_protocols_is_two_services() -> None:
    reading = read("providers:a.B::", instance(), instance(metadata={"protocol": "tri"}))

    assert {key: service.host for key, service in reading.services.items()} == {
        "public/DEFAULT_GROUP/providers:a.B::#dubbo": "a.b.dubbo",
        "public/DEFAULT_GROUP/providers:a.B::#tri": "a.b.tri",
    }


@pytest.mark.parametrize("name", ["consumers:a.B::", "routers:a.B::", "configurators:a.B:1.0:"])
def test_what_dubbo_keeps_beside_its_providers_is_no_service(name: str) -> None:
    assert read(name, instance(), b"garbage") == Reading({}, ())


@pytest.mark.parametrize(
    ("name", "metadata", "identity"),
    [
        ("providers:a.B:1.0:g", {}, "dubbo:g/a.B:1.0"),
        ("providers:a.B::g", {}, "dubbo:g/a.B"),
        ("providers:a.B:1.0:", {}, "dubbo:a.B:1.0"),
        ("providers:a.B::g:h", {"interface": "a.B", "group": "g:h"}, "dubbo:g%3Ah/a.B"),
        # An old client's, without the empty parts.
        ("providers:a.B", {}, "dubbo:a.B"),
        ("providers:a.B:1.0", {}, "dubbo:a.B:1.0"),
        ("providers:a.B:1.0", {"interface": "a.B", "version": "1.0"}, "dubbo:a.B:1.0"),
        ("providers:a.B:g", {"interface": "a.B", "group": "g"}, "dubbo:g/a.B"),
    ],
)
def test_the_name_tells_interface_version_and_group(name: str, metadata: dict[str, str], identity: str) -> None:
    assert only(read(name, instance(metadata=metadata))).identity == identity


@pytest.mark.parametrize("name", ["providers:a.B::", "providers:a.B", "providers:a.B:"])
def test_T01_metadata_cannot_make_an_instance_one_of_another_service(name: str) -> None:
    metadata = {"interface": "bank.Accounts", "version": "9", "group": "gold"}

    assert only(read(name, instance(metadata=metadata))).identity == "dubbo:a.B"
    assert only(read("providers:a.B::g", instance(metadata={"interface": "a.B", "version": "g"}))).host == "a.b.g.dubbo"
    twisted = {"version": "a.B", "group": "x"}
    assert only(read("providers:a.B:x", instance(metadata=twisted))).identity == "dubbo:a.B:x"


def test_two_services_under_one_old_name_have_two_keys() -> None:
    reading = read("providers:a.B:x", instance(), instance(metadata={"interface": "a.B", "group": "x"}))

    assert {key: service.identity for key, service in reading.services.items()} == {
        "public/DEFAULT_GROUP/providers:a.B:x#dubbo": "dubbo:a.B:x",
        "public/DEFAULT_GROUP/providers:a.B:x#dubbo:group": "dubbo:x/a.B",
    }


def test_the_weight_of_a_provider_is_dubbos_and_nacoss_only_takes_it_out() -> None:
    hosts = [
        instance("10.0.0.1", weight=7.0, metadata={"weight": "200"}),
        instance("10.0.0.2", weight=3.0),
        instance("10.0.0.3", weight=0.0, metadata={"weight": "200"}),
    ]
    (service,) = read("providers:a.B::", *hosts).services.values()

    assert [one.workload.weight for one in service.endpoints] == [200, 100]
    assert [refusal.code for refusal in service.refused] == [codes.ZERO_WEIGHT]


@pytest.mark.parametrize(
    ("metadata", "code"),
    [
        ({"disabled": "true"}, codes.DISABLED),
        ({"enabled": "false"}, codes.DISABLED),
        ({"enabled": False}, codes.DISABLED),
        ({"weight": "0"}, codes.ZERO_WEIGHT),
        ({"protocol": "thrift"}, codes.UNKNOWN_SCHEME),
    ],
)
def test_what_dubbo_says_in_metadata_counts_as_in_its_url(metadata: dict[str, object], code: str) -> None:
    reading = read("providers:a.B::", instance(metadata=metadata))

    (service,) = reading.services.values()
    assert [refusal.code for refusal in (*reading.refused, *service.refused)] == [code]
    assert service.endpoints == ()


# What cannot be served.


@pytest.mark.parametrize("name", ["user-service", "providers:a.B::"])
@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"port": 0}, codes.BAD_PORT),
        ({"port": -1}, codes.BAD_PORT),
        ({"port": 65_536}, codes.BAD_PORT),
        ({"port": int("9" * 4_000)}, codes.BAD_PORT),
        ({"port": None}, codes.BAD_PORT),
        ({"enabled": False}, codes.DISABLED),
        ({"weight": 0}, codes.ZERO_WEIGHT),
        ({"weight": -0.5}, codes.ZERO_WEIGHT),
        ({"healthy": False}, codes.UNHEALTHY),
    ],
)
def test_NA8_what_takes_no_traffic_is_refused_with_its_reason(name: str, fields: dict[str, object], code: str) -> None:
    (service,) = read(name, instance(**fields)).services.values()  # type: ignore[arg-type]

    assert service.endpoints == ()
    (refusal,) = service.refused
    assert (refusal.code, len(refusal.reason) < 200) == (code, True)


def test_NA7_under_the_protection_threshold_what_nacos_shows_is_kept() -> None:
    # There the server calls all healthy, and so the rule for the unhealthy needs no exception.
    hosts = [instance(f"10.0.0.{place}", healthy=True) for place in range(9)]

    assert len(only(read("user-service", *hosts)).endpoints) == 9


GARBAGE = [
    b"",
    b"null",
    b"[]",
    b"{",
    b"garbage",
    b"\xff\xfe",
    b'{"ip":"\xff"}',
    b'{"ip":"\\ud800","port":1}',
    b'{"ip":5,"port":1}',
    b'{"ip":"10.0.0.1","port":true}',
    b'{"ip":"10.0.0.1","port":' + b"9" * 5_000 + b"}",
    b'{"weight":NaN}',
    b'{"weight":1e400}',
    b'{"metadata":[]}',
    b'{"metadata":{"a":' + b"[" * 20_000 + b"]" * 20_000 + b"}}",
    b'{"metadata":' + b'{"a":' * 9_000 + b"1" + b"}" * 9_000 + b"}",
]


@pytest.mark.parametrize("record", GARBAGE, ids=lambda record: repr(record[:24]))
def test_what_cannot_be_read_is_refused(record: bytes) -> None:
    with pytest.raises(RecordError) as error:
        parse_instance(record)

    assert error.value.code == codes.GARBLED
    assert len(error.value.reason) < 300


def test_bytes_that_are_no_text_where_nobody_reads_harm_nobody() -> None:
    assert "\\xff" in parse_instance(b'{"ip":"10.0.0.1","port":1,"x":"\xff"}').record


def test_T08_a_record_that_is_too_long_is_not_read() -> None:
    with pytest.raises(RecordError) as error:
        parse_instance(instance(metadata={"a": "x" * RECORD_LENGTH}))

    assert error.value.code == codes.TOO_LONG


@pytest.mark.parametrize("name", ["user-service", "providers:a.B::"])
def test_G8_a_refused_record_does_not_touch_its_neighbours(name: str) -> None:
    reading = read(name, *GARBAGE, instance())

    (service,) = reading.services.values()
    assert places(service) == [("10.0.0.1", 8080)]
    assert [refusal.code for refusal in reading.refused] == [codes.GARBLED] * len(GARBAGE)
    assert all(len(refusal.record) <= 4_096 for refusal in reading.refused)


@pytest.mark.parametrize(
    ("name", "key", "host"),
    [
        ("user-service", "public/DEFAULT_GROUP/user-service", "user-service.mesh"),
        ("providers:a.B:1.0:g", "public/DEFAULT_GROUP/providers:a.B:1.0:g#dubbo", "a.b.1-0.g.dubbo"),
    ],
)
@pytest.mark.parametrize("hosts", [[], [b"garbage"]])
def test_G1_a_service_without_usable_instances_is_one_without_endpoints(
    name: str, key: str, host: str, hosts: list[bytes]
) -> None:
    services = read(name, *hosts).services

    assert {one: (service.host, service.endpoints) for one, service in services.items()} == {key: (host, ())}


def test_an_empty_interface_is_of_a_protocol_that_the_source_knows() -> None:
    table = {"rest": DubboProtocol(8080, "HTTP", "rest")}

    assert only(read("providers:a.B::", rules=NacosRules(DubboRules("legacy", table)))).host == "a.b.rest"
    assert read("providers:a.B::", rules=NacosRules(DubboRules("legacy", {}))).services == {}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(["ip", "port", "weight", "healthy", "enabled", "clusterName", "metadata"])
METADATA = st.dictionaries(st.sampled_from(["protocol", "dubbo.endpoints", "weight", "interface"]), JSON)
HOSTS = st.one_of(
    st.binary(max_size=60),
    st.dictionaries(FIELDS, JSON).map(lambda said: json.dumps(said).encode()),
    METADATA.map(lambda metadata: instance(metadata=metadata)),
)
NAMES = st.text(max_size=40) | st.text(max_size=40).map("providers:".__add__)


@given(NAMES, st.lists(HOSTS, max_size=9))
def test_no_record_can_make_the_reading_fail(name: str, hosts: list[bytes]) -> None:
    reading = read(name, *hosts)

    served = sum(len(service.endpoints) + len(service.refused) for service in reading.services.values())
    assert served + len(reading.refused) == (len(hosts) if reading.services else 0)
    for key, service in reading.services.items():
        assert key == service.key
        admit(service, Policy("nacos"))


REAL = [*golden("3.1.0", "user-service"), *golden("3.1.0", "shop-dubbo3-nacos"), *golden("2.2.4", GREETING)]


@given(st.randoms(), st.lists(st.sampled_from([*REAL, instance(weight=0.4), instance("10.0.0.2"), *GARBAGE])))
@pytest.mark.parametrize("name", ["shop", GREETING])
def test_G7_the_order_of_the_hosts_changes_nothing(name: str, chance: object, hosts: list[bytes]) -> None:
    shuffled = list(hosts)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]

    assert read(name, *hosts) == read(name, *shuffled)
