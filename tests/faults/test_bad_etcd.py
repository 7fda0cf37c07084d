"""A bridge with etcd sources that are bad in every way we could think of, beside a good one (G11).

Everything is tried on real servers but for what speaks gRPC and is no etcd.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from isthmus.registry import codes
from tests.faults.bad_answers import PAGES, SECRET, grpc_site, silent_port, site
from tests.faults.bad_sources import (
    ANSWER_TIMEOUT_S,
    FIRST,
    SECOND,
    TIMEOUT,
    Bad,
    Bads,
    Good,
    Refused,
    stops_no_other_and_shows,
    subscribed,
)
from tests.faults.etcd_records import GOOD_PLACE, SHAPES
from tests.rig.certificates import ClientCertificates
from tests.rig.etcd import Etcd
from tests.rig.process import free_port
from tests.rig.proxy import proxy_to
from tests.rig.wait import wait_for_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from tests.conftest import Parts
    from tests.faults.etcd_records import Shape
    from tests.rig.bridge import Bridge
    from tests.rig.etcd import EtcdCluster

USER, PASSWORD = "clerk", f"{SECRET}-of-clerk"
READABLE, GOOD, ODD, HALF, FORBIDDEN = "bad/", "bad/good/", "bad/odd/", "bad/half/", "other/"
NO_ETCD = "does not speak etcd's v3 API"
GARBAGE = b"\xff\xff{}"
SILENT_FOR_S = 0.5


@pytest.fixture(scope="module")
def real_etcd(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """Give a server that wants a password, with a user who may read a part of it."""
    parts.need("etcd-3.6")
    with Etcd(tmp_path_factory.mktemp("etcd"), readable=READABLE) as server:
        server.gateway.add_role("clerks")
        server.gateway.grant_read("clerks", READABLE)
        server.gateway.add_user(USER, PASSWORD, "clerks")
        yield server


@pytest.fixture(scope="module")
def tls_etcd(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """Give a server that wants a client certificate."""
    parts.need("etcd-3.6")
    directory = tmp_path_factory.mktemp("tls")
    with Etcd(directory / "etcd", certificates=ClientCertificates(directory / "certificates")) as server:
        yield server


def of_etcd(address: str, *prefixes: str, form: str = "go-zero", **more: Any) -> dict[str, Any]:
    """Return the keys of a source."""
    chosen = {prefix: {"format": form} for prefix in prefixes or (GOOD,)}
    return {"address": address, "prefixes": chosen, "timeout": ANSWER_TIMEOUT_S, **more}


def as_user(user: str = USER, password: str = PASSWORD) -> dict[str, str]:
    return {"username": user, "password": password}


def at(port: int, scheme: str = "http") -> str:
    return f"{scheme}://127.0.0.1:{port}"


@asynccontextmanager
async def elsewhere(request: pytest.FixtureRequest) -> AsyncIterator[list[Bad]]:
    """Addresses of no etcd."""
    async with AsyncExitStack() as stack:
        silent = stack.enter_context(silent_port())
        other = await stack.enter_async_context(grpc_site())
        garbage = await stack.enter_async_context(grpc_site(Authenticate=GARBAGE, Range=GARBAGE))
        pages = {
            f"page-{what.replace(' ', '-')}-{number}": await stack.enter_async_context(site(page))
            for what, answers in PAGES.items()
            for number, (page, _) in enumerate(answers)
        }
        yield [
            Bad("unknown", of_etcd("http://etcd.invalid:2379"), ("etcd.invalid:2379", "resolv")),
            Bad("closed", of_etcd(at(free_port())), ("Connection refused",)),
            Bad("silent", of_etcd(at(silent), timeout=SILENT_FOR_S), ("no answer within 0.5 s",)),
            Bad("silent-tls", of_etcd(at(silent, "https"), timeout=SILENT_FOR_S), ("no answer within 0.5 s",)),
            Bad("method", of_etcd(at(other), **as_user()), (NO_ETCD,)),
            Bad("login", of_etcd(at(garbage), **as_user()), (NO_ETCD,)),
            Bad("list", of_etcd(at(garbage)), (NO_ETCD,)),
            *(Bad(name, of_etcd(at(port), **as_user()), (NO_ETCD,)) for name, port in pages.items()),
        ]


@asynccontextmanager
async def unwelcome(request: pytest.FixtureRequest) -> AsyncIterator[list[Bad]]:
    server: Etcd = request.getfixturevalue("real_etcd")
    server.gateway.put(f"{HALF}half/1", GOOD_PLACE)
    credentials = ("authentication failed", "check `username` and `password`")
    yield [
        Bad("wrong", of_etcd(server.url, **as_user(password=f"{SECRET}-wrong")), credentials),
        Bad("stranger", of_etcd(server.url, **as_user("nobody")), credentials),
        Bad("without", of_etcd(server.url), ("user name is empty", "check `username` and `password`")),
        Bad("no-rights", of_etcd(server.url, FORBIDDEN, **as_user()), ("permission denied", "the right to read")),
        Bad(
            "half",
            of_etcd(server.url, HALF, FORBIDDEN, **as_user()),
            serves={r"half\.mesh": "10.1.0.1"},
            refused=(Refused(codes.DENIED, ("no right to read",)),),
        ),
    ]


@asynccontextmanager
async def without_trust(request: pytest.FixtureRequest) -> AsyncIterator[list[Bad]]:
    plain: Etcd = request.getfixturevalue("real_etcd")
    server: Etcd = request.getfixturevalue("tls_etcd")
    assert server.certificates is not None
    strangers = ClientCertificates(request.getfixturevalue("tmp_path") / "strangers")
    ca = {"ca": str(server.certificates.ca_file)}
    strange = {"cert": str(strangers.client_cert_file), "key": str(strangers.client_key_file)}
    distrusted = ("certificate is not trusted", "`ca`")
    yield [
        Bad("http", of_etcd(at(server.port)), ("begins with `https:`",)),
        Bad("https", of_etcd(at(plain.port, "https"), **ca), ("begins with `http:`",)),
        Bad("system-ca", of_etcd(server.url), distrusted),
        Bad("other-ca", of_etcd(server.url, ca=str(strangers.ca_file)), distrusted),
        Bad("no-ca", of_etcd(server.url, ca="nowhere.pem"), ("nowhere.pem cannot be read",)),
        Bad("nameless", of_etcd(server.url, **ca), ("client certificate", "`cert` and `key`")),
        Bad("stranger", of_etcd(server.url, **ca, **strange), ("client certificate", "`cert` and `key`")),
    ]


@asynccontextmanager
async def odd(request: pytest.FixtureRequest) -> AsyncIterator[list[Bad]]:
    """What cannot be read, in each format and beside what can."""
    server: Etcd = request.getfixturevalue("real_etcd")
    yield [odd_of(server, number, form, shape) for number, (form, shape) in enumerate(SHAPES.items())]


def odd_of(server: Etcd, number: int, form: str, shape: Shape) -> Bad:
    prefix = f"{ODD}{form}/"
    # No two formats have a service in common: it would have other ports.
    odd_name, chinese = f"odd-{form}", f"{form}-用户服务"
    good = {odd_name: f"10.1.{number}.1", chinese: f"10.1.{number}.2"}
    for name, address in good.items():
        key, value = shape.instance(name, f"{address}:8080")
        server.gateway.put(f"{prefix}{key}", value)
    refused = []
    for (key, value), how in shape.odd(odd_name):
        server.gateway.put(f"{prefix}{key}", value)
        refused.append(how)
    hosts = {f"{odd_name}{shape.suffix}": good[odd_name], f"[-0-9a-z]+{shape.suffix}": good[chinese]}
    source = of_etcd(server.url, prefix, form=form, **as_user())
    return Bad(form, source, serves=hosts, refused=tuple(refused))


@asynccontextmanager
async def leaderless(request: pytest.FixtureRequest) -> AsyncIterator[list[Bad]]:
    start: Callable[..., EtcdCluster] = request.getfixturevalue("etcd_cluster")
    cluster = await asyncio.to_thread(start)
    alone = cluster.members[0]
    await asyncio.to_thread(cluster.isolate, alone)
    yield [
        Bad("list", of_etcd(alone.url), (alone.address, "no leader")),
        Bad("login", of_etcd(alone.url, **as_user()), (alone.address, "no leader")),
    ]


BAD: dict[str, Bads] = {
    "no etcd": elsewhere,
    "wrong credentials and rights": unwelcome,
    "wrong ways of TLS": without_trust,
    "odd registrations": odd,
    "no leader": leaderless,
}


@pytest.mark.parametrize("what", BAD)
async def test_G11_a_bad_etcd_stops_no_other_and_shows(
    what: str, request: pytest.FixtureRequest, real_etcd: Etcd, tmp_path: Path
) -> None:
    async with BAD[what](request) as bad:
        await stops_no_other_and_shows(tmp_path / "isthmus.yaml", "etcd", bad, good_etcd(real_etcd))


def good_etcd(server: Etcd) -> Good:
    server.gateway.delete_prefix(GOOD)
    server.gateway.put(f"{GOOD}shop/1", f"{FIRST}:80")

    def change() -> None:
        server.gateway.put(f"{GOOD}shop/2", f"{SECOND}:80")

    return Good(of_etcd(server.url, **as_user()), change)


async def test_ET7_G11_a_lease_that_ends_while_a_bridge_is_cut_off_or_stopped(
    real_etcd: Etcd, bridge: Callable[..., Bridge]
) -> None:
    """Its endpoint leaves, and it alone; until then another source of the same etcd is followed."""
    gateway = real_etcd.gateway
    good = good_etcd(real_etcd)
    leases = [gateway.lease(3_600) for _ in range(2)]
    gateway.put(f"{HALF}half/0", GOOD_PLACE)
    for number, lease in enumerate(leases, start=2):
        gateway.put(f"{HALF}half/{number}", f"10.1.0.{number}:8080", lease=lease)
    async with proxy_to("127.0.0.1", real_etcd.port) as proxy:
        cut = of_etcd(f"http://{proxy.address}", HALF, settle=1, **as_user())
        sources = [{"name": "cut", "kind": "etcd", **cut}, {"name": "good", "kind": "etcd", **good.source}]
        started = await asyncio.to_thread(bridge, sources)
        async with subscribed(started.address) as subscriber:
            await subscriber.until(r"half\.mesh", "10.1.0.1", "10.1.0.2", "10.1.0.3")
            proxy.cut()
            await wait_for_async(lambda: phases(started) == ["STALE", "READY"], TIMEOUT, "word of the cut")
            gateway.revoke(leases[0])
            good.change()
            await subscriber.until(r"shop\.mesh", FIRST, SECOND)
            proxy.heal()
            await subscriber.until(r"half\.mesh", "10.1.0.1", "10.1.0.3")
        await asyncio.to_thread(started.stop)
        gateway.revoke(leases[1])
        await asyncio.to_thread(started.start)
        async with subscribed(started.address) as subscriber:
            await subscriber.until(r"half\.mesh", "10.1.0.1")
            await subscriber.until(r"shop\.mesh", FIRST, SECOND)


def phases(started: Bridge) -> list[str]:
    return [source["phase"] for source in started.debug("sources")["items"]]
