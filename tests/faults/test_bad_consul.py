"""A bridge with Consul sources that are bad in every way we could think of, beside a good one (G11).

Everything is tried on real servers but for answers that none gives.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from isthmus.registry import codes
from tests.faults.bad_answers import SECRET, grpc_site, silent_port, site
from tests.faults.bad_sources import (
    CHECK_SECONDS,
    FIRST,
    SECOND,
    TIMEOUT,
    Bad,
    Bads,
    Good,
    Refused,
    stops_no_other_and_shows,
)
from tests.faults.consul_answers import HUGE_SPOILINGS, LEADER, NAMES, PATHS, SPOILINGS, spoiled
from tests.rig.certificates import ClientCertificates
from tests.rig.consul import Consul, ConsulPair
from tests.rig.process import free_port
from tests.rig.wait import wait_for_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from pathlib import Path

    from tests.conftest import Parts
    from tests.faults.consul_answers import Spoiling

TOKEN = f"{SECRET}-of-root"
NODE, BARE_NODE = "node-1", "node-without-address"
ODD, PAY, UNREAD, CHINESE, HALF, SHOP = "odd", "pay", "unread", "用户服务", "half", "shop"
HIDDEN = "ACLs hide some services"
RIGHTS = ("`service_prefix", "`node_prefix")
# How long a Consul that says nothing is given, and a little.
SILENCE_SECONDS = 7


@pytest.fixture(scope="module")
def real_consul(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consul]:
    """Give a server that denies what no token allows, with odd registrations."""
    parts.need("consul")
    with Consul(tmp_path_factory.mktemp("consul"), dev=True, token=TOKEN) as server:
        server.put_node(NODE, "10.1.0.100")
        # Nothing but a transaction takes a node without an address.
        node = {"Node": BARE_NODE, "Address": ""}
        server.ask("PUT", "txn", [{"Node": {"Verb": "set", "Node": node}}]).expect()
        for name, address in ((ODD, "10.1.0.1"), (PAY, "10.1.0.2"), (UNREAD, "10.1.0.9"), (CHINESE, "10.1.0.3")):
            server.put(NODE, name, f"{name}-1", address=address)
        server.put(NODE, HALF, "half-1", address="10.1.0.4")
        odd = {"meta": {"password": f"{SECRET}-of-owner"}}
        server.put(NODE, ODD, "host-name", address="shop-host", **odd)
        server.put(BARE_NODE, ODD, "no-address", address="", **odd)
        server.put(NODE, ODD, "port-0", address="10.1.0.5", port=0, **odd)
        server.put(NODE, ODD, "port-70000", address="10.1.0.6", port=70_000, **odd)
        server.put(NODE, ODD, "long", address="10.1.0.7", tags=[f"token={SECRET}" + "x" * 70_000], **odd)
        yield server


@pytest.fixture(scope="module")
def tls_consul(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consul]:
    """Give a server that wants a client certificate."""
    parts.need("consul")
    directory = tmp_path_factory.mktemp("tls")
    certificates = ClientCertificates(directory / "certificates")
    with Consul(directory / "consul", dev=True, certificates=certificates) as server:
        yield server


def seeing(server: Consul, *services: str) -> dict[str, str]:
    """Return the keys of a source of these services of a server and no others."""
    rules = [f'service "{name}" {{ policy = "read" }}' for name in services]
    return {
        "address": server.url,
        "token": server.create_token("\n".join([*rules, 'node_prefix "" { policy = "read" }'])),
    }


def at(port: int, scheme: str = "http") -> str:
    return f"{scheme}://127.0.0.1:{port}"


@asynccontextmanager
async def elsewhere(_: pytest.FixtureRequest) -> AsyncIterator[list[Bad]]:
    """Addresses of no Consul."""

    async def page(_: web.Request) -> web.Response:
        return web.json_response("127.0.0.1:8300")

    async with AsyncExitStack() as stack:
        silent = stack.enter_context(silent_port())
        grpc = await stack.enter_async_context(grpc_site())
        other = await stack.enter_async_context(site(page))
        yield [
            Bad("unknown", {"address": "http://consul.invalid:8500"}, ("consul.invalid:8500", "be resolved")),
            Bad("closed", {"address": at(free_port())}, ("no connection: connection refused",)),
            Bad("silent", {"address": at(silent)}, ("no whole answer within 5 s",)),
            Bad("silent-tls", {"address": at(silent, "https")}, ("no connection within 5 s",)),
            Bad("grpc", {"address": at(grpc)}, ("speaks no HTTP",)),
            Bad("other", {"address": at(other)}, ("X-Consul-Index",)),
        ]


@asynccontextmanager
async def unwelcome(request: pytest.FixtureRequest) -> AsyncIterator[list[Bad]]:
    server: Consul = request.getfixturevalue("real_consul")
    deleted = server.create_token('service_prefix "" { policy = "read" }')
    server.delete_token(deleted)
    nodeless = server.create_token('service_prefix "" { policy = "read" }')
    useless = server.create_token('key_prefix "" { policy = "read" }')
    everything = {"address": server.url, "token": TOKEN}
    refused = ("answers 403 (ACL not found)", "credentials and rights")
    yield [
        Bad("deleted", {"address": server.url, "token": deleted}, refused),
        Bad("wrong", {"address": server.url, "token": f"{SECRET}-wrong"}, refused),
        Bad("without", {"address": server.url}, ("without a token", "say a `token`")),
        Bad("nodeless", {"address": server.url, "token": nodeless}, RIGHTS),
        Bad("useless", {"address": server.url, "token": useless}, RIGHTS),
        Bad("half", seeing(server, HALF), serves={r"half\.mesh": "10.1.0.4"}, note=HIDDEN),
        Bad("datacenter", {**everything, "datacenter": "dc9"}, ("No path to datacenter",)),
        Bad("namespace", {**everything, "consulNamespace": "team"}, ("400", "Consul Enterprise feature")),
        Bad("partition", {**everything, "partition": "team"}, ("400", "Consul Enterprise feature")),
    ]


@asynccontextmanager
async def without_trust(request: pytest.FixtureRequest) -> AsyncIterator[list[Bad]]:
    plain: Consul = request.getfixturevalue("real_consul")
    server: Consul = request.getfixturevalue("tls_consul")
    assert server.certificates is not None
    strangers = ClientCertificates(request.getfixturevalue("tmp_path") / "strangers")
    ca = {"ca": str(server.certificates.ca_file)}
    strange = {"cert": str(strangers.client_cert_file), "key": str(strangers.client_key_file)}
    distrusted = ("certificate is not trusted", "`ca`")
    yield [
        Bad("http", {"address": at(server.port)}, ("HTTP request to an HTTPS server",)),
        Bad("https", {"address": at(plain.port, "https"), **ca}, ("no TLS connection",)),
        Bad("system-ca", {"address": server.url}, distrusted),
        Bad("other-ca", {"address": server.url, "ca": str(strangers.ca_file)}, distrusted),
        Bad("no-ca", {"address": server.url, "ca": "nowhere.pem"}, ("nowhere.pem cannot be read",)),
        Bad("nameless", {"address": server.url, **ca}, ("client certificate", "`cert` and `key`")),
        Bad("stranger", {"address": server.url, **ca, **strange}, ("client certificate", "`cert` and `key`")),
    ]


def garbled(spoilings: dict[str, Spoiling], paths: Mapping[str, str]) -> Bads:
    """Spoil each of these answers in each of these ways, and that of one service."""

    @asynccontextmanager
    async def bads(request: pytest.FixtureRequest) -> AsyncIterator[list[Bad]]:
        server: Consul = request.getfixturevalue("real_consul")
        source = seeing(server, PAY, UNREAD)
        async with AsyncExitStack() as stack:
            bad: list[Bad] = []
            for way, spoiling in spoilings.items():
                for what, path in paths.items():
                    url = await stack.enter_async_context(spoiled(server, path, spoiling))
                    bad.append(Bad(f"{way}-{what}", {**source, "address": url}, (word_of(spoiling, path),)))
                if spoiling is not SPOILINGS["broken"]:
                    # One that breaks off is asked for again for half a minute: test_consul_doubts.py.
                    url = await stack.enter_async_context(spoiled(server, f"/v1/health/service/{UNREAD}", spoiling))
                    bad.append(one_unread(way, {**source, "address": url}, spoiling))
            yield bad

    return bads


def word_of(spoiling: Spoiling, path: str) -> str:
    nested = spoiling is SPOILINGS["deep"] and path in (LEADER, NAMES)
    return "another form than expected" if nested else spoiling.word


def one_unread(way: str, source: dict[str, Any], spoiling: Spoiling) -> Bad:
    refused = (Refused(codes.GARBLED, (spoiling.word, "what was known of it is kept")),)
    # A suffix of its own, or it would be one service with that of the others.
    return Bad(f"{way}-service", {**source, "suffix": way}, (), {rf"pay\.{way}": "10.1.0.2"}, refused, HIDDEN)


@asynccontextmanager
async def odd(request: pytest.FixtureRequest) -> AsyncIterator[list[Bad]]:
    server: Consul = request.getfixturevalue("real_consul")
    yield [
        Bad(
            "odd",
            seeing(server, ODD, CHINESE),
            serves={r"odd\.mesh": "10.1.0.1", r"x-[0-9a-z]+\.mesh": "10.1.0.3"},
            refused=(
                Refused(codes.NOT_AN_ADDRESS, ("'shop-host'",)),
                Refused(codes.NOT_AN_ADDRESS, ("''",)),
                Refused(codes.BAD_PORT, ("port 0 ", "not a number from 1 to 65535")),
                Refused(codes.BAD_PORT, ("port 70000 ", "not a number from 1 to 65535")),
                Refused(codes.TOO_LONG, ("65536 are read",)),
            ),
            note=HIDDEN,
        )
    ]


@asynccontextmanager
async def leaderless(request: pytest.FixtureRequest) -> AsyncIterator[list[Bad]]:
    pair: ConsulPair = await asyncio.to_thread(request.getfixturevalue, "consul_pair")
    leader, other = pair.leader_first()
    leader.kill()
    await wait_for_async(lambda: not other.leader(), TIMEOUT, "word that there is no leader")
    no_leader = (other.address, "knows no leader")
    yield [
        Bad("default", {"address": other.url}, no_leader),
        Bad("stale", {"address": other.url, "consistency": "stale"}, no_leader),
        Bad("both", {"address": f"{leader.url},{other.url}"}, (leader.address, "refused", *no_leader)),
    ]


BAD: dict[str, Bads] = {
    "no Consul": elsewhere,
    "wrong tokens and scopes": unwelcome,
    "wrong ways of TLS": without_trust,
    "garbled answers": garbled(SPOILINGS, PATHS),
    "100 MB answers": garbled(HUGE_SPOILINGS, {what: path for what, path in PATHS.items() if path == NAMES}),
    "odd registrations": odd,
    "no leader": leaderless,
}


@pytest.mark.parametrize("what", BAD)
async def test_G11_a_bad_consul_stops_no_other_and_shows(
    what: str, request: pytest.FixtureRequest, real_consul: Consul, tmp_path: Path
) -> None:
    seconds = tuple(max(one, SILENCE_SECONDS) for one in CHECK_SECONDS) if what == "no Consul" else CHECK_SECONDS
    async with BAD[what](request) as bad:
        good = good_consul(real_consul)
        await stops_no_other_and_shows(tmp_path / "isthmus.yaml", "consul", bad, good, seconds)


def good_consul(server: Consul) -> Good:
    server.remove(NODE, SECOND)
    server.put(NODE, SHOP, FIRST, address=FIRST)
    return Good(seeing(server, SHOP), lambda: server.put(NODE, SHOP, SECOND, address=SECOND))
