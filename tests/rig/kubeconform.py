"""kubeconform: manifests checked against Kubernetes' own schemas, without Kubernetes and without a network."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

from tests.rig.build import part

if TYPE_CHECKING:
    from pathlib import Path

TIMEOUT_S = 60.0


def faults(*manifests: Path) -> list[str]:
    """Return what is wrong with manifests, one text `FILE KIND NAME: FAULT` each; an empty list is a pass.

    A field that Kubernetes does not know, a key that is written twice, and a kind that the part `kube-schemas` does
    not hold are faults, too.
    """
    schemas = part("kube-schemas") / "{{.ResourceKind}}{{.KindSuffix}}.json"
    options = ["-strict", "-output", "json", "-schema-location", str(schemas)]
    command = [str(part("kubeconform") / "kubeconform"), *options, *map(str, manifests)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    found = json.loads(done.stdout)["resources"]
    return [f"{one['filename']} {one['kind']} {one['name']}: {one['msg']}" for one in found]
