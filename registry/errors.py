"""The errors of Isthmus.

    IsthmusError
    ├── ConfigError          the operator's file or flag is wrong: exit code 2
    ├── SourceError          a registry's fault, answered by the supervisor with back-off
    │   ├── SourceUnavailable    no contact, or contact lost
    │   └── SourceDenied         the registry refuses us (credentials, rights): never an empty list (G1)
    ├── RecordError          one record cannot be used; its service lives on (G8)
    └── ProtocolError        an xDS client broke the protocol: its stream ends, no other

Anything else that is raised is a bug of ours and stays loud.
"""

from __future__ import annotations


class IsthmusError(Exception):
    """Base of every error that Isthmus raises on purpose; its text says what the reader can do."""


class ConfigError(IsthmusError):
    """The configuration cannot be used; `mistakes` names every fault with its path in the file."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


class SourceError(IsthmusError):
    """A source could not be read; its last state stays (G1, G3)."""


class SourceUnavailable(SourceError):
    """The registry does not answer."""


class SourceDenied(SourceError):
    """The registry answers and refuses us: check the credentials and rights of this source."""


class RecordError(IsthmusError):
    """One record of a registry is unusable; `code` is stable and counted, the text is for people."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class ProtocolError(IsthmusError):
    """An xDS client sent what no answer exists for; `status` is the gRPC status name to end its stream with."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
