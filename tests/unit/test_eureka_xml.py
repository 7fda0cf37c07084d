"""adapters/eureka/xml.py: a real server's XML says what its JSON says, and a bomb costs nothing (EU7, T13)."""

from __future__ import annotations

from pathlib import Path

import pytest

from isthmus.adapters.eureka.records import EurekaRules, Reading, read_application
from isthmus.adapters.eureka.wire import INSTANCE_LIMIT, Document, open_json
from isthmus.adapters.eureka.xml import DEEPEST, XmlReader
from isthmus.registry import codes
from isthmus.registry.errors import SourceUnavailable
from isthmus.registry.policy import RECORD_LENGTH

GOLDEN = Path(__file__).parent.parent / "golden" / "eureka"
RULES = EurekaRules(region="eu", labels={"version": "version"})
# The leases were renewed between the two requests.
SAME = ("1-two-spring-cloud-services.apps", "2-greeting-out-of-service.apps", "3-order-service-stopped.apps-delta")


def parse(body: bytes, piece: int = 1_000_000) -> Document:
    reader = XmlReader()
    for start in range(0, len(body), piece):
        reader.feed(body[start : start + piece])
    return reader.close()


def read(document: Document) -> list[Reading]:
    return [read_application(one, RULES) for one in document.applications]


def registry(inner: str) -> bytes:
    return f"<applications><versions__delta>7</versions__delta>{inner}</applications>".encode()


@pytest.mark.parametrize("name", SAME)
@pytest.mark.parametrize("piece", [1, 1_000_000])
def test_EU7_the_XML_of_a_real_server_says_what_its_JSON_says(name: str, piece: int) -> None:
    document = open_json((GOLDEN / f"{name}.json").read_bytes())
    assert document is not None
    parsed = parse((GOLDEN / f"{name}.xml").read_bytes(), piece)
    assert parsed.hashcode == document.hashcode
    assert read(parsed) == read(document) != []


def test_an_empty_registry() -> None:
    assert parse(b"<applications/>") == Document(0, None, (), lists=False)
    assert parse((GOLDEN / "1-two-spring-cloud-services.apps-delta.xml").read_bytes()) == Document(
        9, "STARTING_1_UP_2_", (), lists=False
    )


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "no whole XML"),
        (b"<applications>", "no whole XML"),
        (b"<applications></apps>", "no whole XML"),
        (b"{}", "no whole XML"),
        (b"<applications/><applications/>", "no whole XML"),
        (b"<html><body/></html>", "no registry, but XML of <html>"),
        (b"<applications>\xff</applications>", "no whole XML"),
        (b"<applications>&nbsp;</applications>", "no whole XML"),
        (b"<applications>" + b"<a>" * DEEPEST, "nested more than 64 deep"),
        (b"<a>" * 200_000, "no registry"),
    ],
)
def test_G1_what_is_no_whole_registry_is_none(body: bytes, text: str) -> None:
    with pytest.raises(SourceUnavailable, match=text):
        parse(body)


LAUGHS = "".join(f'<!ENTITY l{depth} "{f"&l{depth - 1};" * 10}">' for depth in range(1, 10))


@pytest.mark.parametrize(
    "doctype",
    [
        f'<!DOCTYPE applications [<!ENTITY l0 "ha">{LAUGHS}]>',
        '<!DOCTYPE applications SYSTEM "http://127.0.0.1:1/x.dtd">',
        '<!DOCTYPE applications [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
        "<!DOCTYPE applications>",
    ],
)
def test_T13_a_document_type_is_refused(doctype: str) -> None:
    with pytest.raises(SourceUnavailable, match="declares a document type"):
        parse(f"<?xml version='1.0'?>{doctype}<applications>&l9;&x;</applications>".encode())


def test_T13_an_encoding_of_its_own_is_not_followed() -> None:
    body = "<applications><apps__hashcode>é</apps__hashcode></applications>".encode()
    for encoding in ("iso-8859-1", "utf-7", "shift-jis", "nonsense"):
        assert parse(f"<?xml version='1.0' encoding='{encoding}'?>".encode() + body).hashcode == "é"


@pytest.mark.parametrize(
    "inner",
    [
        "<application/>",
        "<application>x</application>",
        "<application><name/></application>",
        '<application><name enabled="true">A</name></application>',
    ],
)
def test_G1_an_application_without_a_name_leaves_all_in_doubt(inner: str) -> None:
    with pytest.raises(SourceUnavailable, match="no name"):
        read(parse(registry(inner)))


def test_G8_one_bad_instance_costs_itself() -> None:
    def instance(name: str, more: str = "") -> str:
        return f"<instance><instanceId>{name}</instanceId><ipAddr>10.0.0.1</ipAddr><status>UP</status>{more}</instance>"

    good = '<port enabled="true">80</port>'
    long = f"{good}<metadata><a>{'x' * (RECORD_LENGTH + 10)}</a></metadata>"
    many = good + "".join(f"<m{index}/>" for index in range(10_000))
    (reading,) = read(
        parse(
            registry(
                "<application><name>A</name><instance/><instance>x</instance>"
                + instance("1", good)
                + instance("2", '<port enabled="true">many</port>')
                + instance("3", long)
                + instance("4", f"{good}<ipAddr><deep/></ipAddr>")
                + instance("5", many)
                + instance("6", f'{good}<port enabled="false">{"9" * 5_000}</port>')
                + "</application>"
            )
        )
    )
    codes_by_key = {
        member.key: {one.code for _, one in member.placed if hasattr(one, "code")}
        | ({member.refused.code} if member.refused else set())
        for member in reading.members
    }
    assert codes_by_key == {
        "1": set(),
        "2": {codes.BAD_PORT},
        "3": {codes.TOO_LONG},
        "4": {codes.GARBLED},
        "5": set(),
        "6": {codes.BAD_PORT},
    }
    assert [one.code for one in reading.refused] == [codes.GARBLED] * 2


def test_T15_more_instances_than_an_application_may_have_are_not_read() -> None:
    (most, more) = read(
        parse(
            registry(
                f"<application><name>A</name>{'<instance/>' * INSTANCE_LIMIT}</application>"
                f"<application><name>B</name>{'<instance/>' * (INSTANCE_LIMIT + 1_000)}</application>"
            )
        )
    )
    assert (most.whole, len(most.refused)) == (True, 101)
    assert (more.whole, [one.code for one in more.refused]) == (False, [codes.TOO_MANY])


def test_the_version_is_a_number_or_nothing() -> None:
    for text in ("", "x", "-1", "9" * 5_000):
        assert parse(f"<applications><versions__delta>{text}</versions__delta></applications>".encode()).version == 0
    assert parse(registry("")).version == 7
