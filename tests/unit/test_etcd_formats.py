"""adapters/etcd/formats/: each on what the real library wrote, and on what strangers might."""

from __future__ import annotations

import json

import pytest

from isthmus.adapters.applications import ApplicationPort
from isthmus.adapters.dubbo import DubboRules
from isthmus.adapters.etcd.options import EtcdFields, EtcdPrefix, EtcdScheme
from isthmus.adapters.nacos.records import NacosRules, Scope, read_service
from isthmus.registry import codes
from isthmus.registry.merge import Contribution, merge
from isthmus.registry.model import Port, Service
from tests.unit.etcd_records import only, places, read, real_records, refused

DUBBO = DubboRules("legacy")
GRPC_PORT = Port(50051, "grpc", "GRPC")


def reads_as_in_nacos(ours: Service, name: str) -> bool:
    """Tell whether a service merges with one of the same name, ports and protocol in Nacos."""
    record = {"ip": "10.9.9.9", "port": 1234, "weight": 1.0}
    (port,) = ours.ports
    suffix = ours.host.rpartition(".")[2]
    rules = NacosRules(DUBBO, suffix, ApplicationPort(port.number, port.protocol))
    reading = read_service(Scope("public", "DEFAULT_GROUP", (), "legacy"), name, [json.dumps(record).encode()], rules)
    (theirs,) = reading.services.values()
    merged = merge([Contribution("etcd", ours), Contribution("nacos", theirs)], None)
    return ours.host == theirs.host and (len(merged.entry.endpoints), merged.refused) == (len(ours.endpoints) + 1, ())


# gRPC.


def test_what_etcds_own_naming_3_6_writes() -> None:
    records = real_records("go.etcd.io/etcd/client/v3/naming")
    service = only(read("grpc", records))

    assert (service.key, service.identity, service.host) == ("grpc/greeter", "app:greeter", "greeter.mesh")
    assert (service.namespace, service.ports) == ("legacy", (GRPC_PORT,))
    assert places(service) == [("10.20.0.1", 50051), ("10.20.0.2", 50051), ("10.20.0.3", 50051)]
    # Two say a weight of 10, the third none and has no metadata.
    assert [one.workload.weight for one in service.endpoints] == [1000, 1000, 100]
    assert [one.workload.labels for one in service.endpoints] == [(("version", "v1"),), (("version", "v1"),), ()]
    assert service.endpoints[2].record == f"{records[2][0]} = {records[2][1].decode()}"
    assert reads_as_in_nacos(service, "greeter")


@pytest.mark.parametrize(
    ("prefix", "key", "name"),
    [
        ("grpc/", "grpc/greeter/10.0.0.1:1", "greeter"),
        ("grpc", "grpc/greeter/10.0.0.1:1", "greeter"),
        ("grpc/greeter/", "grpc/greeter/10.0.0.1:1", "greeter"),
        ("grpc/greeter", "grpc/greeter/10.0.0.1:1", "greeter"),
        ("grpc/gre", "grpc/greeter/10.0.0.1:1", "greeter"),
        ("", "greeter/10.0.0.1:1", "greeter"),
        ("/", "/greeter/10.0.0.1:1", "greeter"),
        ("grpc/", "grpc/eu/greeter/10.0.0.1:1", "eu%2Fgreeter"),
    ],
)
def test_a_service_goes_by_its_key_wherever_the_prefix_ends(prefix: str, key: str, name: str) -> None:
    service = only(read("grpc", [(key, {"Op": 0, "Addr": "10.0.0.1:1", "Metadata": None})], prefix))

    assert (service.identity, service.key) == (f"app:{name}", f"{prefix}{name}")


def test_a_target_with_a_slash_has_a_host_of_its_own() -> None:
    record = {"Op": 0, "Addr": "10.0.0.1:1"}
    services = read(
        "grpc", [("grpc/eu/greeter/1", record), ("grpc/eu-greeter/1", record), ("grpc/eu.greeter/1", record)]
    )
    hosts = {service.host for service in services.values()}

    assert len(hosts) == 3
    assert {"eu-greeter.mesh", "eu.greeter.mesh"} < hosts


@pytest.mark.parametrize(
    "metadata", [None, "v1", ["weight"], 7, {"weight": "heavy"}, {"weight": None}, {"weight": True}]
)
def test_metadata_of_any_kind_withdraws_nobody(metadata: object) -> None:
    record = {"Op": 0, "Addr": "10.0.0.1:1", "Metadata": metadata}

    assert places(only(read("grpc", [("grpc/greeter/1", record)]))) == [("10.0.0.1", 1)]


