"""Envoy's own clusters and endpoints, encoded by hand: to the server they are names, versions and bytes."""

from __future__ import annotations

from isthmus.mcp.encode import Frame, content_version
from isthmus.mcp.frames import any_message, field, text, varint
from isthmus.mcp.resources import ResourceSet

CLUSTERS = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
ENDPOINTS = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"


def envoy_sets() -> dict[str, ResourceSet]:
    """Make the sets of both types: of clusters a response must hold all, of endpoints it need not."""
    return {CLUSTERS: ResourceSet(), ENDPOINTS: ResourceSet(full_state=False)}


def cluster(name: str, connect_timeout_s: int = 1) -> Frame:
    """Make a cluster whose endpoints come by ADS."""
    ads = _number(6, 2) + field(3, b"")
    body = text(1, name) + _number(2, 3) + field(3, field(1, ads)) + field(4, _number(1, connect_timeout_s))
    return _frame(CLUSTERS, name, body)


def endpoints(name: str, *addresses: str, port: int = 80) -> Frame:
    """Make the endpoints of a cluster, one at each address."""
    lb_endpoints = b"".join(field(2, field(1, field(1, field(1, _socket_address(one, port))))) for one in addresses)
    return _frame(ENDPOINTS, name, text(1, name) + field(2, lb_endpoints))


def _frame(type_url: str, name: str, body: bytes) -> Frame:
    any_bytes = any_message(type_url, body)
    sotw = field(2, any_bytes)
    return Frame(name, content_version(body), sotw, len(sotw) - len(any_bytes))


def _socket_address(address: str, port: int) -> bytes:
    return text(2, address) + _number(3, port)


def _number(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)
