"""A real process that subscribes to services with nacos-sdk-python, which Isthmus itself does not use."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.rig.build import part
from tests.rig.lines import LineProcess

if TYPE_CHECKING:
    from collections.abc import Sequence

SCRIPT = Path(__file__).parent / "python" / "nacos_subscriber.py"
# Its own defaults are the other way round: it does not tell of the last instance that leaves, it keeps what it told
# before from being told again after a start, and it reads nothing again.
BEST_SETTINGS = {"update_cache_when_empty": True, "load_cache_at_start": False, "async_update_service": True}


class NacosSdk(LineProcess):
    """One client of a Nacos, subscribed to services of the default group.

    settings: of the SDK's ClientConfig, stronger than the best ones; `namespace_id` is one, by default `public`.
    """

    def __init__(
        self,
        directory: Path,
        address: str,
        services: Sequence[str],
        *,
        grpc_port_offset: int = 1000,
        **settings: object,
    ) -> None:
        options = {
            "address": address,
            "grpc_port_offset": grpc_port_offset,
            "folder": str(directory),
            "services": services,
            "settings": BEST_SETTINGS | settings,
        }
        # -S: of the packages that are installed here it sees none.
        python = ["env", f"PYTHONPATH={part('nacos-sdk')}", sys.executable, "-S"]
        super().__init__("nacos-sdk", [*python, str(SCRIPT), json.dumps(options)], directory)
        self.cache = directory / "cache" / "naming"
        self._said: list[dict[str, Any]] = []

    def told(self, service: str) -> list[list[str]]:
        """Return what was told of a service so far: each time the `address:port` of all instances."""
        return [event["addresses"] for event in self._events(service) if "addresses" in event]

    def errors(self, service: str) -> list[str]:
        """Return why the subscription to a service failed."""
        return [event["error"] for event in self._events(service) if "error" in event]

    def _events(self, service: str) -> list[dict[str, Any]]:
        while (line := self.waiting_line()) is not None:
            self._said.append(json.loads(line))
        return [event for event in self._said if event["service"] == service]
