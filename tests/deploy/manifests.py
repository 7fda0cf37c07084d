"""The manifests as `kubectl apply -k` would send them, read without kubectl."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from msgspec import Struct

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
PLAIN = DEPLOY / "kubernetes"
TLS = DEPLOY / "kubernetes-tls"


class Manifests(Struct, frozen=True):
    """All objects of one kustomization."""

    objects: list[dict[str, Any]]

    def one(self, kind: str) -> Any:
        """Return the object of a kind of which there is one."""
        (found,) = [one for one in self.objects if one["kind"] == kind]
        return found

    def named(self, kind: str, name: str) -> Any:
        """Return the object of that kind and name."""
        (found,) = [one for one in self.objects if one["kind"] == kind and one["metadata"]["name"] == name]
        return found

    @property
    def pod(self) -> Any:
        """The template of the pods."""
        return self.one("Deployment")["spec"]["template"]

    @property
    def container(self) -> Any:
        """The container of a pod, of which there is one."""
        (container,) = self.pod["spec"]["containers"]
        return container

    @property
    def configuration(self) -> str:
        """The text of isthmus.yaml."""
        text: str = self.one("ConfigMap")["data"]["isthmus.yaml"]
        return text


def read(directory: Path) -> Manifests:
    """Return the objects of a kustomization: its resources, with its patches done."""
    kustomization = yaml.safe_load((directory / "kustomization.yaml").read_text())
    objects: list[dict[str, Any]] = []
    for resource in kustomization["resources"]:
        path = directory / resource
        objects += read(path).objects if path.is_dir() else yaml.safe_load_all(path.read_text())
    for patch in kustomization.get("patches", ()):
        (target,) = [one for one in objects if _is_meant(one, patch["target"])]
        for operation in yaml.safe_load(patch["patch"]):
            _patch(target, operation)
    return Manifests(objects)


def _is_meant(one: dict[str, Any], target: dict[str, str]) -> bool:
    return bool(one["kind"] == target["kind"] and one["metadata"]["name"] == target["name"])


def _patch(target: Any, operation: dict[str, Any]) -> None:
    """Do one operation of a JSON patch: `replace` of what is there, or `add` at the end of a list."""
    *steps, last = operation["path"].lstrip("/").split("/")
    for step in steps:
        target = target[int(step)] if isinstance(target, list) else target[step]
    match operation["op"], last:
        case "add", "-":
            target.append(operation["value"])
        case "replace", _ if last in target:
            target[last] = operation["value"]
        case other:
            raise ValueError(f"{other}: no such operation is known here")
