"""Texts of strangers and of the operator, made fit to show: credentials masked, what a terminal would act on escaped.

Registrations may hold credentials (`dubbo://user:password@host`, `&token=…`), plain or percent-encoded once or twice,
as registries keep them. Where it cannot be told whether a text is one, it is masked (T17, T23).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from isthmus.registry.names import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

MASK: Final = "***"
LONGEST_RECORD: Final = 4_096

_SECRET_WORDS: Final = ("password", "passwd", "pwd", "secret", "token", "credential", "digest", "accesskey", "apikey")
# Bounded, or a record made for it would take seconds to look through (T24).
_TAIL: Final = r"[-\w.]{0,30}"
_AT_SIGNS: Final = ("@", "%40", "%2540")


def shown(text: str) -> str:
    """Return a text of a stranger as a page may show it: without credentials, printable, at most 4,096 characters."""
    clean = printable(without_credentials(text))
    return clean if len(clean) <= LONGEST_RECORD else f"{clean[:LONGEST_RECORD]}… ({len(clean)} characters)"


def without_credentials(text: str) -> str:
    """Return `text` with `***` in the place of a URL's user information and of the values of telling names."""
    if any(sign in text for sign in _AT_SIGNS):
        for pattern in _USERINFO:
            text = pattern.sub(rf"\g<before>{MASK}\g<at>", text)
    if _names_secret(text):
        for pattern in _PARAMETERS:
            text = pattern.sub(rf"\g<before>{MASK}", text)
    return text


def shown_address(address: str) -> str:
    """Return the address of a source without credentials; it need be no URL (`user:password@host:port`)."""
    clean = without_credentials(address)
    credentials, at, place = clean.rpartition("@")
    return shown(f"{MASK}@{place}" if at and "://" not in credentials else clean)


def effective_config(config: object) -> Any:
    """Return a configuration as plain values, the secrets in it masked; one that is not set stays visibly empty."""
    return _masked(msgspec.to_builtins(config))


def _masked(value: object, name: str = "") -> object:
    if value and _names_secret(name):
        return MASK
    if isinstance(value, dict):
        return {key: _masked(item, str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(item, name) for item in value]
    if not isinstance(value, str):
        return value
    return shown_address(value) if name == "address" else shown(value)


def _names_secret(text: str) -> bool:
    folded = text.lower().replace("_", "").replace("-", "")
    return any(word in folded for word in _SECRET_WORDS)


def _userinfo_patterns() -> Iterator[re.Pattern[str]]:
    """Yield a pattern for each depth of percent-encoding, at which only the separators of that depth count.

    The user information ends at the last @ before the first slash, or before the first question mark: passwords hold
    either, and readers of URLs differ in what they make of it.
    """
    for depth in range(3):
        colon, slash, question, at = (_encoded(char, depth) for char in ":/?@")
        scheme = f"{colon}{slash}{slash}"
        for end in (slash, f"{question}|{scheme}"):
            yield re.compile(f"(?P<before>{scheme})(?:(?!{end}).)*(?P<at>{at})", re.DOTALL | re.IGNORECASE)


def _parameter_patterns() -> Iterator[re.Pattern[str]]:
    """Yield patterns for `name=value` at each depth of percent-encoding, and for JSON's `"name": "value"`."""
    names = "(?:" + "|".join("[-_]?".join(word) if word.endswith("key") else word for word in _SECRET_WORDS) + ")"
    for depth in range(3):
        equals, ampersand = _encoded("=", depth), _encoded("&", depth)
        value = f'(?:(?!{ampersand})[^&"])+'
        yield re.compile(rf"(?P<before>{names}{_TAIL}{equals}){value}", re.IGNORECASE)
    yield re.compile(rf'(?P<before>{names}{_TAIL}"\s{{0,9}}:\s{{0,9}}")(?:[^"\\]|\\.)+', re.IGNORECASE)


def _encoded(char: str, depth: int) -> str:
    """Return a pattern for a character that was percent-encoded `depth` times."""
    return re.escape(char) if depth == 0 else f"%{'25' * (depth - 1)}{ord(char):02X}"


_USERINFO: Final = tuple(_userinfo_patterns())
_PARAMETERS: Final = tuple(_parameter_patterns())
