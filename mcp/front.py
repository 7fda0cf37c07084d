"""Several shards behind one port: each connection is passed on to the shard that its first request names.

Behind it each shard has a gRPC server of its own, on a unix socket in a directory that nobody else can enter. Bytes go
through unchanged, so HTTP/2, with its windows and pings, is between the client and that server.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from isthmus.mcp.authority import Walker, shard_of
from isthmus.registry.errors import ConfigError, ProtocolError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from isthmus.mcp.limits import Limits

# Told of each connection that is turned away: its peer, the name of a gRPC status, and why.
Refused: TypeAlias = "Callable[[str, str, str], None]"

_log = logging.getLogger("isthmus.mcp")

# A unix socket's path has no more bytes than this, whatever the file system takes (unix(7)).
_LONGEST_PATH = 107

# What a client says before its first request, that request included, is far less.
_FIRST_BYTES = 64 * 1024
# Requests cost time to read, up to 2 ms in each KiB: with few in each piece a flood leaves the loop to the others.
_UP_BYTES = 4 * 1024
_DOWN_BYTES = 64 * 1024
_ACCEPT_AGAIN_SECONDS = 1.0
_PORT_DIGITS = 4
# An IPv6 address and a port, as `_file_name` writes them.
_LONGEST_NAME = 32 + _PORT_DIGITS

# gRPC-Go sends its first request only once it knows the server's SETTINGS. These change nothing; those of the shard
# follow them.
_SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_GOAWAY = 7
_PROTOCOL_ERROR = 1


class _End(NamedTuple):
    """One of the two ends that what is passed on has here."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


def peer_behind(peer: str) -> str:
    """Return who is at the other end of a stream that may have come through a front, given gRPC's name of its peer.

    The form is gRPC's, `ipv4:10.0.0.1:4711`. Only what comes through a unix socket is looked into.
    """
    return _peer_of(peer.rpartition("/")[2]) if peer.startswith("unix:") else peer


def check_room(directory: str) -> None:
    """Check that connections can be passed on to sockets in a directory, whoever is at their other end.

    Raises ConfigError: its path is too long for that.
    """
    over = len(os.fsencode(directory)) + 1 + _LONGEST_NAME - _LONGEST_PATH
    if over > 0:
        long = (
            f"{directory} is too long a path for the sockets of `routing: authority`: set TMPDIR to one that is "
            f"shorter by {over} bytes or more (one of 50 bytes always is short enough)"
        )
        raise ConfigError([long])


@asynccontextmanager
async def front(
    address: str,
    choose: Callable[[str], str],
    *,
    context: ssl.SSLContext | None,
    limits: Limits,
    refused: Refused,
) -> AsyncIterator[int]:
    """Listen on `host:port` (port 0: any), and yield the port; on leaving, all connections are cut.

    So leave it after the servers behind it have stopped: what they tell their clients at the end goes through here.

    choose: gives, for an authority, the path of the unix socket of the server that answers for it. Files come and go
        beside that socket (`_dial`).
    context: what TLS is spoken with, as a server with `h2` in ALPN; None: plaintext.
    refused: who is turned away here is told to nobody else: the servers behind never see it.

    Raises ConfigError: the address cannot be bound.
    """
    with _listen(address, limits.streams) as listener:
        serving = _Front(choose, context, limits, refused)
        accepting = asyncio.create_task(serving.accept(listener))
        try:
            yield listener.getsockname()[1]
        finally:
            accepting.cancel()
            await asyncio.wait((accepting,))
            await serving.cut()


