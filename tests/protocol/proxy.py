"""A TCP proxy that can stop to forward and leave the connections open: what a network does that swallows packets."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.protocol.stream import ANSWER_WITHIN_S
from tests.rig.wait import wait_for_async

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

# gRPC asks at once after data whether it arrived, and would notice within a moment that it did not.
RESTS_AFTER_S = 0.1


class Proxy:
    """Forwards connections to `target` (`host:port`) until it is frozen; `forwarded` counts the pieces, both ways."""

    def __init__(self, target: str) -> None:
        self._host, _, self._port = target.rpartition(":")
        self._forwarding = asyncio.Event()
        self._forwarding.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.forwarded = 0
        self._forwarded_at = 0.0

    @property
    def address(self) -> str:
        """Where it listens."""
        return "{}:{}".format(*self._server.sockets[0].getsockname())

    async def freeze(self) -> None:
        """Forward nothing any more, in either direction; nobody is told. What is under way comes to rest before."""
        await wait_for_async(self._rests, ANSWER_WITHIN_S, "silence on a connection")
        self._forwarding.clear()

    def _rests(self) -> bool:
        return asyncio.get_running_loop().time() - self._forwarded_at > RESTS_AFTER_S

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        far_reader, far_writer = await asyncio.open_connection(self._host, int(self._port))
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._forward(reader, far_writer))
                tasks.create_task(self._forward(far_reader, writer))
        except* ConnectionError:
            pass
        finally:
            far_writer.close()
            writer.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await self._forwarding.wait()
            self.forwarded += 1
            self._forwarded_at = asyncio.get_running_loop().time()
            writer.write(data)
            await writer.drain()
        await self._forwarding.wait()
        writer.close()
