"""`isthmus check`, through its own parser: what it prints and its exit code."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

from isthmus.cli import check

ROOT = Path(__file__).parent.parent.parent
GOOD = "sources:\n- {kind: zookeeper, address: '127.0.0.1:2181'}\n- {kind: files, directory: d}\n"
BAD = "sources:\n- kind: zookeeper\n  adress: 127.0.0.1:2181\n  vip: on\n"


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    check.add_parser(parser.add_subparsers())
    args = parser.parse_args(["check", *arguments])
    code: int = args.run(args)
    return code


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "isthmus.yaml"


def test_a_good_file(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(GOOD)
    assert run("-c", str(file)) == 0
    assert capsys.readouterr() == (f"{file}: ok, 2 sources\n", "")


def test_good_flags(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--source", "file:d") == 0
    assert capsys.readouterr().out == "flags: ok, 1 source\n"


def test_every_mistake_is_printed(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(BAD)
    assert run("-c", str(file), "--listen", "x") == 2
    assert capsys.readouterr().out.splitlines() == [
        f'{file}:3: sources[0].adress: unknown key; did you mean "address"?',
        f'{file}:4: sources[0].vip: "on" is unknown here; did you mean "none"?',
        '--listen: "x" is not `host:port`: it has no port',
    ]


def test_JSON_of_a_good_file(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(GOOD)
    assert run("-c", str(file), "-o", "json") == 0
    assert json.loads(capsys.readouterr().out) == {"ok": True, "mistakes": []}


def test_JSON_of_mistakes(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(BAD)
    assert run("-c", str(file), "-o", "json", "--source", "x") == 2
    assert json.loads(capsys.readouterr().out) == {
        "ok": False,
        "mistakes": [
            {"path": "sources[0].adress", "line": 3, "message": 'unknown key; did you mean "address"?'},
            {"path": "sources[0].vip", "line": 4, "message": '"on" is unknown here; did you mean "none"?'},
            {
                "path": "--source[0]",
                "line": None,
                "message": "is no source: write zookeeper://HOST:PORT, nacos://HOST:PORT, eureka://HOST:PORT, "
                "consul://HOST:PORT, etcd://HOST:PORT or file:DIRECTORY",
            },
        ],
    }


@pytest.mark.parametrize("output", ["text", "json"])
def test_a_file_that_is_not_there(file: Path, output: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("-c", str(file), "-o", output) == 2
    assert "cannot be read: No such file" in capsys.readouterr().out


@pytest.mark.parametrize("output", ["text", "json"])
def test_nothing_to_check(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("-o", output) == 2
    assert "give -c FILE or --source URL" in capsys.readouterr().out


def test_the_environment_of_the_process_counts(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("sources: [{kind: files, directory: '${SERVICES}'}]")
    monkeypatch.delenv("SERVICES", raising=False)
    assert run("-c", str(file)) == 2
    assert "SERVICES is not set" in capsys.readouterr().out
    monkeypatch.setenv("SERVICES", "services")
    assert run("-c", str(file)) == 0


def test_no_server_and_no_client_library_is_loaded() -> None:
    code = (
        "import sys, isthmus.cli.check\n"
        "print(*{'grpc', 'aiohttp', 'kazoo', 'prometheus_client', 'google.protobuf'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == ""
