"""A bridge with sources that are bad in every way we could think of, beside a good one of the same kind (G11).

The good one is served and followed whatever the others do, and each of them shows in `/debug/sources` and in
`isthmus check`. Credentials, namespaces and odd registrations are tried on real servers; no real one can be brought to
the other answers.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import yaml

from isthmus.app import Bridge
from isthmus.config import load_config
from isthmus.registry import codes
from tests.debug.web import pages_of
from tests.faults.bad_answers import GRPC_ANSWERS, PAGES, SECRET, site
from tests.protocol.stream import DELTA, SERVICE_ENTRIES, RawStream, connect, open_stream
from tests.registries.eureka_fake import fake_eureka
from tests.registries.nacos_fake import FakeNacos, fake_nacos
from tests.rig.bridge import CHECKOUT
from tests.rig.eureka import Eureka, Instance
from tests.rig.nacos import PASSWORD, USER, Nacos
from tests.rig.wait import wait_for_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.conftest import Parts
    from tests.debug.web import Pages

TIMEOUT = 120.0
ANSWER_TIMEOUT_S = 60
STARTUP_GRACE_S = 0.2
# As long as a source fails, `check` takes all the time that it is given: little at first, more where it was too little.
CHECK_SECONDS = (1, 3, 8, 24, 72)
ODD_GROUP = "ODD"
ODD_SERVICES = 3


class Bad(NamedTuple):
    """One bad source, its keys in the configuration, and how it shows.

    words: in the reason why it is not read or, with a `code`, why something of it is refused.
    services: how many it serves all the same; 0: it cannot be read. host, address: one of them, a pattern, and its only
    endpoint.
    """

    name: str
    source: dict[str, Any]
    words: tuple[str, ...] = ()
    code: str = ""
    services: int = 0
    host: str = ""
    address: str = ""

    def shows(self, source: dict[str, Any]) -> bool:
        """Tell whether this is what the page of the sources should say."""
        if not self.services:
            return source["phase"] == "CONNECTING" and self._is_why(source["lastError"])
        reasons = [one["reason"] for one in source["refusals"] if one["code"] == self.code]
        return source["phase"] == "READY" and self._counts(source) and any(map(self._is_why, reasons or [""]))

    def is_told(self, contact: dict[str, Any]) -> bool:
        """Tell whether this is what `isthmus check` should say."""
        if not self.services:
            return not contact["ok"] and self._is_why(contact["reason"])
        return contact["ok"] and self._counts(contact)

    def _is_why(self, reason: str | None) -> bool:
        return reason is not None and all(word in reason for word in self.words)

    def _counts(self, told: dict[str, Any]) -> bool:
        return told["services"] == self.services and (not self.code or told["refused"].get(self.code, 0) > 0)


class Good(NamedTuple):
    """The good source: `shop` is at 10.0.0.1 there, and after `change` at 10.0.0.2 too."""

    source: dict[str, Any]
    change: Callable[[], None]


Bads = Callable[[pytest.FixtureRequest], AbstractAsyncContextManager[list[Bad]]]


# Nacos.


@pytest.fixture(scope="module")
def real_nacos(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nacos]:
    """Give a server that wants a password and takes any name, with odd registrations."""
    parts.need("nacos3")
    settings = {"nacos.core.param.check.enabled": "false"}
    with Nacos(tmp_path_factory.mktemp("nacos"), auth=True, settings=settings) as server:
        for service, ip, port in (
            *(("zero-port", "10.1.0.1", 8080), ("zero-port", "10.1.0.9", 0)),
            *(("host-name", "10.1.0.2", 8080), ("host-name", "shop-host", 8080)),
            ("用户服务", "10.1.0.3", 8080),
        ):
            # Nobody sends heartbeats for them, which only persistent ones survive.
            server.register(service, ip, port, group=ODD_GROUP, ephemeral=False)
        server.create_user("reader", f"{SECRET}-of-reader", reads="shpo")
        yield server


def of_nacos(server: Nacos, username: str = USER, password: str = PASSWORD, **more: Any) -> dict[str, Any]:
    return {"address": server.address, "username": username, "password": password, **more}


@asynccontextmanager
async def nowhere_nacos(_: pytest.FixtureRequest) -> AsyncIterator[list[Bad]]:
    yield [Bad("unknown", {"address": "nacos.invalid:8848"}, ("nacos.invalid:9848", "resolv"))]


@asynccontextmanager
async def unwelcome_in_nacos(request: pytest.FixtureRequest) -> AsyncIterator[list[Bad]]:
    server: Nacos = request.getfixturevalue("real_nacos")
    yield [
        Bad("wrong", of_nacos(server, password=f"{SECRET}-wrong"), ("wrong user or password",)),
        Bad("without", {"address": server.address}, ("403", "credentials and rights")),
    ]


@asynccontextmanager
async def misplaced_in_nacos(request: pytest.FixtureRequest) -> AsyncIterator[list[Bad]]:
    server: Nacos = request.getfixturevalue("real_nacos")
    reader = of_nacos(server, "reader", f"{SECRET}-of-reader", namespaces=["shpo"])
    yield [
        Bad("listed", of_nacos(server, namespaces=["shpo"]), ("no namespace 'shpo'", "there are: public")),
        Bad("unlisted", reader, ("nothing is registered in 'shpo'",)),
    ]


def odd_in_nacos(odd: Callable[[dict[str, Any]], Bad]) -> Bads:
    @asynccontextmanager
    async def bads(request: pytest.FixtureRequest) -> AsyncIterator[list[Bad]]:
        yield [odd(of_nacos(request.getfixturevalue("real_nacos"), groups=[ODD_GROUP], health="any"))]

    return bads


def garbled_nacos(what: str) -> Bads:
    """Bad answers of each page, and over gRPC: as the list of services, and as one service of several."""

    @asynccontextmanager
    async def bads(_: pytest.FixtureRequest) -> AsyncIterator[list[Bad]]:
        async with AsyncExitStack() as stack:
            fake = await stack.enter_async_context(fake_nacos())
            page, word = PAGES[what][0]
            port = await stack.enter_async_context(site(page))
            at = {"address": f"127.0.0.1:{port}", "grpcPortOffset": fake.port - port, "timeout": ANSWER_TIMEOUT_S}
            bad = [
                Bad("login", {**at, "username": USER, "password": f"{SECRET}-password"}, (word,)),
                Bad("namespaces", {**at, "namespaces": ["*"]}, (word,)),
                Bad("services", {**at, "groups": ["*"]}, (word,)),
            ]
            if what in GRPC_ANSWERS:
                body, word = GRPC_ANSWERS[what]
                unlisted = await stack.enter_async_context(fake_nacos())
                unlisted.bodies["ServiceListRequest", ""] = body()
                unread = await stack.enter_async_context(fake_nacos())
                unread.hold("pay", "10.1.0.1")
                unread.hold("odd")
                unread.bodies["SubscribeServiceRequest", "odd"] = unread.bodies["ServiceQueryRequest", "odd"] = body()
                bad += [
                    Bad("list", of_fake(unlisted), (word,)),
                    Bad("service", of_fake(unread), (word,), codes.GARBLED, 1, r"pay\.mesh", "10.1.0.1"),
                ]
            yield bad

    return bads


def of_fake(fake: FakeNacos) -> dict[str, Any]:
    return {"address": f"127.0.0.1:{fake.port}", "grpcPortOffset": 0, "timeout": ANSWER_TIMEOUT_S, "listing": 0.2}


@asynccontextmanager
async def good_nacos() -> AsyncIterator[Good]:
    async with fake_nacos() as fake:

        def change() -> None:
            fake.hold("shop", "10.0.0.1", "10.0.0.2", made_at=2_000)
            fake.push(fake.services["shop"])

        fake.hold("shop", "10.0.0.1")
        yield Good(of_fake(fake), change)


# Eureka.


class AtPortZero(Instance):
    """An instance that says that its port 0 is to be called."""

    def record(self) -> dict[str, Any]:
        return {**super().record(), "port": {"$": 0, "@enabled": "true"}}


@pytest.fixture(scope="module")
def real_eureka(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Eureka]:
    """Give a server that wants a password, with odd registrations."""
    parts.need("eureka")
    with Eureka(tmp_path_factory.mktemp("eureka"), credentials=(USER, PASSWORD)) as server:
        server.register("zero-port", "1", ip="10.1.0.1")
        server.register_all([AtPortZero("zero-port", "2", ip="10.1.0.9")])
        server.register("host-name", "1", ip="10.1.0.2")
        server.register("host-name", "2", ip="shop-host")
        server.register("用户服务", "1", ip="10.1.0.3")
        yield server


def of_eureka(server: Eureka, username: str = USER, password: str = PASSWORD) -> dict[str, Any]:
    return {"address": server.address, "username": username, "password": password, "poll": 1}


@asynccontextmanager
async def nowhere_eureka(_: pytest.FixtureRequest) -> AsyncIterator[list[Bad]]:
    yield [Bad("unknown", {"address": "http://eureka.invalid:8761/eureka"}, ("eureka.invalid:8761", "be resolved"))]


@asynccontextmanager
async def unwelcome_in_eureka(request: pytest.FixtureRequest) -> AsyncIterator[list[Bad]]:
    server: Eureka = request.getfixturevalue("real_eureka")
    why = ("answers 401", "credentials and rights")
    yield [
        Bad("wrong", of_eureka(server, password=f"{SECRET}-wrong"), why),
        Bad("without", {"address": server.address}, why),
    ]


def odd_in_eureka(odd: Callable[[dict[str, Any]], Bad]) -> Bads:
    @asynccontextmanager
    async def bads(request: pytest.FixtureRequest) -> AsyncIterator[list[Bad]]:
        yield [odd(of_eureka(request.getfixturevalue("real_eureka")))]

    return bads


def garbled_eureka(what: str) -> Bads:
    @asynccontextmanager
    async def bads(_: pytest.FixtureRequest) -> AsyncIterator[list[Bad]]:
        async with AsyncExitStack() as stack:
            bad: list[Bad] = []
            for number, (page, word) in enumerate(PAGES[what]):
                port = await stack.enter_async_context(site(page))
                bad.append(Bad(f"bad-{number}", {"address": f"http://127.0.0.1:{port}/eureka"}, (word,)))
            yield bad

    return bads


@asynccontextmanager
async def good_eureka() -> AsyncIterator[Good]:
    async with fake_eureka() as fake:
        one, other = (Instance("shop", f"shop:{number}", ip=f"10.0.0.{number}") for number in (1, 2))
        fake.hold(one)
        yield Good({"address": fake.address, "poll": 1}, lambda: fake.hold(one, other))


# The tests.


def zero_port(source: dict[str, Any]) -> Bad:
    return Bad(
        "odd",
        source,
        ("port", "0", "not a number from 1 to 65535"),
        codes.BAD_PORT,
        ODD_SERVICES,
        r"zero-port\.mesh",
        "10.1.0.1",
    )


def host_name(source: dict[str, Any]) -> Bad:
    return Bad("odd", source, ("'shop-host'",), codes.NOT_AN_ADDRESS, ODD_SERVICES, r"host-name\.mesh", "10.1.0.2")


def chinese(source: dict[str, Any]) -> Bad:
    return Bad("odd", source, services=ODD_SERVICES, host=r"x-[0-9a-z]+\.mesh", address="10.1.0.3")


NACOS: dict[str, Bads] = {
    "unresolvable address": nowhere_nacos,
    "wrong credentials": unwelcome_in_nacos,
    "missing namespace": misplaced_in_nacos,
    **{what: garbled_nacos(what) for what in PAGES},
    "port 0": odd_in_nacos(zero_port),
    "host name": odd_in_nacos(host_name),
    "Chinese name": odd_in_nacos(chinese),
}
EUREKA: dict[str, Bads] = {
    "unresolvable address": nowhere_eureka,
    "wrong credentials": unwelcome_in_eureka,
    **{what: garbled_eureka(what) for what in PAGES},
    "port 0": odd_in_eureka(zero_port),
    "host name": odd_in_eureka(host_name),
    "Chinese name": odd_in_eureka(chinese),
}


@pytest.mark.parametrize("what", NACOS)
async def test_G11_a_bad_nacos_stops_no_other_and_shows(
    what: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    async with NACOS[what](request) as bad, good_nacos() as good:
        await stops_no_other_and_shows(tmp_path / "isthmus.yaml", "nacos", bad, good)


@pytest.mark.parametrize("what", EUREKA)
async def test_G11_a_bad_eureka_stops_no_other_and_shows(
    what: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    async with EUREKA[what](request) as bad, good_eureka() as good:
        await stops_no_other_and_shows(tmp_path / "isthmus.yaml", "eureka", bad, good)


async def stops_no_other_and_shows(file: Path, kind: str, bad: list[Bad], good: Good) -> None:
    configure(file, kind, bad, good)
    async with asyncio.TaskGroup() as tasks:
        # At the same time, since it takes its own.
        tasks.create_task(check_tells(file, bad))
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
    async with bridge.running(), pages_of(bridge) as pages, subscribed(bridge) as subscriber:
        await subscriber.until(r"shop\.mesh", "10.0.0.1")
        await wait_for_async(lambda: all_show(pages, bad), TIMEOUT, "all on the page of the sources")
        good.change()
        await subscriber.until(r"shop\.mesh", "10.0.0.1", "10.0.0.2")
        for one in bad:
            if one.services:
                await subscriber.until(one.host, one.address)
        await wait_for_async(lambda: all_show(pages, bad), TIMEOUT, "all on the page of the sources, still")


async def all_show(pages: Pages, bad: list[Bad]) -> bool:
    answer = await pages.ask("/debug/sources")
    assert SECRET not in answer.text
    sources = {source["name"]: source for source in answer.json["items"]}
    return sources["good"]["phase"] == "READY" and all(one.shows(sources[one.name]) for one in bad)


async def check_tells(file: Path, bad: list[Bad]) -> None:
    said = ""
    for seconds in CHECK_SECONDS:
        code, said = await check(file, seconds)
        assert SECRET not in said
        answer = json.loads(said)
        contacts = {contact["name"]: contact for contact in answer["sources"]}
        if contacts["good"]["ok"] and all(one.is_told(contacts[one.name]) for one in bad):
            assert (answer["ok"], code) == ((True, 0) if all(one.services for one in bad) else (False, 3))
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
async def subscribed(bridge: Bridge) -> AsyncIterator[Subscriber]:
    async with connect(bridge.xds_address) as channel:
        stream = open_stream(channel, DELTA)
        await stream.ask(SERVICE_ENTRIES)
        try:
            yield Subscriber(stream)
        finally:
            stream.call.cancel()
