"""Frames put together by hand are the bytes that protobuf's own classes write."""

from __future__ import annotations

from google.protobuf.any_pb2 import Any
from hypothesis import given
from hypothesis import strategies as st

from isthmus.mcp import frames
from isthmus.mcp.session import CONTROL_PLANE
from isthmus.protos import xds_pb2

# Any text that protobuf takes, with lengths on both sides of where the length itself needs another byte.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
ANYS = st.builds(Any, type_url=TEXTS, value=st.binary(max_size=300))
LONG = "x" * 20_000
OURS = xds_pb2.ControlPlane(identifier="isthmus")


def raw(message: Any) -> bytes:
    return frames.any_message(message.type_url, message.value)


@given(ANYS)
def test_an_any_is_protobufs(message: Any) -> None:
    assert raw(message) == message.SerializeToString()


def test_the_control_plane_is_protobufs() -> None:
    assert OURS.SerializeToString() == CONTROL_PLANE


@given(TEXTS, TEXTS, TEXTS, st.lists(ANYS, max_size=4))
def test_a_response_is_protobufs(type_url: str, version: str, nonce: str, resources: list[Any]) -> None:
    expected = xds_pb2.DiscoveryResponse(
        version_info=version, resources=resources, type_url=type_url, nonce=nonce, control_plane=OURS
    )
    body = b"".join(frames.field(2, raw(resource)) for resource in resources)
    assert frames.sotw_response(type_url, version, nonce, body, CONTROL_PLANE) == expected.SerializeToString()


@given(TEXTS, TEXTS, TEXTS, st.lists(st.tuples(TEXTS, TEXTS, ANYS), max_size=4), st.lists(TEXTS, max_size=4))
def test_a_delta_response_is_protobufs(
    type_url: str, version: str, nonce: str, resources: list[tuple[str, str, Any]], removed: list[str]
) -> None:
    expected = xds_pb2.DeltaDiscoveryResponse(
        system_version_info=version,
        resources=[xds_pb2.Resource(name=name, version=own, resource=body) for name, own, body in resources],
        type_url=type_url,
        nonce=nonce,
        removed_resources=removed,
        control_plane=OURS,
    )
    bodies = [frames.delta_resource(name, own, raw(body)) for name, own, body in resources]
    written = frames.delta_response(type_url, version, nonce, b"".join(bodies), removed, CONTROL_PLANE)
    assert written == expected.SerializeToString()


def test_lengths_of_three_bytes() -> None:
    expected = xds_pb2.DiscoveryResponse(type_url=LONG, resources=[Any(value=LONG.encode())], control_plane=OURS)
    body = frames.field(2, raw(Any(value=LONG.encode())))
    assert frames.sotw_response(LONG, "", "", body, CONTROL_PLANE) == expected.SerializeToString()


@given(st.integers(0, 2**64 - 1))
def test_a_varint_has_seven_bits_a_byte(value: int) -> None:
    encoded = frames.varint(value)
    assert sum((byte & 0x7F) << 7 * place for place, byte in enumerate(encoded)) == value
    assert [byte >> 7 for byte in encoded] == [1] * (len(encoded) - 1) + [0]
    assert len(encoded) == max(1, -(-value.bit_length() // 7))
