"""Logs: text for people on a terminal, one JSON object a line otherwise; always on stderr."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

import msgspec

from isthmus.registry.names import printable

if TYPE_CHECKING:
    from typing import TextIO

LogFormat = Literal["auto", "text", "json"]


class JsonFormatter(logging.Formatter):
    """One object a line: time, level, logger, message, and the traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": printable(record.getMessage()),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(fields).decode()


class TextFormatter(logging.Formatter):
    """Time, level and message; what a registry wrote cannot forge a line (T11)."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S.%f")[:-3]
        line = f"{moment} {record.levelname.lower():7} {printable(record.getMessage())}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def configure_logging(level: str, form: LogFormat, stream: TextIO | None = None) -> None:
    """Send the logs of the whole process to `stream` (stderr), at `level` and above."""
    out = stream or sys.stderr
    handler = logging.StreamHandler(out)
    as_text = form == "text" or (form == "auto" and out.isatty())
    handler.setFormatter(TextFormatter() if as_text else JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # Kazoo tells every attempt to connect; the source's own state says the same once.
    logging.getLogger("isthmus.kazoo").setLevel(logging.ERROR)
    # It tells of every event.
    logging.getLogger("watchfiles").setLevel(logging.WARNING)
    # It tells of every header, and with it of every token.
    logging.getLogger("hpack").setLevel(logging.WARNING)
