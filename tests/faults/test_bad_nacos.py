"""A bridge with Nacos sources that are bad in every way we could think of, beside a good one (G11).

Credentials, namespaces and odd registrations are tried on a real server; no real one can be brought to the other
answers.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from isthmus.registry import codes
from tests.faults.bad_answers import GRPC_ANSWERS, PAGES, SECRET, site
from tests.faults.bad_sources import (
    ANSWER_TIMEOUT_S,
    FIRST,
    SECOND,
    Bad,
    Bads,
    Good,
    Refused,
    stops_no_other_and_shows,
)
from tests.registries.nacos_fake import FakeNacos, fake_nacos
from tests.rig.nacos import PASSWORD, USER, Nacos

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.conftest import Parts

ODD_GROUP = "ODD"


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
async def nowhere(_: pytest.FixtureRequest) -> AsyncIterator[list[Bad]]:
    yield [Bad("unknown", {"address": "nacos.invalid:8848"}, ("nacos.invalid:9848", "resolv"))]


@asynccontextmanager
async def unwelcome(request: pytest.FixtureRequest) -> AsyncIterator[list[Bad]]:
    server: Nacos = request.getfixturevalue("real_nacos")
    yield [
        Bad("wrong", of_nacos(server, password=f"{SECRET}-wrong"), ("wrong user or password",)),
        Bad("without", {"address": server.address}, ("403", "credentials and rights")),
    ]


@asynccontextmanager
async def misplaced(request: pytest.FixtureRequest) -> AsyncIterator[list[Bad]]:
    server: Nacos = request.getfixturevalue("real_nacos")
    reader = of_nacos(server, "reader", f"{SECRET}-of-reader", namespaces=["shpo"])
    yield [
        Bad("listed", of_nacos(server, namespaces=["shpo"]), ("no namespace 'shpo'", "there are: public")),
        Bad("unlisted", reader, ("nothing is registered in 'shpo'",)),
    ]


@asynccontextmanager
async def odd(request: pytest.FixtureRequest) -> AsyncIterator[list[Bad]]:
    source = of_nacos(request.getfixturevalue("real_nacos"), groups=[ODD_GROUP], health="any")
    serves = {r"zero-port\.mesh": "10.1.0.1", r"host-name\.mesh": "10.1.0.2", r"x-[0-9a-z]+\.mesh": "10.1.0.3"}
    yield [
        Bad(
            "odd",
            source,
            serves=serves,
            refused=(
                Refused(codes.BAD_PORT, ("port", "0", "not a number from 1 to 65535")),
                Refused(codes.NOT_AN_ADDRESS, ("'shop-host'",)),
            ),
        )
    ]


def garbled(what: str) -> Bads:
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
                refused = (Refused(codes.GARBLED, (word,)),)
                bad += [
                    Bad("list", of_fake(unlisted), (word,)),
                    Bad("service", of_fake(unread), serves={r"pay\.mesh": "10.1.0.1"}, refused=refused),
                ]
            yield bad

    return bads


def of_fake(fake: FakeNacos) -> dict[str, Any]:
    return {"address": f"127.0.0.1:{fake.port}", "grpcPortOffset": 0, "timeout": ANSWER_TIMEOUT_S, "listing": 0.2}


@asynccontextmanager
async def good_nacos() -> AsyncIterator[Good]:
    async with fake_nacos() as fake:

        def change() -> None:
            fake.hold("shop", FIRST, SECOND, made_at=2_000)
            fake.push(fake.services["shop"])

        fake.hold("shop", FIRST)
        yield Good(of_fake(fake), change)


BAD: dict[str, Bads] = {
    "unresolvable address": nowhere,
    "wrong credentials": unwelcome,
    "missing namespace": misplaced,
    **{what: garbled(what) for what in PAGES},
    "odd registrations": odd,
}


@pytest.mark.parametrize("what", BAD)
async def test_G11_a_bad_nacos_stops_no_other_and_shows(
    what: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    async with BAD[what](request) as bad, good_nacos() as good:
        await stops_no_other_and_shows(tmp_path / "isthmus.yaml", "nacos", bad, good)
