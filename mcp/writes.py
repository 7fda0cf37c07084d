"""The responses that clients are taking right now: each for so long, and all together in so much memory (X49)."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from isthmus.mcp.limits import Limits


class Writes:
    """All writes of a process. A client that does not read costs its response twice, in Python and in gRPC."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._begun: dict[asyncio.Timeout, float] = {}
        self._bytes = 0

    @asynccontextmanager
    async def one(self, size: int) -> AsyncIterator[None]:
        """Have the block, which writes so many bytes, end in time. Raises TimeoutError: it did not.

        As long as more is unread than there is room for, the time is short for those that are at it, too.
        """
        begun = asyncio.get_running_loop().time()
        async with asyncio.timeout_at(begun + self._limits.write) as deadline:
            self._begun[deadline] = begun
            self._bytes += size
            if self._bytes > self._limits.unread_bytes:
                self._hurry()
            try:
                yield
            finally:
                del self._begun[deadline]
                self._bytes -= size

    def _hurry(self) -> None:
        for deadline, begun in self._begun.items():
            deadline.reschedule(begun + self._limits.hurried_write)
