"""Answers of a Eureka server, and what is read of them, for the tests of adapters/eureka."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from isthmus.adapters.eureka.records import EurekaRules, Member, Reading, read_application
from isthmus.adapters.eureka.wire import open_json
from isthmus.registry.model import Endpoint, Refusal

GOLDEN = Path(__file__).parent.parent / "golden" / "eureka"
RULES = EurekaRules(region="eu", labels={"version": "version", "istio.rev": "rev"})


def answer(*instances: Any, name: str = "SHOP", **more: Any) -> bytes:
    applications = {
        "versions__delta": "1",
        "apps__hashcode": "",
        "application": [{"name": name, "instance": instances}],
    }
    return json.dumps({"applications": {**applications, **more}}).encode()


def instance(**fields: Any) -> dict[str, Any]:
    """Return an instance as Spring Cloud registers it, but for these fields; None: left out."""
    whole = {
        "instanceId": "shop:1",
        "hostName": "shop-1",
        "app": "SHOP",
        "ipAddr": "10.20.0.1",
        "status": "UP",
        "overriddenStatus": "UNKNOWN",
        "port": {"$": 8080, "@enabled": "true"},
        "securePort": {"$": 8443, "@enabled": "false"},
        "vipAddress": "shop",
        "metadata": {"zone": "z1"},
        "lastUpdatedTimestamp": "1795257287013",
        "lastDirtyTimestamp": "1795257287009",
        **fields,
    }
    return {name: value for name, value in whole.items() if value is not None}


def read(body: bytes, rules: EurekaRules = RULES) -> list[Reading]:
    document = open_json(body)
    assert document is not None
    return [read_application(one, rules) for one in document.applications]


def member(rules: EurekaRules = RULES, **fields: Any) -> Member:
    (reading,) = read(answer(instance(**fields)), rules)
    assert not reading.refused
    return reading.members[0]


def endpoint(rules: EurekaRules = RULES, **fields: Any) -> Endpoint:
    ((_, placed),) = member(rules, **fields).placed
    assert isinstance(placed, Endpoint), placed
    return placed


def refusal(rules: EurekaRules = RULES, **fields: Any) -> Refusal:
    read = member(rules, **fields)
    ((_, placed),) = read.placed
    assert isinstance(placed, Refusal), placed
    return placed


def golden(name: str) -> list[Reading]:
    return read((GOLDEN / f"{name}.json").read_bytes())
