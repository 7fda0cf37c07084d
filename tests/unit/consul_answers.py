"""Short ways to say what a Consul answers in a test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from isthmus.adapters.consul.records import ConsulRules, Instance, Reading, read_service
from isthmus.adapters.consul.wire import Check, Key, read_entries

GOLDEN = Path(__file__).parent.parent / "golden" / "consul"
RULES = ConsulRules(kubernetes_tag="k8s", labels={"version": "version", "zone": "zone", "canary": "canary"})


def entry(node: dict[str, Any] | None = None, checks: dict[str, str] | None = None, **fields: Any) -> dict[str, Any]:
    """Return an instance as /v1/health/service has it, but for these fields of its own and of its node.

    checks: id -> status; an id that ends with `@node` is of the node.
    """
    service = {
        "ID": "web-1",
        "Service": "web",
        "Address": "10.20.0.1",
        "Port": 8080,
        "Tags": [],
        "Meta": None,
        **fields,
    }
    said = [
        {
            "Node": "n1",
            "CheckID": name.removesuffix("@node"),
            "Status": status,
            "ServiceID": "" if name.endswith("@node") else service["ID"],
            "Output": "now and then another one",
        }
        for name, status in (checks or {}).items()
    ]
    return {"Node": {"Node": "n1", "Address": "10.0.0.1", **(node or {})}, "Service": service, "Checks": said}


def body(*entries: Any) -> bytes:
    return json.dumps(entries).encode()


def read(answer: bytes, rules: ConsulRules = RULES) -> Reading:
    return read_service(*read_entries(answer), rules)


def instance(rules: ConsulRules = RULES, **fields: Any) -> Instance:
    """Return the one instance that an answer with `entry(**fields)` has."""
    ((_, one),) = read(body(entry(**fields)), rules).instances.items()
    return one


def golden(name: str) -> bytes:
    return (GOLDEN / f"{name}.json").read_bytes()


def reading(*keys: Key, unhealthy: str = "", **more: str) -> Reading:
    """Return a read of instances, each with a check; unhealthy: the nodes, a letter each, whose are critical."""
    instances = {
        key: Instance(more.get("status", "critical") if key[0] in unhealthy else "passing", f"10.0.0.{ord(key[0])}", 80)
        for key in sorted(keys)
    }
    return Reading(instances, checked=frozenset(keys))


def check(node: str, check_id: str = "c", status: str = "critical", service: str = "", service_id: str = "") -> Check:
    return Check(check_id, status, node, service_id=service_id, service_name=service)
