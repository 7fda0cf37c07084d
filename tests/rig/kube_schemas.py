"""JSON schemas for kubeconform, made from the OpenAPI document that the module k8s.io/kubernetes carries.

As strict as an API server that is asked to be: a field that it does not know is an error.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PREFIX = "#/definitions/"
# What the document calls a string and a manifest may also write as a number.
WIDER = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"type": ["string", "integer"]},
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": ["string", "number"]},
}


def write_schemas(document: Path, kinds: tuple[str, ...], folder: Path) -> None:
    """Write `KIND-GROUP-VERSION.json` for each kind, as `{{.ResourceKind}}{{.KindSuffix}}` of kubeconform names it.

    kinds: names of definitions such as `io.k8s.api.apps.v1.Deployment`.
    """
    definitions = json.loads(document.read_text(encoding="utf-8"))["definitions"]
    folder.mkdir(parents=True)
    for kind in kinds:
        schema = {"$ref": PREFIX + kind, "definitions": dict(_reachable(kind, definitions))}
        (folder / _file_name(definitions[kind])).write_text(json.dumps(schema), encoding="utf-8")


def _file_name(definition: dict[str, Any]) -> str:
    (served,) = definition["x-kubernetes-group-version-kind"]
    group = served["group"].partition(".")[0]
    return "-".join(filter(None, (served["kind"].lower(), group, served["version"]))) + ".json"


def _reachable(start: str, definitions: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield a definition and all that it refers to, each once, made strict."""
    waiting, seen = [start], {start}
    while waiting:
        name = waiting.pop()
        definition = WIDER.get(name) or _strict(definitions[name])
        yield name, definition
        new = set(_references(definition)) - seen
        seen |= new
        waiting.extend(new)


def _strict(definition: dict[str, Any]) -> dict[str, Any]:
    return {**definition, "additionalProperties": False} if "properties" in definition else definition


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(reference := schema.get("$ref"), str):
            yield reference.removeprefix(PREFIX)
        for value in schema.values():
            yield from _references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _references(value)
