"""Real clients of etcd, as services of several Go ecosystems have them: they register what tests want to see."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

from tests.rig.build import part
from tests.rig.lines import LineProcess

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.rig.etcd import Etcd

Format = Literal["grpc", "go-zero", "go-kit", "go-micro", "kratos", "kitex"]

PREFIXES: dict[Format, str] = {
    "go-micro": "/micro/registry/",
    "kratos": "/microservices/",
    "kitex": "kitex/registry-etcd/",
}
ANSWER_TIMEOUT_S = 60.0
SHORTEST_TTL_S = 2  # etcd makes none shorter


class WriterError(AssertionError):
    """A library said that it could not do what it was told."""


class EtcdWriters(LineProcess):
    """One process that registers services of any format in one server; a context manager.

    Each registration is of a client of its own, and lives as long as the process. `kill` leaves it to the leases to
    end, after `ttl_s` seconds. `pause` does too; of what has ended meanwhile, `resume` has go-zero, go-micro and Kratos
    register again at once, Kitex within half a minute, the others never.

    For `grpc`, `go-zero` and `go-kit` the key begins with the name; the others put it behind a prefix, see PREFIXES.
    """

    def __init__(self, directory: Path, server: Etcd, *, ttl_s: int = SHORTEST_TTL_S) -> None:
        program = str(part("etcd-writers") / "etcd-writers")
        super().__init__("etcd-writers", [program, "-endpoint", server.gateway.address, "-ttl", str(ttl_s)], directory)

    def register(
        self,
        format_: Format,
        name: str,
        address: str,
        *,
        version: str = "",
        weight: int = 0,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Register an instance, `host:port`; return when etcd has it.

        version: of `go-micro` and `kratos`. weight: of `kitex`; its clients take 0 for 10.
        metadata: of all but `go-zero` and `go-kit`; none is another thing than an empty one.
        """
        more = {"version": version, "weight": weight, "metadata": metadata}
        self._command("register", format_, name, address, **more)

    def unregister(self, format_: Format, name: str, address: str) -> None:
        """Take back what `register` registered; `go-zero` may do it a moment later."""
        self._command("unregister", format_, name, address)

    def _command(self, command: str, format_: Format, name: str, address: str, **more: object) -> None:
        self.say(json.dumps({"command": command, "format": format_, "name": name, "address": address, **more}))
        answer = json.loads(self.next_line(ANSWER_TIMEOUT_S))
        if "error" in answer:
            raise WriterError(answer["error"])
