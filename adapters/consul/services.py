"""From the instances of a name to its service in the mesh (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from isthmus.adapters.applications import application_host, application_identity, port_of
from isthmus.adapters.consul.health import Tally
from isthmus.adapters.consul.records import Instance, bounded
from isthmus.adapters.weights import USUAL_WEIGHT, scale_weights
from isthmus.registry import codes
from isthmus.registry.model import Endpoint, Refusal, Service, WorkloadEntry

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from isthmus.adapters.consul.records import ConsulRules
    from isthmus.adapters.consul.wire import Key


def is_healthy(instance: Instance, rules: ConsulRules) -> bool:
    """Tell whether the source's policy takes an instance in this status."""
    return instance.status in rules.healthy


def is_taken(key: Key, instance: Instance, newcomers: Collection[Key], rules: ConsulRules, *, panics: bool) -> bool:
    """Tell whether an instance is an endpoint.

    newcomers: who has not been healthy since it came. panics: whether all are kept but those and the ones in
    maintenance (CO10).
    """
    if instance.fault is not None:
        return False
    return is_healthy(instance, rules) or (panics and not instance.in_maintenance and key not in newcomers)


def tally_of(instances: Mapping[Key, Instance], newcomers: Collection[Key], rules: ConsulRules) -> Tally:
    """Count the instances of a service of which health says something (health.py)."""
    counted = [one for key, one in instances.items() if not one.in_maintenance and key not in newcomers]
    return Tally(len(counted), sum(is_healthy(one, rules) for one in counted))


def service_of(
    name: str,
    instances: Mapping[Key, Instance],
    refused: tuple[Refusal, ...],
    newcomers: Collection[Key],
    rules: ConsulRules,
    *,
    panics: bool,
) -> Service:
    """Return the service of a name.

    instances: in the order of their endpoints. refused: entries that are no instances. newcomers, panics: as for
    `is_taken`.
    """
    taken: list[Instance] = []
    left_out = list(refused)
    for key, one in instances.items():
        if is_taken(key, one, newcomers, rules, panics=panics):
            taken.append(one)
        else:
            left_out.append(one.fault or _unhealthy(one))
    identity = application_identity(name)
    port = port_of(rules.port_of(name))
    weights = scale_weights([float(one.weight) for one in taken])
    return Service(
        key=identity,
        identity=identity,
        namespace=rules.namespace,
        host=application_host(name, rules.suffix),
        ports=(port,),
        endpoints=tuple(
            Endpoint(WorkloadEntry(one.address, ((port.name, one.port),), one.labels, weight, one.locality), one.record)
            for one, weight in zip(taken, weights, strict=True)
        ),
        refused=bounded(left_out),
        usual_weight=USUAL_WEIGHT,
    )


def _unhealthy(instance: Instance) -> Refusal:
    if instance.in_maintenance:
        return Refusal(codes.UNHEALTHY, "it is in maintenance mode", instance.record)
    return Refusal(codes.UNHEALTHY, f"its checks are {instance.status}", instance.record)
