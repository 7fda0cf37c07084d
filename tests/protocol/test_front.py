"""Several shards behind one port: over real gRPC, with servers whose answers hold the name of their shard."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
import grpc.aio
import pytest
from hpack import Encoder
from hypothesis import given
from hypothesis import strategies as st

from isthmus.mcp.authority import HEADERS_BYTES, PREFACE, Walker, shard_of
from isthmus.mcp.front import _file_name, _peer, check_room, front, peer_behind
from isthmus.mcp.limits import Limits
from isthmus.protos import xds_pb2
from isthmus.registry.errors import ConfigError, ProtocolError
from tests.protocol import http2
from tests.protocol.http2 import ACK, DATA, END_HEADERS, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS
from tests.protocol.stream import ANSWER_WITHIN_S, OPTIONS, SERVICE, SOTW
from tests.rig.adsprobe import AdsProbe
from tests.rig.certificates import Certificates
from tests.rig.tunnels import tunnels_to
from tests.rig.wait import wait_for_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.conftest import Parts

SHARDS = 2
FIRST, SECOND = "isthmus-shard-0-of-2.registry", "isthmus-shard-1-of-2.registry"
NO_SHARD = "this port has 2 shards; call it by a name such as shard-0-of-2"
NONCE = "an answer"
BIG = "big"
BIG_BYTES = 17_000_000
CONTINUATION, PADDED, PRIORITY, END_STREAM = 9, 0x8, 0x20, 0x1
PIECE = b"x" * 65_536
# While there is room, the next piece is written within a moment.
RESTS_AFTER_S = 0.5
Call: TypeAlias = "grpc.aio.StreamStreamCall[bytes, bytes]"


@pytest.mark.parametrize(
    ("authority", "shard"),
    [
        ("shard-0-of-4", 0),
        ("shard-3-of-4.localhost:15010", 3),
        ("isthmus-shard-2-of-4.istio-system.svc", 2),
        ("Isthmus-SHARD-1-OF-4.Istio-System:15010", 1),
        ("shard-1-of-4.shard-2-of-4", 1),
        ("shard-4-of-4", None),
        ("shard-1-of-8", None),
        ("shard-1-of-44444444444444", None),
        ("myshard-1-of-4", None),
        ("shard-1-of-4-b", None),
        ("registry.shard-1-of-4", None),
        ("shard-\u0661-of-4", None),
        ("127.0.0.1:15010", None),
        ("[::1]:15010", None),
        ("", None),
    ],
)
def test_the_shard_that_an_authority_names(authority: str, shard: int | None) -> None:
    assert shard_of(authority, 4) == shard


@pytest.mark.parametrize(
    ("address", "peer"),
    [
        (("10.0.0.1", 4711), "ipv4:10.0.0.1:4711"),
        (("::ffff:10.0.0.1", 4711, 0, 0), "ipv4:10.0.0.1:4711"),
        (("fe80::1%eth0", 4711, 0, 2), "ipv6:[fe80::1]:4711"),
    ],
)
def test_a_peer_is_named_as_gRPC_does(address: tuple[Any, ...], peer: str) -> None:
    assert _peer(address) == peer
    assert peer_behind(f"unix:/tmp/private/{_file_name(peer)}") == peer
    assert peer_behind(peer) == peer


LONGEST_PEER = f"ipv6:[{':'.join(['ffff'] * 8)}]:65535"
# What a unix socket takes.
MOST_BYTES = 107


def test_a_directory_has_room_for_every_peer_or_is_refused() -> None:
    longest = "/" + "d" * (MOST_BYTES - 2 - len(_file_name(LONGEST_PEER)))
    with socket.socket(socket.AF_UNIX) as one, pytest.raises(FileNotFoundError):
        one.bind(f"{longest}/{_file_name(LONGEST_PEER)}")
    check_room(longest)
    with pytest.raises(ConfigError, match="set TMPDIR to one that is shorter by 3 bytes"):
        check_room(f"{longest}ddd")
    check_room(f"{'/' * 50}/isthmus-12345678")


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    """Encode one frame."""
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def request(encoder: Encoder, authority: str) -> bytes:
    """Encode the headers of a request, as the next ones of a connection."""
    fields: dict[bytes | str, bytes | str] = {
        ":method": "POST",
        ":scheme": "http",
        ":path": f"/{SERVICE}/{SOTW}",
        ":authority": authority,
        "content-type": "application/grpc",
        "te": "trailers",
    }
    return bytes(encoder.encode(fields))


@st.composite
def conversations(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Draw what a client sends on a connection to the second shard, and what of it the shard may have."""
    encoder = Encoder()
    sent = [PREFACE, frame(SETTINGS, payload=b"\0\2\0\0\0\0")]
    others = st.sampled_from([frame(PING, payload=b"12345678"), frame(8, payload=b"\0\0\1\0"), frame(99, 255, 7, b"?")])
    sent += draw(st.lists(others, max_size=3))
    for stream in range(1, 2 * draw(st.integers(1, 3)), 2):
        sent += request_frames(draw, request(encoder, SECOND), stream)
        sent.append(frame(DATA, END_STREAM, stream, draw(st.binary(max_size=40))))
    sent += request_frames(draw, bytes(encoder.encode([("trailer", "1")])), 1)
    passed = list(sent)
    acknowledgement = frame(SETTINGS, ACK)
    # Before the first request, or long after it.
    sent.insert(draw(st.sampled_from([2, len(sent)])), acknowledgement)
    sent.append(acknowledgement)
    passed.append(acknowledgement)
    return b"".join(sent), b"".join(passed)


