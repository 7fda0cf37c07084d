"""debug/redact.py: no credential and nothing that a terminal acts on leaves the process (T17, T23)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.adapters.applications import ApplicationPort
from isthmus.adapters.eureka.options import EurekaOptions
from isthmus.adapters.nacos.options import NacosOptions
from isthmus.adapters.zookeeper.options import ZookeeperOptions
from isthmus.debug.redact import LONGEST_RECORD, effective_config, shown, shown_address, without_credentials
from tests.debug.web import config

if TYPE_CHECKING:
    from isthmus.adapters import SourceOptions

GOLDEN = Path(__file__).parent.parent / "golden"

# What a password may hold: anything that a URL has a meaning for, but `/` and `?` not both, which no URL can hold.
PASSWORDS = st.text("aZ0:@%#&=+ \"'[]{}\\\n", min_size=1).map(lambda text: f"secr{text}et")

# What stands in JSON beside a secret: anything that it has a meaning for, but nothing that a URL has one for.
BESIDE = st.text('aZ "\\{}[]:,\n\té\u2028', max_size=8)
TELLING = st.sampled_from(
    [
        "password",
        "db.password",
        "a token for b",
        "Secret",
        "accessKey",
        "access_key",
        "secretKey",
        "ak",
        "oss.sk",
        "ossAk",
    ]
)
NESTED = st.recursive(
    BESIDE | st.integers() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(BESIDE, inner, max_size=3),
    max_leaves=6,
)
FORMS: list[dict[str, Any]] = [{}, {"separators": (",", ":")}, {"indent": 2}, {"ensure_ascii": False}]


def nested(inner: object, beside: list[Any], forms: list[dict[str, Any]]) -> str:
    """Return JSON that holds a value in an object in a list, all this in a string of JSON for every form but one."""
    text = ""
    for depth, form in enumerate(forms):
        value = text if depth else [inner]
        text = json.dumps({"a": beside, "metadata": value, "z": beside}, **form)
    return text


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
@pytest.mark.parametrize(
    "name",
    [
        "password",
        "my.Token",
        "access_key",
        "accessKey",
        "secretKey",
        "client-secret",
        "passwd",
        "ak",
        "SK",
        "x.sk",
        "ossAk",
    ],
)
def test_T17_the_values_of_telling_names_are_masked(name: str, depth: int) -> None:
    record = encoded(f"dubbo://10.0.0.1:1/a.B?side=provider&{name}=hush&group=g", depth)

    assert without_credentials(record) == record.replace("hush", "***")


def test_T17_the_value_of_a_key_of_etcd_with_a_telling_name_is_masked() -> None:
    assert without_credentials("svc/db-password = hush") == "svc/db-password = ***"


def test_T17_the_values_of_telling_names_are_masked_in_json() -> None:
    record = '{"address":"10.0.0.1","labels":{"api_key":"hu\\"sh","zone":"a"}}'

    assert without_credentials(record) == '{"address":"10.0.0.1","labels":{"api_key":"***","zone":"a"}}'


@given(
    TELLING,
    st.builds("{}hunter3{}".format, PASSWORDS | BESIDE, PASSWORDS | BESIDE),
    st.lists(NESTED, max_size=3),
    st.lists(st.sampled_from(FORMS), min_size=1, max_size=4),
)
def test_T17_a_text_under_a_telling_name_is_masked_in_json_however_deep(
    name: str, secret: str, beside: list[Any], forms: list[dict[str, Any]]
) -> None:
    record = nested({"id": 1, name: secret, "zone": "b"}, beside, forms)

    assert without_credentials(record) == nested({"id": 1, name: "***", "zone": "b"}, beside, forms)


@given(
    TELLING,
    st.integers() | st.floats() | st.booleans() | st.lists(NESTED) | st.dictionaries(BESIDE, NESTED),
    st.lists(NESTED, max_size=3),
    st.lists(st.sampled_from(FORMS), min_size=1, max_size=4),
)
def test_T17_what_is_no_text_under_a_telling_name_is_masked_as_well(
    name: str, secret: object, beside: list[Any], forms: list[dict[str, Any]]
) -> None:
    record = nested({"id": 1, name: secret, "zone": "b"}, beside, forms)

    clean = nested({"id": 1, name: "hunter3", "zone": "b"}, beside, forms)
    for depth in reversed(range(len(forms))):
        quote = "\\" * (2**depth - 1) + '"'
        clean = clean.replace(f"{quote}hunter3{quote}", "***")
    assert without_credentials(record) == clean


@given(st.text(), st.lists(NESTED, max_size=3), st.lists(st.sampled_from(FORMS), min_size=1, max_size=4))
def test_json_without_telling_names_is_shown_as_it_is(
    text: str, beside: list[Any], forms: list[dict[str, Any]]
) -> None:
    record = nested({"task": "token", "sky": text.replace("@", ""), "zone": None}, beside, forms)

    assert without_credentials(record) == record


@pytest.mark.parametrize(
    ("record", "clean"),
    [
        ('{"secret": {"a": "x", "b": ["}"]}, "zone": "a"}', '{"secret": ***, "zone": "a"}'),
        ('{"password": "", "token": null, "pwd": 7}', '{"password": "", "token": null, "pwd": ***}'),
        ('{"homePageUrl":"http://a:1","secret":"x@y"}', '{"homePageUrl":"http://a:1","secret":"***"}'),
        # What is broken is masked to its end.
        ('{"a":"{\\"secret\\":[\\"x","zone":"a"}', '{"a":"{\\"secret\\":***","zone":"a"}'),
        ('{"a":"{\\"secret\\":\\"x","zone":"a"}', '{"a":"{\\"secret\\":\\"***","zone":"a"}'),
        ('{"secret":{"a":"x"', '{"secret":***'),
        ('{"secret":"x', '{"secret":"***'),
    ],
)
def test_T17_json_that_is_not_only_names_and_texts(record: str, clean: str) -> None:
    assert without_credentials(record) == clean


def test_T17_what_real_dubbo_3_keeps_in_nacos_is_masked() -> None:
    page = GOLDEN / "nacos" / "3.1.0" / "instances.DEFAULT_GROUP.shop-dubbo3-nacos.json"
    (host,) = json.loads(page.read_text())["hosts"]
    known = json.dumps(host)
    parameters = json.loads(host["metadata"]["dubbo.metadata-service.url-params"]) | {"password": 'hunt"er\\3'}
    host["metadata"]["dubbo.metadata-service.url-params"] = json.dumps(parameters)

    assert without_credentials(known) == known
    clean = json.loads(without_credentials(json.dumps(host)))
    assert json.loads(clean["metadata"]["dubbo.metadata-service.url-params"]) == parameters | {"password": "***"}


@pytest.mark.parametrize(
    ("record", "clean"),
    [
        ("<m><password>x@y</password><zone>a</zone></m>", "<m><password>***</password><zone>a</zone></m>"),
        ("<db.password>x</db.password>", "<db.password>***</db.password>"),
        ("<sk><![CDATA[<x>]]></sk><a>b</a>", "<sk>***</sk><a>b</a>"),
        ('<entry key="password">x</entry>', '<entry key="***">***</entry>'),
        ("<e key='password' value='x'/><a>b</a>", "<e key='***' value='***'/><a>b</a>"),
        ('{"a":"<e key=\\"password\\" value=\\"x\\"/>"}', '{"a":"<e key=\\"***\\" value=\\"***\\"/>"}'),
        ("<password>x", "<password>***"),
    ],
)
def test_T17_the_values_of_telling_names_are_masked_in_xml(record: str, clean: str) -> None:
    assert without_credentials(record) == clean


@pytest.mark.parametrize(
    "record",
    [
        "dubbo://10.0.0.1:20880/com.foo.Bar?side=provider&owner=a@b",
        encoded("tri://[2001:db8::1]:50051/com.foo.Bar?group=g&version=1.0", 1),
        encoded("dubbo://10.0.0.1:20880/a.B?task=a&mask=b&skip=c", 1),
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
        ("\\", "@"),
        ('token\\"', 'token\\"@'),
        ('"token":\\n', '"token":\\n***'),
        ('"token":[', '"token":***'),
        ('"token":["', '"token":***'),
        ('":token', '":token":***'),
        ("<token", "<token@"),
        ("<token>", "<token>***"),
        ("<token><![CDATA[", "<token>***"),
        ('<token a="\\', '<token a="\\@'),
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


SERVERS = "http://10.0.0.1:8761/eureka, https://10.0.0.2:8761/eureka"


@pytest.mark.parametrize(
    ("source", "secrets"),
    [
        (NacosOptions(name="n", address="10.0.0.1:8848", username="bridge", password="hush"), {"password"}),
        (
            NacosOptions(name="n", address="10.0.0.1:8848", access_key="hush", secret_key="hush"),
            {"accessKey", "secretKey"},
        ),
        (EurekaOptions(name="e", address=SERVERS, username="bridge", password="hush"), {"password"}),
    ],
)
def test_T17_a_registrys_passwords_and_keys_are_masked_and_nothing_else(
    source: SourceOptions, secrets: set[str]
) -> None:
    plain: Any = msgspec.json.decode(msgspec.json.encode(source))

    clean: Any = effective_config(config(source))

    assert clean["sources"][0] == plain | dict.fromkeys(secrets, "***")


def test_a_service_is_shown_whatever_it_is_called() -> None:
    source = EurekaOptions(name="e", address=SERVERS, services={"token-service": ApplicationPort(80, "HTTP")})

    clean: Any = effective_config(config(source))

    assert clean["sources"][0]["services"] == {"token-service": {"port": 80, "protocol": "HTTP"}}


@pytest.mark.parametrize(
    ("address", "clean"),
    [
        (SERVERS, SERVERS),
        (
            "http://bridge:hush@10.0.0.1/eureka,https://bridge:hu,sh@10.0.0.2/eureka",
            "http://***@10.0.0.1/eureka,https://***@10.0.0.2/eureka",
        ),
        ("bridge:hush@10.0.0.1:8848,10.0.0.2:8848", "***@10.0.0.1:8848,10.0.0.2:8848"),
    ],
)
def test_T17_a_list_of_addresses_is_shown_without_credentials(address: str, clean: str) -> None:
    assert shown_address(address) == clean


def test_a_secret_that_is_not_set_is_visibly_not_set() -> None:
    clean: Any = effective_config(config(ZookeeperOptions(name="zk", address="10.0.0.1:2181")))

    assert clean["sources"][0]["digest"] == ""
