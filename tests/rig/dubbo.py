"""Real Dubbo providers and a real Dubbo consumer, of Dubbo 3 or 2.7."""

from __future__ import annotations

import os
import select
import subprocess
import time
from typing import TYPE_CHECKING, Literal

from tests.rig.java import java_command
from tests.rig.process import START_TIMEOUT_S, Process, ProcessError, free_port, own_address
from tests.rig.tools import tail
from tests.rig.wait import NotInTimeError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

Dubbo = Literal["3", "2.7"]

PARTS: dict[Dubbo, str] = {"3": "dubbo3", "2.7": "dubbo27"}
GREETING = "rig.GreetingService"
ORDER = "rig.OrderService"
CALL_TIMEOUT_S = 30.0
# Dubbo replaces 127.* by another address of the machine, but not a name that stands for it.
LOOPBACK = ("127.0.0.1", "sidecar.test")


class DubboProvider(Process):
    """A provider that registers its services in a registry and answers calls to them.

    registry: as Dubbo writes it, `zookeeper://127.0.0.1:2181`.
    services: `INTERFACE[:VERSION[:GROUP]]`, of GREETING and ORDER.
    properties: Dubbo's settings, such as `dubbo.application.register-mode`.
    `stop` unregisters first; `kill` leaves the registration to the session's expiry.
    """

    def __init__(
        self,
        directory: Path,
        registry: str,
        services: Sequence[str] = (GREETING,),
        *,
        application: str = "shop",
        dubbo: Dubbo = "3",
        protocol: str = "dubbo",
        port: int | None = None,
        host: str | None = None,
        properties: Mapping[str, str] | None = None,
    ) -> None:
        self.application = application
        self.host = host or own_address()
        self.port = port or free_port()
        self.address = f"{self.host}:{self.port}"
        command = java_command(
            PARTS[dubbo],
            "rig.Provider",
            *(application, registry, str(self.port), protocol, *services),
            heap="128m",
            home=directory,
            properties={"host": self.host, **_QUIET, **(properties or {})},
        )
        super().__init__(f"{application}-{self.port}", command, directory)

    def ready(self) -> bool:
        return "READY" in self.output().splitlines()

    def greeting(self, name: str) -> str:
        """Return what this provider, and no other, answers to a greeting."""
        return f"hello {name} from {self.application}:{self.port}"


class DubboConsumer:
    """A consumer of GREETING that calls a URL; a context manager.

    service: GREETING with version and group as registered.
    """

    def __init__(self, directory: Path, service: str = GREETING, *, dubbo: Dubbo = "3") -> None:
        self._hosts = directory / "hosts"
        properties = {"jdk.net.hosts.file": str(self._hosts), **_QUIET}
        self._command = java_command(
            PARTS[dubbo], "rig.Consumer", service, heap="128m", home=directory, properties=properties
        )
        self._directory = directory
        self._log = directory / "consumer.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._unread = b""

    def __enter__(self) -> Self:
        self._directory.mkdir(parents=True, exist_ok=True)
        self._hosts.write_text(" ".join(LOOPBACK) + "\n")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._directory,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
            )
        while self._next_line(START_TIMEOUT_S) != "READY":
            pass
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def greet(self, address: str, name: str, *, protocol: str = "dubbo") -> str:
        """Call greet(name) at `host:port` over a new connection; return the answer, or ERROR and why."""
        process = self._running()
        assert process.stdin is not None
        process.stdin.write(f"{protocol}://{address.replace(*LOOPBACK)} {name}\n".encode())
        return self._next_line(CALL_TIMEOUT_S)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ProcessError("the consumer was never started")
        return self._process

    def _next_line(self, timeout: float) -> str:
        process = self._running()
        assert process.stdout is not None
        deadline = time.monotonic() + timeout
        while b"\n" not in self._unread:
            readable, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not readable:
                raise NotInTimeError(f"the consumer said nothing within {timeout:g} s:\n{tail(self._log)}")
            chunk = os.read(process.stdout.fileno(), 65536)
            if not chunk:
                raise ProcessError(f"the consumer ended:\n{tail(self._log)}")
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode()


_QUIET = {"org.slf4j.simpleLogger.defaultLogLevel": "warn"}
