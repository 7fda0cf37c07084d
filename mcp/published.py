"""Our messages under the names that the protocols publish, for those who ask a server what it speaks.

In the process they have names of our own (docs/decisions/0003-protos.md). A client that describes or calls a service by
reflection, as grpcurl does, needs those of the wire; they live in a pool of their own, where they clash with nobody's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool

from isthmus.protos import mcp_pb2, networking_pb2, xds_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.descriptor import FileDescriptor

ADS = "envoy.service.discovery.v3.AggregatedDiscoveryService"

_DISCOVERY = "envoy.service.discovery.v3"
_CORE = "envoy.config.core.v3"
# Our package -> that of the wire, and the messages that are of another one there.
_PACKAGES = {
    "isthmus.xds": _DISCOVERY,
    "isthmus.mcp": "istio.mcp.v1alpha1",
    "isthmus.networking": "istio.networking.v1alpha3",
}
_ELSEWHERE = {
    "isthmus.xds.Node": _CORE,
    "isthmus.xds.ControlPlane": _CORE,
    "isthmus.xds.Status": "google.rpc",
}
_METHODS = {
    "StreamAggregatedResources": ("DiscoveryRequest", "DiscoveryResponse"),
    "DeltaAggregatedResources": ("DeltaDiscoveryRequest", "DeltaDiscoveryResponse"),
}


def published_pool(others: Iterable[FileDescriptor]) -> DescriptorPool:
    """Return a pool with the discovery service, its messages and the resources in them, and what `others` hold."""
    pool = _Pool()
    for module in (xds_pb2, mcp_pb2, networking_pb2):
        pool.publish(module.DESCRIPTOR)
    for other in others:
        pool.copy(other)
    return pool.pool


class _Pool:
    def __init__(self) -> None:
        self.pool = DescriptorPool()
        self._copied: set[str] = set()

    def copy(self, file: FileDescriptor) -> None:
        """Take a file as it is, after those that it needs."""
        if file.name in self._copied:
            return
        self._copied.add(file.name)
        for needed in file.dependencies:
            self.copy(needed)
        self.pool.AddSerializedFile(file.serialized_pb)

    def publish(self, file: FileDescriptor) -> None:
        """Take a file of ours as one file for each package of the wire; none of ours needs another of ours."""
        for needed in file.dependencies:
            self.copy(needed)
        known = [needed.name for needed in file.dependencies]
        parts = _parts(file)
        # What discovery is made of comes before it.
        for package in sorted(parts, key=lambda name: name == _PACKAGES[file.package]):
            part = parts[package]
            part.dependency.extend(known)
            known.append(part.name)
            self.pool.AddSerializedFile(part.SerializeToString())


def _parts(file: FileDescriptor) -> dict[str, FileDescriptorProto]:
    whole = FileDescriptorProto.FromString(file.serialized_pb)
    parts: dict[str, FileDescriptorProto] = {}
    for message in whole.message_type:
        package = _package(f"{whole.package}.{message.name}")
        if package not in parts:
            path = f"{package.replace('.', '/')}/isthmus.proto"
            parts[package] = FileDescriptorProto(name=path, package=package, syntax=whole.syntax)
        _rename(message)
        parts[package].message_type.append(message)
    if _DISCOVERY in parts:
        _add_service(parts[_DISCOVERY])
    return parts


def _package(name: str) -> str:
    """Return the package on the wire of a message, or of what is within one; of ours by its full name."""
    ours = name.split(".")
    return _ELSEWHERE.get(".".join(ours[:3])) or _PACKAGES[".".join(ours[:2])]


def _rename(message: DescriptorProto) -> None:
    for field in message.field:
        if field.type_name.startswith(".isthmus."):
            name = field.type_name.removeprefix(".")
            field.type_name = f".{_package(name)}.{name.split('.', 2)[2]}"
    for nested in message.nested_type:
        _rename(nested)


def _add_service(file: FileDescriptorProto) -> None:
    service = file.service.add(name=ADS.removeprefix(f"{_DISCOVERY}."))
    for name, (request, response) in _METHODS.items():
        service.method.add(
            name=name,
            input_type=f".{_DISCOVERY}.{request}",
            output_type=f".{_DISCOVERY}.{response}",
            client_streaming=True,
            server_streaming=True,
        )
