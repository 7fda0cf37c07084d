"""Reads YAML and JSON written by people: plain values, and the line on which each of them stands.

YAML can do more than a configuration needs, and each extra is a way to be surprised or attacked (T27). So
this reader walks the parser's events itself and takes the plain part only: no anchors and aliases, no tags
but `!!str`, no merge keys, no key twice. A word without quotes that YAML 1.1 and 1.2 take for different
things is text: `no`, `010`, `1e3` and `2026-08-01` are never a truth value, a number or a date.
"""

from __future__ import annotations

import json
import math
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, NoReturn

import yaml
from msgspec import Struct

from isthmus.registry.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 64
# Keys, values and brackets together.
MAX_PARTS = 2_000_000
# A longer path is of no use to a reader, and long keys above many items would fill the memory with paths.
MAX_PATH = 256

_Scalar = str | int | float | bool | None
_TAG = "tag:yaml.org,2002:"
_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:(?:0|[1-9][0-9]*)\.[0-9]*|\.[0-9]+)(?:[eE][-+][0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_JSON_WORD = re.compile(r'\n|[{}\[\]]|"(?:[^"\\]|\\.)*"|[-+.0-9A-Za-z]+')
# A PyYAML built without libyaml reads the same, only slower.
_LOADER: type[yaml.CSafeLoader | yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Document(Struct, frozen=True):
    """One document: its plain value, and for the path of each value in it (`sources[0].address`; the document
    itself: empty) the line it begins on, counted from 1."""

    value: object
    lines: dict[str, int]


class _Event(NamedTuple):
    """One step through a text, whatever its syntax."""

    kind: Literal["document", "map", "list", "close", "scalar"]
    value: _Scalar
    line: int


class _Frame(NamedTuple):
    """A map or list that is still open, where it stands, and the key that waits for its value."""

    container: dict[str, object] | list[object]
    path: str
    keys: list[str]


def read_text(path: str | None) -> str:
    """Return the text of a file, of standard input for None. Raises ConfigError: why it cannot be had."""
    try:
        if path is None:
            data = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with Path(path).open("rb") as stream:
                data = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError([f"cannot be read: {reason}"]) from error
    if len(data) > MAX_BYTES:
        raise ConfigError([f"has more than {MAX_BYTES} bytes"])
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ConfigError([f"is not UTF-8 text: byte {error.start} is {data[error.start]:#04x}"]) from error


def read_documents(text: str) -> list[Document]:
    """Return the documents of a text in order; documents with nothing in them are left out.

    A text that is JSON is read as JSON, any other as YAML. Raises `ConfigError` with line and column for
    wrong syntax, and with the line, and the path where there is one, for what is not read on purpose (T27):
    anchors, tags, a key twice, numbers that are not finite, more than `MAX_BYTES`, `MAX_PARTS` or
    `MAX_DEPTH`.
    """
    text = text.removeprefix("\ufeff")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise ConfigError(["the text holds half of a surrogate pair, which is no character"]) from error
    if size > MAX_BYTES:
        raise ConfigError([f"the text has {size} bytes, more than {MAX_BYTES}"])
    events = _json_events(text) if _is_json(text) else _yaml_events(text)
    return list(_documents(events))


def _documents(events: Iterator[_Event]) -> Iterator[Document]:
    builder: _Builder | None = None
    for count, event in enumerate(events):
        if count == MAX_PARTS:
            _refuse("", event.line, f"more than {MAX_PARTS} keys, values and brackets")
        if event.kind == "document":
            if builder is not None:
                yield builder.document()
            builder = _Builder()
        elif builder is not None:
            builder.take(event)
    if builder is not None:
        yield builder.document()


class _Builder:
    """Puts one document together; a stack of its own, so that depth costs no recursion."""

    def __init__(self) -> None:
        self._stack: list[_Frame] = []
        self._lines: dict[str, int] = {}
        self._value: object = None

    def document(self) -> Document:
        return Document(self._value, self._lines)

    def take(self, event: _Event) -> None:
        if event.kind == "close":
            self._stack.pop()
            return
        frame = self._stack[-1] if self._stack else None
        if frame is not None and isinstance(frame.container, dict) and not frame.keys:
            self._take_key(frame, event)
        else:
            self._take_value(frame, event)

    def _take_key(self, frame: _Frame, event: _Event) -> None:
        key = event.value
        if event.kind != "scalar" or not isinstance(key, str):
            shown = "a map or list" if event.kind != "scalar" else json.dumps(key)
            _refuse(frame.path, event.line, f"a key must be text, not {shown}: put it in quotes")
        if key in frame.container:
            _refuse(_below(frame.path, key), event.line, "the key stands here a second time")
        frame.keys.append(key)
        self._note(_below(frame.path, key), event.line)

    def _take_value(self, frame: _Frame | None, event: _Event) -> None:
        path = _place(frame)
        if frame is None or isinstance(frame.container, list):
            self._note(path, event.line)
        if event.kind == "scalar":
            self._put(frame, event.value)
            return
        if len(self._stack) == MAX_DEPTH:
            _refuse(path, event.line, f"nested deeper than {MAX_DEPTH} levels")
        container: dict[str, object] | list[object] = {} if event.kind == "map" else []
        self._put(frame, container)
        self._stack.append(_Frame(container, path, []))

    def _put(self, frame: _Frame | None, value: object) -> None:
        if frame is None:
            self._value = value
        elif isinstance(frame.container, list):
            frame.container.append(value)
        else:
            frame.container[frame.keys.pop()] = value

    def _note(self, path: str, line: int) -> None:
        if len(path) <= MAX_PATH:
            self._lines[path] = line


def _place(frame: _Frame | None) -> str:
    if frame is None:
        return ""
    if isinstance(frame.container, list):
        return _joined(frame.path, f"[{len(frame.container)}]")
    return _below(frame.path, frame.keys[-1])


def _below(path: str, key: str) -> str:
    return _joined(path, f".{key[:MAX_PATH]}") if path else key[: MAX_PATH + 1]


def _joined(path: str, step: str) -> str:
    return path + step if len(path) <= MAX_PATH else path


def _refuse(path: str, line: int, reason: str) -> NoReturn:
    place = f"{path}: " if path else ""
    raise ConfigError([f"{place}{reason} (line {line})"])


def _yaml_events(text: str) -> Iterator[_Event]:
    started: _Event | None = None
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            line = event.start_mark.line + 1 if event.start_mark is not None else 0
            if isinstance(event, yaml.DocumentStartEvent):
                started = _Event("document", None, line)
                continue
            step = _yaml_step(event, line)
            if step is None:
                continue
            if started is not None:
                if _is_nothing(event):
                    continue
                yield started
                started = None
            yield step
    except yaml.MarkedYAMLError as error:
        raise ConfigError([_marked(error)]) from error
    except yaml.YAMLError as error:
        raise ConfigError([f"not YAML: {' '.join(str(error).split())}"]) from error


def _yaml_step(event: yaml.Event, line: int) -> _Event | None:
    if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
        _refuse("", line, "anchors and aliases are not read: write the value out where it is needed")
    if isinstance(event, yaml.ScalarEvent):
        return _Event("scalar", _yaml_scalar(event, line), line)
    if isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
        return _Event("close", None, line)
    if isinstance(event, yaml.MappingStartEvent):
        _check_tag(event.tag, "map", line)
        return _Event("map", None, line)
    if isinstance(event, yaml.SequenceStartEvent):
        _check_tag(event.tag, "seq", line)
        return _Event("list", None, line)
    return None


def _check_tag(tag: str | None, plain: str, line: int) -> None:
    if tag not in (None, "!", _TAG + plain):
        _refuse("", line, f"the tag {tag!r} is not read")


def _is_nothing(event: yaml.Event) -> bool:
    """Whether an event is the empty document that stands between two `---`, as other tools leave them."""
    return isinstance(event, yaml.ScalarEvent) and event.implicit[0] and event.value == ""


def _yaml_scalar(event: yaml.ScalarEvent, line: int) -> _Scalar:
    _check_tag(event.tag, "str", line)
    if event.tag is not None or not event.implicit[0]:
        return event.value
    if event.value == "<<":
        _refuse("", line, "merge keys (`<<`) are not read: write the values out where they are needed")
    return _plain_word(event.value, line)


def _plain_word(word: str, line: int) -> _Scalar:
    """Return what a word without quotes means: what YAML 1.1 and 1.2 agree on, and else the text itself."""
    if word in _WORDS:
        return _WORDS[word]
    if _INTEGER.fullmatch(word):
        try:
            return int(word)
        except ValueError:
            _refuse("", line, f"a number of {len(word)} digits")
    if _NOT_FINITE.fullmatch(word):
        _refuse("", line, f"{word} is not a finite number")
    return _finite(float(word), word, line) if _FLOAT.fullmatch(word) else word


def _finite(number: float, word: str, line: int) -> float:
    if not math.isfinite(number):
        _refuse("", line, f"{word[:40]} is not a finite number")
    return number


def _marked(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    problem = error.problem or error.context or "wrong syntax"
    return problem if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: {problem}"


def _is_json(text: str) -> bool:
    """Whether a text is a JSON map or list. YAML fails on tabs, long keys and surrogate pairs."""
    if not text.lstrip().startswith(("{", "[")):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _json_events(text: str) -> Iterator[_Event]:
    """Walk the words and brackets of a text that is known to be JSON."""
    yield _Event("document", None, 1)
    line = 1
    for match in _JSON_WORD.finditer(text):
        word = match[0]
        if word == "\n":
            line += 1
        elif word in ("{", "["):
            yield _Event("map" if word == "{" else "list", None, line)
        elif word in ("}", "]"):
            yield _Event("close", None, line)
        else:
            yield _Event("scalar", _json_scalar(word, line), line)


def _json_scalar(word: str, line: int) -> _Scalar:
    value: _Scalar = json.loads(word)
    if isinstance(value, float):
        return _finite(value, word, line)
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            _refuse("", line, "the text holds half of a surrogate pair, which is no character")
    return value
