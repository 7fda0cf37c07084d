"""Istio's own ADS client with Istio's own store: what istiod would hold, without an istiod."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from tests.rig.build import part
from tests.rig.process import Process

if TYPE_CHECKING:
    from pathlib import Path

Version = Literal["1.31", "1.21"]


class AdsProbe(Process):
    """One client of the MCP-over-xDS server at `host:port`; ready when every type was answered.

    It ends at once when the server is not reachable as it starts, as istiod does.
    """

    def __init__(self, directory: Path, address: str, *, version: Version = "1.31") -> None:
        name = f"adsprobe-{version}"
        super().__init__(name, [str(part(name) / name), address], directory)

    def ready(self) -> bool:
        return bool(self.events("synced"))

    def events(self, *names: str) -> list[dict[str, Any]]:
        """Return what happened so far, in order: all, or only the events of these names.

        go/adsprobe/main.go says which there are and what they hold. Log lines between them are left out.
        """
        lines = [line for line in self.output().splitlines(keepends=True) if line.startswith("{")]
        events = [json.loads(line) for line in lines if line.endswith("\n")]
        return [event for event in events if not names or event["event"] in names]

    def held(self) -> dict[str, dict[str, Any]]:
        """Return the ServiceEntries in the store, by `namespace/name`, as their last add or update told."""
        held: dict[str, dict[str, Any]] = {}
        for event in self.events("add", "update", "remove"):
            if event["kind"] != "ServiceEntry":
                continue
            if event["event"] == "remove":
                held.pop(event["name"], None)
            else:
                held[event["name"]] = event
        return held
