"""Finds every mistake in a configuration, not only the first, and says where in the file it stands.

The walker compares plain values, as YAML gives them, with a msgspec type: keys, kinds and types. What has the right
type is then put to the rules of its field (isthmus/config/rules.py). A text that the environment gave is never shown: a
message quotes what the file says in its place.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from msgspec import Struct, inspect

from isthmus.registry.errors import ConfigError
from isthmus.registry.names import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

# The way to a value from the top of the document: keys of maps and positions in lists.
Steps: TypeAlias = tuple[str | int, ...]

_SHOWN = 80
_LONGEST_PATH = 256
_LARGEST_SHOWN = 2**64


class Fault(NamedTuple):
    """What is wrong with a value, or with the part of it that stands `steps` below it.

    text: goes on after the value (`is not ...`), and never holds it itself.
    quoting: False where the value is a secret or says nothing; then `text` is the whole message.
    """

    text: str
    steps: Steps = ()
    quoting: bool = True


Rule: TypeAlias = Callable[[Any], Iterable[Fault]]
# Struct -> key in the file -> what its value must keep to. A rule of the key "" is for the whole map, and so must be
# ready for values of any type.
Rules: TypeAlias = Mapping[type, Mapping[str, Rule]]


class Found(NamedTuple):
    """A mistake and where in the document it stands."""

    place: Steps
    message: str


class Mistake(Struct, frozen=True):
    """A mistake as people are told of it.

    path: `sources[0].address`, or the flag; empty for the whole document. line: from 1; None where there is none.
    Path and message may hold any character that the file holds.
    """

    path: str
    line: int | None
    message: str


class MistakesFound(ConfigError):
    """A configuration with mistakes, in the order of the file; `mistakes` are lines that are safe to print (T11)."""

    def __init__(self, found: Sequence[Mistake], file: str = "") -> None:
        super().__init__([_line_of_text(mistake, file) for mistake in found])
        self.found = tuple(found)


def find_mistakes(value: object, expected: type, rules: Rules, said: Mapping[Steps, str]) -> list[Found]:
    """Return every mistake in a plain value of maps, lists, texts, numbers, truth values and None.

    said: for each text that came from the environment what the file says in its place. Without rules, the list is
    empty for exactly those values that `msgspec.convert` takes for `expected`.
    """
    walk = _Walk(rules, said)
    walk.take(value, inspect.type_info(expected), ())
    return walk.found


def locate(found: Iterable[Found], lines: Mapping[str, int], flags: Mapping[Steps, str]) -> list[Mistake]:
    """Return mistakes in the order of the file, then those of the command line.

    lines: path -> line, as `yamldoc` gives them. flags: place -> the flag that the value there came from.
    """
    mistakes = [_located(one, lines, flags) for one in found]
    return sorted(mistakes, key=lambda one: (_is_of_flag(one), one.line or 0))


def path_of(place: Steps) -> str:
    """Return a place as people read it, spelled as in `yamldoc`."""
    path = ""
    for step in place:
        if isinstance(step, int):
            path += f"[{step}]"
        else:
            path += f".{step}" if path else step
    return path


def choose_from(word: str, valid: Iterable[str], what: str) -> str:
    """Return advice for a wrong word: the nearest valid one, else all of them."""
    names = list(valid)
    if (near := _nearest(word, names)) is not None:
        return f'did you mean "{near}"?'
    return f"{what}: {', '.join(names)}"


class _Walk:
    """One walk through a value, and what it found."""

    def __init__(self, rules: Rules, said: Mapping[Steps, str]) -> None:
        self.found: list[Found] = []
        self._rules = rules
        self._said = said

    def take(self, value: object, expected: inspect.Type, place: Steps) -> bool:
        """Judge a value and return whether its structure is sound."""
        before = len(self.found)
        match expected:
            case inspect.StructType():
                self._take_struct(value, expected, place)
            case inspect.UnionType():
                self._take_union(value, expected, place)
            case inspect.DictType():
                self._take_map(value, expected, place)
            case inspect.VarTupleType():
                self._take_list(value, expected, place)
            case inspect.LiteralType():
                self._take_choice(value, expected, place)
            case _:
                self._take_scalar(value, expected, place)
        return len(self.found) == before

    def _take_struct(self, value: object, expected: inspect.StructType, place: Steps) -> None:
        if not isinstance(value, dict):
            self._wrong_type(value, "a map", place)
            return
        fields = {field.encode_name: field for field in expected.fields}
        valid = [*fields] if expected.tag_field is None else [expected.tag_field, *fields]
        meant: set[str | None] = set()
        for key, part in value.items():
            if key in fields:
                self._take_field(part, expected.cls, fields[key], place)
            elif key != expected.tag_field:
                meant.add(_nearest(key, valid))
                self._unknown_key(key, valid, place)
        for key, field in fields.items():
            if field.required and key not in value and key not in meant:
                self.found.append(Found((*place, key), "missing"))
        self._apply(self._rule(expected.cls, ""), value, place)

    def _take_field(self, value: object, struct: type, field: inspect.Field, place: Steps) -> None:
        below = (*place, field.encode_name)
        if self.take(value, field.type, below):
            self._apply(self._rule(struct, field.encode_name), value, below)

    def _take_union(self, value: object, expected: inspect.UnionType, place: Steps) -> None:
        """Judge one of several structs that a key of theirs tells apart."""
        structs = {str(one.tag): one for one in expected.types if isinstance(one, inspect.StructType)}
        tag_field = str(next(iter(structs.values())).tag_field)
        if not isinstance(value, dict):
            self._wrong_type(value, "a map", place)
            return
        below = (*place, tag_field)
        tag = value.get(tag_field)
        if tag_field not in value:
            meant = [key for key in value if _nearest(key, [tag_field])]
            for key in meant:
                self._unknown_key(key, [tag_field], place)
            if not meant:
                self.found.append(Found(below, f"missing; choose from: {', '.join(structs)}"))
        elif not isinstance(tag, str):
            self._wrong_type(tag, "text", below)
        elif tag not in structs:
            self._unknown_word(tag, structs, below)
        else:
            self._take_struct(value, structs[tag], place)

    def _take_map(self, value: object, expected: inspect.DictType, place: Steps) -> None:
        if not isinstance(value, dict):
            self._wrong_type(value, "a map", place)
            return
        for key, part in value.items():
            self.take(part, expected.value_type, (*place, key))

    def _take_list(self, value: object, expected: inspect.VarTupleType, place: Steps) -> None:
        if not isinstance(value, list):
            self._wrong_type(value, "a list", place)
            return
        for index, part in enumerate(value):
            self.take(part, expected.item_type, (*place, index))

    def _take_choice(self, value: object, expected: inspect.LiteralType, place: Steps) -> None:
        if not isinstance(value, str):
            self._wrong_type(value, "text", place)
        elif value not in expected.values:
            self._unknown_word(value, map(str, expected.values), place)

    def _take_scalar(self, value: object, expected: inspect.Type, place: Steps) -> None:
        name, fits = _SCALARS[type(expected)]
        if not fits(value):
            self._wrong_type(value, name, place)

    def _wrong_type(self, value: object, wanted: str, place: Steps) -> None:
        message = f"must be {wanted}, not {_type_name(value)}"
        if place in self._said:
            message += "; the environment gives text only"
        self.found.append(Found(place, message))

    def _unknown_key(self, key: str, valid: Iterable[str], place: Steps) -> None:
        self.found.append(Found((*place, key), f"unknown key; {choose_from(key, valid, 'the keys here are')}"))

    def _unknown_word(self, word: str, valid: Iterable[str], place: Steps) -> None:
        advice = choose_from(word, valid, "choose from")
        self.found.append(Found(place, f"unknown value {self._shown(word, place)}; {advice}"))

    def _rule(self, struct: type, key: str) -> Rule | None:
        rules = (self._rules.get(base, {}).get(key) for base in struct.__mro__)
        return next((rule for rule in rules if rule is not None), None)

    def _apply(self, rule: Rule | None, value: Any, place: Steps) -> None:
        for text, steps, quoting in rule(value) if rule is not None else ():
            part = value
            for step in steps:
                part = part[step]
            below = (*place, *steps)
            self.found.append(Found(below, f"{self._shown(part, below)} {text}" if quoting else text))

    def _shown(self, value: object, place: Steps) -> str:
        value = self._said.get(place, value)
        if isinstance(value, int) and abs(value) > _LARGEST_SHOWN:
            return "this number"
        text = json.dumps(value, ensure_ascii=False)
        return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    if not _is_whole(value):
        return isinstance(value, float)
    try:
        float(value)  # type: ignore[arg-type]
    except OverflowError:
        return False
    return True


_SCALARS: dict[type[inspect.Type], tuple[str, Callable[[object], bool]]] = {
    inspect.StrType: ("text", lambda value: isinstance(value, str)),
    inspect.BoolType: ("true or false", lambda value: isinstance(value, bool)),
    inspect.IntType: ("a whole number", _is_whole),
    inspect.FloatType: ("a number", _is_number),
}


def _type_name(value: object) -> str:
    match value:
        case None:
            return "empty"
        case bool():
            return str(value).lower()
        case int() if not _is_number(value):
            return "one of more than 308 digits"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case dict():
            return "a map"
        case _:
            return "a list"


def _nearest(word: str, valid: Iterable[str]) -> str | None:
    """Return the valid word that was most likely meant; case, `_` and `-` count for nothing."""
    plain = {_plain(name): name for name in valid}
    near = get_close_matches(_plain(word[:_SHOWN]), plain, n=1)
    return plain[near[0]] if near else None


def _plain(word: str) -> str:
    return word.replace("_", "").replace("-", "").lower()


def _located(found: Found, lines: Mapping[str, int], flags: Mapping[Steps, str]) -> Mistake:
    place = found.place
    above = [place[:length] for length in range(len(place), -1, -1)]
    flag = next((part for part in above if part in flags), None)
    if flag is not None:
        rest = path_of(place[len(flag) :])
        path = f"{flags[flag]}.{rest}" if rest else flags[flag]
        line = None
    else:
        path = path_of(place)
        line = next((lines[path_of(part)] for part in above if path_of(part) in lines), None)
    return Mistake(path[:_LONGEST_PATH], line, found.message)


def _line_of_text(mistake: Mistake, file: str) -> str:
    named = file if mistake.line is None else f"{file}:{mistake.line}"
    parts = ("" if _is_of_flag(mistake) else named, mistake.path, mistake.message)
    return printable(": ".join(part for part in parts if part))


def _is_of_flag(mistake: Mistake) -> bool:
    return mistake.line is None and mistake.path.startswith("--")
