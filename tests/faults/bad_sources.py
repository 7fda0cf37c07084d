"""A bridge with sources that are bad, beside a good one of the same kind (G11): what all the kinds have in common.

The good one is served and followed whatever the others do, and each of them shows in `/debug/sources` and in
`isthmus check`, where no secret does.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import yaml

from isthmus.app import Bridge
from isthmus.config import load_config
from tests.debug.web import pages_of
from tests.faults.bad_answers import SECRET
from tests.protocol.stream import DELTA, SERVICE_ENTRIES, RawStream, connect, open_stream
from tests.rig.bridge import CHECKOUT
from tests.rig.wait import NotInTimeError, wait_for_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.debug.web import Pages

TIMEOUT = 120.0
# A test on a busy machine must not take a slow answer for none.
ANSWER_TIMEOUT_S = 60
STARTUP_GRACE_S = 0.2
# As long as a source fails, `check` takes all the time that it is given: little at first, more where it was too little.
CHECK_SECONDS = (1, 3, 8, 24, 72)
FIRST, SECOND = "10.0.0.1", "10.0.0.2"


class Refused(NamedTuple):
    """Something that is not served of a source that can be read: its code, and words of the reason."""

    code: str
    words: tuple[str, ...] = ()


class Bad(NamedTuple):
    """One bad source, its keys in the configuration, and how it shows.

    words: in the reason why it cannot be read; of one that can there are none.
    serves: its hosts, as patterns, and the only endpoint of each; it has no other services.
    refused: what is not served of it; nothing of another code is.
    note: words of what is said beside that on the page of the sources.
    """

    name: str
    source: dict[str, Any]
    words: tuple[str, ...] = ()
    serves: Mapping[str, str] = {}
    refused: tuple[Refused, ...] = ()
    note: str = ""

    def shows(self, source: dict[str, Any]) -> bool:
        """Tell whether this is what the page of the sources should say."""
        if self.words:
            return source["phase"] == "CONNECTING" and _has(self.words, source["lastError"])
        said = all(_is_among(source, one) for one in self.refused) and self.note in " ".join(source["notes"])
        return source["phase"] == "READY" and self._counts(source) and said

    def is_told(self, contact: dict[str, Any]) -> bool:
        """Tell whether this is what `isthmus check` should say."""
        if self.words:
            return not contact["ok"] and _has(self.words, contact["reason"])
        return contact["ok"] and self._counts(contact)

    def _counts(self, told: dict[str, Any]) -> bool:
        return len(self.serves) == told["services"] and {one.code for one in self.refused} == set(told["refused"])


def _has(words: tuple[str, ...], reason: str | None) -> bool:
    return reason is not None and all(word in reason for word in words)


def _is_among(source: dict[str, Any], refused: Refused) -> bool:
    return any(one["code"] == refused.code and _has(refused.words, one["reason"]) for one in source["refusals"])


class Good(NamedTuple):
    """The good source: `shop` is at FIRST there, and after `change` at SECOND too."""

    source: dict[str, Any]
    change: Callable[[], None]


# Bad sources, which live as long as the context does.
Bads = Callable[[pytest.FixtureRequest], AbstractAsyncContextManager[list[Bad]]]


async def stops_no_other_and_shows(
    file: Path, kind: str, bad: list[Bad], good: Good, check_seconds: tuple[int, ...] = CHECK_SECONDS
) -> None:
    """Serve and check bad sources and a good one.

    file: becomes their configuration. check_seconds: the times that `check` is given, one after the other, until it
    has told all.
    """
    configure(file, kind, bad, good)
    async with asyncio.TaskGroup() as tasks:
        # At the same time, since it takes its own.
        tasks.create_task(check_tells(file, bad, check_seconds))
        await bridge_shows(file, bad, good)


def configure(file: Path, kind: str, bad: list[Bad], good: Good) -> None:
    sources = [
        *({"name": one.name, "kind": kind, "required": False, **one.source} for one in bad),
        {"name": "good", "kind": kind, **good.source},
    ]
    settings = {"listen": "127.0.0.1:0", "debug": "", "startupGrace": STARTUP_GRACE_S, "sources": sources}
    file.write_text(yaml.safe_dump(settings))


async def bridge_shows(file: Path, bad: list[Bad], good: Good) -> None:
    bridge = Bridge(load_config(str(file), {}))
    async with bridge.running(), pages_of(bridge) as pages, subscribed(bridge.xds_address) as subscriber:
        await subscriber.until(r"shop\.mesh", FIRST)
        await until_all_show(pages, bad)
        good.change()
        await subscriber.until(r"shop\.mesh", FIRST, SECOND)
        for one in bad:
            for host, address in one.serves.items():
                await subscriber.until(host, address)
        await until_all_show(pages, bad)


async def until_all_show(pages: Pages, bad: list[Bad]) -> None:
    """Wait until each bad source shows on the page of the sources, and the good one is well."""
    lacking: list[dict[str, Any]] = []

    async def all_show() -> bool:
        answer = await pages.ask("/debug/sources")
        assert SECRET not in answer.text
        sources = {source["name"]: source for source in answer.json["items"]}
        lacking[:] = [sources[one.name] for one in bad if not one.shows(sources[one.name])]
        return sources["good"]["phase"] == "READY" and not lacking

    try:
        await wait_for_async(all_show, TIMEOUT, "all on the page of the sources")
    except NotInTimeError as error:
        raise AssertionError(f"{error}, but {json.dumps(lacking, indent=1)}") from error


async def check_tells(file: Path, bad: list[Bad], check_seconds: tuple[int, ...]) -> None:
    said = ""
    for seconds in check_seconds:
        code, said = await check(file, seconds)
        assert SECRET not in said
        answer = json.loads(said)
        contacts = {contact["name"]: contact for contact in answer["sources"]}
        if contacts["good"]["ok"] and all(one.is_told(contacts[one.name]) for one in bad):
            assert (answer["ok"], code) == ((False, 3) if any(one.words for one in bad) else (True, 0))
            return
    pytest.fail(f"`isthmus check` says {said}")


async def check(file: Path, seconds: int) -> tuple[int, str]:
    """Run `isthmus check` on the sources; return its exit code and what it prints."""
    command = (sys.executable, "-m", "isthmus", "check", "-c", str(file), "--connect", "-o", "json")
    process = await asyncio.create_subprocess_exec(
        *command, "--wait", str(seconds), cwd=CHECKOUT, stdout=asyncio.subprocess.PIPE
    )
    try:
        out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, out.decode()


class Subscriber:
    """What a bridge tells over xDS."""

    def __init__(self, stream: RawStream) -> None:
        self._stream = stream
        self._told: dict[str, list[str]] = {}

    async def until(self, host: str, *addresses: str) -> None:
        """Read on until a host, a pattern, has these endpoints and no others."""
        while not any(
            re.fullmatch(f"default/{host}", name) and told == list(addresses) for name, told in self._told.items()
        ):
            answer = await self._stream.read()
            await self._stream.ack(answer)
            self._told |= {name: answer.addresses(name) for name in answer.names}


@asynccontextmanager
async def subscribed(xds_address: str) -> AsyncIterator[Subscriber]:
    """Subscribe to all ServiceEntries of a bridge."""
    async with connect(xds_address) as channel:
        stream = open_stream(channel, DELTA)
        await stream.ask(SERVICE_ENTRIES)
        try:
            yield Subscriber(stream)
        finally:
            stream.call.cancel()
