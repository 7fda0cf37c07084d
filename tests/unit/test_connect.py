"""`isthmus check --connect`: every source is read once, and what came of it is told."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from typing import TYPE_CHECKING

import pytest

from isthmus.adapters.files import FilesOptions
from isthmus.cli.check import _said
from isthmus.cli.connect import Contact, contact_sources
from isthmus.config import Config
from tests.rig.wait import wait_for_async
from tests.unit.test_check import run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TIMEOUT = 60.0
SERVICES = """\
services:
- host: orders.shop.legacy
  ports: [{number: 8080, name: http, protocol: HTTP}]
  endpoints: [{address: 10.0.0.1}, {address: 127.0.0.1}]
"""


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "services"
    made.mkdir()
    (made / "shop.yaml").write_text(SERVICES)
    return made


def test_a_source_that_is_read_is_counted(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--source", f"file:{directory}", "--connect") == 0
    assert capsys.readouterr() == (
        "flags: ok, 1 source\nsource files: ok, 1 service, 1 endpoint; refused: IS206 1\n",
        "",
    )


def test_a_source_that_is_not_read_costs_no_other(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = directory / "missing"
    code = run("--source", f"file:{missing}", "--source", f"file:{directory}", "--connect", "--wait", "5")
    assert code == 3
    assert capsys.readouterr().out.splitlines() == [
        "flags: ok, 2 sources",
        f"source files: {missing}: No such file or directory",
        "source files-2: ok, 1 service, 1 endpoint; refused: IS206 1",
    ]


def test_JSON_of_sources(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = directory / "missing"
    urls = (f"file:{directory}?name=a", f"file:{missing}?name=b")
    assert run(*(word for url in urls for word in ("--source", url)), "--connect", "--wait", "5", "-o", "json") == 3
    answer = json.loads(capsys.readouterr().out)
    assert (answer["ok"], answer["mistakes"]) == (False, [])
    assert answer["sources"] == [
        {
            "name": "a",
            "kind": "files",
            "address": str(directory),
            "ok": True,
            "services": 1,
            "endpoints": 1,
            "refused": {"IS206": 1},
            "reason": None,
            "notes": [],
        },
        {
            "name": "b",
            "kind": "files",
            "address": str(missing),
            "ok": False,
            "services": 0,
            "endpoints": 0,
            "refused": {},
            "reason": f"{missing}: No such file or directory",
            "notes": [],
        },
    ]


def test_a_source_that_is_silent_is_given_up(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"127.0.0.1:{silent.getsockname()[1]}"
        assert run("--source", f"eureka://{place}", "--connect", "--wait", "0.5") == 3
    assert f"source eureka: http://{place}/eureka: no answer in 0.5 s\n" in capsys.readouterr().out


def test_what_merging_refuses_is_counted_where_it_is_refused(directory: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "shop.yaml").write_text(SERVICES.replace("8080", "9090"))
    sources = (FilesOptions(name="a", directory=str(directory)), FilesOptions(name="b", directory=str(other)))
    first, second = asyncio.run(contact_sources(Config(sources=sources), TIMEOUT))
    assert (first.ok, second.ok) == (True, True)
    assert first.refused == {"IS206": 1}
    assert second.refused == {"IS206": 1, "IS304": 1}


def test_what_is_worth_knowing_of_a_source_stands_behind_what_was_read() -> None:
    contact = Contact(
        name="a",
        kind="consul",
        address="http://10.0.0.1:8500",
        ok=True,
        services=1,
        endpoints=2,
        refused={"IS204": 1},
        reason=None,
        notes=("ACLs hide some services",),
    )
    assert _said(contact) == "ok, 1 service, 2 endpoints; refused: IS204 1; ACLs hide some services"


async def test_a_source_is_tried_again_as_long_as_there_is_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    late = tmp_path / "late"
    config = Config(sources=(FilesOptions(name="late", directory=str(late)),))
    contacting = asyncio.create_task(contact_sources(config, TIMEOUT))
    await wait_for_async(lambda: "source late" in caplog.text, TIMEOUT, "the first failure")
    late.mkdir()
    (contact,) = await contacting
    assert (contact.ok, contact.reason) == (True, None)


@pytest.mark.parametrize("output", ["text", "json"])
def test_mistakes_come_before_any_contact(directory: Path, output: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--source", f"file:{directory}?vip=on", "--connect", "-o", output) == 2
    said = capsys.readouterr().out
    assert "did you mean" in said
    assert "endpoint" not in said


def test_a_time_without_contact_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--source", "file:d", "--wait", "1") == 2
    assert capsys.readouterr().out == "--wait is for --connect\n"


@pytest.mark.parametrize("wait", ["0", "-1", "nan", "inf", "soon"])
def test_a_time_that_is_none_is_refused(wait: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run("--source", "file:d", "--connect", f"--wait={wait}")
    assert ended.value.code == 2
    assert "--wait" in capsys.readouterr().err