def test_an_address_that_grpcs_older_resolver_deletes_is_refused() -> None:
    assert refused("grpc", "greeter/1", {"Op": 1, "Addr": "10.0.0.1:1"})[0] == codes.DISABLED


# Kitex.


def test_what_kitexs_registry_etcd_0_2_6_writes() -> None:
    service = only(read("kitex", real_records("kitex-contrib/registry-etcd v0.2.6")))

    assert (service.key, service.identity) == ("kitex/registry-etcd/shop.kitex", "app:shop.kitex")
    assert (service.host, service.ports) == ("shop.kitex.mesh", (Port(8888, "tcp", "TCP"),))
    assert places(service) == [("10.20.0.1", 50051)]
    assert service.endpoints[0].workload.labels == (("version", "v1"),)
    assert reads_as_in_nacos(service, "shop.kitex")


@pytest.mark.parametrize(
    ("weights", "published"),
    [((10, 0), [0, 0]), ((20, -1), [200, 100]), ((5, 10), [50, 100]), ((None, "30"), [100, 300])],
)
def test_ten_is_kitexs_usual_weight(weights: tuple[object, object], published: list[int]) -> None:
    records = [
        (f"kitex/registry-etcd/shop/{n}", {"network": "tcp", "address": f"10.0.0.{n}:1", "weight": one, "tags": None})
        for n, one in enumerate(weights, start=1)
    ]

    assert [one.workload.weight for one in only(read("kitex", records)).endpoints] == published


def test_kitex_writes_ipv6_without_brackets() -> None:
    record = {"network": "tcp", "address": "fd00::1:8888", "weight": 10}

    assert places(only(read("kitex", [("kitex/registry-etcd/shop/fd00::1:8888", record)]))) == [("fd00::1", 8888)]


def test_a_unix_socket_is_refused() -> None:
    assert refused("kitex", "shop/1", {"network": "unix", "address": "/run/a:1"})[0] == codes.NOT_AN_ADDRESS


# Kratos.


def test_what_kratos_v3_writes_is_a_service_for_each_scheme() -> None:
    services = read("kratos", real_records("go-kratos contrib/registry/etcd v3"))
    web, grpc = services["/microservices/kratos.user#http"], services["/microservices/kratos.user#grpc"]

    assert len(services) == 2
    assert (web.host, web.ports, places(web)) == (
        "kratos.user.mesh",
        (Port(80, "http", "HTTP"),),
        [("10.20.0.1", 8000)],
    )
    assert (grpc.host, grpc.ports, places(grpc)) == ("kratos.user.grpc", (GRPC_PORT,), [("10.20.0.1", 9000)])
    assert {web.identity, grpc.identity} == {"app:kratos.user"}
    assert web.endpoints[0].workload.labels == grpc.endpoints[0].workload.labels == (("version", "v1.0.0"),)
    assert reads_as_in_nacos(web, "kratos.user")
    assert reads_as_in_nacos(grpc, "kratos.user")


def test_what_kratos_v2_writes_is_in_the_service_of_its_one_scheme() -> None:
    service = only(read("kratos", real_records("go-kratos contrib/registry/etcd v2")))

    assert (service.host, places(service)) == ("shop.kratos.grpc", [("10.20.0.1", 50051)])
    # What the metadata says goes before the version of the instance.
    assert service.endpoints[0].workload.labels == (("version", "v1"),)


@pytest.mark.parametrize(
    ("endpoint", "scheme"),
    [
        ("grpc://10.0.0.1:1", "grpc"),
        ("grpc://10.0.0.1:1?isSecure=false", "grpc"),
        ("grpc://10.0.0.1:1?isSecure=true", "grpcs"),
        ("grpcs://10.0.0.1:1", "grpcs"),
    ],
)
def test_a_secure_endpoint_has_a_scheme_of_its_own(endpoint: str, scheme: str) -> None:
    schemes = {"grpc": EtcdScheme(50051, "GRPC", "grpc"), "grpcs": EtcdScheme(443, "TLS", "grpcs")}
    record = {"name": "user", "endpoints": [endpoint]}
    service = only(read(EtcdPrefix("kratos", schemes=schemes), [("/microservices/user/1", record)]))

    assert (service.host, service.key) == (f"user.{scheme}", f"/microservices/user#{scheme}")


def test_an_instance_that_speaks_nothing_that_is_published_is_refused_with_the_way_out() -> None:
    code, reason = refused(
        "kratos", "user/1", {"name": "user", "endpoints": ["grpcs://10.0.0.1:1", "tcp://10.0.0.1:2"]}
    )

    assert code == codes.UNKNOWN_SCHEME
    assert "http, grpc" in reason
    assert "grpcs, tcp" in reason
    assert "`schemes`" in reason