class _Front:
    """The connections of one port, each with a task of its own."""

    def __init__(
        self, choose: Callable[[str], str], context: ssl.SSLContext | None, limits: Limits, refused: Refused
    ) -> None:
        self._choose = choose
        self._context = context
        self._limits = limits
        self._refused = refused
        self._open: set[asyncio.Task[None]] = set()

    async def accept(self, listener: socket.socket) -> None:
        """Take connections until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(listener)
            except OSError as error:
                # Too many open files, say: who is here lives on, and makes room by leaving.
                _log.warning("no connection can be taken at the moment: %s", error)
                await asyncio.sleep(_ACCEPT_AGAIN_SECONDS)
                continue
            self._take(connection, _peer(address))
            # While clients stand in line, accepting them does not wait for anything.
            await asyncio.sleep(0)

    async def cut(self) -> None:
        """End all connections."""
        for task in self._open:
            task.cancel()
        if self._open:
            await asyncio.wait(self._open)

    def _take(self, connection: socket.socket, peer: str) -> None:
        if len(self._open) >= self._limits.streams:
            self._refuse(peer, ProtocolError("RESOURCE_EXHAUSTED", f"more than {self._limits.streams} connections"))
            connection.close()
            return
        task = asyncio.create_task(self._serve(connection, peer))
        self._open.add(task)
        task.add_done_callback(self._open.discard)
        # Nobody else closes it where the task is cancelled before it begins.
        task.add_done_callback(lambda _: connection.close())

    async def _serve(self, connection: socket.socket, peer: str) -> None:
        """Serve one connection to its end."""
        deadline = asyncio.get_running_loop().time() + self._limits.first_request
        try:
            client = await self._greeted(connection, deadline)
            async with self._closing(client):
                await self._pass_on(client, peer, deadline)
        except* ProtocolError as group:
            for broken in group.exceptions:
                self._refuse(peer, broken)
        except* OSError as group:
            for lost in group.exceptions:
                _log.info("connection of %s broke: %s", peer, str(lost) or type(lost).__name__)

    def _refuse(self, peer: str, why: BaseException) -> None:
        status = why.status if isinstance(why, ProtocolError) else "UNKNOWN"
        _log.info("connection of %s refused: %s", peer, why)
        self._refused(peer, status, str(why))

    async def _greeted(self, connection: socket.socket, deadline: float) -> _End:
        """Return the streams of a client once TLS is spoken. Raises ProtocolError: it does not come to that."""
        try:
            async with asyncio.timeout_at(deadline):
                return await _opened(connection, self._context)
        except TimeoutError as error:
            late = f"no TLS within {self._limits.first_request:g} s of connecting"
            raise ProtocolError("DEADLINE_EXCEEDED", late) from error
        except ssl.SSLError as error:
            raise ProtocolError("UNAVAILABLE", f"no TLS with this client: {error.reason or error}") from error

    @asynccontextmanager
    async def _closing(self, end: _End) -> AsyncIterator[None]:
        """Close an end once it has taken what it was sent, or at once after an error."""
        try:
            yield
            end.writer.close()
            async with asyncio.timeout(self._limits.write):
                await end.writer.wait_closed()
        finally:
            end.writer.transport.abort()

    async def _pass_on(self, client: _End, peer: str, deadline: float) -> None:
        walker = Walker(self._choose)
        try:
            first = await self._first(client, walker, deadline)
            if walker.chosen is None:
                return
            behind = _dial(walker.chosen, peer)
        except ProtocolError as error:
            self._refuse(peer, error)
            if walker.greeted:
                client.writer.write(_goaway(str(error)))
            return
        with behind:
            shard = await _opened(behind)
            async with self._closing(shard):
                await self._splice(client, shard, walker, first)

    async def _first(self, client: _End, walker: Walker, deadline: float) -> bytes:
        """Read until the client has named its shard, or closed; return what the shard has to be sent.

        Raises ProtocolError: it sends something else, or nothing for too long (X52).
        """
        first = bytearray()
        try:
            async with asyncio.timeout_at(deadline):
                while data := await client.reader.read(_UP_BYTES):
                    greeted = walker.greeted
                    first += walker.feed(data)
                    if walker.greeted and not greeted:
                        client.writer.write(_SETTINGS)
                    if walker.chosen is not None:
                        break
                    if len(first) > _FIRST_BYTES:
                        raise ProtocolError("RESOURCE_EXHAUSTED", f"no request within {_FIRST_BYTES} bytes")
        except TimeoutError as error:
            late = f"no request within {self._limits.first_request:g} s of connecting"
            raise ProtocolError("DEADLINE_EXCEEDED", late) from error
        return bytes(first)

    async def _splice(self, client: _End, shard: _End, walker: Walker, first: bytes) -> None:
        """Pass on both ways until the shard's server closes, which it also does some time after the client did."""
        async with asyncio.TaskGroup() as tasks:
            up = tasks.create_task(self._up(client, shard, walker, first))
            while data := await shard.reader.read(_DOWN_BYTES):
                await self._send(client, data)
            up.cancel()

    async def _up(self, client: _End, shard: _End, walker: Walker, first: bytes) -> None:
        await self._send(shard, first)
        while data := await client.reader.read(_UP_BYTES):
            await self._send(shard, walker.feed(data))
            # Reading does not wait for what is here already.
            await asyncio.sleep(0)
        shard.writer.write_eof()

    async def _send(self, end: _End, data: bytes) -> None:
        """Send, and wait until little of it is left here. Raises TimeoutError: the other side takes nothing (X49)."""
        end.writer.write(data)
        async with asyncio.timeout(self._limits.write):
            await end.writer.drain()


