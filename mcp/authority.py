"""Which shard a connection is for: what its client sends is read along, far enough to know, and passed on as it was.

gRPC for Python tells a handler nothing of `:authority`, so who has several shards behind one port must read it before
gRPC does. Of HTTP/2 only the frames that hold headers are looked into, and only a copy of them; no I/O is done here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hpack import Decoder
from hpack.exceptions import HPACKError
from msgspec import Struct

from isthmus.registry.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# The headers of one request, packed and unpacked. gRPC takes no more either, and says so in its SETTINGS.
HEADERS_BYTES = 16 * 1024

_HEAD_BYTES = 9
_HEADERS, _SETTINGS, _CONTINUATION = 1, 4, 9
_ACK, _END_HEADERS, _PADDED, _PRIORITY = 0x1, 0x4, 0x8, 0x20
_PRIORITY_BYTES = 5
_SHARD = re.compile(r"(?:.*-)?shard-([0-9]{1,9})-of-([0-9]{1,9})", re.IGNORECASE)


def shard_of(authority: str, shards: int) -> int | None:
    """Return the shard, from 0, that an authority such as `isthmus-shard-3-of-16.istio-system:15010` names.

    None: it names none, or one of another number of shards than these.
    """
    match = _SHARD.fullmatch(authority.partition(":")[0].partition(".")[0])
    if match is None:
        return None
    index, count = map(int, match.groups())
    return index if count == shards and index < count else None


class _Head(Struct, frozen=True):
    """What the first nine bytes of a frame say."""

    length: int
    kind: int
    flags: int
    stream: int


class Walker:
    """Reads along what one client sends, in pieces of any size, to the end of its connection.

    It looks on behind the first request: who pools connections (a proxy) may send requests for several shards on one
    of them, and would be answered with another shard's resources.

    chosen: what `choose` made of the authority of the first request; None until that was read.
    """

    def __init__(self, choose: Callable[[str], str]) -> None:
        self.chosen: str | None = None
        self._choose = choose
        self._decoder = Decoder(HEADERS_BYTES)
        self._preface = PREFACE
        self._head_bytes = bytearray()
        self._head = _Head(0, 0, 0, 0)
        self._left = 0
        self._payload = bytearray()
        self._block: bytearray | None = None
        self._acknowledged = False

    @property
    def greeted(self) -> bool:
        """Whether the client has said that it speaks HTTP/2."""
        return not self._preface

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes of the client, and return those that its shard may have by now.

        In the end that is all but the first acknowledgement of SETTINGS, which is that of our own.

        Raises ProtocolError: this is not HTTP/2, or more headers than may be, or a request for another shard.
        """
        rest = memoryview(data)
        passed: list[bytes | memoryview] = []
        while rest:
            taken, out = self._step(rest)
            passed.append(out)
            rest = rest[taken:]
        return b"".join(passed)

    def _step(self, rest: memoryview) -> tuple[int, bytes | memoryview]:
        """Take some of these bytes; return how many, and what may be passed on."""
        if self._preface:
            piece = rest[: len(self._preface)]
            self._greet(piece)
            return len(piece), piece
        if self._left:
            piece = rest[: self._left]
            self._go_on(piece)
            return len(piece), piece
        piece = rest[: _HEAD_BYTES - len(self._head_bytes)]
        return len(piece), self._begin(piece)

    def _greet(self, piece: memoryview) -> None:
        if piece != self._preface[: len(piece)]:
            raise ProtocolError("INVALID_ARGUMENT", "this is not HTTP/2, which gRPC speaks")
        self._preface = self._preface[len(piece) :]

    def _begin(self, piece: memoryview) -> bytes:
        """Take a piece of a frame's head; return the head once it is whole and the shard may have it."""
        self._head_bytes += piece
        if len(self._head_bytes) < _HEAD_BYTES:
            return b""
        whole = bytes(self._head_bytes)
        self._head_bytes.clear()
        head = _Head(int.from_bytes(whole[:3]), whole[3], whole[4], int.from_bytes(whole[5:]) & 0x7FFF_FFFF)
        self._check(head)
        self._head = head
        self._left = head.length
        if not head.length:
            self._end()
        if not self._acknowledged and head.kind == _SETTINGS and head.flags & _ACK and not head.length:
            self._acknowledged = True
            return b""
        return whole

    def _check(self, head: _Head) -> None:
        """Check that a frame may come here, between others that hold parts of one request's headers, and its size."""
        in_block = self._block is not None
        goes_on = head.kind == _CONTINUATION and (head.stream == self._head.stream or not in_block)
        if goes_on != in_block:
            raise ProtocolError("INVALID_ARGUMENT", "the frames of a request's headers are out of order")
        if head.kind in (_HEADERS, _CONTINUATION) and len(self._block or b"") + head.length > HEADERS_BYTES:
            raise ProtocolError("RESOURCE_EXHAUSTED", f"the headers of a request have more than {HEADERS_BYTES} bytes")

    def _go_on(self, piece: memoryview) -> None:
        self._left -= len(piece)
        if self._head.kind in (_HEADERS, _CONTINUATION):
            self._payload += piece
        if not self._left:
            self._end()

    def _end(self) -> None:
        """Take note of the end of a frame; where it ends the headers of a request, read them."""
        if self._head.kind not in (_HEADERS, _CONTINUATION):
            return
        if self._block is None:
            self._block = self._unpadded()
        else:
            self._block += self._payload
        self._payload.clear()
        if self._head.flags & _END_HEADERS:
            block, self._block = bytes(self._block), None
            self._read(block)

    def _unpadded(self) -> bytearray:
        """Return what a HEADERS frame holds between its prefixes and its padding."""
        padded = bool(self._head.flags & _PADDED)
        start = padded + (_PRIORITY_BYTES if self._head.flags & _PRIORITY else 0)
        end = len(self._payload) - (self._payload[0] if padded and self._payload else 0)
        if start > end:
            raise ProtocolError("INVALID_ARGUMENT", "a frame with headers is shorter than it says")
        return self._payload[start:end]

    def _read(self, block: bytes) -> None:
        try:
            fields = {bytes(name): bytes(value) for name, value in self._decoder.decode(block, raw=True)}
        except HPACKError as error:
            raise ProtocolError("INVALID_ARGUMENT", "the headers of a request cannot be read") from error
        if b":method" not in fields and self.chosen is not None:
            return  # it ends a request
        authority = fields.get(b":authority") or fields.get(b"host", b"")
        chosen = self._choose(authority.decode("ascii", "replace"))
        if self.chosen is None:
            self.chosen = chosen
        elif chosen != self.chosen:
            raise ProtocolError(
                "INVALID_ARGUMENT",
                "two requests on one connection name different shards: is there a proxy between, that shares "
                "connections? It must keep them apart by :authority",
            )