def request_frames(draw: st.DrawFn, block: bytes, stream: int) -> Iterator[bytes]:
    """Cut a request's headers into frames, with padding and priority as is drawn."""
    cuts = sorted(draw(st.lists(st.integers(0, len(block)), max_size=3)))
    parts = [block[start:end] for start, end in zip([0, *cuts], [*cuts, len(block)], strict=True)]
    padding, priority = draw(st.none() | st.integers(0, 9)), draw(st.booleans())
    prefix = bytes([padding]) if padding is not None else b""
    payload = prefix + (b"\0\0\0\0\7" if priority else b"") + parts[0] + bytes(padding or 0)
    flags = (PADDED if padding is not None else 0) | (PRIORITY if priority else 0)
    yield frame(HEADERS, flags | (END_HEADERS if len(parts) == 1 else 0), stream, payload)
    for number, part in enumerate(parts[1:], 2):
        yield frame(CONTINUATION, END_HEADERS if number == len(parts) else 0, stream, part)


@given(conversations(), st.lists(st.integers(0, 600), max_size=12))
def test_the_pieces_that_bytes_come_in_change_nothing(conversation: tuple[bytes, bytes], cuts: list[int]) -> None:
    sent, expected = conversation
    walker = Walker(lambda authority: authority)
    edges = [0, *sorted(cut for cut in cuts if cut < len(sent)), len(sent)]
    passed = b"".join(walker.feed(sent[start:end]) for start, end in pairwise(edges))
    assert passed == expected
    assert walker.chosen == SECOND


@given(st.binary(max_size=200), st.integers(0, 12), st.integers(0, 255), st.integers(0, 3))
def test_garbage_is_passed_on_or_refused_and_nothing_else(data: bytes, kind: int, flags: int, stream: int) -> None:
    walker = Walker(lambda authority: authority)
    try:
        assert walker.feed(PREFACE + frame(kind, flags, stream, data) + data)
    except ProtocolError:
        assert walker.greeted