async def _opened(connection: socket.socket, context: ssl.SSLContext | None = None) -> _End:
    """Return the streams of a connection, as a server where TLS is to be spoken."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, _ = await loop.connect_accepted_socket(lambda: protocol, connection, ssl=context)
    return _End(reader, asyncio.StreamWriter(transport, protocol, reader, loop))


def _dial(path: str, peer: str) -> socket.socket:
    """Connect to a server's unix socket, under the name of the peer: that is how gRPC there knows who it is.

    The name is a file beside the server's socket, for a moment. Nothing here waits.

    Raises ProtocolError: the server is not there, or not willing.
    """
    name = Path(path).with_name(_file_name(peer))
    behind = socket.socket(socket.AF_UNIX)
    behind.setblocking(False)
    try:
        behind.bind(str(name))
        try:
            behind.connect(path)
        finally:
            name.unlink()
    except OSError as error:
        behind.close()
        raise ProtocolError("UNAVAILABLE", f"the server of this shard does not answer: {error}") from error
    return behind


def _goaway(reason: str) -> bytes:
    """Encode the end of a connection whose requests nobody has seen, in words."""
    payload = bytes(4) + _PROTOCOL_ERROR.to_bytes(4) + reason.encode()
    return _SETTINGS + len(payload).to_bytes(3) + bytes([_GOAWAY, 0]) + bytes(4) + payload


def _peer(address: tuple[Any, ...]) -> str:
    """Name a peer as gRPC does."""
    ip = ip_address(address[0].partition("%")[0])
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is None:
        return f"ipv6:[{ip}]:{address[1]}"
    return f"ipv4:{getattr(ip, 'ipv4_mapped', None) or ip}:{address[1]}"


def _file_name(peer: str) -> str:
    """Return a peer as a file's name: as few bytes as can be, since paths of sockets are short."""
    host, _, port = peer.partition(":")[2].rpartition(":")
    return f"{ip_address(host.strip('[]')).packed.hex()}{int(port):0{_PORT_DIGITS}x}"


def _peer_of(file_name: str) -> str:
    """Return the peer that a file is named for."""
    packed, port = bytes.fromhex(file_name[:-_PORT_DIGITS]), int(file_name[-_PORT_DIGITS:], 16)
    return _peer((str(IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)), port))


def _listen(address: str, backlog: int) -> socket.socket:
    """Listen on `host:port`; [::] takes IPv4 too. Raises ConfigError: it cannot be had."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, int(port)), family=family, backlog=backlog, dualstack_ipv6=host == "::")
    except OSError as error:
        raise ConfigError([f"cannot bind {address}; is it in use?"]) from error
    listener.setblocking(False)
    return listener


__all__ = ["Refused", "check_room", "front", "peer_behind", "shard_of"]
