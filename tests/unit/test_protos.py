"""Our messages: generated from what is committed, with the numbers that the protocols publish, under our own names."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from isthmus.protos import generate, mcp_pb2, nacos_pb2, networking_pb2, status_pb2, xds_pb2

ROOT = Path(__file__).parent.parent.parent
MODULES = (mcp_pb2, nacos_pb2, networking_pb2, xds_pb2, status_pb2)

# Number and type of every field as Envoy (envoy.service.discovery.v3, envoy.service.status.v3, envoy.config.core.v3,
# envoy.admin.v3, google.rpc) and Istio (istio.mcp.v1alpha1, istio.networking.v1alpha3) publish them, and as Nacos does
# without a package; `[]` is repeated.
PUBLISHED = {
    "isthmus.nacos.Metadata": {
        "type": (3, "string"),
        "headers": (7, "map<string, string>"),
        "client_ip": (8, "string"),
    },
    "isthmus.nacos.Payload": {"metadata": (2, "isthmus.nacos.Metadata"), "body": (3, "google.protobuf.Any")},
    "isthmus.xds.Node": {"id": (1, "string"), "cluster": (2, "string"), "metadata": (3, "google.protobuf.Struct")},
    "isthmus.xds.Status": {"code": (1, "int32"), "message": (2, "string")},
    "isthmus.xds.ControlPlane": {"identifier": (1, "string")},
    "isthmus.xds.DiscoveryRequest": {
        "version_info": (1, "string"),
        "node": (2, "isthmus.xds.Node"),
        "resource_names": (3, "string[]"),
        "type_url": (4, "string"),
        "response_nonce": (5, "string"),
        "error_detail": (6, "isthmus.xds.Status"),
    },
    "isthmus.xds.DiscoveryResponse": {
        "version_info": (1, "string"),
        "resources": (2, "google.protobuf.Any[]"),
        "type_url": (4, "string"),
        "nonce": (5, "string"),
        "control_plane": (6, "isthmus.xds.ControlPlane"),
    },
    "isthmus.xds.DeltaDiscoveryRequest": {
        "node": (1, "isthmus.xds.Node"),
        "type_url": (2, "string"),
        "resource_names_subscribe": (3, "string[]"),
        "resource_names_unsubscribe": (4, "string[]"),
        "initial_resource_versions": (5, "map<string, string>"),
        "response_nonce": (6, "string"),
        "error_detail": (7, "isthmus.xds.Status"),
    },
    "isthmus.xds.DeltaDiscoveryResponse": {
        "system_version_info": (1, "string"),
        "resources": (2, "isthmus.xds.Resource[]"),
        "type_url": (4, "string"),
        "nonce": (5, "string"),
        "removed_resources": (6, "string[]"),
        "control_plane": (7, "isthmus.xds.ControlPlane"),
    },
    "isthmus.xds.Resource": {
        "version": (1, "string"),
        "resource": (2, "google.protobuf.Any"),
        "name": (3, "string"),
    },
    "isthmus.status.ClientConfig": {
        "node": (1, "isthmus.xds.Node"),
        "generic_xds_configs": (3, "isthmus.status.GenericXdsConfig[]"),
    },
    "isthmus.status.GenericXdsConfig": {
        "type_url": (1, "string"),
        "last_updated": (5, "google.protobuf.Timestamp"),
        "config_status": (6, "isthmus.status.ConfigStatus"),
        "error_state": (8, "isthmus.status.UpdateFailureState"),
    },
    "isthmus.status.UpdateFailureState": {
        "last_update_attempt": (2, "google.protobuf.Timestamp"),
        "details": (3, "string"),
    },
    "isthmus.mcp.Metadata": {
        "name": (1, "string"),
        "create_time": (2, "google.protobuf.Timestamp"),
        "version": (3, "string"),
        "labels": (4, "map<string, string>"),
        "annotations": (5, "map<string, string>"),
    },
    "isthmus.mcp.Resource": {"metadata": (1, "isthmus.mcp.Metadata"), "body": (2, "google.protobuf.Any")},
    "isthmus.networking.ServiceEntry": {
        "hosts": (1, "string[]"),
        "addresses": (2, "string[]"),
        "ports": (3, "isthmus.networking.ServicePort[]"),
        "location": (4, "isthmus.networking.ServiceEntry.Location"),
        "resolution": (5, "isthmus.networking.ServiceEntry.Resolution"),
        "endpoints": (6, "isthmus.networking.WorkloadEntry[]"),
        "export_to": (7, "string[]"),
        "subject_alt_names": (8, "string[]"),
        "workload_selector": (9, "isthmus.networking.WorkloadSelector"),
    },
    "isthmus.networking.ServicePort": {
        "number": (1, "uint32"),
        "protocol": (2, "string"),
        "name": (3, "string"),
        "target_port": (4, "uint32"),
    },
    "isthmus.networking.WorkloadSelector": {"labels": (1, "map<string, string>")},
    "isthmus.networking.WorkloadEntry": {
        "address": (1, "string"),
        "ports": (2, "map<string, uint32>"),
        "labels": (3, "map<string, string>"),
        "network": (4, "string"),
        "locality": (5, "string"),
        "weight": (6, "uint32"),
        "service_account": (7, "string"),
    },
}
ENUMS = {
    "isthmus.networking.ServiceEntry.Location": {"MESH_EXTERNAL": 0, "MESH_INTERNAL": 1},
    "isthmus.networking.ServiceEntry.Resolution": {
        "NONE": 0,
        "STATIC": 1,
        "DNS": 2,
        "DNS_ROUND_ROBIN": 3,
        "DYNAMIC_DNS": 4,
    },
    "isthmus.status.ConfigStatus": {"UNKNOWN": 0, "SYNCED": 1, "NOT_SENT": 2, "STALE": 3, "ERROR": 4},
}
SCALARS = {
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_UINT32: "uint32",
}


def type_of(field: FieldDescriptor) -> str:
    if field.message_type is None:
        single = field.enum_type.full_name if field.enum_type else SCALARS[field.type]
    elif field.message_type.GetOptions().map_entry:
        entry = field.message_type.fields_by_name
        return f"map<{type_of(entry['key'])}, {type_of(entry['value'])}>"
    else:
        single = field.message_type.full_name
    return f"{single}[]" if field.is_repeated else single


def fields_of(message: Descriptor) -> dict[str, tuple[int, str]]:
    return {field.name: (field.number, type_of(field)) for field in message.fields}


def test_the_generated_modules_are_those_committed(tmp_path: Path) -> None:
    generate.generate(ROOT, tmp_path)
    written = {path.name: path for path in (tmp_path / "isthmus" / "protos").iterdir()}
    committed = {path.name: path for path in (ROOT / "protos").glob("*_pb2.py*")}
    assert set(written) == set(committed) != set()
    for name, path in written.items():
        assert path.read_bytes() == committed[name].read_bytes(), f"{name}: run python -m isthmus.protos.generate"


def test_a_faulty_file_is_an_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    protos = tmp_path / "isthmus" / "protos"
    protos.mkdir(parents=True)
    for name in generate.NAMES:
        (protos / f"{name}.proto").write_text("syntax = 'proto3'; message {")
    with pytest.raises(RuntimeError):
        generate.generate(tmp_path, tmp_path)
    assert "etcd.proto" in capfd.readouterr().err


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_fields_are_those_published(name: str) -> None:
    assert fields_of(descriptor_pool.Default().FindMessageTypeByName(name)) == PUBLISHED[name]


def test_no_message_is_left_out_of_the_table() -> None:
    ours = {message.full_name for module in MODULES for message in module.DESCRIPTOR.message_types_by_name.values()}
    assert ours == set(PUBLISHED)


@pytest.mark.parametrize("name", ENUMS)
def test_the_enums_are_those_published(name: str) -> None:
    enum = descriptor_pool.Default().FindEnumTypeByName(name)
    assert {value.name: value.number for value in enum.values} == ENUMS[name]


@pytest.mark.parametrize("file", [module.DESCRIPTOR for module in MODULES], ids=lambda file: str(file.name))
def test_the_pool_knows_our_messages_by_our_names(file: FileDescriptor) -> None:
    assert file.name.startswith("isthmus/protos/")
    assert file.package.startswith("isthmus.")
    assert descriptor_pool.Default().FindFileByName(file.name) is file


PUBLISHERS = {
    "envoy/service/discovery/v3/discovery.proto": ("envoy.service.discovery.v3", "DiscoveryRequest"),
    "mcp/v1alpha1/resource.proto": ("istio.mcp.v1alpha1", "Resource"),
    "networking/v1alpha3/service_entry.proto": ("istio.networking.v1alpha3", "ServiceEntry"),
    # Files as others would name them who, like us, write their own.
    "mcp.proto": ("mcp", "Resource"),
    "xds.proto": ("xds", "DiscoveryRequest"),
}


@pytest.mark.parametrize("path", PUBLISHERS)
def test_the_publishers_own_messages_may_stand_beside_ours(path: str) -> None:
    package, name = PUBLISHERS[path]
    file = FileDescriptorProto(name=path, package=package, syntax="proto3")
    file.message_type.add(name=name)
    pool = descriptor_pool.DescriptorPool()
    for module in MODULES:
        for needed in module.DESCRIPTOR.dependencies:
            pool.AddSerializedFile(needed.serialized_pb)
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    assert pool.FindMessageTypeByName(f"{package}.{name}").file.name == path
