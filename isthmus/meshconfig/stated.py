"""Finds mesh configurations in what operators keep them in (pure).

That is the text istiod reads itself, the ConfigMap `istio` with it under the key `mesh`, and an IstioOperator or values
of Helm, where it stands under `meshConfig`, however deep.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct

from isthmus.adapters.yamldoc import read_documents
from isthmus.registry.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SOURCES: Final = "configSources"


class Stated(Struct, frozen=True):
    """One mesh configuration.

    value: what it says. path: where in the file it stands, with a dot at its end; empty: it is the file.
    lines: path within it -> line of the file.
    """

    value: Mapping[str, object]
    path: str
    lines: Mapping[str, int]

    def line(self, path: str) -> int | None:
        """Return the line on which a path within it stands, or what is nearest above."""
        while path not in self.lines and path:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.lines.get(path)


def mesh_configs(text: str) -> list[Stated]:
    """Return the mesh configurations in a text. Raises ConfigError: it holds none, or cannot be read."""
    documents = read_documents(text)
    found = [one for document in documents for one in _below(document.value, "", document.lines, text.splitlines())]
    if not found and len(documents) == 1 and isinstance(documents[0].value, dict) and "kind" not in documents[0].value:
        found = [Stated(documents[0].value, "", documents[0].lines)]
    if not found:
        raise ConfigError(["holds no mesh configuration: a MeshConfig, the ConfigMap `istio`, or `meshConfig`"])
    return found


def said(value: Mapping[str, object], key: str) -> object:
    """Return what stands under a key of a message of protobuf, in either of the spellings that istiod takes."""
    return value.get(key, value.get("".join(f"_{char.lower()}" if char.isupper() else char for char in key)))


def _below(value: object, path: str, lines: Mapping[str, int], text: list[str]) -> Iterator[Stated]:
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _below(item, f"{path}[{index}]", lines, text)
    if not isinstance(value, dict):
        return
    dot = f"{path}." if path else ""
    data = value.get("data")
    if value.get("kind") == "ConfigMap":
        if isinstance(data, dict) and isinstance(data.get("mesh"), str):
            yield _in_text(data["mesh"], f"{dot}data.mesh", lines, text)
    elif said(value, _SOURCES) is not None:
        yield Stated(value, dot, _lines_below(lines, dot))
    else:
        for key, part in value.items():
            if key == "meshConfig" and isinstance(part, dict):
                yield Stated(part, f"{dot}{key}.", _lines_below(lines, f"{dot}{key}."))
            else:
                yield from _below(part, f"{dot}{key}", lines, text)


def _lines_below(lines: Mapping[str, int], dot: str) -> dict[str, int]:
    below = {path.removeprefix(dot): line for path, line in lines.items() if path.startswith(dot)}
    return {"": lines.get(dot.removesuffix("."), 1), **below}


def _in_text(inner: str, path: str, lines: Mapping[str, int], text: list[str]) -> Stated:
    """Read a mesh configuration that is a text within another; its lines are those of the file where it is a block."""
    try:
        documents = read_documents(inner)
    except ConfigError as error:
        raise ConfigError([f"{path}: {mistake}" for mistake in error.mistakes]) from error
    value = documents[0].value if documents else None
    if not isinstance(value, dict):
        raise ConfigError([f"{path}: holds no mesh configuration"])
    start = lines.get(path, 1)
    as_block = [line.strip() for line in text[start : start + len(inner.splitlines())]]
    offset = start if as_block == [line.strip() for line in inner.splitlines()] else None
    places = documents[0].lines.items()
    return Stated(value, f"{path}.", {one: start if offset is None else offset + line for one, line in places})
