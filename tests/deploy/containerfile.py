"""A Containerfile carried out without a container engine, of which there may be none, and no registry of images either.

A folder stands for `/`, and this machine's Python for that of the base image; the instructions are those that ours
uses, and any other is an error. What pip fetches comes from the rig's cache.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from msgspec import Struct

from tests.rig.cache import cached, fingerprint
from tests.rig.tools import run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_ABSOLUTE = re.compile(r"""(?:(?<=[\s='"])|^)/(?=\w)""")
# Every mount read-only, no right left, and a user without a name, as in a container that Kubernetes starts so.
_CONFINED = (
    'while read -r _ place _; do mount -o remount,bind,ro "$place" 2>/dev/null || :; done </proc/self/mounts; '
    'exec setpriv --no-new-privs --inh-caps=-all --ambient-caps=-all --bounding-set=-all -- "$@"'
)


class Step(Struct, frozen=True):
    """One instruction: its word, and the rest of the line."""

    word: str
    rest: str

    @property
    def places(self) -> list[str]:
        """What COPY copies, and where to, without its options."""
        return [word for word in self.rest.split() if not word.startswith("--")]

    @property
    def command(self) -> list[str]:
        """The command in exec form, which needs no shell. Raises ValueError: it is in another."""
        command: list[str] = json.loads(self.rest)
        return command


def read_steps(text: str) -> list[Step]:
    """Return the instructions of a Containerfile, with its ARGs put in."""
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#")).replace("\\\n", " ")
    parted = [line.partition(" ") for line in lines.splitlines() if line]
    given = dict(rest.split("=", 1) for word, _, rest in parted if word == "ARG")

    def filled(rest: str) -> str:
        return re.sub(r"\$\{(\w+)\}", lambda name: str(given[name[1]]), rest)

    return [Step(word, filled(rest)) for word, _, rest in parted if word != "ARG"]


def let_through(ignore_file: Path) -> list[str]:
    """Return what a `.dockerignore` that begins with `*` lets into the build."""
    first, *lines = [line for line in ignore_file.read_text().splitlines() if not line.startswith("#")]
    if first != "*":
        raise ValueError(f"{ignore_file} does not begin with `*`")
    return [line.removeprefix("!") for line in lines if line.startswith("!")]


class Image:
    """What a Containerfile makes, in a folder.

    root: what stands for `/`. environment: the variables of the image, and nothing of this machine's but PATH.
    command: ENTRYPOINT and CMD, where they are under `root`.

    Raises BuildError: a step failed.
    """

    def __init__(self, containerfile: Path, context: Path, directory: Path) -> None:
        directory.mkdir(parents=True)
        self.root = directory / "root"
        self.environment = {"PATH": os.environ["PATH"]}
        self.command: list[str] = []
        self._context = context
        self._built = directory / "built"
        self._base = directory / "base"
        self._workdir = self.root
        run("base image", _base_image(self._base), directory)
        self._wheels = _wheels(self._base, context / "requirements" / "run.txt")
        for step in read_steps(containerfile.read_text()):
            self._take(step)

    def placed(self, text: str) -> str:
        """Return a text whose absolute paths lead into the image's root."""
        return _ABSOLUTE.sub(f"{self.root}/", text)

    def files(self) -> dict[str, int]:
        """Return the time of change, in ns, of everything in the image."""
        return {str(path): path.lstat().st_mtime_ns for path in self.root.rglob("*")}

    def _take(self, step: Step) -> None:
        match step.word:
            case "FROM":
                # The stages take turns at one root: what one makes stands at the same place in the next.
                if self.root.exists():
                    self.root.rename(self._built)
                self.root.mkdir()
                self._workdir = self.root
            case "WORKDIR":
                self._workdir = self.root / step.rest.lstrip("/")
                self._workdir.mkdir(parents=True)
            case "COPY":
                self._copy(step)
            case "RUN":
                self._run(step)
            case "ENV":
                self.environment |= dict(word.split("=", 1) for word in shlex.split(step.rest))
            case "ENTRYPOINT" | "CMD":
                self.command += [self.placed(word) for word in step.command]
            case "LABEL" | "USER":
                pass
            case _:
                raise ValueError(f"{step.word}: no such instruction is known here")

    def _run(self, step: Step) -> None:
        path = f"{self._base / 'bin'}:{os.environ['PATH']}"
        environment = {"PATH": path, "PYTHONPATH": "", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self._wheels)}
        run(step.rest, ["sh", "-c", self.placed(step.rest)], self._workdir, environment)

    def _copy(self, step: Step) -> None:
        *sources, target = step.places
        origin = self._built if step.rest.startswith("--from=build ") else self._context
        for source in sources:
            name = source.lstrip("/")
            place = self._workdir / target.lstrip("/")
            _copy(origin / name, place / name.rpartition("/")[2] if target.endswith("/") else place)


def confined(command: Sequence[str]) -> list[str]:
    """Return the command, run with every mount read-only and without rights where this machine lets us do that."""
    unshare = ["unshare", "--user", "--map-user=65532", "--map-group=65532", "--keep-caps", "--mount"]
    wrapped = [*unshare, "sh", "-c", _CONFINED, "sh"]
    if not shutil.which("unshare") or not shutil.which("setpriv"):
        return list(command)
    possible = subprocess.run([*wrapped, "true"], capture_output=True, check=False).returncode == 0
    return [*(wrapped if possible else ()), *command]


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy2(source, target)


def _base_image(folder: Path) -> list[str]:
    """Return the command that makes a folder with `bin/python` and `bin/pip`."""
    uv = shutil.which("uv")
    if importlib.util.find_spec("ensurepip") or uv is None:
        return [sys.executable, "-m", "venv", str(folder)]
    return [uv, "venv", "--quiet", "--seed", "--python", sys.executable, str(folder)]


def _wheels(base: Path, requirements: Path) -> Path:
    """Return the folder of what the requirements ask for."""
    options = ["--require-hashes", "--no-deps", "--only-binary=:all:", "-r", str(requirements)]

    def fetch(workplace: Path) -> Path:
        folder = workplace / "wheels"
        run("image-wheels", [str(base / "bin" / "pip"), "download", *options, "--dest", str(folder)], workplace)
        return folder

    return cached("image-wheels", fingerprint({"run.txt": requirements}, [sys.implementation.cache_tag]), fetch)
