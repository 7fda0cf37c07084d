"""The cache of what the rig builds: one folder for each version of each thing, kept between runs.

The folder is `$ISTHMUS_CACHE/rig`, by default `~/.cache/isthmus/rig`. A thing is built beside its place and
renamed into it, so an interrupted build leaves nothing that looks whole.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

LOCK_POLL_S = 0.2
HEARTBEAT_S = 20.0


def say(text: str) -> None:
    """Tell the person who waits; on stderr, so that stdout carries results only."""
    print(f"rig: {text}", file=sys.stderr, flush=True)


def root() -> Path:
    """Return the folder that holds all built things."""
    given = os.environ.get("ISTHMUS_CACHE")
    return (Path(given) if given else Path.home() / ".cache" / "isthmus") / "rig"


def fingerprint(inputs: Mapping[str, Path], settings: Iterable[str]) -> str:
    """Return 16 hex digits that change with any input file, its name, or any setting."""
    digest = hashlib.sha256()
    for setting in settings:
        digest.update(f"{setting}\0".encode())
    for name, path in sorted(inputs.items()):
        content = path.read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


def cached(name: str, key: str, make: Callable[[Path], Path]) -> Path:
    """Return the folder of `name` in version `key`; build it when it is not there.

    make: given an empty folder to work in, builds the thing there and returns the folder that is to be kept.
    """
    product = root() / f"{name}-{key}"
    if product.is_dir():
        return product
    product.parent.mkdir(parents=True, exist_ok=True)
    with _locked(root() / f"{name}.lock", name):
        if not product.is_dir():
            _build(name, product, make)
    return product


def _build(name: str, product: Path, make: Callable[[Path], Path]) -> None:
    workplace = root() / f".{name}"
    shutil.rmtree(workplace, ignore_errors=True)
    workplace.mkdir()
    say(f"building {name}")
    start = time.monotonic()
    make(workplace).rename(product)
    shutil.rmtree(workplace)
    _remove_older(name, product)
    say(f"built {name} in {time.monotonic() - start:.0f} s")


def _remove_older(name: str, current: Path) -> None:
    version_of_it = re.compile(re.escape(name) + r"-[0-9a-f]{16}")
    for path in root().iterdir():
        if path != current and version_of_it.fullmatch(path.name):
            shutil.rmtree(path)


@contextmanager
def _locked(path: Path, name: str) -> Iterator[None]:
    """Keep other runs from building the same thing at the same time."""
    with path.open("w") as lock:
        next_word = time.monotonic()
        while not _try_lock(lock.fileno()):
            if time.monotonic() >= next_word:
                say(f"waiting for another run that builds {name}")
                next_word += HEARTBEAT_S
            time.sleep(LOCK_POLL_S)
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