@pytest.mark.parametrize(
    "frames",
    [
        [frame(HEADERS, 0, 1, b"\x82"), frame(PING, payload=bytes(8))],
        [frame(HEADERS, 0, 1, b"\x82"), frame(CONTINUATION, END_HEADERS, 3)],
        [frame(CONTINUATION, END_HEADERS, 0)],
        [frame(HEADERS, END_HEADERS | PADDED, 1)],
        [frame(HEADERS, END_HEADERS | PADDED, 1, b"\2\0")],
        [frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff")],
        [frame(HEADERS, 0, 1, bytes(HEADERS_BYTES)), frame(CONTINUATION, END_HEADERS, 1, b"\0")],
    ],
)
def test_headers_that_cannot_be_are_refused(frames: list[bytes]) -> None:
    walker = Walker(lambda authority: authority)
    walker.feed(b"".join([PREFACE, *frames[:-1]]))
    with pytest.raises(ProtocolError):
        walker.feed(frames[-1])


class Shards:
    """Two servers that say who they are in the version of each answer, one that refuses, and the front before them.

    seen: the peers of the streams that came, as gRPC named them. gone: those whose stream has ended.
    refused: what the front said of connections that it turned away, as pairs of a status and a reason.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = 0
        self.servers: dict[str, grpc.aio.Server] = {}
        self.seen: list[str] = []
        self.gone: list[str] = []
        self.refused: list[tuple[str, str]] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def choose(self, authority: str) -> str:
        shard = shard_of(authority, SHARDS)
        return str(self.directory / ("none" if shard is None else str(shard)))

    def refuse(self, peer: str, status: str, reason: str) -> None:
        assert peer.startswith("ipv4:127.0.0.1:")
        self.refused.append((status, reason))

    async def start(self) -> None:
        for name in ("0", "1", "none"):
            server = grpc.aio.server(options=[("grpc.max_send_message_length", -1)])
            methods: Any = {SOTW: grpc.stream_stream_rpc_method_handler(self._handler(name))}
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
            server.add_insecure_port(f"unix:{self.directory / name}")
            await server.start()
            self.servers[name] = server

    async def stop(self) -> None:
        await asyncio.gather(*(server.stop(0) for server in self.servers.values()))

    def _handler(self, name: str) -> Any:
        async def handle(_: object, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
            self.seen.append(context.peer())
            if name == "none":
                await context.abort(grpc.StatusCode.FAILED_PRECONDITION, NO_SHARD)
            try:
                while isinstance(data := await context.read(), bytes):
                    asked = xds_pb2.DiscoveryRequest.FromString(data)
                    if asked.response_nonce != NONCE:
                        await context.write(_answer(name, asked.type_url))
            finally:
                self.gone.append(context.peer())

        return handle

    @asynccontextmanager
    async def stream(self, authority: str, secret: grpc.ChannelCredentials | None = None) -> AsyncIterator[Call]:
        """Give a stream on a connection of its own, to the shard that the authority names."""
        options: Any = [*OPTIONS.items(), ("grpc.default_authority", authority)]
        if secret is None:
            channel = grpc.aio.insecure_channel(self.address, options)
        else:
            options.append(("grpc.ssl_target_name_override", "localhost"))
            channel = grpc.aio.secure_channel(self.address, secret, options)
        async with channel:
            method: Any = channel.stream_stream(f"/{SERVICE}/{SOTW}", None, None)
            call = method()
            try:
                yield call
            finally:
                call.cancel()


def _answer(name: str, type_url: str) -> bytes:
    answer = xds_pb2.DiscoveryResponse(version_info=name, type_url=type_url, nonce=NONCE)
    if type_url == BIG:
        answer.resources.add(type_url=BIG, value=bytes(BIG_BYTES))
    return answer.SerializeToString()


async def ask(call: Call, type_url: str = "any") -> xds_pb2.DiscoveryResponse:
    """Ask on a stream and return the answer."""
    await call.write(xds_pb2.DiscoveryRequest(type_url=type_url).SerializeToString())
    async with asyncio.timeout(ANSWER_WITHIN_S):
        data = await call.read()
    assert isinstance(data, bytes)
    return xds_pb2.DiscoveryResponse.FromString(data)


@asynccontextmanager
async def sharded(limits: Limits | None = None, context: ssl.SSLContext | None = None) -> AsyncIterator[Shards]:
    """Give shards behind one port."""
    with TemporaryDirectory() as directory:
        shards = Shards(Path(directory))
        await shards.start()
        try:
            async with front(
                "127.0.0.1:0", shards.choose, context=context, limits=limits or Limits(), refused=shards.refuse
            ) as port:
                shards.port = port
                yield shards
        finally:
            await shards.stop()


def nobody(peer: str, status: str, reason: str) -> None:
    """Stand for who is told of refusals where there must be none."""
    pytest.fail(f"{peer} was refused: {status} {reason}")


@pytest.fixture
async def shards() -> AsyncIterator[Shards]:
    """Give shards behind one port, with the usual limits."""
    async with sharded() as running:
        yield running


async def test_two_shards_behind_one_port_answer_each_for_itself(shards: Shards) -> None:
    async with shards.stream(FIRST) as one, shards.stream(SECOND) as other:
        for _ in range(2):
            assert (await ask(one)).version_info == "0"
            assert (await ask(other)).version_info == "1"


async def test_a_shard_knows_who_its_peer_is(shards: Shards) -> None:
    async with http2.connect(shards.address) as client:
        await open_stream(client, FIRST)
        await wait_for_async(lambda: shards.seen, ANSWER_WITHIN_S, "the stream")
        host, port = client._writer.get_extra_info("sockname")
        assert [peer_behind(peer) for peer in shards.seen] == [f"ipv4:{host}:{port}"]
    assert {path.name for path in shards.directory.iterdir()} == {"0", "1", "none"}


@pytest.mark.parametrize("authority", ["shard-2-of-2", "shard-0-of-4.registry", "127.0.0.1:15010"])
async def test_who_names_no_shard_is_refused_in_words(shards: Shards, authority: str) -> None:
    async with shards.stream(authority) as call:
        assert await call.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert await call.details() == NO_SHARD


async def test_the_client_of_istiod_reads_its_shard(
    shards: Shards, parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts.need("adsprobe-1.31")
    async with tunnels_to(shards.address) as tunnels:
        # gRPC-Go gives a proxy the name that it dials, and looks nothing up; so no name has to lead here.
        monkeypatch.setenv("HTTPS_PROXY", f"http://{tunnels.address}")
        for number, authority in enumerate((FIRST, SECOND)):
            probe = AdsProbe(tmp_path / str(number), f"{authority}:15010")
            try:
                await asyncio.to_thread(probe.start)
                assert {event["version"] for event in probe.events("response")} == {str(number)}
            finally:
                await asyncio.to_thread(probe.end)
        assert tunnels.dialled == {f"{authority}:15010" for authority in (FIRST, SECOND)}


async def test_X47_a_large_response_passes(shards: Shards) -> None:
    async with shards.stream(SECOND) as call:
        answer = await ask(call, BIG)
        assert answer.version_info == "1"
        assert answer.resources[0].value == bytes(BIG_BYTES)


async def test_X49_what_a_slow_reader_does_not_take_is_not_piled_up() -> None:
    """A fake server, because gRPC's flow control would stop a real one before the front has to."""
    offered = 64 * 1024 * 1024
    written = 0
    written_at = 0.0
    loop = asyncio.get_running_loop()

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written, written_at
        while written < offered:
            writer.write(PIECE)
            await writer.drain()
            written, written_at = written + len(PIECE), loop.time()
        writer.close()

    def rests() -> bool:
        return written > 0 and loop.time() - written_at > RESTS_AFTER_S

    async with before(pour) as address, raw(address) as (reader, writer):
        writer.write(opening())
        await writer.drain()
        await wait_for_async(rests, ANSWER_WITHIN_S, "a server that can write no more")
        # The kernel holds some of it.
        assert written < offered / 2
        assert len(await reader.read()) == offered + len(frame(SETTINGS))


async def test_bytes_and_half_closes_pass_both_ways() -> None:
    """A fake server, because gRPC's shows nobody the bytes that it gets and closes both ways at once."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"heard: " + await reader.read())
        writer.close()

    async with before(echo) as address, raw(address) as (reader, writer):
        sent = opening() + frame(DATA, 0, 1, PIECE)
        writer.write(sent[: len(PREFACE)])
        assert await reader.readexactly(9) == frame(SETTINGS)
        writer.write(sent[len(PREFACE) :] + frame(SETTINGS, ACK))
        writer.write_eof()
        assert await reader.read() == b"heard: " + sent


def opening() -> bytes:
    """Return what a client sends first."""
    return PREFACE + frame(SETTINGS) + frame(HEADERS, END_HEADERS, 1, request(Encoder(), FIRST))


@asynccontextmanager
async def before(serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]) -> AsyncIterator[str]:
    """Give the address of a front, all of whose connections are for one server."""
    with TemporaryDirectory() as directory:
        path = f"{directory}/server"
        server = await asyncio.start_unix_server(serve, path)
        async with server, front("127.0.0.1:0", lambda _: path, context=None, limits=Limits(), refused=nobody) as port:
            yield f"127.0.0.1:{port}"


@asynccontextmanager
async def raw(address: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Give a connection on which the test says everything."""
    host, port = address.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            yield reader, writer
    finally:
        writer.close()


async def test_X46_X52_only_who_says_nothing_is_closed() -> None:
    # Enough for a client on a busy machine to send its first request in, and all that the others are waited for.
    async with sharded(Limits(first_request=3.0)) as shards, http2.connect(shards.address) as quiet:
        await open_stream(quiet, SECOND)
        assert (await quiet.ping(b"earlier.")).kind == PING
        streams = [await asyncio.open_connection("127.0.0.1", shards.port) for _ in range(500)]
        for number, (_, writer) in enumerate(streams):
            writer.write((b"", PREFACE[:9], PREFACE + frame(SETTINGS))[number % 3])
        async with asyncio.timeout(ANSWER_WITHIN_S):
            ends = await asyncio.gather(*(reader.read() for reader, _ in streams))
        for _, writer in streams:
            writer.close()
        assert set(ends[0::3]) == set(ends[1::3]) == {b""}
        assert all(end.endswith(b"no request within 3 s of connecting") for end in ends[2::3])
        assert shards.refused == [("DEADLINE_EXCEEDED", "no request within 3 s of connecting")] * 500
        # One that did ask may be quiet for longer than that.
        assert (await quiet.ping(b"later...")).kind == PING


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b"GET / HTTP/1.1\r\nHost: isthmus\r\n\r\n", b""),
        (bytes(range(256)) * 8, b""),
        (PREFACE + frame(CONTINUATION, 0, 1), b"out of order"),
        (PREFACE + frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff"), b"cannot be read"),
        (PREFACE + frame(SETTINGS) + frame(DATA, 0, 1, PIECE), b"no request within 65536 bytes"),
    ],
)
async def test_what_is_not_gRPC_is_closed_and_others_live(shards: Shards, sent: bytes, told: bytes) -> None:
    async with shards.stream(FIRST) as call, raw(shards.address) as (reader, writer):
        await ask(call)
        writer.write(sent)
        end = await reader.read()
        assert end.endswith(told)
        assert bool(end) == bool(told)
        assert (await ask(call)).version_info == "0"
        ((status, reason),) = shards.refused
        assert status in ("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED")
        assert reason.encode().endswith(told)


