"""A subscriber in a process of its own that remembers everything it was told."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.rig.bridge import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.rig.bridge import Bridge


class Subscriber:
    """What `isthmus watch` wrote down."""

    def __init__(self, out: Path) -> None:
        self._out = out

    def told(self, name: str) -> list[set[str]]:
        """Return the endpoints of a resource, as `address:port`, after each change of it; none where it is removed."""
        lines = self._out.read_text().splitlines(keepends=True)
        events = [json.loads(line) for line in lines if line.endswith("\n")]
        return [set(event.get("endpoints", ())) for event in events if event.get("name") == name]

    def told_last(self, name: str) -> set[str] | None:
        """Return the endpoints of a resource as they are now; None where it was never told of."""
        told = self.told(name)
        return told[-1] if told else None


@contextmanager
def subscribed(bridge: Bridge, directory: Path) -> Iterator[Subscriber]:
    """Subscribe to a bridge until the block ends."""
    out = directory / "watched"
    command = [sys.executable, "-m", "isthmus", "watch", bridge.address, "-o", "json"]
    with out.open("wb") as stdout, subprocess.Popen(command, stdout=stdout, cwd=CHECKOUT) as process:
        try:
            yield Subscriber(out)
        finally:
            process.kill()


def state(bridge: Bridge) -> dict[str, Any]:
    """Return what the bridge says of its one source."""
    shown: dict[str, Any] = bridge.debug("sources")["items"][0]
    return shown
