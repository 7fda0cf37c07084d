"""What tests of etcd's records share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus.adapters.etcd.options import EtcdOptions, EtcdPrefix
from isthmus.adapters.etcd.records import format_of
from isthmus.registry.errors import RecordError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from isthmus.adapters.etcd.records import Item
    from isthmus.registry.model import Service

GOLDEN = Path(__file__).parent.parent / "golden"
PREFIXES = {
    "dubbo": "/dubbo/",
    "dubbo-applications": "/services/",
    "grpc": "grpc/",
    "kitex": "kitex/registry-etcd/",
    "kratos": "/microservices/",
    "go-micro": "/micro/registry/",
    "go-zero": "",
    "json": "/services/",
}


def source(**options: Any) -> EtcdOptions:
    return EtcdOptions(address="http://127.0.0.1:2379", namespace="legacy", **options)


def read(
    rules: EtcdPrefix | str,
    records: Iterable[tuple[str, object]],
    prefix: str | None = None,
    options: EtcdOptions | None = None,
) -> dict[str, Service]:
    """Return the services of some records, by their keys; a value that is no bytes is written as JSON."""
    rules = EtcdPrefix(rules) if isinstance(rules, str) else rules
    prefix = PREFIXES[rules.format] if prefix is None else prefix
    form = format_of(prefix, rules, options or source(labels={"version": "version"}))
    places: dict[str, dict[str, Item]] = {}
    for key, value in records:
        assert key.startswith(prefix)
        for one in form.read(key[len(prefix) :], value if isinstance(value, bytes) else json.dumps(value).encode()):
            members = places.setdefault(one.place, {})
            assert key not in members, "one place twice in one record"
            members[key] = one.item
    services = [form.service(place, items) for place, items in places.items()]
    assert len({service.key for service in services}) == len(services)
    return {service.key: service for service in services}


def only(services: dict[str, Service]) -> Service:
    """Return the one service there is, of which nothing is refused."""
    (service,) = services.values()
    assert service.refused == ()
    return service


def places(service: Service) -> list[tuple[str, int]]:
    return [(one.workload.address, one.workload.ports[0][1]) for one in service.endpoints]


def real_records(library: str) -> list[tuple[str, bytes]]:
    """Return what a real library wrote, as key and value."""
    lines = map(json.loads, (GOLDEN / "etcd" / "records.jsonl").read_text().splitlines())
    return [(line["key"], line["value"].encode()) for line in lines if line["library"].startswith(library)]


def refused(rules: EtcdPrefix | str, key: str, value: object) -> tuple[str, str]:
    """Return why a record is refused, whether it belongs to a service or to none."""
    prefix = PREFIXES[rules.format if isinstance(rules, EtcdPrefix) else rules]
    try:
        (service,) = read(rules, [(prefix + key, value)]).values()
    except RecordError as error:
        return error.code, error.reason
    (refusal,) = service.refused
    assert service.endpoints == ()
    return refusal.code, refusal.reason
