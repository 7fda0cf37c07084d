"""Registers an instance with py-consul and keeps its check alive; `tests/rig/py_consul.py` starts it.

Its argument is a JSON object: `server`, the arguments of py-consul's client, `service`, those of its `register`, and
`ttl_s`. It says one line when it has registered and passes. It takes lines: `passing`, `warning` or `critical` is what
it says of itself from then on, `stop` deregisters; it says one line when that is done. It ends when its input ends.
"""

from __future__ import annotations

import json
import select
import sys
from typing import Any

import consul  # type: ignore[import-not-found]
import requests  # type: ignore[import-untyped,unused-ignore]

STATUSES = ("passing", "warning", "critical")


class Instance:
    """One registration, and what it says of itself."""

    def __init__(self, server: dict[str, Any], service: dict[str, Any], ttl_s: float) -> None:
        client = consul.Consul(**{**server, "cert": tuple(server["cert"]) if "cert" in server else None})
        self._agent = client.agent
        self._service = service
        self._ttl = f"{ttl_s}s"
        check = client.agent.check
        self._tell = dict(zip(STATUSES, (check.ttl_pass, check.ttl_warn, check.ttl_fail), strict=True))

    def say(self, status: str) -> None:
        """Tell the agent; register, too, when the agent does not know the instance."""
        check_id = f"service:{self._service['service_id']}"
        if not self._tell[status](check_id):
            self._agent.service.register(**self._service, check=consul.Check.ttl(self._ttl))
            self._tell[status](check_id)

    def repeat(self, status: str) -> None:
        """Tell the agent again; an agent that is away is told the next time."""
        try:
            self.say(status)
        except (requests.RequestException, consul.ConsulException) as error:
            print(f"not told: {error!r}", file=sys.stderr, flush=True)

    def deregister(self) -> None:
        self._agent.service.deregister(self._service["service_id"])


def main(options: dict[str, Any]) -> None:
    instance = Instance(**options)
    status = "passing"
    instance.say(status)
    print(status, flush=True)
    while True:
        readable, _, _ = select.select([sys.stdin], [], [], options["ttl_s"] / 4)
        if not readable:
            instance.repeat(status)
            continue
        word = sys.stdin.readline().strip()
        if word not in STATUSES:
            break
        status = word
        instance.say(status)
        print(status, flush=True)
    if word == "stop":
        instance.deregister()
        print(word, flush=True)


main(json.loads(sys.argv[1]))
