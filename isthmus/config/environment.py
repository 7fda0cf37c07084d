"""Puts what the environment says into a configuration's texts, and remembers what the file said there."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from isthmus.config.mistakes import Found

if TYPE_CHECKING:
    from collections.abc import Mapping

    from isthmus.config.mistakes import Steps

# `$${` comes first, so that it is never read as `$` and a reference.
_REFERENCE = re.compile(r"(?P<literal>\$\$\{)|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)\}|(?P<broken>\$\{)", re.ASCII)


class Expansion:
    """One pass over a document, in which `${NAME}` stands for a variable and `$${` for `${` itself.

    Only values are read, never keys, and what a variable holds is not read again.

    said: the place of each text that names a variable -> what the file says there.
    found: variables that are not set or not text, and references without a name.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.said: dict[Steps, str] = {}
        self.found: list[Found] = []
        self._environ = environ

    def expand(self, value: object, place: Steps = ()) -> object:
        """Return a value with the variables in its texts replaced; the value itself is not changed."""
        if isinstance(value, str):
            return self._expand_text(value, place) if "${" in value else value
        if isinstance(value, dict):
            return {key: self.expand(part, (*place, key)) for key, part in value.items()}
        if isinstance(value, list):
            return [self.expand(part, (*place, index)) for index, part in enumerate(value)]
        return value

    def _expand_text(self, text: str, place: Steps) -> str:
        def replacement(match: re.Match[str]) -> str:
            if match["literal"]:
                return "${"
            self.said[place] = text
            if match["broken"]:
                self._add(place, "`${` needs the name of a variable and `}`; write `$${` for the characters themselves")
                return match[0]
            return self._value(match["name"], place)

        return _REFERENCE.sub(replacement, text)

    def _value(self, name: str, place: Steps) -> str:
        value = self._environ.get(name)
        if value is None:
            self._add(place, f"the environment variable {name} is not set")
        elif not _is_text(value):
            self._add(place, f"the environment variable {name} is not UTF-8 text")
        else:
            return value
        return ""

    def _add(self, place: Steps, message: str) -> None:
        self.found.append(Found(place, message))


def _is_text(value: str) -> bool:
    """Tell whether a variable is UTF-8: Python gives what is not as half surrogate pairs."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
