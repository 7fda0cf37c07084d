"""Short ways to say a service in a test."""

from __future__ import annotations

from isthmus.registry.model import Endpoint, Port, Service, WorkloadEntry

HTTP = (Port(8080, "http", "HTTP"),)


def endpoint(address: str, port: int = 8080, **fields: object) -> Endpoint:
    """Return an endpoint that serves `http` at a port."""
    workload = WorkloadEntry(address, (("http", port),), **fields)  # type: ignore[arg-type]
    return Endpoint(workload, f"record of {address}:{port}")


def service(host: str, *endpoints: Endpoint, key: str = "", identity: str = "", **fields: object) -> Service:
    """Return a service in the namespace `legacy`; its key and identity are its host unless given."""
    return Service(
        key=key or host,
        identity=identity or host,
        namespace="legacy",
        host=host,
        ports=fields.pop("ports", HTTP),  # type: ignore[arg-type]
        endpoints=endpoints,
        **fields,  # type: ignore[arg-type]
    )
