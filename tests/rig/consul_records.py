"""What is written into a Consul, in its own words, and the examples that `Consul.fill` writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

Status = Literal["passing", "warning", "critical"]


class Instance(NamedTuple):
    """What is registered. An id is the key within a node; an empty address means the node's.

    status: of its one check, which is named `service:ID`; None: without a check.
    weights: what it counts while passing, and while warning.
    tagged: name -> (address, port), such as that of `lan`.
    more: further fields, by Consul's names.
    """

    service: str
    id: str
    address: str = "10.20.0.1"
    port: int = 8080
    tags: Sequence[str] = ()
    meta: Mapping[str, str] = {}
    status: Status | None = "passing"
    weights: tuple[int, int] | None = None
    tagged: Mapping[str, tuple[str, int]] = {}
    more: Mapping[str, Any] = {}

    def record(self) -> dict[str, Any]:
        """Return what an agent and the catalog both take."""
        weights = {"Weights": dict(zip(("Passing", "Warning"), self.weights, strict=True))} if self.weights else {}
        return {
            "ID": self.id,
            "Address": self.address,
            "Port": self.port,
            "Tags": list(self.tags),
            "Meta": dict(self.meta),
            "TaggedAddresses": {name: {"Address": ip, "Port": port} for name, (ip, port) in self.tagged.items()},
            **weights,
            **self.more,
        }

    def check_id(self) -> str:
        """Return the id of the check, as an agent makes it up."""
        return f"service:{self.id}"

    def check(self, node: str) -> dict[str, Any]:
        """Return the check as the catalog takes it."""
        return {
            "Node": node,
            "CheckID": self.check_id(),
            "Name": f"Service '{self.service}' check",
            "Status": self.status,
            "ServiceID": self.id,
        }


def service_name(index: int) -> str:
    """Return the name of one of the services of `Consul.fill`."""
    return f"example-{index:05d}-service"


def node_name(index: int) -> str:
    """Return the name of one of the nodes of `Consul.fill`."""
    return f"example-node-{index:05d}"


def example_node(index: int) -> dict[str, Any]:
    """Return one of the nodes of `Consul.fill`, as a transaction sets it."""
    return {"Node": node_name(index), "Address": f"10.48.{index >> 8}.{index & 255}"}


def example(number: int, instances: int) -> Instance:
    """Return one of the instances of `Consul.fill`, of which a service has `instances`."""
    name = service_name(number // instances)
    address = f"10.{64 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"
    return Instance(name, f"{name}-{number}", address=address, tags=("zone=z1",), meta={"version": "v1"})


def operations(instances: Iterable[Instance], nodes: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Return what sets the instances with their checks in transactions, one node after the other."""
    for number, instance in enumerate(instances):
        node = nodes[number % len(nodes)]
        record = {"Service": instance.service, **instance.record()}
        yield {"Service": {"Verb": "set", "Node": node, "Service": record}}
        yield {"Check": {"Verb": "set", "Check": instance.check(node)}}
