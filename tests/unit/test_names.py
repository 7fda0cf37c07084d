"""registry/names.py: every name that comes out is one that DNS takes, and two names do not fall together."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.registry.acceptance import host_fault
from isthmus.registry.names import dns_labels, hashed_label, host_name, is_label, printable

LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
SURROGATES = st.text(st.characters(categories=["Cs", "Cc", "L", "N", "P", "S"]), max_size=80)


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("com.foo.Bar", ("com", "foo", "bar")),
        ("ORDER-SERVICE", ("order-service",)),
        ("a", ("a",)),
        ("1.2", ("1", "2")),
    ],
)
def test_a_legal_name_is_only_lower_cased(text: str, labels: tuple[str, ...]) -> None:
    assert dns_labels(text) == labels


@pytest.mark.parametrize(
    "text", ["com.foo.Bar$Inner", "my_service", "a..b", "", ".", "_", "-a", "订单", "a" * 64, "a\0b"]
)
def test_an_illegal_name_is_rewritten_with_a_hash(text: str) -> None:
    labels = dns_labels(text)

    assert all(map(is_label, labels))
    assert re.search(r"(^|-)[0-9a-f]{8}$", labels[-1])


def test_names_that_are_rewritten_alike_stay_apart() -> None:
    alike = ["com.foo.Bar$Inner", "com.foo.Bar-Inner", "com.foo.Bar_Inner", "com.foo.Bar:Inner", "com.foo.Bar Inner"]

    assert len({dns_labels(text) for text in alike}) == len(alike)


@given(st.lists(SURROGATES, min_size=2, max_size=2, unique_by=str.lower))
def test_different_names_give_different_labels(texts: list[str]) -> None:
    assert dns_labels(texts[0]) != dns_labels(texts[1])


@given(SURROGATES)
def test_every_text_gives_legal_labels(text: str) -> None:
    for label in (*dns_labels(text), hashed_label(text)):
        assert LABEL.fullmatch(label)
        assert len(label) <= 63


@given(st.lists(SURROGATES, min_size=1, max_size=30))
def test_every_host_is_one_that_istiod_takes(texts: list[str]) -> None:
    labels = tuple(label for text in texts for label in dns_labels(text))
    host = host_name(labels, "dubbo")

    assert host_fault(host) is None
    assert len(host) <= 253
    assert host.endswith(".dubbo")


def test_long_hosts_that_differ_in_front_stay_apart() -> None:
    tail = ("x" * 60,) * 5

    assert host_name(("a", *tail), "dubbo") != host_name(("b", *tail), "dubbo")


@pytest.mark.parametrize("hostile", ["\x1b[2J", "a\nb", "\u202eevil", "\ud800", "\x00", "\u2028", "\x7f", "\ufeff"])
def test_T11_what_is_shown_holds_no_control_and_no_bidirectional_character(hostile: str) -> None:
    shown = printable(f"ok {hostile} 订单 é")

    assert hostile not in shown
    assert shown.isprintable()
    assert "订单 é" in shown
    shown.encode()
