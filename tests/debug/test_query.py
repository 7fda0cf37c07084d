"""debug/query.py: what a request may ask for, and one page of a list."""

from __future__ import annotations

from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from isthmus.debug.query import (
    DEFAULT_LIMIT,
    HostQuery,
    ListQuery,
    Problem,
    Query,
    ServicesQuery,
    nearest,
    paginate,
    read_query,
    read_token,
    token_of,
)

NAMES = st.sets(st.text(max_size=3), max_size=20)


def read(kind: type[Query], query: str, **path: str) -> Query:
    pairs = [(key, value) for key, _, value in (part.partition("=") for part in query.split("&") if part)]
    return read_query(kind, pairs, path)


def test_a_query_without_keys_has_defaults_and_no_filter() -> None:
    assert read(ServicesQuery, "") == ServicesQuery(limit=DEFAULT_LIMIT)
    assert ServicesQuery().source is UNSET


def test_values_are_read_by_their_types_and_a_bare_key_is_true() -> None:
    asked = read(ServicesQuery, "problems&pretty=false&limit=5000&q=null&source=&continue=abc")

    assert asked == ServicesQuery(problems=True, limit=5000, q="null", source="", after="abc")


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("limit=0", "'limit'"),
        ("limit=5001", "'limit'"),
        ("limit=-1", "'limit'"),
        ("limit=many", "'limit'"),
        ("problems=perhaps", "'problems'"),
        ("q=a&q=b", "'q' is given twice"),
        ("=", "''"),
    ],
)
def test_a_value_out_of_range_is_a_problem_that_names_its_key(query: str, told: str) -> None:
    with pytest.raises(Problem, match=told) as raised:
        read(ServicesQuery, query)

    assert raised.value.status == HTTPStatus.BAD_REQUEST


def test_an_unknown_key_is_a_problem_that_names_the_nearest_one() -> None:
    with pytest.raises(Problem, match="'namspace'") as raised:
        read(ServicesQuery, "namspace=shop")

    assert raised.value.nearest[0] == "namespace"


def test_what_stands_in_the_path_is_no_query_key() -> None:
    assert read(HostQuery, "", host="a.b") == HostQuery(host="a.b")
    with pytest.raises(Problem, match="'host'"):
        read(HostQuery, "host=c.d", host="a.b")


def test_an_unknown_key_is_told_without_what_a_terminal_acts_on() -> None:
    with pytest.raises(Problem) as raised:
        read(ListQuery, "\x1b[31m" + "x" * 1000)

    assert "\x1b" not in str(raised.value)
    assert len(str(raised.value)) < 300


@given(NAMES, NAMES, NAMES, st.integers(1, 5))
def test_pages_give_what_stays_exactly_once_whatever_comes_and_goes_between(
    stays: set[str], goes: set[str], comes: set[str], limit: int
) -> None:
    """After the first page, some names are gone and others there."""
    names = sorted(stays | goes)
    page, after = paginate(names, None, limit)
    seen = list(page)
    names = sorted(stays | comes)
    while after is not None:
        page, after = paginate(names, read_token(token_of(after), str), limit)
        assert len(page) <= limit
        seen += page

    assert len(seen) == len(set(seen))
    if len(stays | goes) > limit:
        assert stays <= set(seen)
    assert seen == sorted(seen)


def test_the_last_page_has_no_token_even_when_it_is_full() -> None:
    assert paginate(["a", "b"], None, 2) == (["a", "b"], None)
    assert paginate(["a", "b", "c"], None, 2) == (["a", "b"], "b")
    assert token_of(None) is UNSET


@given(st.one_of(st.text(), st.tuples(st.text(), st.integers(-(2**53), 2**53))))
def test_a_token_stands_for_its_key(key: str | tuple[str, int]) -> None:
    token = token_of(key)

    assert (read_token(token, str) if isinstance(key, str) else read_token(token, tuple[str, int])) == key


@pytest.mark.parametrize("token", ["", "a", "ab", "!", "\u4e00", "bnVsbA", "WyJhIl0", "IngiLDE", "=", "e30", "MQ"])
def test_a_text_that_is_no_token_of_this_list_is_a_problem(token: str) -> None:
    with pytest.raises(Problem, match="'continue'") as raised:
        read_token(token, tuple[str, int])

    assert raised.value.status == HTTPStatus.BAD_REQUEST


def test_the_nearest_name_is_found_among_many() -> None:
    hosts = {f"com.example.bench{place % 7}.service{place:05d}.dubbo" for place in range(20_000)}

    assert nearest("com.example.bench3.servce00423.dubbo", hosts)[0] == "com.example.bench3.service00423.dubbo"
    assert nearest("0123456789", hosts) == []
    assert nearest("", hosts) == []
