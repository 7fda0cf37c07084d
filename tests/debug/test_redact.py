"""debug/redact.py: no credential and nothing that a terminal acts on leaves the process (T17, T23)."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.adapters.zookeeper.options import ZookeeperOptions
from isthmus.debug.redact import LONGEST_RECORD, effective_config, shown, without_credentials
from tests.debug.web import config

# What a password may hold: anything that a URL has a meaning for, but `/` and `?` not both, which no URL can hold.
PASSWORDS = st.text("aZ0:@%#&=+ \"'[]{}\\\n", min_size=1).map(lambda text: f"secr{text}et")


def encoded(text: str, depth: int) -> str:
    for _ in range(depth):
        text = quote(text, safe="")
    return text


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("tail", ["", "/a.B?side=provider&x=y@z"])
@pytest.mark.parametrize("separator", ["", "/", "?"])
@given(before=PASSWORDS, after=PASSWORDS)
def test_T17_the_user_information_of_a_url_is_masked_however_it_is_encoded(
    before: str, separator: str, after: str, tail: str, depth: int
) -> None:
    record = encoded(f"dubbo://user:{before}{separator}{after}@10.0.0.1:20880{tail}", depth)

    clean = without_credentials(record)

    assert "secr" not in clean
    assert clean.endswith("***" + encoded(f"@10.0.0.1:20880{tail}", depth))


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("name", ["password", "my.Token", "access_key", "accessKey", "client-secret", "passwd"])
def test_T17_the_values_of_telling_names_are_masked(name: str, depth: int) -> None:
    record = encoded(f"dubbo://10.0.0.1:1/a.B?side=provider&{name}=hush&group=g", depth)

    assert without_credentials(record) == record.replace("hush", "***")


def test_T17_the_values_of_telling_names_are_masked_in_json() -> None:
    record = '{"address":"10.0.0.1","labels":{"api_key":"hu\\"sh","zone":"a"}}'

    assert without_credentials(record) == '{"address":"10.0.0.1","labels":{"api_key":"***","zone":"a"}}'


@pytest.mark.parametrize(
    "record",
    [
        "dubbo://10.0.0.1:20880/com.foo.Bar?side=provider&owner=a@b",
        encoded("tri://[2001:db8::1]:50051/com.foo.Bar?group=g&version=1.0", 1),
        '{"address":"10.0.0.1","ports":{"http":1}}',
        "not a URL",
        "",
    ],
)
def test_a_record_without_credentials_is_shown_as_it_is(record: str) -> None:
    assert shown(record) == record


def test_T11_what_a_terminal_acts_on_is_escaped() -> None:
    assert shown("a\x1b[31m\n\u202e\x00\ud800") == "a\\x1b[31m\\n\\u202e\\x00\\ud800"


def test_T24_a_long_record_is_cut_after_it_is_masked() -> None:
    record = f"dubbo://user:{'x' * LONGEST_RECORD}@10.0.0.1:1/{'y' * LONGEST_RECORD}"

    clean = shown(record)

    assert clean.startswith("dubbo://***@10.0.0.1:1/y")
    assert len(clean) < LONGEST_RECORD + 40


@pytest.mark.parametrize(
    ("part", "end"),
    [
        ("://", "://***@"),
        ("password", "password@"),
        ("password=", "password=***"),
        ('pwd"  ', 'pwd"  @'),
        ('"token":"\\', '"token":"***'),
        ("%253A%252F%252F", "%253A%252F%252F***%2540"),
        ("secret%", "secret%@"),
    ],
)
def test_T24_a_record_made_to_be_slow_is_not(part: str, end: str) -> None:
    """A pattern that looked at everything from each place on would take hours for a text of this length."""
    at = "%2540" if part.startswith("%") else "@"

    assert without_credentials(part * (2**20 // len(part)) + at).endswith(end)


def test_T17_the_configuration_is_shown_without_its_secrets() -> None:
    source = ZookeeperOptions(
        name="zk", address="user:hush@10.0.0.1:2181", digest="user:hush", labels={"dubbo.tag": "isthmus.io/tag"}
    )

    clean: Any = effective_config(config(source))

    assert clean["sources"][0]["digest"] == "***"
    assert clean["sources"][0]["labels"] == {"dubbo.tag": "isthmus.io/tag"}
    assert clean["startupGrace"] == 30.0
    assert "hush" not in str(clean)


def test_a_secret_that_is_not_set_is_visibly_not_set() -> None:
    clean: Any = effective_config(config(ZookeeperOptions(name="zk", address="10.0.0.1:2181")))

    assert clean["sources"][0]["digest"] == ""
