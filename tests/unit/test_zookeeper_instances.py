"""adapters/zookeeper/instances.py: Curator's instances, as real Dubbo wrote them and as strangers might."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.adapters.applications import ApplicationPort
from isthmus.adapters.dubbo import DubboRules, Reading
from isthmus.adapters.instances import ApplicationRules
from isthmus.adapters.nacos.records import NacosRules, Scope, read_service
from isthmus.adapters.zookeeper.instances import read_application, rules_of
from isthmus.adapters.zookeeper.options import ZookeeperOptions
from isthmus.registry import codes
from isthmus.registry.merge import Contribution, merge
from isthmus.registry.model import Port, Service
from isthmus.registry.policy import RECORD_LENGTH

TREE = Path(__file__).parent.parent / "golden" / "zookeeper" / "tree.jsonl"
DUBBO = DubboRules("legacy")
RULES = ApplicationRules(DUBBO, labels={"version": "version"})
HOME = Scope("public", "DEFAULT_GROUP", (), "legacy")
# As Curator's releases write it beside the instance; nothing of it is of use here.
URI_SPEC = {"parts": [{"value": "scheme", "variable": True}, {"value": "://", "variable": False}]}


def real_records(name: str) -> list[bytes]:
    """Return the instances that real Dubbo 3.3.5 providers wrote for an application."""
    nodes = [json.loads(line) for line in TREE.read_text().splitlines()]
    return [node["data"].encode() for node in nodes if node["path"].startswith(f"/services/{name}/")]


def instance(address: str = "10.0.0.1", port: object = 8080, metadata: object = None, **fields: object) -> bytes:
    """Return an instance as Spring Cloud ZooKeeper writes it, with other values where they are given."""
    payload = {"@class": "org.springframework.cloud.zookeeper.discovery.ZookeeperInstance", "id": "shop-1"}
    said: dict[str, object] = {"name": "shop", "id": "6d4e5121", "address": address, "port": port, "sslPort": None}
    said |= {"payload": payload | {"name": "shop", "metadata": metadata or {}}, "registrationTimeUTC": 1610116500446}
    return json.dumps(said | {"serviceType": "DYNAMIC", "uriSpec": URI_SPEC} | fields).encode()


def application(*endpoints: tuple[int, str], port: int = 20880) -> bytes:
    """Return an instance as Dubbo 3 registers an application."""
    exposed = [{"port": number, "protocol": protocol} for number, protocol in endpoints]
    return instance(port=port, metadata={"dubbo.endpoints": json.dumps(exposed)})


def read(*records: bytes, name: str = "shop", rules: ApplicationRules = RULES) -> Reading:
    return read_application("/services", name, records, rules)


def only(reading: Reading) -> Service:
    """Return the one service of a reading in which nothing was left out."""
    (service,) = reading.services.values()
    assert (reading.refused, service.refused) == ((), ())
    return service


def places(service: Service) -> list[tuple[str, int]]:
    return [(one.workload.address, one.workload.ports[0][1]) for one in service.endpoints]


def refusals(reading: Reading) -> list[str]:
    every = [*reading.refused, *(one for service in reading.services.values() for one in service.refused)]
    assert all(refusal.reason for refusal in every)
    return [refusal.code for refusal in every]


@pytest.mark.parametrize(
    ("name", "scheme", "endpoints"),
    [
        ("shop-dubbo3", "dubbo", [("10.20.0.1", 20881), ("10.20.0.2", 20881)]),
        ("shop-dubbo3-instance", "dubbo", [("10.20.0.1", 20885)]),
        # Its metadata is kept in ZooKeeper, and not asked for at the provider.
        ("shop-dubbo3-remote", "dubbo", [("10.20.0.1", 20886)]),
        ("shop-dubbo3-tri", "tri", [("10.20.0.1", 50051)]),
    ],
)
def test_a_real_dubbo_3_application_is_what_it_is_in_Nacos(
    name: str, scheme: str, endpoints: list[tuple[str, int]]
) -> None:
    records = real_records(name)
    service = only(read(*records, name=name))

    assert (service.key, service.host) == (f"/services/{name}#{scheme}", f"{name}.{scheme}")
    assert (service.identity, service.namespace) == (f"dubbo-app:{name}", "legacy")
    assert places(service) == endpoints
    assert {one.workload.weight for one in service.endpoints} == {0}
    assert [one.record.encode() for one in service.endpoints] == records
    assert_equal_to_Nacos(service, name, records[0])


def test_a_spring_cloud_application_is_what_it_is_in_Nacos() -> None:
    record = instance(metadata={"version": "v1", "instance_status": "UP", "zone": "z1"})
    service = only(read(record))

    assert (service.key, service.identity, service.host) == ("/services/shop", "app:shop", "shop.mesh")
    assert service.ports == (Port(80, "http", "HTTP"),)
    assert places(service) == [("10.0.0.1", 8080)]
    assert service.endpoints[0].workload.labels == (("version", "v1"),)
    assert_equal_to_Nacos(service, "shop", record)


def assert_equal_to_Nacos(ours: Service, name: str, record: bytes) -> None:
    """Check that an instance which registers in Nacos with the same metadata is one of the same service."""
    said = json.loads(record)
    registered = {"ip": "10.9.9.9", "port": said["port"], "weight": 1.0, "metadata": said["payload"]["metadata"]}
    reading = read_service(HOME, name, [json.dumps(registered).encode()], NacosRules(DUBBO))
    (theirs,) = reading.services.values()

    assert (ours.host, ours.identity, ours.ports) == (theirs.host, theirs.identity, theirs.ports)
    merged = merge([Contribution("zk", ours), Contribution("nacos", theirs)], None)
    assert (len(merged.entry.endpoints), merged.refused) == (len(ours.endpoints) + 1, ())


def test_one_instance_that_registers_in_both_is_one_endpoint() -> None:
    (record,) = real_records("shop-dubbo3-instance")
    said = json.loads(record)
    registered = {"ip": said["address"], "port": said["port"], "weight": 1.0, "metadata": said["payload"]["metadata"]}
    theirs = only(read_service(HOME, "shop", [json.dumps(registered).encode()], NacosRules(DUBBO)))
    merged = merge([Contribution("zk", only(read(record))), Contribution("nacos", theirs)], None)

    assert (len(merged.entry.endpoints), merged.refused) == (1, ())


def test_one_name_can_be_an_application_of_dubbos_and_another_at_once() -> None:
    reading = read(application((20880, "dubbo")), application((50051, "tri"), port=50051), instance("10.0.0.2"))

    assert {key: (service.host, places(service)) for key, service in reading.services.items()} == {
        "/services/shop": ("shop.mesh", [("10.0.0.2", 8080)]),
        "/services/shop#dubbo": ("shop.dubbo", [("10.0.0.1", 20880)]),
        "/services/shop#tri": ("shop.tri", [("10.0.0.1", 50051)]),
    }


def test_no_two_services_share_a_key() -> None:
    records = [instance(), application((20880, "dubbo"))]
    keys = [key for name in ("a", "a#dubbo", "a%23dubbo") for key in read(*records, name=name).services]

    assert len(set(keys)) == 6


def test_T01_an_instance_belongs_to_the_node_that_it_is_below() -> None:
    assert only(read(instance(name="bank"))).identity == "app:shop"


def test_the_options_say_how_applications_are_published() -> None:
    options = ZookeeperOptions(
        address="zk:2181",
        namespace="shop",
        suffix="apps",
        port=8000,
        services={"pay": ApplicationPort(443, "HTTPS")},
        labels={"zone": "zone"},
    )
    rules = rules_of(options)
    service = only(read(instance(metadata={"zone": "z1"}), rules=rules))

    assert (service.namespace, service.host, service.ports[0].number) == ("shop", "shop.apps", 8000)
    assert service.endpoints[0].workload.labels == (("zone", "z1"),)
    assert only(read(instance(), name="pay", rules=rules)).ports == (Port(443, "https", "HTTPS"),)


@pytest.mark.parametrize(
    ("ports", "protocol", "number"),
    [
        ({"port": 8080, "sslPort": 8443}, "HTTP", 8080),
        ({"port": 8080, "sslPort": 8443}, "HTTPS", 8443),
        ({"port": 8080, "sslPort": 8443}, "TLS", 8443),
        ({"port": 8080, "sslPort": None}, "HTTPS", 8080),
        ({"port": None, "sslPort": 8443}, "HTTPS", 8443),
        ({"port": "8080"}, "HTTP", 8080),
    ],
)
def test_the_port_is_of_the_kind_that_the_service_speaks(ports: dict[str, object], protocol: str, number: int) -> None:
    rules = ApplicationRules(DUBBO, port=ApplicationPort(443, protocol))

    assert places(only(read(instance(**ports), rules=rules))) == [("10.0.0.1", number)]  # type: ignore[arg-type]


@pytest.mark.parametrize("status", ["UP", "up", " ", "", None])
def test_an_instance_is_up_if_it_says_so_or_nothing(status: str | None) -> None:
    assert len(only(read(instance(metadata={"instance_status": status}))).endpoints) == 1


@pytest.mark.parametrize("payload", [None, {}, {"metadata": None}, {"metadata": []}, "text", ["java.lang.String", "x"]])
def test_a_payload_of_other_users_of_Curator_is_no_fault(payload: object) -> None:
    assert places(only(read(instance(payload=payload)))) == [("10.0.0.1", 8080)]


@pytest.mark.parametrize(
    ("record", "code"),
    [
        (instance(metadata={"instance_status": "OUT_OF_SERVICE"}), codes.DISABLED),
        (instance(metadata={"instance_status": "DOWN"}), codes.DISABLED),
        (instance(enabled=False), codes.DISABLED),
        (instance(port=0), codes.BAD_PORT),
        (instance(port=None), codes.BAD_PORT),
        (instance(port=None, sslPort=8443), codes.BAD_PORT),
        (instance(port=65_536), codes.BAD_PORT),
        (instance(port=-1), codes.BAD_PORT),
        (instance(port="x"), codes.GARBLED),
        (instance(port=10**400), codes.BAD_PORT),
        # Python reads and writes no number of more than 4,300 digits.
        (instance(port="P").replace(b'"P"', b"9" * 5_000), codes.GARBLED),
        (instance(address=7), codes.GARBLED),  # type: ignore[arg-type]
        (application((8080, "rest")), codes.UNKNOWN_SCHEME),
        (application((0, "dubbo")), codes.BAD_PORT),
        (instance(metadata={"dubbo.endpoints": "dubbo"}), codes.GARBLED),
        (instance(metadata={"dubbo.endpoints": "[" * 10_000}), codes.GARBLED),
        (b"", codes.GARBLED),
        (b"127.0.0.1", codes.GARBLED),
        (b"[]", codes.GARBLED),
        (b"\xff\xfe", codes.GARBLED),
        (b'{"payload":' + b"[" * 60_000, codes.GARBLED),
        (b'{"payload":' * 5_000, codes.GARBLED),
        (b" " * (RECORD_LENGTH + 1), codes.TOO_LONG),
    ],
)
def test_ZK11_what_cannot_be_read_is_refused_with_its_reason_and_alone(record: bytes, code: str) -> None:
    reading = read(record, instance("10.0.0.9"), application((20880, "dubbo")))

    assert refusals(reading) == [code]
    assert {key: len(service.endpoints) for key, service in reading.services.items()} == {
        "/services/shop": 1,
        "/services/shop#dubbo": 1,
    }


def test_ZK11_bytes_that_are_no_text_where_nobody_reads_harm_nobody() -> None:
    reading = read(b'{"address":"10.0.0.1","port":80,"x":"\xff"}')

    (service,) = reading.services.values()
    assert [one.workload.address for one in service.endpoints] == ["10.0.0.1"]
    assert "\\xff" in service.endpoints[0].record


VALUES = st.none() | st.integers() | st.text(max_size=9) | st.floats() | st.just({"metadata": {"dubbo.endpoints": 1}})
FIELDS = st.sampled_from(["address", "port", "sslPort", "payload", "enabled"])
RECORDS = st.dictionaries(FIELDS, VALUES, max_size=5).map(lambda said: json.dumps(said).encode())


@given(st.lists(st.binary(max_size=60) | RECORDS))
def test_no_record_can_make_the_reading_fail(records: list[bytes]) -> None:
    reading = read(*records)

    served = sum(len(service.endpoints) for service in reading.services.values())
    assert served + len(refusals(reading)) == len(records)


@given(st.randoms(), st.lists(st.sampled_from([*real_records("shop-dubbo3"), instance(), b"garbage"]), unique=True))
def test_ZK10_the_order_of_the_children_changes_nothing(chance: object, records: list[bytes]) -> None:
    shuffled = list(records)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]

    assert read(*records) == read(*shuffled)