async def open_stream(connection: http2.Connection, authority: str, number: int = 1) -> None:
    """Open a stream to the shard that an authority names."""
    fields: Any = {":authority": authority}
    await connection.open_stream(number, **fields)


async def test_requests_for_two_shards_on_one_connection_end_it(shards: Shards) -> None:
    async with http2.connect(shards.address) as shared:
        await open_stream(shared, FIRST, 1)
        await open_stream(shared, FIRST.upper(), 3)
        await wait_for_async(lambda: len(shards.seen) == 2, ANSWER_WITHIN_S, "two streams of one shard")
        await open_stream(shared, SECOND, 5)
        with pytest.raises(ConnectionResetError):
            await shared.read_until(GOAWAY)
    assert len(shards.seen) == 2
    ((status, reason),) = shards.refused
    assert status == "INVALID_ARGUMENT"
    assert "two requests on one connection name different shards" in reason


async def test_X53_connections_above_the_limit_are_closed_and_the_old_ones_live() -> None:
    async with sharded(Limits(streams=2)) as shards, http2.connect(shards.address) as one:
        async with http2.connect(shards.address) as other:
            await open_stream(one, FIRST)
            await open_stream(other, SECOND)
            async with raw(shards.address) as (reader, _):
                assert await reader.read() == b""
            assert shards.refused == [("RESOURCE_EXHAUSTED", "more than 2 connections")]
            assert (await one.ping(b"one of 2")).kind == (await other.ping(b"other...")).kind == PING

        async def room() -> bool:
            async with shards.stream(SECOND) as new:
                try:
                    return (await ask(new)).version_info == "1"
                except grpc.aio.AioRpcError:
                    return False

        await wait_for_async(room, ANSWER_WITHIN_S, "room for one more")


