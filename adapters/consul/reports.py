"""What goes to the sink: of which generation, and what is said beside it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isthmus.adapters.base import Sink
    from isthmus.adapters.consul.view import View


class Reports:
    """Reports a view; nothing before the first complete read. `hidden`: what ACLs hide, said beside it."""

    def __init__(self, sink: Sink, view: View) -> None:
        self._sink = sink
        self._view = view
        self._loop = asyncio.get_running_loop()
        self._generation: int | None = None
        self._said: tuple[str, ...] | None = None
        self.hidden = ""

    def begin(self) -> None:
        """Begin a generation: with a connection, or within it, so that what is lacking from now on is held (G4)."""
        self._generation = self._sink.connected()
        self._said = None

    def contact(self) -> None:
        """Report that the server answered."""
        if self._generation is not None:
            self._sink.contact(self._generation)

    async def publish(self) -> None:
        """Report what changed."""
        await self._build()
        if self._generation is not None:
            self._view.report(self._sink, self._generation)
            self._note(self._generation)

    async def publish_all(self) -> float | None:
        """Report everything as complete, in a generation that has begun; return as `Sink.sync` does."""
        await self._build()
        if self._generation is None:
            return None
        settled_in = self._view.report_all(self._sink, self._generation, self._loop.time())
        self._note(self._generation)
        return settled_in

    async def _build(self) -> None:
        for _ in self._view.build(self._loop.time()):
            await asyncio.sleep(0)

    def _note(self, generation: int) -> None:
        notes = (*self._view.notes(), *((self.hidden,) if self.hidden else ()))
        if notes != self._said:
            self._sink.note(generation, notes)
            self._said = notes
