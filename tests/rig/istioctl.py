"""istioctl, as a person runs it, without Kubernetes."""

from __future__ import annotations

import os
import subprocess

from tests.rig.build import part

TIMEOUT_S = 60.0
# Without a revision istioctl asks Kubernetes for the default one, and waits for the answer for ever.
REVISION = "--revision=default"


def istioctl(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and return its exit code and what it wrote.

    `proxy-status` and `experimental internal-debug` need `--xds-address=HOST:PORT` with either `--plaintext` or
    `--cert-dir=FOLDER`, a folder with root-cert.pem (cert-chain.pem and key.pem, too, for mutual TLS).
    """
    command = [str(part("istioctl") / "istioctl"), *arguments, REVISION]
    environment = {"HOME": "/nonexistent", "KUBECONFIG": os.devnull}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
