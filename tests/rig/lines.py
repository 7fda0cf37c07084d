"""A real process that is spoken to line by line."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from typing import TYPE_CHECKING

from tests.rig.process import ProcessError
from tests.rig.tools import tail
from tests.rig.wait import NotInTimeError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self


class LineProcess:
    """A process that takes lines and gives lines; a context manager that starts it and ends it.

    name: of its log, which takes its stderr, and of it in failures.
    """

    def __init__(self, name: str, command: Sequence[str], directory: Path) -> None:
        self.name = name
        self.command = list(command)
        self.directory = directory
        self.log = directory / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._unread = b""

    def __enter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                cwd=self.directory,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
            )
        try:
            self.greeted()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def greeted(self) -> None:
        """Read what the process says before it takes lines."""

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The started process; raises `ProcessError` before the start."""
        if self._process is None:
            raise ProcessError(f"{self.name} was never started")
        return self._process

    def kill(self) -> None:
        """End the process as a crash would (SIGKILL), running or not."""
        self.process.kill()
        self.process.communicate()

    def pause(self) -> None:
        """Freeze the process (SIGSTOP): its sockets stay open and it says nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen process go on (SIGCONT)."""
        self.process.send_signal(signal.SIGCONT)

    def say(self, line: str) -> None:
        """Give the process a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())

    def next_line(self, timeout: float) -> str:
        """Return the next line that the process says; raise `NotInTimeError`, or `ProcessError` when it ended."""
        deadline = time.monotonic() + timeout
        while b"\n" not in self._unread:
            if not self._read(max(0.0, deadline - time.monotonic())):
                raise NotInTimeError(f"{self.name} said nothing within {timeout:g} s:\n{tail(self.log)}")
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode()

    def waiting_line(self) -> str | None:
        """Return the next line if the process has said one already."""
        while b"\n" not in self._unread:
            if not self._read(0):
                return None
        return self.next_line(0)

    def _read(self, timeout: float) -> bool:
        """Take what the process said; tell whether it said anything in time."""
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], timeout)
        if not readable:
            return False
        chunk = os.read(self.process.stdout.fileno(), 65536)
        if not chunk:
            raise ProcessError(f"{self.name} ended:\n{tail(self.log)}")
        self._unread += chunk
        return True
