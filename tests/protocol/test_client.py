"""Our own subscriber tells why it gets nothing, in the words of who refused it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from isthmus.mcp.client import ISTIOD_TYPES, Security, subscribe
from isthmus.mcp.hub import Hub
from isthmus.mcp.limits import Limits
from isthmus.mcp.server import Port, serve
from isthmus.mcp.shards import Publication
from isthmus.mcp.transport import Tls, TlsOptions
from isthmus.mcp.views import Door
from isthmus.registry.errors import SourceUnavailable
from tests.protocol.stream import ANSWER_WITHIN_S
from tests.rig.certificates import Certificates
from tests.rig.process import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@asynccontextmanager
async def serving(port: Port, limits: Limits | None = None) -> AsyncIterator[str]:
    """Give the port's address."""
    async with serve(Hub(Publication(), limits=limits), [port]) as (number,):
        yield f"127.0.0.1:{number}"


async def told(
    address: str, types: tuple[str, ...] = ISTIOD_TYPES, *, delta: bool = False, security: Security | None = None
) -> str:
    """Return why a subscriber gets nothing; nothing where it is answered."""
    try:
        async with (
            asyncio.timeout(ANSWER_WITHIN_S),
            subscribe(address, types, delta=delta, security=security) as client,
        ):
            await anext(client.batches())
    except SourceUnavailable as error:
        return str(error)
    return ""


@pytest.mark.parametrize("delta", [False, True])
@pytest.mark.parametrize(
    ("door", "limits", "why"),
    [
        (Door(), Limits(streams=0), "RESOURCE_EXHAUSTED: more than 0 streams"),
        (Door(closed="dial shard-1-of-2"), Limits(), "FAILED_PRECONDITION: dial shard-1-of-2"),
    ],
)
async def test_what_the_server_refuses_is_told_in_its_words(
    door: Door, limits: Limits, why: str, *, delta: bool
) -> None:
    async with serving(Port("127.0.0.1:0", door), limits) as address:
        assert await told(address, delta=delta) == why


async def test_what_may_not_be_asked_for_is_told_too() -> None:
    async with serving(Port("127.0.0.1:0")) as address:
        types = ("istio.io/debug", *ISTIOD_TYPES)
        assert (await told(address, types)).startswith("PERMISSION_DENIED: the debug pages are not given on this port")


async def test_a_connection_that_cannot_be_made_is_told_with_its_reason(tmp_path: Path) -> None:
    files, others = Certificates(tmp_path / "tls"), Certificates(tmp_path / "others")
    tls = Tls(TlsOptions(certificate=str(files.cert_file), key=str(files.key_file)))
    async with serving(Port("127.0.0.1:0", tls=tls)) as address:
        stranger = await told(address, security=Security(others.ca_file.read_bytes()))
        misnamed = await told(address, security=Security(files.ca_file.read_bytes(), "elsewhere.example"))
        plaintext = await told(address)
    nobody = await told(f"127.0.0.1:{free_port()}")

    assert "CERTIFICATE_VERIFY_FAILED" in stranger
    assert "Hostname Verification Check failed" in misnamed
    assert "Connection refused" in nobody
    assert all(why.startswith("UNAVAILABLE: ") for why in (stranger, misnamed, plaintext, nobody))
