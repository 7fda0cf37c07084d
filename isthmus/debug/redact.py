"""Texts of strangers and of the operator, made fit to show: credentials masked, what a terminal would act on escaped.

Registrations may hold credentials (`dubbo://user:password@host`, `&token=…`, `"secret":"…"`, `<password>…`): URLs plain
or percent-encoded once or twice, JSON plain or within strings of JSON, as registries keep them. Where it cannot be told
whether a text is one, it is masked (T17, T23). A text is looked at and never parsed: what is refused is often broken.
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
# Names by themselves only, or at the end of one (`oss.ak`, `ossSk`): many a word holds these letters. What stands
# before them is looked at last, since most places of a text are passed by at the first letter.
_SHORT_WORDS: Final = ("ak", "sk")
_SHORT_NAME: Final = r"(?i:[as]k)(?:(?<![^\W_]..)|(?-i:(?<=[a-z][AS][Kk]))%s)"
# Bounded, or a record made for it would take seconds to look through (T24).
_TAIL: Final = r"[-\w.]{0,30}"
_AT_SIGNS: Final = ("@", "%40", "%2540")


def shown(text: str) -> str:
    """Return a text of a stranger as a page may show it: without credentials, printable, at most 4,096 characters."""
    clean = printable(without_credentials(text))
    return clean if len(clean) <= LONGEST_RECORD else f"{clean[:LONGEST_RECORD]}… ({len(clean)} characters)"


def without_credentials(text: str) -> str:
    """Return `text` with `***` in the place of a URL's user information and of the values of telling names."""
    telling = _may_name_secret(text)
    if telling:
        # Before the URLs: a password with an @ would be taken for the rest of one that stands before it.
        text = _ELEMENT.sub(_element_masked, _json_masked(text))
    if any(sign in text for sign in _AT_SIGNS):
        for pattern in _USERINFO:
            text = pattern.sub(rf"\g<before>{MASK}\g<at>", text)
    if telling:
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
    if isinstance(value, dict):
        return {key: _masked(item, str(key)) for key, item in value.items()}
    if value and _names_secret(name):
        return MASK
    if isinstance(value, list | tuple):
        return [_masked(item, name) for item in value]
    if not isinstance(value, str):
        return value
    return shown_address(value) if name == "address" else shown(value)


def _names_secret(name: str) -> bool:
    return _holds(name, _SECRET_WORDS) or _SHORT.search(name) is not None


def _may_name_secret(text: str) -> bool:
    """Tell, quickly, whether a text may hold a telling name; most hold none."""
    return _holds(text, (*_SECRET_WORDS, *_SHORT_WORDS))


def _holds(text: str, words: tuple[str, ...]) -> bool:
    folded = text.lower().replace("_", "").replace("-", "")
    return any(word in folded for word in words)


# JSON, and JSON within its strings. A quotation mark is as deep as there are strings around it that it does not end.
# Every such string doubles the backslashes before it and adds one, so its depth is the number of ones that the count of
# them ends with in binary, even where what stands before it is a backslash itself.


def _json_masked(text: str) -> str:
    """Return `text` with `***` for what follows `"name":` at any depth: a string, a bare word, an object, an array."""
    kept: list[str] = []
    copied = at = 0
    ends: dict[int, int] = {}
    while quote := _QUOTE.search(text, at):
        depth = _depth(quote)
        name = slice(max([end for other, end in ends.items() if other <= depth], default=0), quote.start())
        at = ends[depth] = quote.end()
        if (colon := _COLON.match(text, at)) and _names_secret(text[name]):
            begin, end, at = _value(text, colon.end(), depth)
            ends[depth] = at
            if begin < end:
                kept += (text[copied:begin], MASK)
                copied = end
    return "".join((*kept, text[copied:]))


def _depth(quote: re.Match[str]) -> int:
    backslashes = len(quote["backslashes"])
    return (~backslashes & (backslashes + 1)).bit_length() - 1


