"""HTTP/2 by hand over a plain socket: for what no gRPC client can be made to do."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from msgspec import Struct

from tests.protocol.stream import ANSWER_WITHIN_S, SERVICE, SOTW

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
# What a peer may be sent before it opens its window.
WINDOW = 65_535
NO_ERROR, ENHANCE_YOUR_CALM = 0, 11


class Frame(Struct, frozen=True):
    """One frame."""

    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def error(self) -> int:
        """The error code of a GOAWAY or RST_STREAM frame."""
        return int.from_bytes(self.payload[4:8] if self.kind == GOAWAY else self.payload[:4])


class Connection:
    """One connection, after its preface. It opens no window but the first, so it takes 64 KiB of data and no more."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> None:
        """Send one frame."""
        header = len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4)
        self._writer.write(header + payload)
        await self._writer.drain()

    async def read(self) -> Frame | None:
        """Return the next frame; None when the server has closed the connection."""
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                header = await self._reader.readexactly(9)
                payload = await self._reader.readexactly(int.from_bytes(header[:3]))
        except (asyncio.IncompleteReadError, ConnectionResetError):
            return None
        return Frame(header[3], header[4], int.from_bytes(header[5:9]), payload)

    async def read_until(self, *kinds: int) -> Frame:
        """Return the next frame of one of these kinds, answering the server's pings and settings meanwhile."""
        while frame := await self.read():
            if frame.kind in kinds and not (frame.kind == SETTINGS and frame.flags & ACK):
                return frame
            if frame.kind in (PING, SETTINGS) and not frame.flags & ACK:
                await self.send(frame.kind, ACK, payload=frame.payload if frame.kind == PING else b"")
        raise ConnectionResetError("the server closed the connection")

    async def ping(self, payload: bytes) -> Frame:
        """Send a ping of eight bytes and return what comes first, its answer or a GOAWAY."""
        await self.send(PING, payload=payload)
        while True:
            frame = await self.read_until(PING, GOAWAY)
            if frame.kind == GOAWAY or (frame.flags & ACK and frame.payload == payload):
                return frame
            if not frame.flags & ACK:
                await self.send(PING, ACK, payload=frame.payload)

    async def open_stream(self, number: int = 1, path: str = f"/{SERVICE}/{SOTW}", **headers: str) -> None:
        """Open a stream as a gRPC client does."""
        fields = {
            ":method": "POST",
            ":scheme": "http",
            ":path": path,
            ":authority": "localhost",
            "content-type": "application/grpc",
            "te": "trailers",
        }
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        block = b"".join(_literal(name.encode(), value.encode()) for name, value in fields.items())
        await self.send(HEADERS, END_HEADERS, number, block)

    async def message(self, data: bytes, number: int = 1) -> None:
        """Send one gRPC message."""
        await self.send(DATA, 0, number, b"\0" + len(data).to_bytes(4) + data)


def _literal(name: bytes, value: bytes) -> bytes:
    """Encode a header without any compression; both texts are shorter than 127 bytes."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


@asynccontextmanager
async def connect(address: str) -> AsyncIterator[Connection]:
    """Connect to `host:port` and exchange prefaces."""
    host, port = address.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        connection = Connection(reader, writer)
        writer.write(PREFACE)
        await connection.send(SETTINGS)
        await connection.read_until(SETTINGS)
        await connection.send(SETTINGS, ACK)
        yield connection
    finally:
        writer.close()
