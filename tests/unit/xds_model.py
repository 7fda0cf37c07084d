"""Small resources, decoded responses and a clock, for the tests of the xDS layer that need no server."""

from __future__ import annotations

from functools import cache

from msgspec import Struct

from isthmus.mcp.encode import Frame, encode_resource
from isthmus.mcp.frames import any_message
from isthmus.mcp.limits import Limits
from isthmus.protos import mcp_pb2, xds_pb2

TYPE = "networking.istio.io/v1/ServiceEntry"
NODE = xds_pb2.Node(id="sidecar~10.0.0.1~istiod.istio-system~istio-system.svc.cluster.local")
LIMITS = Limits(ack=30.0)
GAP = 0.25
# More than any rest, and than the time after which an acknowledgement is given up.
LONG = 1_000.0


@cache
def frame(name: str, content: int) -> Frame:
    """Return a resource whose version follows from its name and content."""
    return encode_resource(mcp_pb2.Metadata(name=name), any_message("type.googleapis.com/test", str(content).encode()))


class Listed(Struct, frozen=True):
    """What a response of either form lists."""

    nonce: str
    resources: list[tuple[str, str]]
    removed: list[str]


def listed(data: bytes, *, delta: bool) -> Listed:
    """Decode a response."""
    if delta:
        response = xds_pb2.DeltaDiscoveryResponse.FromString(data)
        return Listed(
            response.nonce,
            [(one.name, one.version) for one in response.resources],
            list(response.removed_resources),
        )
    answer = xds_pb2.DiscoveryResponse.FromString(data)
    metadata = [mcp_pb2.Resource.FromString(one.value).metadata for one in answer.resources]
    return Listed(answer.nonce, [(one.name, one.version) for one in metadata], [])
