"""Eureka's XML, for a server that has no JSON (EU7): the same forms as wire.py reads, from expat (pure).

A document type is refused at once, and with it every entity of somebody's own making (T13); depth and sizes are
bounded. It is read in pieces, so that who reads a large registry can let others run in between.
"""

from __future__ import annotations

from typing import Any
from xml.parsers import expat

from msgspec import Struct, field

from isthmus.adapters.eureka.wire import APPLICATION_LIMIT, INSTANCE_LIMIT, Document
from isthmus.registry.errors import SourceUnavailable
from isthmus.registry.policy import RECORD_LENGTH

DEEPEST = 64
# One instance has about forty elements; its metadata may add some.
_MOST_CHILDREN = 4_096
# Bounded before they are read, and within 64 bits.
_DIGITS = 19
_ROOT = "applications"
_NAMES = {"overriddenstatus": "overriddenStatus"}


class _Element(Struct):
    name: str
    attributes: dict[str, str]
    text: list[str] = field(default_factory=list)
    length: int = 0
    children: dict[str, Any] = field(default_factory=dict)


class XmlReader:
    """Takes one document in pieces; every method raises SourceUnavailable where it is none that can be read."""

    def __init__(self) -> None:
        self._open: list[_Element] = []
        self._applications: list[dict[str, Any]] = []
        self._said: dict[str, Any] = {}
        self._parser = expat.ParserCreate("utf-8")
        self._parser.buffer_text = True
        self._parser.StartDoctypeDeclHandler = _refuse_doctype
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters

    def feed(self, data: bytes) -> None:
        """Read on."""
        self._parse(data, final=False)

    def close(self) -> Document:
        """Return what was read; the document ends here."""
        self._parse(b"", final=True)
        version, hashcode = (self._said.get(name) for name in ("versions__delta", "apps__hashcode"))
        number = _number(version) if isinstance(version, str) else 0
        return Document(
            number if isinstance(number, int) else 0,
            hashcode if isinstance(hashcode, str) else None,
            tuple(self._applications),
            # An empty list of XML is nothing at all.
            lists=bool(self._applications),
        )

    def _parse(self, data: bytes, *, final: bool) -> None:
        try:
            self._parser.Parse(data, final)
        except expat.ExpatError as error:
            raise SourceUnavailable(f"the registry is no whole XML: {expat.ErrorString(error.code)}") from error

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if not self._open and name != _ROOT:
            raise SourceUnavailable(f"the answer is no registry, but XML of <{name[:40]}>")
        if len(self._open) >= DEEPEST:
            raise SourceUnavailable(f"the registry's XML is nested more than {DEEPEST} deep")
        self._open.append(_Element(name, attributes))

    def _characters(self, text: str) -> None:
        element = self._open[-1]
        # One character beyond is kept: records.py tells by it that the record is too long.
        kept = text[: RECORD_LENGTH + 1 - element.length]
        if kept:
            element.text.append(kept)
            element.length += len(kept)

    def _end(self, name: str) -> None:
        del name
        element = self._open.pop()
        if not self._open:
            return
        value = _value(element)
        if len(self._open) > 1:
            _add(self._open[-1], element.name, value)
        elif element.name != "application":
            self._said[element.name] = value
        elif len(self._applications) < APPLICATION_LIMIT:
            self._applications.append(value if isinstance(value, dict) else {})
        else:
            raise SourceUnavailable(f"the registry has more than {APPLICATION_LIMIT} applications")


def _refuse_doctype(*_: object) -> None:
    raise SourceUnavailable("the registry's XML declares a document type, which is refused")


def _value(element: _Element) -> object:
    """Return what an element stands for, as Eureka's JSON has it."""
    text = "".join(element.text).strip()
    if "enabled" in element.attributes:
        return {"$": _number(text), "@enabled": element.attributes["enabled"]}
    if "class" in element.attributes:
        return {"@class": element.attributes["class"], **element.children}
    return element.children or ({} if element.name == "metadata" else text)


def _number(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() and len(text) < _DIGITS else text


def _add(parent: _Element, name: str, value: object) -> None:
    if name == "instance" and parent.name == "application":
        instances = parent.children.setdefault(name, [])
        # One beyond is kept: wire.py tells by it that there are too many.
        if len(instances) <= INSTANCE_LIMIT:
            instances.append(value)
    elif len(parent.children) < _MOST_CHILDREN:
        parent.children[_NAMES.get(name, name)] = value
