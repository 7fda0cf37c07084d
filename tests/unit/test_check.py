"""`isthmus check`, through its own parser: what it prints and its exit code."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

from isthmus.cli import check
from isthmus.config import load_config
from isthmus.meshconfig.layout import confirm_layout
from tests.rig.certificates import Certificates

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
    assert json.loads(capsys.readouterr().out) == {"ok": True, "mistakes": [], "findings": [], "notes": []}


def test_JSON_of_mistakes(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(BAD)
    assert run("-c", str(file), "-o", "json", "--source", "x") == 2
    assert json.loads(capsys.readouterr().out) == {
        "ok": False,
        "findings": [],
        "notes": [],
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


def test_that_nothing_guards_the_number_of_shards_is_noted(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sharded = f"{GOOD}listen: 127.0.0.1:16100\nshards: 8\n"
    file.write_text(sharded)
    assert run("-c", str(file)) == 0
    ok, note = capsys.readouterr().out.splitlines()
    assert ok == f"{file}: ok, 2 sources"
    assert note.startswith("note: nothing guards the number of shards (xds 8)")
    assert run("-c", str(file), "-o", "json") == 0
    assert json.loads(capsys.readouterr().out)["notes"] == [note.removeprefix("note: ")]

    file.write_text(f"{sharded}state: /var/lib/isthmus\n")
    assert run("-c", str(file)) == 0
    assert "note" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changed", "place", "word"),
    [
        ("shards: 4", "", "listener xds served 8 shards until now, and the configuration says 4"),
        ("listeners: [{name: b, address: '127.0.0.1:17000', shards: 4}]\nshards: 8", "listeners[0]: ", "(`routing: "),
    ],
)
def test_a_start_that_would_be_refused_is_a_mistake(
    changed: str, place: str, word: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = f"{GOOD}listen: 127.0.0.1:16100\nstate: state\n"
    listener = "{name: b, address: '127.0.0.1:17000', shards: 4, routing: authority}"
    file.write_text(f"{base}shards: 8\nlisteners: [{listener}]\n")
    confirm_layout(load_config(str(file), {}))
    assert run("-c", str(file)) == 0

    file.write_text(f"{base}{changed}\n")
    capsys.readouterr()
    assert run("-c", str(file)) == 2
    out = capsys.readouterr().out
    assert out.startswith(f"{file}: {place}listener ")
    assert word in out


def test_a_record_that_is_damaged_is_a_mistake(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(f"{GOOD}state: state\n")
    confirm_layout(load_config(str(file), {}))
    (record,) = (file.parent / "state").iterdir()
    record.write_text("{")
    assert run("-c", str(file), "-o", "json") == 2
    (mistake,) = json.loads(capsys.readouterr().out)["mistakes"]
    assert mistake["path"] == "state"
    assert f"{record} does not hold the number of shards" in mistake["message"]


def test_a_record_that_only_the_server_can_read_is_noted(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault is made up: the tests may run as root, who can read everything."""

    def denied(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", denied)
    file.write_text(f"{GOOD}state: state\n")
    assert run("-c", str(file)) == 0
    assert f"note: {file}: state: {file.parent}/state/layout.json cannot be read" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["WorkloadEntry", "Sidecar"])
