"""A proxy of HTTP for clients that dial names which nobody resolves here: all of its tunnels lead to one server."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from tests.rig.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Tunnels(Proxy):
    """A proxy of HTTP, all of whose tunnels lead to one server; `dialled` are those that it was asked for."""

    def __init__(self, target: tuple[str, int]) -> None:
        super().__init__(target)
        self.dialled: set[str] = set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        self.dialled.add(asked.split()[1].decode())
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await super()._serve(reader, writer)


@asynccontextmanager
async def tunnels_to(address: str) -> AsyncIterator[Tunnels]:
    """Give such a proxy."""
    host, _, port = address.rpartition(":")
    tunnels = Tunnels((host, int(port)))
    async with await asyncio.start_server(tunnels.accept, "127.0.0.1", 0) as server:
        tunnels.port = server.sockets[0].getsockname()[1]
        try:
            yield tunnels
        finally:
            await tunnels.close()
