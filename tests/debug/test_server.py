"""debug/server.py: who may ask, how, and what is answered when something is wrong."""

from __future__ import annotations

import asyncio
import platform

import pytest

import isthmus
from isthmus.debug.server import host_of, may_ask, serve_debug
from isthmus.registry.errors import ConfigError
from tests.debug.web import bridge_of, pages_of
from tests.rig.missing import leave_out
from tests.rig.process import own_address
from tests.rig.tools import MissingToolError

PATHS = ["/debug", "/debug/sources", "/debug/services", "/healthz/live", "/healthz/ready", "/metrics", "/version"]


@pytest.mark.parametrize("path", [*PATHS, "/debug/nothing"])
async def test_T22_T23_every_answer_has_the_headers_that_keep_browsers_out(path: str) -> None:
    async with pages_of(bridge_of("zk")) as pages:
        headers = (await pages.ask(path)).headers

    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"] == "default-src 'none'"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Server"] == "isthmus"
    assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"])
async def test_T22_pages_can_only_be_read(method: str, path: str) -> None:
    async with pages_of(bridge_of("zk")) as pages:
        answer = await pages.ask(path, method=method)

    assert answer.status == 405
    assert answer.headers["Allow"] == "GET"
    assert answer.headers["Content-Type"] == "application/problem+json; charset=utf-8"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:16014", "127.0.0.1.evil.example", "[::2]", "10.0.0.1", ""]
)
@pytest.mark.parametrize("path", ["/debug/sources", "/metrics"])
async def test_T22_a_foreign_host_name_is_refused(host: str, path: str) -> None:
    async with pages_of(bridge_of("zk")) as pages:
        answer = await pages.ask(path, headers={"Host": host})

    assert answer.status == 403
    assert answer.json["title"] == "Forbidden"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:99", "[::1]", "[::1]:16014"])
async def test_T22_the_names_of_this_machine_are_taken_with_any_port(host: str) -> None:
    async with pages_of(bridge_of("zk")) as pages:
        assert (await pages.ask("/debug/sources", headers={"Host": host})).status == 200


def test_the_host_of_a_header() -> None:
    headers = ["a.b", "A.b:1", "[::1]:1", "[2001:DB8::1]", "[::1", ""]

    assert [host_of(header) for header in headers] == ["a.b", "a.b", "::1", "2001:db8::1", "::1", ""]


@pytest.mark.parametrize(
    ("path", "peer", "allowed"),
    [
        *[("/debug/sources", peer, True) for peer in ("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1")],
        *[("/debug", peer, False) for peer in ("10.0.0.1", "2001:db8::1", "::ffff:10.0.0.1", "", None, "localhost")],
        *[(path, "10.0.0.1", True) for path in ("/healthz/live", "/healthz/ready", "/metrics", "/version")],
    ],
)
def test_T22_pages_are_for_this_machine_only(path: str, peer: str | None, allowed: bool) -> None:
    assert may_ask(path, peer) is allowed


async def test_T22_another_machine_sees_health_and_metrics_only() -> None:
    try:
        address = own_address()
    except MissingToolError as error:
        leave_out(error)
    async with pages_of(bridge_of("zk"), "0.0.0.0:0") as pages:
        there = {path: (await pages.ask(path, at=address)).status for path in ("/debug", "/debug/config", "/metrics")}
        here = await pages.ask("/debug")

    assert there == {"/debug": 403, "/debug/config": 403, "/metrics": 200}
    assert here.status == 200


async def test_IPv6_is_served_in_brackets() -> None:
    async with pages_of(bridge_of("zk"), "[::1]:0") as pages:
        assert (await pages.ask("/debug/sources", at="[::1]")).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/debug?limit=1",
        "/debug/sources?name=zk",
        "/debug/sources/zk/refusals?lmit=1",
        "/debug/services?sources=zk",
        "/debug/services?limit=0",
        "/debug/services?limit=5001",
        "/debug/services?continue=nonsense!",
        "/debug/services?q=a&q=b",
        "/debug/services/a.b?host=a.b",
        "/debug/subscribers?q=a",
        "/debug/subscribers?continue=InN0cmluZyI",
        "/debug/pushes?limit=x",
        "/debug/config?prety",
        "/version?x",
    ],
)
async def test_a_key_or_value_that_a_page_does_not_know_is_a_problem(path: str) -> None:
    async with pages_of(bridge_of("zk")) as pages:
        problem = await pages.problem(path, 400)

    assert problem["title"] == "Bad Request"
    assert "query key" in problem["detail"]


async def test_a_mistyped_key_is_told_with_the_nearest_one() -> None:
    async with pages_of(bridge_of("zk")) as pages:
        assert (await pages.problem("/debug/services?namspace=x", 400))["nearest"][0] == "namespace"


async def test_a_page_that_is_not_there_is_a_problem_with_the_nearest_ones() -> None:
    async with pages_of(bridge_of("zk")) as pages:
        problem = await pages.problem("/debug/sorces", 404)

    assert problem["nearest"][0] == "/debug/sources"


async def test_pretty_is_for_people() -> None:
    async with pages_of(bridge_of("zk")) as pages:
        plain, pretty = await pages.ask("/debug/config"), await pages.ask("/debug/config?pretty")

    assert "\n" not in plain.text
    assert pretty.text.startswith('{\n  "')
    assert pretty.json == plain.json


async def test_the_version() -> None:
    async with pages_of(bridge_of("zk")) as pages:
        version = await pages.get("/version")

    assert (version["version"], version["python"]) == (isthmus.__version__, platform.python_version())
    assert version["runningSeconds"] >= 0


async def test_a_bug_in_one_page_is_told_and_costs_no_other(caplog: pytest.LogCaptureFixture) -> None:
    bridge = bridge_of("zk")
    bridge.started_at = "not a number"  # type: ignore[assignment]
    async with pages_of(bridge) as pages:
        problem = await pages.problem("/version", 500)
        assert (await pages.ask("/debug/sources")).status == 200

    assert "report" in problem["detail"]
    assert "not a number" not in str(problem)
    assert "TypeError" in caplog.text


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:99999", "127.0.0.1", "192.0.2.1:0"])
async def test_an_address_that_cannot_be_bound_is_a_mistake_of_the_configuration(address: str) -> None:
    with pytest.raises(ConfigError, match="debug: "):
        async with serve_debug(bridge_of("zk"), address):
            pytest.fail("bound")


async def test_a_port_that_is_taken_is_a_mistake_of_the_configuration() -> None:
    async with serve_debug(bridge_of("zk"), "127.0.0.1:0") as port:
        with pytest.raises(ConfigError, match=f"debug: cannot bind 127.0.0.1:{port}"):
            async with serve_debug(bridge_of("zk"), f"127.0.0.1:{port}"):
                pytest.fail("bound")


async def test_leaving_frees_the_port_and_ends_idle_connections() -> None:
    async with serve_debug(bridge_of("zk"), "127.0.0.1:0") as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /healthz/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
    assert (await reader.read()).endswith(b"ok\n")
    writer.close()
    await writer.wait_closed()
    async with serve_debug(bridge_of("zk"), f"127.0.0.1:{port}") as again:
        assert again == port
