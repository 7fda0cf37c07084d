"""Real processes: each with a log file of its own, watched while it is waited for, ended for certain."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
from typing import TYPE_CHECKING, TypeVar

from tests.rig.tools import MissingToolError, tail
from tests.rig.wait import NotInTimeError, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

T = TypeVar("T")

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 120.0
# Below the range that the kernel takes the ports of outgoing connections from; three runs side by side share it.
_ALL_PORTS = range(20000, 32000)
_SHARES = {f"gw{number}": _ALL_PORTS[number * 4000 : (number + 1) * 4000] for number in range(3)}
PORTS = _SHARES.get(os.environ.get("PYTEST_XDIST_WORKER", ""), _ALL_PORTS)

_given_ports: set[int] = set()


class ProcessError(AssertionError):
    """A process that should run has ended."""


def free_port() -> int:
    """Return a TCP port that nothing listens on, and that this run has not been given before."""
    while True:
        port = random.choice(PORTS)
        if port not in _given_ports and _is_free(port):
            _given_ports.add(port)
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True


def own_address() -> str:
    """Return this machine's first IPv4 address that is not loopback.

    Raises `MissingToolError` when there is none.

    Dubbo registers no 127.*, and Isthmus refuses to publish it.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("198.51.100.1", 9))  # chooses a route; nothing is sent
        except OSError as error:
            raise MissingToolError("providers need an IPv4 address other than loopback") from error
        address: str = probe.getsockname()[0]
        return address


class Process:
    """One real process; a context manager that starts it and ends it.

    Subclasses say in `ready` what "started" means. Output goes to `log`, which goes on after a restart.
    """

    def __init__(
        self, name: str, command: Sequence[str], directory: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.command = list(command)
        self.directory = directory
        self.environment = {**os.environ, **(environment or {})}
        self.log = directory / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def ready(self) -> bool:
        """Tell whether the process serves; OSError counts as no."""
        return True

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The started process; raises `ProcessError` before the first start."""
        if self._process is None:
            raise ProcessError(f"{self.name} was never started")
        return self._process

    @property
    def pid(self) -> int:
        """Id of the process, running or ended."""
        return self.process.pid

    def running(self) -> bool:
        """Tell whether the process was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process and wait until it is ready."""
        self.launch()
        try:
            self.wait(self.ready, START_TIMEOUT_S, "ready")
        except BaseException:
            self.end()
            raise

    def launch(self) -> None:
        """Start the process and wait for nothing."""
        if self.running():
            raise AssertionError(f"{self.name} runs already")
        self.directory.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                cwd=self.directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait(self, condition: Callable[[], T | None], timeout: float, what: str) -> T:
        """Wait for a condition; fail at once, with the log's last lines, when the process ends meanwhile."""

        def checked() -> T | None:
            if not self.running():
                raise ProcessError(f"{self.name} ended with {self.process.returncode}:\n{tail(self.log)}")
            return condition()

        try:
            return wait_for(checked, timeout, f"{self.name} {what}")
        except NotInTimeError as error:
            raise NotInTimeError(f"{error}\n{tail(self.log)}") from error

    def terminate(self) -> None:
        """Ask the process to end (SIGTERM) and wait for nothing."""
        self.process.terminate()
        self.resume()  # a frozen process would take no notice

    def stop(self, timeout: float = STOP_TIMEOUT_S) -> int:
        """Ask the process to end (SIGTERM) and return its exit code; fail when it does not end in time."""
        self.terminate()
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            self.kill()
            text = f"{self.name} took no notice of SIGTERM within {timeout:g} s:\n{tail(self.log)}"
            raise NotInTimeError(text) from error

    def kill(self) -> None:
        """End the process as a crash would (SIGKILL)."""
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """End the process in whatever state it is; the end of a test, not a part of it."""
        if self.running():
            self.kill()

    def pause(self) -> None:
        """Freeze the process (SIGSTOP): its sockets stay open and nobody answers."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen process go on (SIGCONT)."""
        self.process.send_signal(signal.SIGCONT)

    def output(self) -> str:
        """Return all that the process wrote so far."""
        return self.log.read_text(encoding="utf-8", errors="backslashreplace")
