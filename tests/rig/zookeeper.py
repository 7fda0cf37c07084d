"""A real ZooKeeper server."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kazoo.client import KazooClient

from tests.rig.java import java_command
from tests.rig.process import Process, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ANSWER_TIMEOUT_S = 2.0
CONNECT_TIMEOUT_S = 120.0


class ZooKeeper(Process):
    """One standalone server on 127.0.0.1; its data and its port outlive a restart.

    tick_ms: the server grants sessions of 2 to 20 ticks; by default 1 to 10 s, so that a test can wait
        for the expiry of one.
    """

    def __init__(self, directory: Path, *, tick_ms: int = 500, heap: str = "256m") -> None:
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._configuration = {
            "tickTime": tick_ms,
            "dataDir": directory / "data",
            "clientPort": self.port,
            "clientPortAddress": "127.0.0.1",
            "maxClientCnxns": 0,
            "admin.enableServer": "false",
            "4lw.commands.whitelist": "*",
        }
        self._file = directory / "zoo.cfg"
        command = java_command(
            "zookeeper",
            "org.apache.zookeeper.server.quorum.QuorumPeerMain",
            str(self._file),
            heap=heap,
            home=directory,
            properties={"zookeeper.forceSync": "no"},
        )
        super().__init__("zookeeper", command, directory)

    def launch(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self._file.write_text("".join(f"{key}={value}\n" for key, value in self._configuration.items()))
        super().launch()

    def ready(self) -> bool:
        return self.ask("ruok") == "imok"

    @contextmanager
    def client(self, session: float = 10.0) -> Iterator[KazooClient]:
        """Give a connected client, whose session ends `session` seconds after it is not heard of, and reconnects."""
        client = KazooClient(self.address, timeout=session, connection_retry={"max_tries": -1, "max_delay": 0.5})
        client.start(timeout=CONNECT_TIMEOUT_S)
        try:
            yield client
        finally:
            client.stop()
            client.close()

    def ask(self, word: str) -> str:
        """Return the answer to a four-letter word such as `mntr` or `cons`."""
        with socket.create_connection(("127.0.0.1", self.port), ANSWER_TIMEOUT_S) as connection:
            connection.sendall(word.encode())
            with connection.makefile("rb") as answer:
                return answer.read().decode()
