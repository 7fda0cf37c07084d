"""The container: what the Containerfile makes, and that it serves with nothing to write to and no rights."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import grpc
import pytest
import yaml
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from isthmus import __version__
from isthmus.cli.main import parser
from tests.deploy import manifests
from tests.deploy.containerfile import Image, Step, confined, let_through, read_steps
from tests.rig.bridge import CHECKOUT
from tests.rig.process import Process, free_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CONTAINERFILE = manifests.DEPLOY / "container" / "Containerfile"
READY_S = 60.0
PROBE_S = 60.0
LEAST_MODULES = 50
SERVICES = """\
services:
- host: orders.shop.legacy
  ports: [{number: 8080, name: http, protocol: HTTP}]
  endpoints: [{address: 10.0.0.1}]
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    context = tmp_path_factory.mktemp("context")
    for name in let_through(CHECKOUT / ".dockerignore"):
        (context / name).parent.mkdir(exist_ok=True)
        (context / name).symlink_to(CHECKOUT / name)
    return Image(CONTAINERFILE, context, tmp_path_factory.mktemp("image") / "made")


@pytest.fixture(scope="module")
def steps() -> list[Step]:
    return read_steps(CONTAINERFILE.read_text())


def the_last(steps: list[Step], word: str) -> Step:
    return [step for step in steps if step.word == word][-1]


def test_the_container_runs_as_a_number_that_is_not_root_and_without_a_shell(steps: list[Step]) -> None:
    user, _, group = the_last(steps, "USER").rest.partition(":")
    assert int(user) > 0 < int(group)
    assert the_last(steps, "ENTRYPOINT").command == ["/opt/isthmus/bin/isthmus"]
    assert parser().parse_args(the_last(steps, "CMD").command).config == "/etc/isthmus/isthmus.yaml"


def test_both_stages_begin_with_the_same_pinned_Python_that_is_tested(steps: list[Step]) -> None:
    build, final = [step.rest for step in steps if step.word == "FROM"]
    assert build == f"{final} AS build"
    version = re.fullmatch(r"docker\.io/library/python:(3\.\d+)-slim-\w+", final)
    assert version is not None
    assert f'Programming Language :: Python :: {version[1]}"' in (CHECKOUT / "pyproject.toml").read_text()


def test_only_what_is_copied_gets_into_the_build(steps: list[Step]) -> None:
    copies = [step for step in steps if step.word == "COPY" and not step.rest.startswith("--from=")]
    copied = [source for step in copies for source in step.places[:-1]]
    assert sorted(copied) == sorted(let_through(CHECKOUT / ".dockerignore"))


def test_the_command_that_is_shown_makes_the_image_that_the_manifests_name() -> None:
    shown = re.search(r"docker build -f (\S+) -t (\S+) \.", CONTAINERFILE.read_text())
    assert shown is not None
    assert CHECKOUT / shown[1] == CONTAINERFILE
    assert shown[2] == manifests.read(manifests.PLAIN).container["image"] == f"isthmus:{__version__}"


def test_the_image_holds_the_bridge_and_none_of_the_tools_that_made_it(image: Image) -> None:
    assert sorted(path.name for path in image.root.iterdir()) == ["opt"]
    said = subprocess.run([image.command[0], "--version"], capture_output=True, text=True, check=True, env={})
    assert said.stdout == f"isthmus {__version__}\n"
    (site,) = image.root.glob("opt/isthmus/lib/*/site-packages")
    installed = {path.name.partition("-")[0] for path in site.glob("*.dist-info")}
    assert {"isthmus", "grpcio", "kazoo"} <= installed
    assert not {"pip", "setuptools", "wheel"} & installed
    assert list(site.glob("isthmus/cli/__pycache__/main.*.pyc"))


def test_everything_in_the_image_can_be_imported(image: Image) -> None:
    """What is imported and not declared as a dependency is on the machine of who wrote it, and nowhere else."""
    names = "[one.name for one in pkgutil.walk_packages(isthmus.__path__, 'isthmus.') if one.name[-8:] != '__main__']"
    code = f"import importlib, isthmus, pkgutil; print(*map(importlib.import_module, {names}), sep='\\n')"
    python = image.placed("/opt/isthmus/bin/python")
    done = subprocess.run([python, "-Ic", code], capture_output=True, text=True, check=False, env={})

    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") > LEAST_MODULES


def test_the_container_serves_with_a_read_only_root_and_no_rights(
    image: Image, tmp_path: Path, running: Callable[[Process], Process]
) -> None:
    """As Kubernetes runs it: the probes of the manifests are what says that it lives and is ready."""
    shipped = manifests.read(manifests.TLS)
    configuration = yaml.safe_load(manifests.read(manifests.PLAIN).configuration)
    debug, xds = free_port(), free_port()
    (tmp_path / "services").mkdir()
    (tmp_path / "services" / "shop.yaml").write_text(SERVICES)
    configuration |= {
        "listen": f"127.0.0.1:{xds}",
        "shards": 1,
        "debug": f"127.0.0.1:{debug}",
        "sources": [{"kind": "files", "directory": str(tmp_path / "services")}],
    }
    file = image.root / "etc" / "isthmus" / "isthmus.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(yaml.safe_dump(configuration))
    before = image.files()

    container = Process("container", confined(image.command), tmp_path)
    container.environment = image.environment
    running(container)

    def passes(probe: str) -> bool:
        command = [image.placed(word) for word in shipped.container[probe]["exec"]["command"]]
        command[-1] = command[-1].replace(":16014/", f":{debug}/")
        return subprocess.run(command, capture_output=True, timeout=PROBE_S, check=False, env={}).returncode == 0

    container.wait(lambda: passes("readinessProbe"), READY_S, "ready")
    assert passes("livenessProbe")
    assert serving(xds)

    assert container.stop() == 0
    assert not passes("livenessProbe")
    assert image.files() == before


def serving(port: int) -> bool:
    """Ask what the kubelet asks in plaintext."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        answer = HealthStub(channel).Check(HealthCheckRequest(), timeout=PROBE_S)
        return bool(answer.status == HealthCheckResponse.SERVING)


def test_what_is_confined_can_write_nowhere(image: Image) -> None:
    """Where this machine lets nothing be confined there is nothing to see, and the test above still holds."""
    there = image.root / "written"
    written = subprocess.run(confined(["touch", str(there)]), capture_output=True, check=False)
    assert there.exists() == (written.returncode == 0) == (confined([]) == [])
    there.unlink(missing_ok=True)