def test_a_kind_that_nothing_is_published_of_is_noted(
    kind: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(f"{GOOD}listeners: [{{name: b, address: '127.0.0.1:17000', types: [ServiceEntry, {kind}]}}]\n")
    assert run("-c", str(file)) == 0
    _, note = capsys.readouterr().out.splitlines()
    assert note == f"note: listener b serves {kind}, and nothing of that kind is published today"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Give certificates of one authority."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


def secured(certificate: Path, key: Path) -> str:
    listener = {"name": "b", "address": "0.0.0.0:17000", "tls": {"certificate": str(certificate), "key": str(key)}}
    return f"{GOOD}listeners: [{json.dumps(listener)}]\n"


def test_a_certificate_that_cannot_be_used_is_a_mistake(
    file: Path, certificates: Certificates, capsys: pytest.CaptureFixture[str]
) -> None:
    _, another = certificates.issue("another")
    file.write_text(secured(certificates.cert_file, another))
    assert run("-c", str(file)) == 2
    assert capsys.readouterr().out.startswith(f"{file}: listeners[0].tls.key: does not belong to the certificate")

    gone = file.with_name("gone.pem")
    file.write_text(secured(gone, certificates.key_file))
    assert run("-c", str(file), "-o", "json") == 2
    (mistake,) = json.loads(capsys.readouterr().out)["mistakes"]
    assert mistake["path"] == "listeners[0].tls.certificate"
    assert mistake["message"] == f"{gone} cannot be read: No such file or directory"


def test_a_certificate_that_wants_attention_is_a_finding(
    file: Path, certificates: Certificates, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(secured(certificates.cert_file, certificates.key_file))
    assert run("-c", str(file)) == 0
    assert capsys.readouterr().out == f"{file}: ok, 2 sources\n"

    file.write_text(secured(*certificates.issue("numbered", names="IP:127.0.0.1")))
    assert run("-c", str(file)) == 1
    assert capsys.readouterr().out.startswith(f"{file}: listeners[0].tls.certificate: has no DNS name")
    assert run("-c", str(file), "-o", "json") == 1
    answer = json.loads(capsys.readouterr().out)
    assert not answer["ok"]
    assert [(one["file"], one["path"]) for one in answer["findings"]] == [(str(file), "listeners[0].tls.certificate")]


MESH = "configSources:\n- address: xds://127.0.0.1:16010\n- address: k8s://\n"


def test_a_mesh_configuration_is_compared(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mesh = tmp_path / "mesh.yaml"
    file.write_text(GOOD)
    mesh.write_text(MESH)
    assert run("-c", str(file), "--mesh-config", str(mesh)) == 0
    assert capsys.readouterr().out == f"{file}: ok, 2 sources\n{mesh}: ok\n"

    mesh.write_text(MESH.replace("k8s://", "k8s://\n- address: xds://127.0.0.1:16014"))
    assert run("-c", str(file), "--mesh-config", str(mesh)) == 1
    assert capsys.readouterr().out.splitlines()[1:] == [
        f"{mesh}:4: configSources[2].address: 16014 is the port of no listener here: istiod exits as it starts"
    ]
    assert run("-c", str(file), "--mesh-config", str(mesh), "-o", "json") == 1
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert (finding["file"], finding["line"]) == (str(mesh), 4)


def test_what_may_be_as_it_should_in_a_mesh_configuration_is_a_note(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mesh = tmp_path / "mesh.yaml"
    file.write_text(f"{GOOD}listeners: [{{name: b, address: '127.0.0.1:17000', form: slime}}]\n")
    mesh.write_text(MESH.replace("16010", "17000"))
    assert run("-c", str(file), "--mesh-config", str(mesh)) == 0
    _, ok, note = capsys.readouterr().out.splitlines()
    assert ok == f"{mesh}: ok"
    assert note.startswith(f"note: {mesh}:2: configSources[0].address: listener b sends increments")
    assert run("-c", str(file), "--mesh-config", str(mesh), "-o", "json") == 0
    assert json.loads(capsys.readouterr().out)["notes"] == [note.removeprefix("note: ")]


def test_T11_what_a_mesh_configuration_holds_is_escaped(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mesh = tmp_path / "mesh.json"
    file.write_text(GOOD)
    address = "xds://\x1b[2J:16010"
    mesh.write_text(json.dumps({"\x1b[2J": {"meshConfig": {"configSources": [{"address": address}]}}}))
    assert run("-c", str(file), "--mesh-config", str(mesh)) == 1
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "word"),
    [(None, "cannot be read: No such file"), ("kind: Service\n", "holds no mesh configuration"), ("a: [", "line 2")],
)
def test_a_mesh_configuration_that_cannot_be_read(
    content: str | None, word: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mesh = tmp_path / "mesh.yaml"
    file.write_text(GOOD)
    if content is not None:
        mesh.write_text(content)
    assert run("-c", str(file), "--mesh-config", str(mesh)) == 2
    out = capsys.readouterr().out
    assert out.startswith(f"{mesh}: ")
    assert word in out


def test_a_version_of_istiod_is_for_its_mesh_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--source", "file:d", "--istio-version", "1.25") == 2
    assert capsys.readouterr().out == "--istio-version is for --mesh-config\n"


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
