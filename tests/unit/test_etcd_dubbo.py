"""adapters/etcd/formats/dubbo.py: what Dubbo writes into etcd is what it writes into ZooKeeper."""

from __future__ import annotations

import json
from typing import Any

import pytest

from isthmus.adapters.dubbo import DubboRules, read_interface
from isthmus.adapters.instances import ApplicationRules
from isthmus.adapters.zookeeper.instances import read_application
from isthmus.registry import codes
from tests.unit.etcd_records import GOLDEN, only, read, refused, source

DUBBO = DubboRules("legacy")


def real_providers(interface: str) -> list[str]:
    """Return the provider URLs of real Dubbo 2.7.23 and 3.3.5, which Dubbo writes into etcd as it does here."""
    nodes = map(json.loads, (GOLDEN / "zookeeper" / "tree.jsonl").read_text().splitlines())
    head = f"/dubbo/{interface}/providers/"
    return [node["path"].removeprefix(head) for node in nodes if node["path"].startswith(head)]


@pytest.mark.parametrize("prefix", ["/dubbo/", "/dubbo", "/dubbo/rig."])
def test_dubbos_interfaces_are_the_same_services_as_in_zookeeper(prefix: str) -> None:
    urls = {name: real_providers(name) for name in ("rig.GreetingService", "rig.OrderService")}
    # The value is the lease of Java's client, and nothing of Go's.
    records = [(f"/dubbo/{name}/providers/{url}", b"7587883") for name, found in urls.items() for url in found]
    ours = read("dubbo", records, prefix, source())
    theirs = [
        one
        for name, found in urls.items()
        for one in read_interface(name, found, DubboRules("legacy", labels=source().labels)).services.values()
    ]

    assert len(theirs) > 4
    assert set(ours) == {f"{prefix}{one.key}" for one in theirs}
    for one in theirs:
        own = ours[f"{prefix}{one.key}"]
        assert (own.host, own.identity, own.ports) == (one.host, one.identity, one.ports)
        assert (own.namespace, own.usual_weight) == (one.namespace, one.usual_weight)
        assert [end.workload for end in own.endpoints] == [end.workload for end in one.endpoints]
    for own in ours.values():
        for end in own.endpoints:
            assert end.record in {f"{key} = 7587883" for key, _ in records}


def test_interface_version_and_group_of_any_letters_are_told_apart() -> None:
    url = "dubbo%3A%2F%2F10.0.0.1%3A20880%2Fa.B%3Fgroup%3D{group}%26version%3D{version}"
    records = [
        (f"/dubbo/{interface}/providers/{url.format(group=group, version=version)}", b"")
        for interface in ("a.B", "a%2FB", "a%3AB")
        for group in ("", "a%252FB", "%2Fx", "%3A")
        for version in ("", "1.0.0", "%2F", "a%3A%25")
    ]
    services = read("dubbo", records)

    assert len(services) == len(records)
    assert {f"/dubbo/{one.identity}" for one in services.values()} == set(services)
    assert len({one.host for one in services.values()}) == len(services)


@pytest.mark.parametrize(
    "key",
    [
        "/dubbo/",
        "/dubbo/a.B",
        "/dubbo/a.B/providers",
        "/dubbo/a.B/providers/",
        "/dubbo/a.B/consumers/consumer%3A%2F%2F10.0.0.1%2Fa.B",
        "/dubbo/a.B/configurators/override%3A%2F%2F0.0.0.0%2Fa.B",
        "/dubbo/a.B/routers",
        "/dubbo/metadata/a.B/1.0.0/provider/shop",
        "/dubbo/mapping/a.B",
        "/dubbo/mapping-data/a.B/mapping",
        "/dubbo/config/dubbo/dubbo.properties",
        "/dubbo/a.B/providers/empty%3A%2F%2F10.0.0.1%2Fa.B",
    ],
)
def test_what_else_dubbo_keeps_is_nobodys_mistake(key: str) -> None:
    assert read("dubbo", [(key, b"1234")]) == {}


@pytest.mark.parametrize(
    ("key", "code"),
    [
        ("a.B/elsewhere/dubbo%3A%2F%2F10.0.0.1%3A20880", codes.GARBLED),
        ("/providers/dubbo%3A%2F%2F10.0.0.1%3A20880", codes.GARBLED),
        ("a.B/providers/10.0.0.1", codes.GARBLED),
        ("a.B/providers/rest%3A%2F%2F10.0.0.1%3A80", codes.UNKNOWN_SCHEME),
        ("a.B/providers/dubbo%3A%2F%2F10.0.0.1%3A0", codes.BAD_PORT),
        ("a.B/providers/dubbo%3A%2F%2F10.0.0.1%3A1%2Fa.B%3Fweight%3D0", codes.ZERO_WEIGHT),
    ],
)
def test_what_dubbo_does_not_write_is_refused(key: str, code: str) -> None:
    assert refused("dubbo", key, b"")[0] == code


JAVA = {"serviceName": "shop", "host": "10.0.0.1", "port": 20880, "enabled": True, "healthy": True}
GO = {"ID": "10.0.0.1:20880", "ServiceName": "shop", "Host": "10.0.0.1", "Port": 20880, "Enable": True, "Healthy": True}
METADATA = {"dubbo.endpoints": '[{"port":20880,"protocol":"dubbo"}]', "version": "v1"}


@pytest.mark.parametrize("record", [JAVA | {"metadata": METADATA}, GO | {"Metadata": METADATA, "Weight": 0}])
def test_dubbos_applications_are_the_same_services_as_in_zookeeper(record: dict[str, Any]) -> None:
    """By the source of Java's and Go's EtcdServiceDiscovery: which fields they write, and where."""
    service = only(read("dubbo-applications", [("/services/shop/10.0.0.1:20880", record)]))
    curator = {"address": "10.0.0.1", "port": 20880, "payload": {"metadata": METADATA}}
    rules = ApplicationRules(DUBBO, labels={"version": "version"})
    (theirs,) = read_application("/services", "shop", [json.dumps(curator).encode()], rules).services.values()

    assert (service.key, service.host) == (theirs.key, "shop.dubbo")
    assert (service.identity, service.ports) == (theirs.identity, theirs.ports)
    assert [one.workload for one in service.endpoints] == [one.workload for one in theirs.endpoints]


def test_an_application_that_is_not_dubbos_is_one_all_the_same() -> None:
    service = only(read("dubbo-applications", [("/services/shop/10.0.0.1:8080", JAVA)]))

    assert (service.key, service.host, service.identity) == ("/services/shop", "shop.mesh", "app:shop")


def test_the_folder_of_an_application_is_nobodys_mistake() -> None:
    assert read("dubbo-applications", [("/services/shop", b"-341234"), ("/services/shop/", b"")]) == {}


@pytest.mark.parametrize(
    ("change", "code"),
    [({"enabled": False}, codes.DISABLED), ({"healthy": False}, codes.UNHEALTHY), ({"port": 0}, codes.BAD_PORT)],
)
def test_an_application_that_takes_no_traffic_is_refused(change: dict[str, object], code: str) -> None:
    assert refused("dubbo-applications", "shop/10.0.0.1:1", JAVA | change)[0] == code
