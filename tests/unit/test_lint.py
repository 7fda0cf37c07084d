"""`isthmus lint`, through its own parser: verdicts, forms of the answer, exit codes."""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from isthmus.adapters.yamldoc import MAX_BYTES
from isthmus.cli import lint

ROOT = Path(__file__).parent.parent.parent
CORPUS = json.loads((ROOT / "tests" / "golden" / "istio_acceptance.json").read_text())


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    lint.add_parser(parser.add_subparsers())
    args = parser.parse_args(["lint", *arguments])
    code: int = args.run(args)
    return code


def service(name: str = "orders", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"hosts": ["orders.legacy"], **spec},
    }


@pytest.fixture
def written(tmp_path: Path) -> Any:
    def write(text: str | bytes, name: str = "entries.yaml") -> str:
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return str(path)

    return write


def corpus_documents() -> list[dict[str, Any]]:
    return [
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": row["kind"],
            "metadata": {
                "name": row["name"],
                "namespace": row["namespace"],
                "annotations": row.get("annotations", {}),
            },
            "spec": row["spec"],
        }
        for row in CORPUS
    ]


FORMS = {
    "json list": json.dumps(corpus_documents()),
    "kind List": json.dumps({"apiVersion": "v1", "kind": "List", "items": corpus_documents()}, indent="\t"),
    "yaml documents": yaml.safe_dump_all(json.loads(json.dumps(corpus_documents())), explicit_start=True),
    "yaml list": yaml.safe_dump(json.loads(json.dumps(corpus_documents())), allow_unicode=True),
}


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS.keys())
def test_G8_the_whole_corpus_in_every_form(text: str, written: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(written(text), "-o", "json") == 1
    verdicts = json.loads(capsys.readouterr().out)
    assert [verdict["ok"] for verdict in verdicts] == [row["ok"] for row in CORPUS]
    assert all(verdict["ok"] == (verdict["reasons"] == []) for verdict in verdicts)
    assert [verdict["kind"] for verdict in verdicts] == [row["kind"] for row in CORPUS]


def test_verdicts_come_in_the_order_of_files_and_documents(
    written: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = written(f"{json.dumps(service('a'))}\n---\n{json.dumps(service('b', hosts=['_']))}\n", "1.yaml")
    second = written(json.dumps([service("d"), {"kind": "List", "items": [service("e")]}]), "2.json")
    stdin = io.TextIOWrapper(io.BytesIO(json.dumps(service("c")).encode()))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert run("-o", "json", first, "-", second) == 1
    captured = capsys.readouterr()
    found = [(row["file"], row["line"], row["name"], row["ok"]) for row in json.loads(captured.out)]
    assert found == [
        (first, 1, "a", True),
        (first, 3, "b", False),
        ("-", 1, "c", True),
        (second, 1, "d", True),
        (second, 1, "e", True),
    ]
    assert captured.err == ""


def test_text_says_where_and_why(written: Any, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(f"# two\n{yaml.safe_dump(service())}---\n{yaml.safe_dump(service(hosts=['a_b', 'c.1']))}")
    assert run(file) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{file}:2: ServiceEntry shop/orders: accepted"
    assert lines[1] == f"{file}:11: ServiceEntry shop/orders: refused"
    assert [line.split("'")[1] for line in lines[2:]] == ["a_b", "c.1"]


def test_exit_code_0_when_all_are_accepted(written: Any, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(yaml.safe_dump(service()))
    assert run(file) == 0
    assert run(file, "-o", "json") == 0
    assert "accepted" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "---\n", "[]"])
def test_no_documents_are_said_to_be_none(text: str, written: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(written(text), "-o", "json") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == []
    assert captured.err == "no documents found\n"
    assert run(written(text)) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"a: b: c", "line 1, column 5: "),
        (b"\xff\xfe", "is not UTF-8 text: byte 0 is 0xff"),
        (b"a: &x 1", "anchors and aliases"),
        (b"[" * 100_000, "nested deeper"),
        (b"#" * (MAX_BYTES + 1), f"has more than {MAX_BYTES} bytes"),
    ],
)
def test_exit_code_2_when_a_file_cannot_be_read(
    text: bytes, reason: str, written: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = written(json.dumps(service()), "good.json"), written(text, "bad.yaml")
    assert run(good, bad) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"{bad}: ")
    assert reason in captured.err


def test_exit_code_2_names_every_file_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing, folder = str(tmp_path / "missing.yaml"), str(tmp_path)
    assert run(missing, folder, "a\x00b", "-o", "json") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert [line.split(": ")[0] for line in captured.err.splitlines()] == [missing, folder, "a\\x00b"]


@pytest.mark.parametrize(
    "document",
    [
        None,
        1,
        "text",
        {},
        {"kind": "ServiceEntry"},
        {"kind": []},
        {"kind": "List", "items": {"a": 1}},
        service() | {"spec": None},
        service() | {"kind": "Pod"},
        service(ports=[{"number": "80"}]),
        service(endpoints=[[]]),
        service(unknown=1),
    ],
)
def test_odd_documents_get_a_reason(document: object, written: Any, capsys: pytest.CaptureFixture[str]) -> None:
    text = f"{json.dumps(service())}\n---\n{json.dumps(document)}\n---\n{json.dumps(service())}\n"
    assert run(written(text), "-o", "json") == 1
    first, odd, last = json.loads(capsys.readouterr().out)
    assert first["ok"]
    assert last["ok"]
    assert not odd["ok"]
    assert odd["reasons"]


def test_T23_nothing_in_a_name_moves_the_terminal(written: Any, capsys: pytest.CaptureFixture[str]) -> None:
    odd = "\x1b[2J\u202e\n"
    file = written(json.dumps([service(odd, hosts=[odd]), service() | {odd: 1}]))
    assert run(file) == 1
    out = capsys.readouterr().out
    assert all(line.isprintable() for line in out.splitlines())
    assert "\\x1b[2J\\u202e\\n" in out


def test_an_unknown_form_is_a_usage_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run("-", "-o", "xml")
    assert caught.value.code == 2
    assert capsys.readouterr().out == ""


def test_lint_loads_no_network_library() -> None:
    check = "import sys, isthmus.cli.lint; print({'grpc', 'aiohttp', 'kazoo', 'google.protobuf'} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout == "set()\n"
