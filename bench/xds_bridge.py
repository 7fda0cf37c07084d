"""The bridge without a registry, as those who measure it speak to it."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

from isthmus.mcp.limits import Limits
from isthmus.mcp.pacing import DEFAULT_GAP
from tests.rig.lines import LineProcess

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ANSWER_S = 300.0
KEEPALIVE_S = round(Limits().keepalive)
DEFAULT_GAP_MS = round(DEFAULT_GAP * 1000)


class XdsBridge(LineProcess):
    """The bridge of `bench/xds_process.py`, running."""

    def __init__(
        self,
        directory: Path,
        services: int,
        instances: int,
        shards: int,
        *,
        keepalive: int = KEEPALIVE_S,
        gap_ms: int = DEFAULT_GAP_MS,
    ) -> None:
        arguments = [str(number) for number in (services, instances, shards, keepalive, gap_ms)]
        super().__init__("bridge", [sys.executable, "-m", "bench.xds_process", *arguments], directory)
        self.addresses: Sequence[str] = ()

    def greeted(self) -> None:
        self.addresses = json.loads(self.next_line(ANSWER_S))["ports"]

    async def ask(self, line: str) -> dict[str, Any]:
        """Say a line and return the answer to it."""
        self.say(line)
        answer: dict[str, Any] = json.loads(await asyncio.to_thread(self.next_line, ANSWER_S))
        return answer