def test_one_bad_endpoint_costs_one_scheme() -> None:
    record = {"name": "user", "endpoints": ["http://10.0.0.1:8000", "grpc://:9000", "grpc://10.0.0.1:9000"]}
    services = read("kratos", [("/microservices/user/1", record)])
    grpc = services["/microservices/user#grpc"]

    assert places(only({"": services["/microservices/user#http"]})) == [("10.0.0.1", 8000)]
    # Kratos, too, takes the first endpoint of a scheme.
    assert (grpc.endpoints, [one.code for one in grpc.refused]) == ((), [codes.NOT_AN_ADDRESS])


@pytest.mark.parametrize("endpoints", [None, []])
def test_an_application_without_servers_is_nobodys_mistake(endpoints: object) -> None:
    assert read("kratos", [("/microservices/job/1", {"name": "job", "endpoints": endpoints})]) == {}


def test_kratos_weighs_100_where_nothing_is_said() -> None:
    records = [
        (f"/microservices/user/{n}", {"name": "user", "metadata": one, "endpoints": [f"http://10.0.0.{n}:1"]})
        for n, one in enumerate((None, {"weight": "100"}, {"weight": "50"}), start=1)
    ]

    assert [one.workload.weight for one in only(read("kratos", records)).endpoints] == [100, 100, 50]


def test_T01_an_instance_is_of_the_name_that_its_key_is_below() -> None:
    record = {"name": "eu/user", "endpoints": ["http://10.0.0.1:1"]}

    assert only(read("kratos", [("/microservices/eu/user/host/1", record)])).identity == "app:eu%2Fuser"
    assert refused("kratos", "bank/1", record)[0] == codes.GARBLED
    assert refused("kratos", "eu/user/", record)[0] == codes.GARBLED


# go-micro.


def test_what_go_micro_5_12_writes() -> None:
    service = only(read("go-micro", real_records("go-micro v5.12.0")))

    assert (service.key, service.identity) == ("/micro/registry/shop.go-micro", "app:shop.go-micro")
    assert (service.host, service.ports, places(service)) == (
        "shop.go-micro.mesh",
        (GRPC_PORT,),
        [("10.20.0.1", 50051)],
    )
    # The node's own metadata goes before the version of the service.
    assert service.endpoints[0].workload.labels == (("version", "v1"),)
    assert reads_as_in_nacos(service, "shop.go-micro")


def test_all_nodes_of_a_record_are_read_and_the_version_of_their_service_is_theirs() -> None:
    nodes = [{"id": "a", "address": "10.0.0.1:1"}, {"id": "b", "address": "10.0.0.2:2", "metadata": {"version": "v2"}}]
    service = only(read("go-micro", [("/micro/registry/shop/a", {"name": "shop", "version": "v1", "nodes": nodes})]))

    assert places(service) == [("10.0.0.1", 1), ("10.0.0.2", 2)]
    assert [one.workload.labels for one in service.endpoints] == [(("version", "v1"),), (("version", "v2"),)]


def test_T01_the_name_of_a_record_counts_as_far_as_it_is_that_of_the_key() -> None:
    def identity(name: str) -> str:
        record = {"name": name, "nodes": [{"address": "10.0.0.1:1"}]}
        return only(read("go-micro", [("/micro/registry/eu-shop/1", record)])).identity

    assert [identity(name) for name in ("eu/shop", "eu-shop", "bank", "")] == [
        "app:eu%2Fshop",
        "app:eu-shop",
        "app:eu-shop",
        "app:eu-shop",
    ]


def test_go_micro_3_is_read_below_its_domain() -> None:
    record = {"name": "shop", "nodes": [{"address": "10.0.0.1:1"}]}
    service = only(read("go-micro", [("/micro/registry/micro/shop/1", record)], "/micro/registry/micro/"))

    assert service.identity == "app:shop"
    assert "prefix" in refused("go-micro", "micro/shop/1", record)[1]


# go-zero.


def test_what_go_zero_1_10_writes() -> None:
    service = only(read("go-zero", real_records("go-zero 1.10.3"), "gozero."))

    assert (service.key, service.identity) == ("gozero.gozero.user.rpc", "app:gozero.user.rpc")
    assert (service.host, service.ports, places(service)) == (
        "gozero.user.rpc.mesh",
        (GRPC_PORT,),
        [("10.20.0.1", 9090)],
    )
    assert reads_as_in_nacos(service, "gozero.user.rpc")


