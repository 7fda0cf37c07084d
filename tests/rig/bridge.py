"""Isthmus itself, as its users start it: `isthmus serve -c FILE` in a process of its own."""

from __future__ import annotations

import http.client
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tests.rig import http as web
from tests.rig.process import Process, free_port

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CHECKOUT = Path(__file__).parent.parent.parent


class Bridge(Process):
    """One `isthmus serve` on 127.0.0.1; ports and configuration outlive a restart.

    sources: the `sources` of the configuration. settings: further keys of it.
    `start` waits until every source is read; `launch` and `live` do not.
    """

    def __init__(
        self,
        directory: Path,
        sources: Sequence[Mapping[str, Any]],
        *,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self.debug_address = f"127.0.0.1:{free_port()}"
        self.configuration: dict[str, Any] = {
            "listen": self.address,
            "debug": self.debug_address,
            "sources": [dict(source) for source in sources],
            **(settings or {}),
        }
        self._file = directory / "isthmus.yaml"
        command = [sys.executable, "-m", "isthmus", "serve", "-c", str(self._file)]
        super().__init__("isthmus", command, directory, {"PYTHONPATH": str(CHECKOUT)})

    def launch(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self._file.write_text(yaml.safe_dump(self.configuration))
        super().launch()

    def live(self) -> bool:
        """Tell whether the process answers."""
        return self._answers("/healthz/live")

    def ready(self) -> bool:
        return self._answers("/healthz/ready")

    def _answers(self, path: str) -> bool:
        status, _ = web.get(f"http://{self.debug_address}{path}")
        return status == http.client.OK

    def debug(self, page: str) -> Any:
        """Return the JSON of a debug page such as `sources` or `services?limit=10`."""
        return web.get_json(f"http://{self.debug_address}/debug/{page}")

    def metrics(self) -> str:
        """Return the metrics page."""
        return web.get(f"http://{self.debug_address}/metrics")[1]
