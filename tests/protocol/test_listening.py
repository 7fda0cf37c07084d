"""From the configuration's listeners to open ports: their certificates, their sockets, and whom they turn away."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from isthmus.cli.main import EXIT_USAGE, main
from isthmus.config.listeners import Listener
from isthmus.mcp.client import SERVICE_ENTRY_URL, Security, subscribe
from isthmus.mcp.shards import shard_index
from isthmus.mcp.transport import Tls, TlsOptions
from isthmus.registry.errors import ConfigError
from tests.debug.web import TIMEOUT, Pages, running, write
from tests.protocol.stream import ANSWER_WITHIN_S
from tests.rig.certificates import Certificates, MountedSecret
from tests.rig.wait import wait_for_async

if TYPE_CHECKING:
    from pathlib import Path

ANY_PORT = "127.0.0.1:0"
HOSTS = [next(host for host in ("a.b", "c.d", "e.f", "g.h") if shard_index(host, 2) == index) for index in range(2)]


def behind_one_port(name: str = "one", **settings: Any) -> Listener:
    return Listener(name=name, address=ANY_PORT, shards=2, routing="authority", **settings)


def both_hosts(directory: Path) -> Path:
    """Write a service of each of two shards."""
    directory.mkdir()
    for host in HOSTS:
        write(directory, host)
    return directory


async def turned_away(pages: Pages, count: int) -> list[Any]:
    """Return what the page says of so many refusals, the latest first."""
    await wait_for_async(lambda: len(pages.bridge.hub.turned_away) >= count, TIMEOUT, f"{count} refusals")
    listing = await pages.get("/debug/refusals")
    assert listing["total"] == count
    items: list[Any] = listing["items"]
    return items


async def test_whom_the_front_turns_away_is_counted_and_shown(tmp_path: Path) -> None:
    async with running(both_hosts(tmp_path / "services"), listeners=(behind_one_port(),)) as pages:
        host, port = pages.bridge.listening[1].addresses[0].split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /?token=hush HTTP/1.1\r\n\r\n")
        async with asyncio.timeout(ANSWER_WITHIN_S):
            assert await reader.read() == b""
        own = "ipv4:{}:{}".format(*writer.get_extra_info("sockname"))
        writer.close()
        (refusal,) = await turned_away(pages, 1)
        listing = await pages.get("/debug/listeners")

    assert refusal.pop("agoSeconds") >= 0
    assert refusal == {
        "listener": "one",
        "peer": own,
        "status": "INVALID_ARGUMENT",
        "reason": "this is not HTTP/2, which gRPC speaks",
    }
    assert listing["refused"] == {"INVALID_ARGUMENT": 1}


async def test_a_temporary_directory_that_is_too_deep_is_named_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 60)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with pytest.raises(ConfigError, match="set TMPDIR to one that is shorter by"):
        async with running(both_hosts(tmp_path / "services"), listeners=(behind_one_port(),)):
            pytest.fail("its connections cannot be passed on")
    assert list(deep.iterdir()) == []


async def test_a_shard_behind_one_port_is_watched_by_its_name(tmp_path: Path) -> None:
    names = "DNS:shard-0-of-2.reg,DNS:shard-1-of-2.reg"
    authority = Certificates(tmp_path / "tls")
    certificate, key = authority.issue("shards", names=names)
    tls = TlsOptions(certificate=str(certificate), key=str(key))
    listeners = (behind_one_port(), behind_one_port("secure", tls=tls))
    async with running(both_hosts(tmp_path / "services"), listeners=listeners) as pages:
        await pages.synced("files")
        plain, secure = [bound.addresses[0] for bound in pages.bridge.listening[1:]]
        for index, host in enumerate(HOSTS):
            name = f"shard-{index}-of-2.reg"
            security = Security(authority.ca_file.read_bytes(), name)
            async with (
                subscribe(plain, (SERVICE_ENTRY_URL,), authority=name) as one,
                subscribe(secure, (SERVICE_ENTRY_URL,), security=security) as other,
                asyncio.timeout(ANSWER_WITHIN_S),
            ):
                batches = [await anext(client.batches()) for client in (one, other)]
            assert [[event.name for event in batch.events] for batch in batches] == [[f"default/{host}"]] * 2
        command = (sys.executable, "-m", "isthmus", "watch", plain, "--authority", "shard-1-of-2", "--once", "-ojson")
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        async with asyncio.timeout(ANSWER_WITHIN_S):
            out, _ = await process.communicate()

    lines = [msgspec.json.decode(line) for line in out.splitlines()]
    assert [line["op"] for line in lines] == ["add", "synced"]
    assert lines[0]["name"] == f"default/{HOSTS[1]}"


def test_over_tls_the_name_in_the_certificate_is_the_only_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ca = tmp_path / "ca.pem"
    ca.touch()

    assert main(["watch", "--authority", "shard-1-of-2", "--ca", str(ca)]) == EXIT_USAGE
    assert "--server-name is what the server is called" in capsys.readouterr().err


class Mounted(MountedSecret):
    """A mounted Secret, and the authority that its certificates are of."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory / "mounted")
        self._authority = Certificates(directory / "authority")
        self.options = TlsOptions(certificate=str(self.certificate), key=str(self.key))

    def issue(self, *names: str) -> None:
        """Show a new certificate for these DNS names."""
        pair = self._authority.issue("server", names=",".join(f"DNS:{name}" for name in names))
        self.show(*(path.read_bytes() for path in pair))


@pytest.fixture
def mounted(tmp_path: Path) -> Mounted:
    """Give a certificate for two names."""
    secret = Mounted(tmp_path / "tls")
    secret.issue("one.reg", "two.reg")
    return secret


async def test_listeners_with_the_same_files_have_one_certificate_which_says_whose_it_is(
    tmp_path: Path, mounted: Mounted, caplog: pytest.LogCaptureFixture
) -> None:
    listeners = (
        Listener(name="second", address=ANY_PORT, tls=mounted.options),
        behind_one_port("third", tls=mounted.options),
    )
    async with running(both_hosts(tmp_path / "services"), tls=mounted.options, listeners=listeners) as pages:
        first, second, third = (bound.tls for bound in pages.bridge.listening)
        assert first is not None
        assert first is second is third
        mounted.certificate.unlink()
        for tls in (first, second, third):
            tls.refresh()

    (said,) = (record.getMessage() for record in caplog.records if record.name == "isthmus.mcp")
    assert said.startswith("xds, second, third: the certificate in use stays so")

    with pytest.raises(ConfigError, match=r"^xds, second, third: tls.certificate \(.*\) cannot be read"):
        async with running(tmp_path / "services", tls=mounted.options, listeners=listeners):
            pytest.fail("there is no certificate")


async def test_a_name_that_a_renewal_leaves_out_is_warned_of_until_it_is_back(
    mounted: Mounted, caplog: pytest.LogCaptureFixture
) -> None:
    tls = Tls(mounted.options, listeners=("xds",))
    for names in (("two.reg", "three.reg"), ("three.reg", "two.reg")):
        mounted.issue(*names)
        tls.refresh()
        (warning,) = tls.state().warnings
        assert f"tls.certificate ({mounted.options.certificate}) no longer names one.reg, as" in warning
        assert [record.getMessage() for record in caplog.records] == [f"xds: {warning}"]

    mounted.issue("one.reg", "two.reg", "three.reg")
    tls.refresh()
    assert tls.state().warnings == ()