async def test_a_reset_of_the_client_reaches_its_shard(shards: Shards) -> None:
    async with shards.stream(SECOND) as other, http2.connect(shards.address) as client:
        await ask(other)
        await open_stream(client, FIRST)
        await wait_for_async(lambda: len(shards.seen) == 2, ANSWER_WITHIN_S, "the stream")
        linger_on = (1).to_bytes(4, "little") + bytes(4)
        client._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_on)
        client._writer.transport.abort()
        await wait_for_async(lambda: shards.gone == shards.seen[1:], ANSWER_WITHIN_S, "the end of the stream")
        assert (await ask(other)).version_info == "1"


async def test_X57_the_end_of_a_shard_reaches_its_clients(shards: Shards) -> None:
    async with shards.stream(SECOND) as other, http2.connect(shards.address) as client:
        await open_stream(client, FIRST)
        await ask(other)
        await wait_for_async(lambda: len(shards.seen) == 2, ANSWER_WITHIN_S, "the streams")
        await shards.servers["0"].stop(0)
        assert (await client.read_until(GOAWAY, RST_STREAM, HEADERS)).kind in (GOAWAY, RST_STREAM, HEADERS)
        while await client.read():
            pass
        assert (await ask(other)).version_info == "1"
        # Who comes now is told.
        async with shards.stream(FIRST) as late:
            assert await late.code() is grpc.StatusCode.UNAVAILABLE
            assert "does not answer" in (await late.details() or "")
        assert {status for status, _ in shards.refused} == {"UNAVAILABLE"}


