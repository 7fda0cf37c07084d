"""isthmus/readback: what counts as a difference and when, and what is made of istiod's page and of its failures.

The istiod here is a fake, since a real one is neither slow, nor broken, nor asks for a token on loopback; what a real
one stores is in tests/mesh/test_readback.py.
"""

from __future__ import annotations

import logging
import ssl
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from aiohttp import web

from isthmus.config.listeners import IstiodOptions
from isthmus.mcp.encode import encode_service_entry
from isthmus.readback.compare import LISTED, Comparison, Finding, Snapshot, described
from isthmus.readback.configz import Stored, stored_entries
from isthmus.readback.reader import Readback, read_stored
from isthmus.registry.errors import SourceError, SourceUnavailable
from isthmus.registry.model import ServiceEntry
from tests.rig.certificates import Certificates
from tests.unit.test_web import saying, serving

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from isthmus.readback.compare import Report

OLD, NEW, NEWEST = "1" * 16, "2" * 16, "3" * 16
TOKEN = "header.payload.signature"
SETTLE = 5.0


# An object for each state of a resource, as `Publication.resources` has one: equal ones are two states all the same.
_MARKS: dict[tuple[object, ...], list[object]] = {}


def snapshot(versions: Mapping[str, str], *marks: object) -> Snapshot:
    of = {name: _MARKS.setdefault((name, version, *marks), []) for name, version in versions.items()}
    return Snapshot(versions, of)


class Readings:
    """Readings of one istiod, 6 s apart: longer than a difference has to last."""

    def __init__(self) -> None:
        self._comparison = Comparison(SETTLE)
        self._now = 1000.0

    def read(
        self,
        published: Mapping[str, str],
        stored: Mapping[str, str],
        *,
        before: Mapping[str, str] | None = None,
        foreign: tuple[str, ...] = (),
        after: float = 6.0,
        marks: tuple[object, ...] = (),
    ) -> Report:
        """Compare a reading.

        before: what was published as it began. foreign: names stored that are not ours. after: seconds.
        marks: what else than its version tells a resource from the one that was published before under its name.
        """
        self._now += after
        held = {name: Stored(version, name not in foreign) for name, version in stored.items()}
        began, ended = snapshot(published if before is None else before, *marks), snapshot(published, *marks)
        return self._comparison.compare(began, ended, held, self._now)


def faults(report: Report) -> dict[str, Finding]:
    return {name: finding for listed in report.faults.values() for name, finding in listed.first}


def test_what_is_stored_as_it_is_published_is_right() -> None:
    report = Readings().read({"a/x": NEW, "a/y": NEW}, {"a/x": NEW, "a/y": NEW, "b/z": "17"}, foreign=("b/z",))

    assert (report.published, report.stored, report.settling, report.others) == (2, 2, 0, 0)
    assert report.right
    assert described(report, 3) == ""


def test_a_difference_counts_when_a_second_reading_finds_it_again() -> None:
    readings = Readings()
    published = {"a/gone": NEW, "a/old": NEW, "a/covered": NEW, "a/good": NEW}
    stored = {"a/old": OLD, "a/covered": "17", "a/good": NEW}
    first = readings.read(published, stored, foreign=("a/covered",))
    second = readings.read(published, stored, foreign=("a/covered",))

    assert (first.right, first.stored, first.settling) == (True, 1, 3)
    assert (second.right, second.stored, second.settling) == (False, 1, 0)
    assert faults(second) == {
        "a/gone": Finding("missing", NEW, ""),
        "a/old": Finding("differing", NEW, OLD),
        "a/covered": Finding("hidden", NEW, "17"),
    }
    assert (
        described(second, 3)
        == "1 missing (a/gone); 1 of another version (a/old); 1 hidden by another source (a/covered)"
    )


def test_a_second_reading_that_comes_too_soon_does_not_count() -> None:
    readings = Readings()
    reports = [readings.read({"a/x": NEW}, {}, after=2.0) for _ in range(4)]

    assert [report.right for report in reports] == [True, True, True, False]


def test_one_reading_is_never_enough() -> None:
    comparison = Comparison(settle=0.0)
    published = snapshot({"a/x": NEW})
    assert comparison.compare(published, published, {}, 1.0).right
    assert not comparison.compare(published, published, {}, 2.0).right


