"""isthmus/app.py: what the log says of sources that cannot be read, or not yet."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from isthmus.adapters.eureka.adapter import EurekaAdapter
from isthmus.adapters.eureka.options import EurekaOptions
from isthmus.adapters.files import FilesOptions
from isthmus.app import Bridge, CatalogSink
from isthmus.config import Config
from isthmus.registry.catalog import Catalog
from isthmus.registry.errors import SourceError
from isthmus.registry.policy import Policy
from tests.rig.wait import wait_for_async
from tests.unit.test_web import serving

if TYPE_CHECKING:
    from pathlib import Path

TIMEOUT = 60.0
# Nobody listens there, and only root could.
NOBODY = "http://127.0.0.1:1/eureka"


def sink(name: str) -> CatalogSink:
    catalog = Catalog()
    catalog.add_source(Policy(name), required=True, now=time.monotonic())
    return CatalogSink(catalog, name)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


async def test_a_reason_that_is_told_again_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    asked = 0

    async def handler(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        said = {"timestamp": f"2026-01-01T00:00:{asked:02}Z", "status": 500, "error": "Server Error", "path": "/"}
        return web.json_response(said, status=500)

    told = sink("shop")
    async with serving(handler) as url:
        adapter = EurekaAdapter(EurekaOptions(name="shop", address=f"{url}/eureka"))
        for _ in range(3):
            with pytest.raises(SourceError) as raised:
                await adapter.run(told)
            told.stale(told.connected(), str(raised.value))
    assert asked >= 3
    (warning,) = warnings(caplog)
    assert "answers 500 (Server Error)" in warning


def test_another_reason_and_a_loss_after_a_return_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    told = sink("shop")
    generation = told.connected()
    for reason in ("refused", "refused", "denied", "denied"):
        told.stale(generation, reason)
    told.sync(generation, [])
    told.stale(generation, "denied")
    assert [warning.split(": ")[1].split(";")[0] for warning in warnings(caplog)] == ["refused", "denied", "denied"]


async def test_who_was_not_read_when_the_grace_was_over_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "isthmus")
    gone = (EurekaOptions(name=name, address=NOBODY, required=False) for name in ("gone", "lost"))
    sources = (FilesOptions(name="files", directory=str(tmp_path)), *gone)
    settings = Config(sources=sources, listen="127.0.0.1:0", debug="", startup_grace=0.0)
    async with Bridge(settings).running() as bridge:
        await wait_for_async(lambda: bridge.ready, TIMEOUT, "service without the two")
    (warning,) = (text for text in warnings(caplog) if "are served" in text)
    assert warning.startswith("0 services are served after ")
    assert warning.endswith(" s; not read yet: gone, lost")
    assert "all sources read" not in caplog.text


async def test_that_all_were_read_is_said_when_they_were(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "isthmus")
    sources = (FilesOptions(name="files", directory=str(tmp_path)),)
    async with Bridge(Config(sources=sources, listen="127.0.0.1:0", debug="")).running() as bridge:
        await wait_for_async(lambda: bridge.ready, TIMEOUT, "service")
    assert "all sources read after " in caplog.text
    assert "not read yet" not in caplog.text
