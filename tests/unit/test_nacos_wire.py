"""Nacos's envelope, and what is read of its answers."""

from __future__ import annotations

import pytest

from isthmus.adapters.nacos.wire import ListAnswer, ServiceAnswer, Unreadable, decode, encode, envelope


def test_a_message_comes_out_of_its_envelope() -> None:
    raw = encode("ServiceListRequest", {"groupName": "PAY_GROUP"}, {"accessToken": "t"})

    assert envelope(raw) == ("ServiceListRequest", b'{"groupName":"PAY_GROUP"}')


def test_NA1_hosts_that_are_null_are_other_than_none_at_all() -> None:
    error = decode(b'{"resultCode": 200, "serviceInfo": {"name": "a", "hosts": null}}', ServiceAnswer).service_info
    empty = decode(b'{"resultCode": 200, "serviceInfo": {"name": "a", "hosts": []}}', ServiceAnswer).service_info

    assert error is not None
    assert empty is not None
    assert (error.hosts, empty.hosts) == (None, ())


def test_what_is_not_known_is_passed_by_and_numbers_may_be_texts() -> None:
    answer = decode(b'{"resultCode": "200", "count": 1, "serviceNames": ["a"], "new": [{}]}', ListAnswer)

    assert (answer.result_code, answer.count, answer.service_names) == (200, 1, ["a"])


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b'{"serviceInfo": {"hosts": [{"ip": "10.',
        b"\xff\xfe",
        b'{"resultCode": {}}',
        b"[]",
        b'{"serviceInfo": {"hosts": [' + b"[" * 100_000 + b"]" * 100_000 + b"]}}",
    ],
    ids=["empty", "truncated", "no UTF-8", "other types", "a list", "deep"],
)
def test_a_text_that_cannot_be_read_is_an_error_of_its_own(text: bytes) -> None:
    with pytest.raises(Unreadable):
        decode(text, ServiceAnswer)


def test_an_envelope_that_is_none_is_an_error() -> None:
    with pytest.raises(Unreadable):
        envelope(b"\x12\xff")