@pytest.mark.parametrize("prefix", ["gozero.user.rpc", "gozero.user.rpc/", "gozero.", ""])
def test_a_prefix_may_be_a_go_zero_service(prefix: str) -> None:
    assert only(read("go-zero", real_records("go-zero 1.10.3"), prefix)).identity == "app:gozero.user.rpc"


def test_what_go_kit_0_13_writes_is_read_as_go_zero() -> None:
    service = only(read("go-zero", real_records("go-kit 0.13.0"), "/services/"))

    assert (service.identity, places(service)) == ("app:gokit.string", [("10.20.0.1", 8080)])


# JSON of any making.


def generic(record: object, **fields: str) -> Service:
    return only(read(EtcdPrefix("json", fields=EtcdFields(**fields)), [("/services/shop/1", record)]))


def test_the_fields_of_a_json_record_are_the_operators_to_name() -> None:
    record = {
        "app": {"name": "shop"},
        "spec": {"hosts": ["10.0.0.9", "10.0.0.1"], "ports": [{"number": "8080"}]},
        "load": {"share": "0.5"},
        "at": "cn/hangzhou/b",
        "tags": {"version": "v1", "zone": 1},
    }
    named = {"service": "app.name", "address": "spec.hosts.1", "port": "spec.ports.0.number", "weight": "load.share"}
    service = generic(record, **named, locality="at", metadata="tags")

    assert (service.key, service.identity, service.host) == ("/services/shop", "app:shop", "shop.mesh")
    assert service.ports == (Port(80, "http", "HTTP"),)
    assert places(service) == [("10.0.0.1", 8080)]
    assert service.endpoints[0].workload.locality == "cn/hangzhou/b"
    assert service.endpoints[0].workload.labels == (("version", "v1"),)
    assert reads_as_in_nacos(service, "shop")


@pytest.mark.parametrize(
    ("address", "port", "place"),
    [
        ("10.0.0.1", 8080, ("10.0.0.1", 8080)),
        ("10.0.0.1", "8080", ("10.0.0.1", 8080)),
        ("10.0.0.1", 8080.0, ("10.0.0.1", 8080)),
        ("10.0.0.1:9090", 8080, ("10.0.0.1", 8080)),
        ("10.0.0.1:9090", None, ("10.0.0.1", 9090)),
        ("10.0.0.1:9090", "", ("10.0.0.1", 9090)),
        ("fd00::1", 8080, ("fd00::1", 8080)),
        ("[fd00::1]", 8080, ("fd00::1", 8080)),
        ("[fd00::1]:9090", 8080, ("fd00::1", 8080)),
        ("[fd00::1]:9090", None, ("fd00::1", 9090)),
        ("http://10.0.0.1:9090/path?a=b:1", None, ("10.0.0.1", 9090)),
        ("http://user:word@10.0.0.1:9090", None, ("10.0.0.1", 9090)),
        ("http://10.0.0.1/path", None, ("10.0.0.1", 80)),
        ("https://[fd00::1]/", None, ("fd00::1", 443)),
        ("http://10.0.0.1/path", 8080, ("10.0.0.1", 8080)),
    ],
)
def test_an_address_is_said_in_many_ways(address: str, port: object, place: tuple[str, int]) -> None:
    assert places(generic({"address": address, "port": port})) == [place]


@pytest.mark.parametrize("said", [False, "false", "FALSE", 0, "0", "no", "off"])
def test_what_is_not_enabled_takes_no_traffic(said: object) -> None:
    rules = EtcdPrefix("json", fields=EtcdFields(enabled="up"))

    assert refused(rules, "shop/1", {"address": "10.0.0.1:1", "up": said})[0] == codes.DISABLED


@pytest.mark.parametrize("said", [True, "true", 1, None, "UP", [], {}])
def test_what_is_enabled_or_does_not_say_serves(said: object) -> None:
    assert places(generic({"address": "10.0.0.1:1", "up": said}, enabled="up")) == [("10.0.0.1", 1)]


@pytest.mark.parametrize("said", ["", "a/b/c/d", "a//b", "a/b\n", 7, None, "x" * 64, "é"])
def test_a_locality_that_is_none_counts_as_not_said(said: object) -> None:
    assert generic({"address": "10.0.0.1:1", "at": said}, locality="at").endpoints[0].workload.locality == ""


@pytest.mark.parametrize("record", [{"address": "10.0.0.1:1"}, {"name": "", "address": "10.0.0.1:1"}, [], "shop", 7])
def test_a_record_without_the_name_that_the_operator_wants_is_refused(record: object) -> None:
    rules = EtcdPrefix("json", fields=EtcdFields(service="name"))

    assert refused(rules, "shop/1", record) == (codes.GARBLED, "the value has no text at `name`")
