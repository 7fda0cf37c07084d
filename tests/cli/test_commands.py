"""The commands as a user starts them: processes of their own, exit codes, and data alone on stdout."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.rig import http as web
from tests.rig.bridge import CHECKOUT, Bridge
from tests.rig.process import free_port
from tests.rig.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.rig.zookeeper import ZooKeeper

TIMEOUT = 120.0
SERVICES = """\
services:
- host: orders.shop.legacy
  ports: [{number: 8080, name: http, protocol: HTTP}]
  endpoints: [{address: 10.0.0.1}, {address: 127.0.0.1}]
"""


def isthmus(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "isthmus", *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        check=False,
    )


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "services"
    made.mkdir()
    (made / "shop.yaml").write_text(SERVICES)
    return made


def files_source(directory: Path) -> dict[str, str]:
    return {"name": "files", "kind": "files", "directory": str(directory)}


def test_demo_once_proves_itself_and_ends() -> None:
    done = isthmus("demo", "--once")

    assert done.returncode == 0, done.stderr
    assert "16 types asked for as istiod does, all answered" in done.stdout
    assert "proved: the example services are served" in done.stdout
    assert "refused  default/invoices.billing.legacy  IS206" in done.stdout


@pytest.mark.parametrize("command", ["serve", "check"])
def test_a_mistake_is_named_with_its_place_and_nothing_starts(command: str, tmp_path: Path) -> None:
    file = tmp_path / "isthmus.yaml"
    port = free_port()
    file.write_text(f"listen: 127.0.0.1:{port}\nsources:\n- kind: zookeeper\n  adress: 10.0.0.1:2181\n")
    done = isthmus(command, "-c", str(file))

    assert done.returncode == 2
    said = done.stdout + done.stderr
    assert f'{file}:4: sources[0].adress: unknown key; did you mean "address"?' in said
    assert "Traceback" not in said
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), 1).close()


def test_a_port_that_is_taken_is_said_and_ends_with_2(directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = isthmus("serve", "--source", f"file:{directory}", "--listen", f"127.0.0.1:{port}", "--debug", "")
        assert done.returncode == 2
        assert f"127.0.0.1:{port}" in done.stderr

        free = free_port()
        done = isthmus(
            *("serve", "--source", f"file:{directory}", "--listen", f"127.0.0.1:{free}"),
            *("--debug", f"127.0.0.1:{port}"),
        )
        assert done.returncode == 2
        assert f"127.0.0.1:{port}" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_X57_a_signal_ends_it_with_0(number: signal.Signals, directory: Path, bridge: Callable[..., Bridge]) -> None:
    started = bridge([files_source(directory)])
    os.kill(started.pid, number)

    assert started.process.wait(TIMEOUT) == 0
    lines = [json.loads(line) for line in started.output().splitlines()]
    assert lines[-1]["message"] == f"stopped by {number.name}"
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines), "JSON, since it is no terminal"


def test_watch_prints_what_istiod_is_told_as_JSON_lines(directory: Path, bridge: Callable[..., Bridge]) -> None:
    started = bridge([files_source(directory)])
    done = isthmus("watch", started.address, "--once", "-o", "json")

    assert done.returncode == 0, done.stderr
    first, last = map(json.loads, done.stdout.splitlines())
    assert (first["op"], first["name"], first["endpoints"]) == ("add", "default/orders.shop.legacy", ["10.0.0.1:8080"])
    assert last == {"op": "synced", "count": 1}


def test_watch_follows_changes_and_removals(directory: Path, bridge: Callable[..., Bridge], tmp_path: Path) -> None:
    started = bridge([files_source(directory)])
    out = tmp_path / "watched"
    command = [sys.executable, "-m", "isthmus", "watch", started.address, "-o", "json"]
    with out.open("wb") as stdout:
        watching = subprocess.Popen(command, stdout=stdout, env={**os.environ, "PYTHONPATH": str(CHECKOUT)})

    def seen() -> list[tuple[str, str]]:
        lines = out.read_text().splitlines(keepends=True)
        events = [json.loads(line) for line in lines if line.endswith("\n")]
        return [(event["op"], " ".join(event.get("endpoints", []))) for event in events]

    try:
        wait_for(lambda: ("synced", "") in seen(), TIMEOUT, "the first response")
        (directory / "shop.yaml").write_text(SERVICES.replace("10.0.0.1", "10.0.0.2"))
        wait_for(lambda: seen()[-1] == ("update", "10.0.0.2:8080"), TIMEOUT, "the update")
        (directory / "shop.yaml").unlink()
        wait_for(lambda: seen()[-1] == ("remove", ""), TIMEOUT, "the removal")
        started.stop()
        assert watching.wait(TIMEOUT) == 3, "the server ended the stream"
    finally:
        watching.kill()
        watching.wait()


def test_watch_says_that_nobody_answers_and_ends_with_3() -> None:
    done = isthmus("watch", f"127.0.0.1:{free_port()}")

    assert done.returncode == 3
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_G2_a_source_that_is_not_required_holds_the_rest_for_the_grace_only(
    directory: Path, bridge: Callable[..., Bridge]
) -> None:
    dead = {"kind": "zookeeper", "address": f"127.0.0.1:{free_port()}", "required": False}
    started = bridge([files_source(directory), dead], settings={"startupGrace": 0.5})

    assert [one["host"] for one in started.debug("services")["items"]] == ["orders.shop.legacy"]
    phases = {one["name"]: one["phase"] for one in started.debug("sources")["items"]}
    assert phases == {"files": "READY", "zookeeper": "CONNECTING"}


def test_a_directory_that_is_not_there_is_waited_for(tmp_path: Path, bridge: Callable[..., Bridge]) -> None:
    late = tmp_path / "late"
    started = Bridge(tmp_path / "isthmus", [files_source(late)])
    started.launch()
    try:
        started.wait(started.live, TIMEOUT, "alive")
        status, reasons = web.get(f"http://{started.debug_address}/healthz/ready")
        assert status == 503
        assert "files" in reasons
        late.mkdir()
        (late / "shop.yaml").write_text(SERVICES)
        started.wait(started.ready, TIMEOUT, "ready")
    finally:
        started.end()


def test_a_registry_that_is_lost_and_found_is_logged_once_each(
    zookeeper: ZooKeeper, bridge: Callable[..., Bridge]
) -> None:
    with zookeeper.client() as client:
        client.ensure_path("/dubbo/a.B/providers/dubbo%3A%2F%2F10.0.0.1%3A20880%2Fa.B")
    started = bridge([{"name": "zk", "kind": "zookeeper", "address": zookeeper.address}])
    zookeeper.kill()
    wait_for(lambda: "connection lost" in started.output(), TIMEOUT, "word of the loss")
    assert [one["host"] for one in started.debug("services")["items"]] == ["a.b.dubbo"]
    zookeeper.start()
    wait_for(lambda: "in contact again" in started.output(), TIMEOUT, "word of the return")

    said = [json.loads(line) for line in started.output().splitlines()]
    assert [line["level"] for line in said if "connection lost" in line["message"]] == ["warning"]
    assert [line["level"] for line in said if "in contact again" in line["message"]] == ["info"]


@pytest.mark.parametrize("output", ["text", "json"])
def test_T17_check_says_why_nobody_answers_and_nothing_secret(output: str, tmp_path: Path, directory: Path) -> None:
    port = free_port()
    # Nacos's gRPC is where its HTTP is told to be.
    nacos = {"address": f"127.0.0.1:{port}", "grpcPortOffset": 0, "username": "bridge", "password": "hunter2"}
    eureka = {"address": f"http://127.0.0.1:{port}/eureka", "username": "bridge", "password": "hunter2"}
    zookeeper = {"address": f"127.0.0.1:{port}", "digest": "bridge:hunter2"}
    sources = [
        {"kind": "nacos", **nacos},
        {"kind": "eureka", **eureka},
        {"kind": "zookeeper", **zookeeper},
        files_source(directory),
    ]
    file = tmp_path / "isthmus.yaml"
    file.write_text(json.dumps({"sources": sources}))
    done = isthmus("check", "-c", str(file), "--connect", "--wait", "5", "-o", output)

    assert done.returncode == 3
    assert "hunter2" not in done.stdout + done.stderr
    assert done.stderr == ""
    if output == "json":
        answer = json.loads(done.stdout)
        assert [one["ok"] for one in answer["sources"]] == [False, False, False, True]
        reasons = [one["reason"] or "" for one in answer["sources"]]
    else:
        first, *lines = done.stdout.splitlines()
        assert first == f"{file}: ok, 4 sources"
        reasons = [line.partition(": ")[2] for line in lines]
        assert reasons[3] == "ok, 1 service, 1 endpoint; refused: IS206 1"
    assert all(f"127.0.0.1:{port}" in reason for reason in reasons[:3])
    assert all("connection refused" in reason.lower() for reason in reasons[:2])


def test_check_counts_what_a_registry_holds(zookeeper: ZooKeeper) -> None:
    with zookeeper.client() as client:
        for number in (1, 2):
            client.ensure_path(f"/dubbo/a.B/providers/dubbo%3A%2F%2F10.0.0.{number}%3A20880%2Fa.B")
    done = isthmus("check", "--source", f"zookeeper://{zookeeper.address}", "--connect", "--wait", str(TIMEOUT))

    assert done.stdout == "flags: ok, 1 source\nsource zookeeper: ok, 1 service, 2 endpoints\n", done.stderr
    assert done.returncode == 0


def test_demo_keeps_to_the_rules_of_the_configuration() -> None:
    done = isthmus("demo", "--once", "--listen", "0.0.0.0:0")

    assert done.returncode == 2
    assert "plaintext" in done.stderr
    assert done.stdout == ""


def test_help_names_all_commands_and_imports_no_client_library() -> None:
    done = isthmus("--help")
    assert done.returncode == 0
    assert all(
        command in done.stdout for command in ("serve", "check", "mesh-config", "reshard", "demo", "watch", "lint")
    )
    code = "import sys; from isthmus.cli.main import parser; parser(); print([m for m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=CHECKOUT)
    assert not {"grpc", "aiohttp", "kazoo", "prometheus_client"} & set(loaded.stdout.replace("'", "").split(", "))
