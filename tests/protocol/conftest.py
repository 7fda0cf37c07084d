"""Servers and streams of the protocol tests."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from tests.protocol.served import Served, serving
from tests.protocol.stream import DELTA, FORMS, SOTW, DeltaStream, RawStream, SotwStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def server() -> AsyncIterator[Served]:
    """Give a server with nothing in it yet."""
    async with serving() as served:
        yield served


@pytest.fixture
async def sotw(server: Served) -> AsyncIterator[SotwStream]:
    """Give a stream of state of the world."""
    async with server.stream(SOTW) as stream:
        assert isinstance(stream, SotwStream)
        yield stream


@pytest.fixture
async def delta(server: Served) -> AsyncIterator[DeltaStream]:
    """Give a delta stream."""
    async with server.stream(DELTA) as stream:
        assert isinstance(stream, DeltaStream)
        yield stream


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    """Give each form of the protocol in turn."""
    name: str = request.param
    return name


@pytest.fixture
async def stream(server: Served, form: str) -> AsyncIterator[RawStream]:
    """Give a stream of each form in turn."""
    async with server.stream(form) as opened:
        yield opened


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    """Give a stack for servers and streams that a test opens in its own way."""
    async with AsyncExitStack() as opened:
        yield opened