def test_a_version_that_came_back_is_a_change_all_the_same() -> None:
    readings = Readings()
    reports = [readings.read({"a/x": NEW}, {"a/x": OLD}, marks=(number // 2,)) for number in range(5)]

    assert [report.right for report in reports] == [True, False, True, False, True]


def test_what_is_not_there_at_all_is_missing_however_it_changes() -> None:
    readings = Readings()
    readings.read({"a/x": OLD, "a/y": OLD}, {"a/y": "17"}, foreign=("a/y",))
    report = readings.read({"a/x": NEW, "a/y": NEW}, {"a/y": "27"}, foreign=("a/y",))
    assert faults(report) == {"a/x": Finding("missing", NEW, ""), "a/y": Finding("hidden", NEW, "27")}


@pytest.mark.parametrize("changed", ["published", "stored"])
def test_a_name_that_changes_from_reading_to_reading_does_not_count(changed: str) -> None:
    readings = Readings()
    for version in (OLD, NEW, OLD, NEW):
        published, stored = (version, NEWEST) if changed == "published" else (NEWEST, version)
        report = readings.read({"a/x": published}, {"a/x": stored})
        assert (report.right, report.settling) == (True, 1)


def test_a_name_that_changed_during_a_reading_does_not_count_from_it() -> None:
    readings = Readings()
    readings.read({"a/x": NEW}, {"a/x": OLD}, before={"a/x": OLD})
    assert readings.read({"a/x": NEW}, {"a/x": OLD}).right
    readings.read({"a/x": NEW}, {"a/x": OLD}, before={"a/x": OLD})
    assert readings.read({"a/x": NEW}, {"a/x": OLD}).right
    assert not readings.read({"a/x": NEW}, {"a/x": OLD}).right


def test_it_is_right_with_the_first_reading_that_finds_it_so() -> None:
    readings = Readings()
    readings.read({"a/x": NEW}, {})
    assert not readings.read({"a/x": NEW}, {}).right
    assert readings.read({"a/x": NEW}, {"a/x": NEW}).right
    assert readings.read({"a/x": NEW}, {}).right


def test_what_is_no_longer_published_is_left_over_and_what_never_was_is_anothers() -> None:
    readings = Readings()
    stored = {"a/x": NEW, "a/y": NEW, "b/never": NEW, "b/theirs": "17"}
    readings.read({"a/x": NEW, "a/y": NEW}, stored, foreign=("b/theirs",))
    first = readings.read({"a/x": NEW}, stored, foreign=("b/theirs",))
    second = readings.read({"a/x": NEW}, stored, foreign=("b/theirs",))

    assert (first.right, first.stored, first.settling, first.others) == (True, 1, 1, 1)
    assert (second.stored, second.settling, second.others) == (1, 0, 1)
    assert faults(second) == {"a/y": Finding("leftOver", "", NEW)}
    assert described(second, 3) == "1 left over (a/y)"


def test_what_was_withdrawn_during_a_reading_is_not_left_over_yet() -> None:
    readings = Readings()
    readings.read({}, {"a/x": NEW}, before={"a/x": NEW})
    assert readings.read({}, {"a/x": NEW}).right
    assert faults(readings.read({}, {"a/x": NEW})) == {"a/x": Finding("leftOver", "", NEW)}


def test_long_lists_are_cut_and_counted() -> None:
    readings = Readings()
    published = {f"a/{number:03}": NEW for number in range(LISTED + 50)}
    readings.read(published, {})
    missing = readings.read(published, {}).faults["missing"]

    assert missing.total == LISTED + 50
    assert [name for name, _ in missing.first] == sorted(published)[:LISTED]
    assert described(readings.read(published, {}), 2) == "150 missing (a/000, a/001, …)"


def item(name: str, version: str, kind: str = "ServiceEntry", **annotations: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "a", "resourceVersion": version, "annotations": annotations}
    return {"kind": kind, "apiVersion": "networking.istio.io/v1", "metadata": metadata, "spec": {"hosts": [name]}}


def test_ours_is_what_has_our_annotation_and_a_version_of_our_making() -> None:
    version = encode_service_entry(ServiceEntry(namespace="a", name="x", hosts=("x",))).version
    ours = {"isthmus.io/service": "app:x"}
    items = [
        item("ours", version, **ours),
        item("applied", "1234567", **ours),
        item("theirs", version, other="x"),
        item("gateway", version, "Gateway", **ours),
        {"kind": "ServiceEntry", "metadata": {"name": "bare", "namespace": "a"}, "spec": {}},
    ]

    assert stored_entries(msgspec.json.encode(items)) == {
        "a/ours": Stored(version, ours=True),
        "a/applied": Stored("1234567", ours=False),
        "a/theirs": Stored(version, ours=False),
        "a/bare": Stored("", ours=False),
    }


@pytest.mark.parametrize("body", [b"", b"[", b"{}", b'[{"kind": 1}]', b'[{"metadata": []}]', b"\xff", b"[" * 100_000])
def test_T14_what_is_no_such_page_is_an_error_in_words(body: bytes) -> None:
    with pytest.raises(SourceUnavailable, match="the list of what it stored"):
        stored_entries(body)


class Istiod:
    """A fake of istiod's debug port; `items` is what it holds, `headers` what it was last asked with."""

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []
        self.status = 200
        self.said = ""
        self.headers: Mapping[str, str] = {}

    async def answer(self, request: web.Request) -> web.Response:
        self.headers = request.headers
        if request.path != "/debug/configz":
            return web.Response(status=404)
        if self.status != 200:
            return web.Response(status=self.status, text=self.said)
        return web.json_response(self.items)


async def why_not(options: IstiodOptions) -> str:
    with pytest.raises(SourceError) as raised:
        await read_stored(options)
    return str(raised.value)


async def test_T17_the_token_is_read_each_time_and_not_repeated(tmp_path: Path) -> None:
    file = tmp_path / "token"
    istiod = Istiod()
    async with serving(istiod.answer) as url:
        options = IstiodOptions(address=f"{url}/", token_file=str(file))
        for token in (TOKEN, "another"):
            file.write_text(f"{token}\n")
            await read_stored(options)
            assert istiod.headers["Authorization"] == f"Bearer {token}"
        istiod.status, istiod.said = 500, "no token another"
        assert "answers 500 (no token ***)" in await why_not(options)
        await why_not(IstiodOptions(address=url))
        assert "Authorization" not in istiod.headers


@pytest.mark.parametrize("token", [b"", b" \n", b"two words", b"a\nX-Other: b", b"\xc3\xa9", b"x" * 100_000])
async def test_T17_a_file_without_a_token_is_named_and_not_shown(tmp_path: Path, token: bytes) -> None:
    file = tmp_path / "token"
    file.write_bytes(token)
    reason = await why_not(IstiodOptions(address="http://127.0.0.1:1", token_file=str(file)))
    assert reason == f"{file} holds no token, which is one word of printable ASCII"


async def test_a_token_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    file = str(tmp_path / "token")
    reason = await why_not(IstiodOptions(address="http://127.0.0.1:1", token_file=file))
    assert reason == f"{file} cannot be read: No such file or directory"


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refusal_says_what_to_do(tmp_path: Path, status: int) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    async with serving(saying("", status)) as url:
        without = await why_not(IstiodOptions(address=url))
        refused = await why_not(IstiodOptions(address=url, token_file=str(file)))
    assert "`tokenFile`" in without
    assert f"it refuses the token in {file}" in refused


async def test_another_port_is_told_from_an_istiod() -> None:
    async with serving(saying("", 404)) as url:
        assert "is this the port of its debug pages, 15014?" in await why_not(IstiodOptions(address=url))


async def test_T16_a_redirect_is_not_followed() -> None:
    async with serving(saying("", 302, Location="/elsewhere")) as url:
        assert "it is not followed" in await why_not(IstiodOptions(address=url))


async def test_T18_the_certificate_is_verified_by_the_ca_that_is_named(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    async with serving(Istiod().answer, server_context(certificates)) as url:
        assert await read_stored(IstiodOptions(address=url, ca=str(certificates.ca_file))) == {}
        assert "its certificate is not trusted" in await why_not(IstiodOptions(address=url))
        missing = str(tmp_path / "none.pem")
        assert missing in await why_not(IstiodOptions(address=url, ca=missing))


async def test_failures_are_counted_and_told_once_and_what_was_known_stays(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "isthmus")
    istiod = Istiod()
    async with serving(istiod.answer) as url:
        readback = Readback(IstiodOptions(name="east", address=url), lambda: snapshot({}))
        await readback.read()
        known, read_at = readback.report, readback.read_at
        assert known is not None
        istiod.status = 500
        await readback.read()
        await readback.read()
        assert (readback.errors, readback.report, readback.read_at) == (2, known, read_at)
        assert readback.last_error is not None
        istiod.status = 200
        await readback.read()
    assert readback.errors == 2
    failed, again = [record.getMessage() for record in caplog.records]
    assert failed.startswith("istiod east: what it stored cannot be read: 127.0.0.1:")
    assert again == "istiod east: what it stored can be read again"


async def test_the_log_says_when_it_becomes_wrong_and_right_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "isthmus")
    istiod = Istiod()
    async with serving(istiod.answer) as url:
        readback = Readback(IstiodOptions(address=url), lambda: snapshot({"a/x": NEW}), settle=0.0)
        for _ in range(3):
            await readback.read()
        assert readback.report is not None
        assert not readback.report.right
        istiod.items = [item("x", NEW, **{"isthmus.io/service": "app:x"})]
        for _ in range(2):
            await readback.read()
    wrong, right = [record.getMessage() for record in caplog.records]
    assert wrong.startswith(f"istiod {url}: it stored 0 of 1 as published: 1 missing (a/x); ")
    assert right == f"istiod {url}: right again, it stored 1 of 1"


async def test_nothing_is_compared_while_nothing_is_published_yet() -> None:
    published: Snapshot | None = None
    istiod = Istiod()
    istiod.items = [item("x", OLD, **{"isthmus.io/service": "app:x"})]
    async with serving(istiod.answer) as url:
        readback = Readback(IstiodOptions(address=url), lambda: published, settle=0.0)
        await readback.read()
        assert (readback.report, readback.last_error) == (None, None)
        assert readback.read_at is not None
        published = snapshot({"a/x": OLD})
        await readback.read()
    assert readback.report is not None
    assert (readback.report.stored, readback.report.others) == (1, 0)


def server_context(certificates: Certificates) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.cert_file, certificates.key_file)
    return context