def _value(text: str, begin: int, depth: int) -> tuple[int, int, int]:
    """Return where what is to be masked of a value begins and ends, and where to look on."""
    if opening := _QUOTE.match(text, begin):
        begin, depth = opening.end(), _depth(opening)
        for quote in _QUOTE.finditer(text, begin):
            if _depth(quote) <= depth:
                # Its own backslashes stay with it; those before them are the value's.
                return begin, quote.end() - 2 ** _depth(quote), quote.end()
        return begin, len(text), len(text)
    if text.startswith(("{", "["), begin):
        end = _end_of_nested(text, begin, depth)
    else:
        bare = _BARE.match(text, begin)
        end = bare.end() if bare else begin
    return begin, end, end


def _end_of_nested(text: str, begin: int, depth: int) -> int:
    """Return where the object or array ends that begins here: where it is closed, or the string around it is."""
    level, in_string = 0, False
    for token in _STRUCTURE.finditer(text, begin):
        if token["backslashes"] is not None:
            if _depth(token) < depth:
                return token.start()
            if _depth(token) == depth:
                in_string = not in_string
        elif not in_string:
            level += 1 if token[0] in "{[" else -1
            if level == 0:
                return token.end()
    return len(text)


def _element_masked(element: re.Match[str]) -> str:
    """Return a start tag of XML and the text after it, masked where the tag holds a telling name."""
    tag, value = element["tag"], element["value"]
    if not _names_secret(tag):
        return element[0]
    for pattern in _ATTRIBUTES:
        tag = pattern.sub(rf"\g<before>{MASK}", tag)
    return f"<{tag}>{MASK if value and not tag.endswith('/') else value}"


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
    """Yield patterns for `name=value` at each depth of percent-encoding; of etcd's `key = value`, blanks around it."""
    words = "|".join("[-_]?".join(word) if word.endswith("key") else word for word in _SECRET_WORDS)
    # An encoded separator before a name ends with a digit or a letter.
    short = _SHORT_NAME % "|(?<=26..|3F..)"
    for depth in range(3):
        equals, ampersand = _encoded("=", depth), _encoded("&", depth)
        if depth == 0:
            equals = " ?= ?"
        value = f'(?:(?!{ampersand})[^&"])+'
        for name in (f"(?:{words}){_TAIL}", short):
            yield re.compile(rf"(?P<before>{name}{equals}){value}", re.IGNORECASE)


def _encoded(char: str, depth: int) -> str:
    """Return a pattern for a character that was percent-encoded `depth` times."""
    return re.escape(char) if depth == 0 else f"%{'25' * (depth - 1)}{ord(char):02X}"


_USERINFO: Final = tuple(_userinfo_patterns())
_PARAMETERS: Final = tuple(_parameter_patterns())
_SHORT: Final = re.compile(_SHORT_NAME % "" + r"(?![^\W_])")
# All of these are possessive or begin where nothing of the kind stands before, so that they take linear time (T24).
_SPACE: Final = r"(?:\s|\\++[nrt])*+"
_QUOTE: Final = re.compile(r'(?<!\\)(?P<backslashes>\\*+)"')
_STRUCTURE: Final = re.compile(r'(?<!\\)(?P<backslashes>\\*+)"|[][{}]')
_COLON: Final = re.compile(f"{_SPACE}:{_SPACE}")
_BARE: Final = re.compile(r'(?!null\b)[^]\s,}"\\]++')
_ELEMENT: Final = re.compile(r"<(?P<tag>[^\W\d][^<>]*+)>(?P<value>(?:<!\[CDATA\[(?:(?!\]\]>).)*+|[^<])*+)", re.DOTALL)
_ATTRIBUTES: Final = (
    re.compile(r'(?P<before>=\s{0,9}\\*+")(?:[^"\\]|\\++(?!"))++'),
    re.compile(r"(?P<before>=\s{0,9}')[^']++"),
)
