"""A bridge with Eureka sources that are bad in every way we could think of, beside a good one (G11).

Credentials and odd registrations are tried on a real server; no real one can be brought to the other answers.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from isthmus.registry import codes
from tests.faults.bad_answers import PAGES, SECRET, site
from tests.faults.bad_sources import FIRST, SECOND, Bad, Bads, Good, Refused, stops_no_other_and_shows
from tests.registries.eureka_fake import fake_eureka
from tests.rig.eureka import Eureka, Instance

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.conftest import Parts

USER, PASSWORD = "me", f"{SECRET}-of-mine"


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


def of_eureka(server: Eureka, password: str = PASSWORD) -> dict[str, Any]:
    return {"address": server.address, "username": USER, "password": password, "poll": 1}


@asynccontextmanager
async def nowhere(_: pytest.FixtureRequest) -> AsyncIterator[list[Bad]]:
    yield [Bad("unknown", {"address": "http://eureka.invalid:8761/eureka"}, ("eureka.invalid:8761", "be resolved"))]


@asynccontextmanager
async def unwelcome(request: pytest.FixtureRequest) -> AsyncIterator[list[Bad]]:
    server: Eureka = request.getfixturevalue("real_eureka")
    why = ("answers 401", "credentials and rights")
    yield [
        Bad("wrong", of_eureka(server, f"{SECRET}-wrong"), why),
        Bad("without", {"address": server.address}, why),
    ]


@asynccontextmanager
async def odd(request: pytest.FixtureRequest) -> AsyncIterator[list[Bad]]:
    serves = {r"zero-port\.mesh": "10.1.0.1", r"host-name\.mesh": "10.1.0.2", r"x-[0-9a-z]+\.mesh": "10.1.0.3"}
    yield [
        Bad(
            "odd",
            of_eureka(request.getfixturevalue("real_eureka")),
            serves=serves,
            refused=(
                Refused(codes.BAD_PORT, ("port", "0", "not a number from 1 to 65535")),
                Refused(codes.NOT_AN_ADDRESS, ("'shop-host'",)),
            ),
        )
    ]


def garbled(what: str) -> Bads:
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
        one, other = (Instance("shop", f"shop:{ip}", ip=ip) for ip in (FIRST, SECOND))
        fake.hold(one)
        yield Good({"address": fake.address, "poll": 1}, lambda: fake.hold(one, other))


BAD: dict[str, Bads] = {
    "unresolvable address": nowhere,
    "wrong credentials": unwelcome,
    **{what: garbled(what) for what in PAGES},
    "odd registrations": odd,
}


@pytest.mark.parametrize("what", BAD)
async def test_G11_a_bad_eureka_stops_no_other_and_shows(
    what: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    async with BAD[what](request) as bad, good_eureka() as good:
        await stops_no_other_and_shows(tmp_path / "isthmus.yaml", "eureka", bad, good)