async def test_a_certificate(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    stranger = Certificates(tmp_path / "stranger")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.cert_file, certificates.key_file)
    context.set_alpn_protocols(["h2"])
    secret = grpc.ssl_channel_credentials(certificates.ca_file.read_bytes())
    async with sharded(Limits(first_request=3.0), context) as shards, shards.stream(SECOND, secret) as call:
        assert (await ask(call)).version_info == "1"
        assert len((await ask(call, BIG)).resources[0].value) == BIG_BYTES
        # Neither a client without TLS nor one that never begins is waited for.
        for sent in (opening(), b""):
            async with raw(shards.address) as (reader, writer):
                writer.write(sent)
                assert len(await reader.read()) < len(frame(SETTINGS))
        await wait_for_async(lambda: len(shards.refused) == 2, ANSWER_WITHIN_S, "both refusals")
        garbled, late = shards.refused
        assert garbled[0] == "UNAVAILABLE"
        assert garbled[1].startswith("no TLS with this client: ")
        assert late == ("DEADLINE_EXCEEDED", "no TLS within 3 s of connecting")
        # Who trusts another authority says so: OpenSSL and Go do, gRPC's core and asyncio only close.
        assert await asyncio.to_thread(distrusts, shards.port, stranger)
        await wait_for_async(lambda: len(shards.refused) == 3, ANSWER_WITHIN_S, "another refusal")
        assert shards.refused[-1] == ("UNAVAILABLE", "no TLS with this client: TLSV1_ALERT_UNKNOWN_CA")
        assert (await ask(call)).version_info == "1"


def distrusts(port: int, authority: Certificates) -> bool:
    """Tell whether a client that trusts one authority alone refuses the certificate of a server."""
    context = ssl.create_default_context(cafile=str(authority.ca_file))
    with socket.create_connection(("127.0.0.1", port), ANSWER_WITHIN_S) as connection:
        try:
            context.wrap_socket(connection, server_hostname="localhost").close()
        except ssl.SSLCertVerificationError:
            return True
    return False


async def test_an_address_that_is_taken_is_named(shards: Shards) -> None:
    with pytest.raises(ConfigError, match=f"cannot bind {shards.address}"):
        async with front(shards.address, shards.choose, context=None, limits=Limits(), refused=nobody):
            pytest.fail("two servers share one address")


async def test_leaving_ends_all_connections_in_any_state() -> None:
    async with sharded() as shards, raw(shards.address) as (silent, _), raw(shards.address) as (spliced, writer):
        writer.write(opening())
        await wait_for_async(lambda: len(shards.seen) == 1, ANSWER_WITHIN_S, "the stream")
    assert await silent.read() == b""
    assert (await spliced.read()).startswith(frame(SETTINGS))
