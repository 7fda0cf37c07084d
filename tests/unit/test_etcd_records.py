"""adapters/etcd/records.py: what holds for every format, whatever strangers write."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.adapters.applications import ApplicationPort
from isthmus.adapters.etcd.options import FORMATS, EtcdFields, EtcdPrefix
from isthmus.adapters.etcd.records import format_of
from isthmus.debug.redact import shown
from isthmus.registry import codes
from isthmus.registry.acceptance import host_fault
from isthmus.registry.errors import RecordError
from isthmus.registry.merge import Contribution, merge
from isthmus.registry.model import Port
from isthmus.registry.policy import RECORD_LENGTH
from tests.unit.etcd_records import PREFIXES, only, read, refused, source

if TYPE_CHECKING:
    from random import Random

    from isthmus.adapters.etcd.records import Format, Placed

EVERY_FIELD = EtcdFields("name", "address", "port", "weight", "enabled", "locality", "metadata")
VALUES: dict[str, Any] = {
    "dubbo-applications": lambda place: {"host": place.rpartition(":")[0], "port": int(place.rpartition(":")[2])},
    "grpc": lambda place: {"Op": 0, "Addr": place, "Metadata": None},
    "kitex": lambda place: {"network": "tcp", "address": place, "weight": 10, "tags": None},
    "kratos": lambda place: {"name": "shop", "endpoints": [f"http://{place}"]},
    "go-micro": lambda place: {"name": "shop", "nodes": [{"address": place}]},
    "go-zero": lambda place: place.encode(),
    "json": lambda place: {"address": place},
}


@pytest.mark.parametrize("form", VALUES)
def test_an_address_without_a_host_is_refused_and_says_what_to_do(form: str) -> None:
    code, reason = refused(form, "shop/1", VALUES[form](":8080"))

    assert code == codes.NOT_AN_ADDRESS
    assert "register the IP address" in reason


@pytest.mark.parametrize("form", VALUES)
@pytest.mark.parametrize("port", ["0", "65536", "99999999999999"])
def test_a_port_that_is_none_is_refused(form: str, port: str) -> None:
    assert refused(form, "shop/1", VALUES[form](f"10.0.0.1:{port}"))[0] == codes.BAD_PORT


@pytest.mark.parametrize("form", [*VALUES, "dubbo"])
def test_ET9_a_value_of_one_and_a_half_megabytes_is_refused(form: str) -> None:
    code, reason = refused(form, "shop/1", b"x" * 1_500_000)

    assert code == codes.TOO_LONG
    assert str(RECORD_LENGTH) in reason


@pytest.mark.parametrize("form", VALUES)
@pytest.mark.parametrize("value", [b"", b"shop", b"\xff\xfe", b"null", b"{", b"[" * 60_000])
def test_a_value_that_the_library_does_not_write_is_refused(form: str, value: bytes) -> None:
    assert refused(form, "shop/1", value)[0] == codes.GARBLED


@pytest.mark.parametrize("form", ["kitex", "kratos", "go-micro", "go-zero"])
@pytest.mark.parametrize("key", ["", "shop", "shop/", "/1"])
def test_a_key_outside_of_the_layout_is_refused(form: str, key: str) -> None:
    value = VALUES[form]("10.0.0.1:1") if form != "kratos" else {"endpoints": ["http://10.0.0.1:1"]}

    assert refused(form, key, value)[0] == codes.GARBLED


@pytest.mark.parametrize("form", ["grpc", "json", "kratos"])
@pytest.mark.parametrize("weight", [0, "0", -1, "-0.5"])
def test_weight_0_takes_an_instance_out_of_traffic(form: str, weight: object) -> None:
    value = VALUES[form]("10.0.0.1:1") | {"weight": weight}
    value |= {"Metadata": {"weight": weight}, "metadata": {"weight": weight}}

    assert refused(form, "shop/1", value)[0] == codes.ZERO_WEIGHT


def test_ports_are_the_operators_to_choose() -> None:
    rules = EtcdPrefix(
        "grpc", suffix="rpc", port=7000, protocol="HTTP2", services={"pay": ApplicationPort(443, "HTTPS")}
    )
    record = {"Op": 0, "Addr": "10.0.0.1:1"}
    services = read(rules, [("grpc/shop/1", record), ("grpc/pay/1", record)])

    assert {one.host: one.ports for one in services.values()} == {
        "shop.rpc": (Port(7000, "http2", "HTTP2"),),
        "pay.rpc": (Port(443, "https", "HTTPS"),),
    }


def test_the_same_application_below_two_prefixes_is_one_service() -> None:
    (one,) = read("kitex", [("a/shop/1", VALUES["kitex"]("10.0.0.1:1"))], "a/").values()
    (other,) = read("kitex", [("b/shop/1", VALUES["kitex"]("10.0.0.2:1"))], "b/").values()

    assert one.key != other.key
    assert len(merge([Contribution("a", one), Contribution("b", other)], None).entry.endpoints) == 2


@pytest.mark.parametrize(
    ("form", "key", "value"),
    [
        ("json", "shop/1", {"address": "http://user:hunter2@10.0.0.1:80", "metadata": {"db.password": "hunter2"}}),
        ("json", 'we"ird/1', {"address": "10.0.0.1:80", "metadata": {"accessKey": "hunter2"}}),
        ("go-zero", "shop/1", b"http://user:hunter2@10.0.0.1:80/?token=hunter2"),
        ("kratos", "shop/1", {"endpoints": ["http://user:hunter2@10.0.0.1:80"], "metadata": {"secret": "hunter2"}}),
        ("dubbo", "a.B/providers/dubbo%3A%2F%2Fuser%3Ahunter2%4010.0.0.1%3A20880%2Fa.B%3Ftoken%3Dhunter2", b"1"),
    ],
)
def test_T17_credentials_are_masked_in_a_record_of_key_and_value(form: str, key: str, value: object) -> None:
    (endpoint,) = only(read(form, [(PREFIXES[form] + key, value)])).endpoints

    assert "hunter2" in endpoint.record
    assert "hunter2" not in shown(endpoint.record)
    assert "10.0.0.1" in shown(endpoint.record)


def test_a_refused_record_is_shown_whole_or_not_at_all() -> None:
    record = {"Op": 1, "Addr": "10.0.0.1:1", "Metadata": "x" * 5_000}
    (service,) = read("grpc", [("grpc/shop/1", record)]).values()

    assert service.refused[0].record == "grpc/shop/1 = (5047 characters)"


# Properties.

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["10.0.0.1:1", "http://a:1"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *(
                        "Op",
                        "Addr",
                        "Metadata",
                        "network",
                        "address",
                        "weight",
                        "tags",
                        "name",
                        "version",
                        "metadata",
                        "port",
                    ),
                    *(
                        "endpoints",
                        "nodes",
                        "host",
                        "Host",
                        "Port",
                        "Weight",
                        "enabled",
                        "dubbo.endpoints",
                        "locality",
                        "zone",
                    ),
                ]
            ),
            inner,
            max_size=8,
        )
    ),
    max_leaves=20,
)
ANY_TEXT = st.text(st.characters(codec=None), max_size=60)
KEYS = (
    ANY_TEXT
    | st.tuples(ANY_TEXT, ANY_TEXT).map("/".join)
    | st.tuples(ANY_TEXT, ANY_TEXT).map("/providers/".join)
    | st.builds(
        "a.B/providers/{}%3A%2F%2F{}%2Fa.B%3F{}".format, st.sampled_from(["dubbo", "tri", "x"]), ANY_TEXT, ANY_TEXT
    )
)
VALUE = (
    st.binary(max_size=200)
    | JSON.map(lambda said: json.dumps(said).encode())
    | st.builds(lambda text: f'{{"address":{text}}}'.encode(errors="surrogatepass"), ANY_TEXT)
    | st.sampled_from(
        [
            b'{"address":"10.0.0.1:1","x":"\xff"}',
            b'{"address":"10.0.0.1:1","weight":' + b"9" * 5_000 + b"}",
            b'{"address":"10.0.0.1:1","weight":"' + b"9" * 5_000 + b'"}',
            b'{"address":"10.0.0.1:1","weight":5e-324}',
            b'{"address":"10.0.0.1:1","port":1e308}',
            b'{"address":"\\u0000:1","metadata":{"version":"\\u0000"}}',
            b'{"address":"\\ud800:1"}',
            b'{"a":' * 30_000,
        ]
    )
)
RULES = st.sampled_from([*(EtcdPrefix(form) for form in FORMATS), EtcdPrefix("json", fields=EVERY_FIELD)])


def read_or_refuse(form: Format, key: str, value: bytes) -> tuple[Placed, ...]:
    """Return what a key holds, () where it is refused, which it is with a reason."""
    try:
        return form.read(key, value)
    except RecordError as error:
        fault = error
    assert fault.code in codes.MEANING
    assert fault.reason
    return ()


@settings(max_examples=1_500)
@given(rules=RULES, prefix=st.sampled_from(["", "/", "/dubbo/", "/dubbo", "shop."]), key=KEYS, value=VALUE)
def test_whatever_strangers_write_is_read_or_refused_with_a_reason(
    rules: EtcdPrefix, prefix: str, key: str, value: bytes
) -> None:
    form = format_of(prefix, rules, source(labels={"version": "version", "zone": "zone"}))
    placed = read_or_refuse(form, key, value)
    assert len({one.place for one in placed}) == len(placed)
    for one in placed:
        service = form.service(one.place, {prefix + key: one.item})
        assert service.key == prefix + one.place
        assert host_fault(service.host) is None
        assert all(refusal.reason for refusal in service.refused)
        assert service == form.service(one.place, {prefix + key: one.item})
        assert len(service.endpoints) + len(service.refused) > 0


@given(
    form=st.sampled_from(sorted(VALUES)),
    instances=st.dictionaries(st.integers(1, 250), st.sampled_from([1, 80, 65535, 0]), min_size=1, max_size=8),
    order=st.randoms(use_true_random=False),
)
def test_the_order_of_keys_does_not_matter(form: str, instances: dict[int, int], order: Random) -> None:
    prefix = PREFIXES[form]
    records = [(f"{prefix}shop/{n}", VALUES[form](f"10.0.0.{n}:{port}")) for n, port in instances.items()]
    shuffled = order.sample(records, len(records))
    service = read(form, records)
    (one,) = service.values()

    assert read(form, shuffled) == service
    assert len(one.endpoints) + len(one.refused) == len(instances)


@given(names=st.lists(ANY_TEXT, min_size=2, max_size=4, unique=True))
def test_no_two_names_share_a_key_or_an_identity(names: list[str]) -> None:
    record = {"endpoints": ["http://10.0.0.1:1", "grpc://10.0.0.1:2"]}
    known = [name for name in names if name]
    services = read("kratos", [(f"/microservices/{name}/1", record) for name in known])

    assert len(services) == 2 * len(known)
    assert len({service.identity for service in services.values()}) == len(known)
