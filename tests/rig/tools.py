"""The tools that build the rig: where they are, what is said when one is missing, and how one is run."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.rig.cache import HEARTBEAT_S, cached, fingerprint, say

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

APT = "sudo apt-get install -y --no-install-recommends"
LOG_TAIL_LINES = 30
FIRST_GO_THAT_FETCHES_TOOLCHAINS = (1, 21)
GO_ENVIRONMENT = {
    "CGO_ENABLED": "0",  # no C compiler is asked of the user
    "GOFLAGS": "-mod=readonly -trimpath -buildvcs=false",
    "GOTOOLCHAIN": "auto",  # Debian's Go says "local", which refuses a go.mod newer than itself
    "GOWORK": "off",
}
GO_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


class MissingToolError(Exception):
    """A tool is not on this machine; the text says what to install."""


class BuildError(Exception):
    """A build command failed; the text ends with the last lines that it said."""


def tool(name: str, package: str) -> str:
    """Return the path of a command; raise `MissingToolError` with the Debian package that has it."""
    path = shutil.which(name)
    if path is None:
        raise MissingToolError(f"{name} is not installed: {APT} {package}")
    return path


def run(what: str, command: Sequence[str], directory: Path, environment: Mapping[str, str] | None = None) -> None:
    """Run a build command to its end, with a sign of life; raise `BuildError` when it fails.

    environment: added to this process's own. The output goes to a log file in `directory`.
    """
    log = directory / "build.log"
    start = time.monotonic()
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command, cwd=directory, env={**os.environ, **(environment or {})}, stdin=subprocess.DEVNULL,
            stdout=output, stderr=subprocess.STDOUT,
        ) as process,
    ):  # fmt: skip
        while not _ended(process, HEARTBEAT_S):
            say(f"{what}: at it for {time.monotonic() - start:.0f} s")
    if process.returncode != 0:
        raise BuildError(f"{what}: `{' '.join(command)}` ended with {process.returncode}:\n{tail(log)}")


def _ended(process: subprocess.Popen[bytes], timeout: float) -> bool:
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        return False
    return True


def tail(log: Path, lines: int = LOG_TAIL_LINES) -> str:
    """Return the last lines of a log file, indented; what is not UTF-8 is shown as escapes."""
    text = log.read_text(encoding="utf-8", errors="backslashreplace") if log.exists() else "(no log)"
    return "\n".join(f"    {line}" for line in text.splitlines()[-lines:])


def pip_install(requirements: Path, folder: Path) -> list[str]:
    """Return the command that installs a locked requirements file into a folder of its own."""
    options = ["--require-hashes", "--no-deps", "--target", str(folder), "-r", str(requirements)]
    if uv := shutil.which("uv"):
        return [uv, "pip", "install", "--python", sys.executable, *options]
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", *options]
    raise MissingToolError("no pip here and no uv on PATH: remove .venv and start ./run anew")


def go_tool(toolchain: str) -> str:
    """Return a Go command that can build modules which ask for `toolchain`, such as `go1.26.8`.

    Go 1.21 and newer fetch the toolchain that a go.mod names. An older one, such as the 1.19 of Debian 12,
    does not, but can download the module that the toolchain is published as, and
    checks it against Go's checksum database.
    """
    go = tool("go", "golang-go")
    if _go_version(go) >= FIRST_GO_THAT_FETCHES_TOOLCHAINS:
        return go
    module = f"golang.org/toolchain@v0.0.1-{toolchain}.linux-{_go_machine()}"

    def fetch(workplace: Path) -> Path:
        run(module, [go, "mod", "download", module], workplace, {"GOFLAGS": "-mod=mod"})
        unpacked = Path(_output([go, "env", "GOMODCACHE"])) / module
        return _with_execute_bits(unpacked, workplace / "go")

    return str(cached("go", fingerprint({}, [module]), fetch) / "bin" / "go")


def _go_version(go: str) -> tuple[int, int]:
    version = _output([go, "env", "GOVERSION"])
    numbers = re.match(r"go(\d+)\.(\d+)", version)
    if numbers is None:
        raise BuildError(f"{go} calls itself {version!r}: install a released Go")
    return int(numbers[1]), int(numbers[2])


def _go_machine() -> str:
    machine = platform.machine()
    if machine not in GO_MACHINES:
        raise MissingToolError(f"no Go toolchain is known for {machine}: install Go 1.21 or newer")
    return GO_MACHINES[machine]


def _output(command: Sequence[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd="/").stdout.strip()


def _with_execute_bits(module: Path, folder: Path) -> Path:
    """Copy an unpacked toolchain and restore what a module loses: execute bits, the name of src/go.mod."""
    shutil.copytree(module, folder, copy_function=shutil.copyfile)
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)
    for path in (*(folder / "bin").iterdir(), *(folder / "pkg" / "tool").rglob("*")):
        path.chmod(0o755)
    shutil.copyfile(folder / "src" / "_go.mod", folder / "src" / "go.mod")
    return folder
