"""adapters/applications.py: hosts, identities and ports of applications, the same from every registry."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.adapters.applications import ApplicationPort, application_host, application_identity, port_of
from isthmus.registry.acceptance import host_fault, port_name_fault, protocol_fault
from isthmus.registry.model import Port
from isthmus.registry.policy import forbidden_host

TEXT = st.text(st.characters(codec=None), max_size=80)


@pytest.mark.parametrize(
    ("name", "qualifiers", "host"),
    [
        ("user-service", (), "user-service.mesh"),
        ("ORDER-SERVICE", (), "order-service.mesh"),
        ("com.shop.Orders", (), "com.shop.orders.mesh"),
        ("pay-service", ("pay-group",), "pay-service.pay-group.mesh"),
        ("pay-service", ("pay-group", "shop"), "pay-service.pay-group.shop.mesh"),
        ("1", ("2",), "1.2.mesh"),
    ],
)
def test_the_host_is_readable_where_it_can_be(name: str, qualifiers: tuple[str, ...], host: str) -> None:
    assert application_host(name, "mesh", qualifiers) == host


def test_F13_a_name_that_dns_has_not_gets_a_hash() -> None:
    chinese = application_host("订单服务", "mesh")

    assert chinese.startswith("x-")
    assert chinese != application_host("用户服务", "mesh")
    assert application_host("order_service", "mesh") != application_host("order-service", "mesh")


def test_scopes_that_would_fall_together_are_kept_apart() -> None:
    scopes: list[tuple[str, ...]] = [("pay-group",), ("PAY_GROUP",), ("Pay-Group",), ("pay.group",), ("pay", "group")]
    scopes += [(), ("",), ("支付",), ("group", "pay"), ("pay_group",)]

    assert len({application_host("pay-service", "mesh", scope) for scope in scopes}) == len(scopes)


def test_F7_there_is_no_bare_name() -> None:
    with pytest.raises(ValueError, match="suffix"):
        application_host("order-service", "")


@pytest.mark.parametrize("name", ["kubernetes", "localhost", "*", "*.com"])
def test_T02_T03_a_name_stays_under_the_suffix_and_is_no_wildcard(name: str) -> None:
    host = application_host(name, "mesh")

    assert host.endswith(".mesh")
    assert forbidden_host(host) is None


@given(TEXT | st.text(min_size=250, max_size=600), st.lists(TEXT, max_size=3))
def test_every_name_gives_a_host_that_istiod_takes(name: str, qualifiers: list[str]) -> None:
    assert host_fault(application_host(name, "mesh", tuple(qualifiers))) is None


def test_the_identity_is_readable_where_it_can_be() -> None:
    assert application_identity("user-service") == "app:user-service"
    assert application_identity("user-service", ("PAY_GROUP", "shop")) == "app:user-service@PAY_GROUP@shop"


@given(st.lists(st.lists(TEXT | st.sampled_from(["a", "@", "a@a", "%40", ":"]), min_size=1, max_size=3), max_size=9))
def test_no_two_applications_share_an_identity(names: list[list[str]]) -> None:
    different = {tuple(name) for name in names}

    assert len({application_identity(name[0], name[1:]) for name in different}) == len(different)


@pytest.mark.parametrize("protocol", ["HTTP", "HTTP2", "GRPC", "GRPC-Web", "HTTP_PROXY", "TCP", "TLS"])
def test_every_protocol_of_istios_gives_a_port_that_istiod_takes(protocol: str) -> None:
    port = port_of(ApplicationPort(8080, protocol))

    assert (port.number, port.protocol) == (8080, protocol)
    assert port_name_fault(port.name) is None
    assert protocol_fault(port.protocol) is None


def test_a_port_has_the_name_of_its_protocol() -> None:
    assert port_of(ApplicationPort(80, "HTTP")) == Port(80, "http", "HTTP")
