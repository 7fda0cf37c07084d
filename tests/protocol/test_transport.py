"""TLS over real connections: who is served, who is not, and certificates that change under way."""

from __future__ import annotations

import asyncio
import gc
import logging
import ssl
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest

from isthmus.mcp.transport import Tls, TlsOptions, utc_now
from isthmus.registry.errors import ConfigError
from tests.protocol.stream import ANSWER_WITHIN_S, OPTIONS
from tests.rig.certificates import Certificates, ClientCertificates, MountedSecret
from tests.rig.wait import wait_for_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

ECHO = "/test.Echo/Echo"
SERVED = b"served"
STAYS = "the certificate in use stays so"


class Clock:
    """A time of day that the test sets."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


class Mounted(MountedSecret):
    """A mounted Secret with the certificates of an authority."""

    def __init__(self, directory: Path, certificates: ClientCertificates) -> None:
        super().__init__(directory)
        self.issued = 0
        self.issue(certificates)

    def issue(self, certificates: ClientCertificates) -> bytes:
        """Show a new certificate of this authority, which vouches for clients too; return it."""
        self.issued += 1
        certificate, key = (path.read_bytes() for path in certificates.issue(f"issue-{self.issued}"))
        self.show(certificate, key, certificates.ca_file.read_bytes())
        return certificate

    def options(self, *, mutual: bool = False) -> TlsOptions:
        """Return the options of a port that uses it."""
        client_ca = str(self.client_ca) if mutual else ""
        return TlsOptions(certificate=str(self.certificate), key=str(self.key), client_ca=client_ca)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> ClientCertificates:
    """Give an authority, and a client's certificate of it."""
    return ClientCertificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> ClientCertificates:
    """Give another authority, and a client's certificate of it."""
    return ClientCertificates(tmp_path_factory.mktemp("others"))


@pytest.fixture
def mounted(tmp_path: Path, certificates: ClientCertificates) -> Mounted:
    """Give a Secret as Kubernetes mounts it."""
    return Mounted(tmp_path / "tls", certificates)


@asynccontextmanager
async def serving(tls: Tls) -> AsyncIterator[int]:
    """Give the port of a server that sends back what it gets."""

    async def echo(requests: AsyncIterator[bytes], _: object) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request

    methods: Any = {"Echo": grpc.stream_stream_rpc_method_handler(echo)}
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", methods),))
    port = server.add_secure_port("127.0.0.1:0", tls.credentials())
    # What gRPC keeps of them must be enough to live on.
    gc.collect()
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


def open_call(channel: Any) -> grpc.aio.StreamStreamCall[bytes, bytes]:
    """Open a stream of bytes, for which the stubs have no form."""
    call: grpc.aio.StreamStreamCall[bytes, bytes] = channel.stream_stream(ECHO)()
    return call


@asynccontextmanager
async def stream(
    port: int, authority: Certificates, client: ClientCertificates | None = None, name: str = "localhost"
) -> AsyncIterator[grpc.aio.StreamStreamCall[bytes, bytes]]:
    """Open a stream as istiod does: one authority is trusted, and the server is called by a name."""
    own = (client.client_key_file.read_bytes(), client.client_cert_file.read_bytes()) if client else (None, None)
    credentials = grpc.ssl_channel_credentials(authority.ca_file.read_bytes(), *own)
    options = [*OPTIONS.items(), ("grpc.ssl_target_name_override", name)]
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options) as channel:
        call = open_call(channel)
        try:
            yield call
        finally:
            call.cancel()


async def echo(call: grpc.aio.StreamStreamCall[bytes, bytes], data: bytes = SERVED) -> bytes:
    """Send something and return what comes back."""
    async with asyncio.timeout(ANSWER_WITHIN_S):
        await call.write(data)
        answer = await call.read()
    assert isinstance(answer, bytes), f"the stream ended: {await call.details()}"
    return answer


async def served(*arguments: Any, **options: Any) -> bool:
    """Say whether a client is served, and if not, that it failed cleanly."""
    async with stream(*arguments, **options) as call:
        try:
            return await echo(call) == SERVED
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, AssertionError):
            assert await call.code() == grpc.StatusCode.UNAVAILABLE
            return False


async def presented(port: int, authority: Certificates) -> bytes:
    """Return the certificate, in PEM, that a new connection is shown."""
    context = ssl.create_default_context(cafile=str(authority.ca_file))
    context.set_alpn_protocols(["h2"])
    async with asyncio.timeout(ANSWER_WITHIN_S):
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
    try:
        shown: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.close()
    return ssl.DER_cert_to_PEM_cert(shown).encode()


async def test_a_client_that_knows_authority_and_name_is_served_and_no_other(
    mounted: Mounted, certificates: ClientCertificates, others: ClientCertificates
) -> None:
    async with serving(Tls(mounted.options())) as port:
        assert await served(port, certificates)
        assert not await served(port, others)
        assert not await served(port, certificates, name="elsewhere.example")
        assert await served(port, certificates)


async def test_plaintext_on_a_tls_port_fails_cleanly_and_the_server_lives(
    mounted: Mounted, certificates: ClientCertificates
) -> None:
    async with serving(Tls(mounted.options())) as port, stream(port, certificates) as held:
        assert await echo(held) == SERVED
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = open_call(channel)
            async with asyncio.timeout(ANSWER_WITHIN_S):
                assert await call.code() == grpc.StatusCode.UNAVAILABLE
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(ANSWER_WITHIN_S):
            await reader.read()
        writer.close()

        assert await echo(held, b"still here") == b"still here"
        assert await served(port, certificates)


async def test_mutual_tls_takes_only_clients_that_the_authority_vouches_for(
    mounted: Mounted, certificates: ClientCertificates, others: ClientCertificates
) -> None:
    async with serving(Tls(mounted.options(mutual=True))) as port:
        assert await served(port, certificates, client=certificates)
        assert not await served(port, certificates)
        assert not await served(port, certificates, client=others)
        assert await served(port, certificates, client=certificates)


async def test_the_authority_of_clients_changes_under_way(
    mounted: Mounted, certificates: ClientCertificates, others: ClientCertificates
) -> None:
    tls = Tls(mounted.options(mutual=True))
    async with serving(tls) as port, stream(port, certificates, certificates) as held:
        assert await echo(held) == SERVED
        mounted.show(mounted.certificate.read_bytes(), mounted.key.read_bytes(), client_ca=others.ca_file.read_bytes())
        tls.refresh()

        assert await served(port, certificates, client=others)
        assert not await served(port, certificates, client=certificates)
        assert await echo(held) == SERVED


async def test_a_new_certificate_is_shown_to_new_connections_while_old_streams_live_on(
    mounted: Mounted, certificates: ClientCertificates
) -> None:
    tls = Tls(mounted.options())
    first = mounted.certificate.read_bytes()
    async with serving(tls) as port, stream(port, certificates) as held:
        assert await echo(held) == SERVED
        assert await presented(port, certificates) == first
        watching = asyncio.create_task(tls.watch(0.01))
        for reloads in (1, 2):
            second = mounted.issue(certificates)
            await wait_for_async(lambda: tls.state().reloads == reloads, ANSWER_WITHIN_S, "the new certificate")  # noqa: B023
            assert await presented(port, certificates) == second
            assert await echo(held) == SERVED
        watching.cancel()
        await asyncio.wait([watching])

    assert tls.state().subject == "CN=issue-3"
    assert tls.state().dns_names == ("localhost",)


async def test_each_port_of_a_listener_takes_the_new_certificate(
    mounted: Mounted, certificates: ClientCertificates
) -> None:
    tls = Tls(mounted.options())
    async with serving(tls) as one, serving(tls) as other:
        renewed = mounted.issue(certificates)
        tls.refresh()

        assert [await presented(port, certificates) for port in (one, one, other, other)] == [renewed] * 4


async def test_connections_and_changes_at_the_same_time(mounted: Mounted, certificates: ClientCertificates) -> None:
    tls = Tls(mounted.options())
    async with serving(tls) as port:
        issued = [mounted.certificate.read_bytes()]
        for _ in range(3):
            async with asyncio.TaskGroup() as tasks:
                connected = [tasks.create_task(presented(port, certificates)) for _ in range(8)]
                issued.append(mounted.issue(certificates))
                tls.refresh()
            assert {task.result() for task in connected} <= set(issued)
            assert await presented(port, certificates) == issued[-1]


@asynccontextmanager
async def plainly_serving(tls: Tls) -> AsyncIterator[int]:
    """Give the port of a server without gRPC, which says one word to whom TLS lets through."""

    async def say(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(SERVED)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(say, "127.0.0.1", 0, ssl=tls.context) as server:
        yield server.sockets[0].getsockname()[1]


async def heard(port: int, authority: Certificates, client: ClientCertificates) -> bytes:
    """Return what a server without gRPC says to a client; nothing where it is not let through."""
    context = ssl.create_default_context(cafile=str(authority.ca_file))
    context.load_cert_chain(client.client_cert_file, client.client_key_file)
    async with asyncio.timeout(ANSWER_WITHIN_S):
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
            said = await reader.read()
        except (ssl.SSLError, ConnectionResetError):
            return b""
    writer.close()
    return said


async def test_a_server_without_grpc_takes_new_certificates_too(
    mounted: Mounted, certificates: ClientCertificates
) -> None:
    tls = Tls(mounted.options())
    certificate = b""
    async with plainly_serving(tls) as port:
        # Of two kinds of keys OpenSSL would keep both, and show either.
        for key in (("-newkey", "rsa:2048", "-nodes"), ("-newkey", "ed25519", "-nodes")):
            certificate, key_file = (path.read_bytes() for path in certificates.issue("plain", key=key))
            mounted.show(certificate, key_file)
            tls.refresh()
            assert await presented(port, certificates) == certificate

        mounted.show(certificate, b"none")
        tls.refresh()
        assert await presented(port, certificates) == certificate


async def test_a_server_without_grpc_lets_in_whom_the_newest_authority_vouches_for(
    mounted: Mounted, certificates: ClientCertificates, others: ClientCertificates
) -> None:
    tls = Tls(mounted.options(mutual=True))
    async with plainly_serving(tls) as port:
        assert await heard(port, certificates, certificates) == SERVED
        assert await heard(port, certificates, others) == b""

        mounted.show(mounted.certificate.read_bytes(), mounted.key.read_bytes(), others.ca_file.read_bytes())
        tls.refresh()

        assert await heard(port, certificates, certificates) == b""
        assert await heard(port, certificates, others) == SERVED


def half_written(mounted: Mounted, certificates: ClientCertificates) -> None:
    """Show a new certificate with the former key."""
    mounted.show(certificates.issue("half")[0].read_bytes(), mounted.key.read_bytes())


def cut_off(mounted: Mounted, certificates: ClientCertificates) -> None:
    """Show the first half of a certificate."""
    certificate, key = (path.read_bytes() for path in certificates.issue("cut"))
    mounted.show(certificate[: len(certificate) // 2], key)


def gone(mounted: Mounted, _: ClientCertificates) -> None:
    """Take the key away."""
    mounted.key.unlink()


def not_served_with(mounted: Mounted, certificates: ClientCertificates) -> None:
    """Show a pair that fits together and that gRPC cannot load."""
    pair = certificates.issue("odd", key=("-newkey", "ed448", "-nodes"))
    mounted.show(*(path.read_bytes() for path in pair))


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (half_written, "does not belong to the certificate"),
        (cut_off, "a certificate that cannot be read"),
        (gone, "cannot be read: No such file or directory"),
        (not_served_with, "a kind of key that gRPC"),
    ],
)
async def test_what_cannot_be_used_is_reported_once_and_the_former_stays(
    mounted: Mounted,
    certificates: ClientCertificates,
    caplog: pytest.LogCaptureFixture,
    break_it: Callable[[Mounted, ClientCertificates], None],
    said: str,
) -> None:
    tls = Tls(mounted.options())
    first = mounted.certificate.read_bytes()
    async with serving(tls) as port, stream(port, certificates) as held:
        assert await echo(held) == SERVED
        break_it(mounted, certificates)
        tls.refresh()
        tls.refresh()

        assert said in tls.state().last_error
        assert str(mounted.certificate.parent) in tls.state().last_error
        assert caplog.text.count(STAYS) == 1
        assert await presented(port, certificates) == first
        assert await echo(held) == SERVED

        mounted.key.unlink(missing_ok=True)
        mounted.key.symlink_to("..data/tls.key")
        renewed = mounted.issue(certificates)
        tls.refresh()

        assert tls.state().last_error == ""
        assert await presented(port, certificates) == renewed


async def test_a_certificate_out_of_its_time_waits_for_it(mounted: Mounted, certificates: ClientCertificates) -> None:
    clock = Clock()
    tls = Tls(mounted.options(), clock)
    clock.now -= timedelta(minutes=1)
    mounted.issue(certificates)
    tls.refresh()
    assert "is the clock right here?" in tls.state().last_error
    clock.now += timedelta(days=365)
    tls.refresh()
    assert "expired on" in tls.state().last_error
    assert tls.state().subject == "CN=issue-1"

    clock.now = datetime.now(UTC)
    tls.refresh()

    assert tls.state().last_error == ""
    assert tls.state().subject == "CN=issue-2"
    assert tls.state().loaded_at == clock.now


async def test_a_new_authority_is_warned_of_as_istiod_has_to_be_restarted(
    mounted: Mounted, certificates: ClientCertificates, others: ClientCertificates, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    tls = Tls(mounted.options())
    former = tls.state().authority
    mounted.issue(certificates)
    tls.refresh()
    assert "restart it" not in caplog.text
    assert tls.state().authority == former

    mounted.issue(others)
    tls.refresh()

    (warning,) = (record for record in caplog.records if record.levelno == logging.WARNING)
    assert "only at its start, so give it the new one there and restart it" in warning.getMessage()
    assert former in warning.getMessage()
    assert tls.state().authority in warning.getMessage()
    assert tls.state().authority != former


async def test_a_certificate_that_runs_out_is_warned_of_in_time(
    mounted: Mounted, certificates: ClientCertificates, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    tls = Tls(mounted.options(), clock)
    assert tls.state().warnings == ()
    for days, said in ((25, "within 7 days: renew it"), (31, "and clients refuse it: renew it")):
        clock.now = utc_now() + timedelta(days=days)
        tls.refresh()
        tls.refresh()

        (warning,) = tls.state().warnings
        assert said in warning
        assert caplog.text.count(said) == 1

    clock.now = utc_now()
    mounted.issue(certificates)
    tls.refresh()
    assert tls.state().warnings == ()


def test_what_cannot_be_loaded_at_the_start_says_what_to_do(mounted: Mounted, tmp_path: Path) -> None:
    missing = TlsOptions(certificate=str(mounted.certificate), key=str(tmp_path / "none"))
    with pytest.raises(ConfigError, match=r"tls.key \(.*none\) cannot be read: No such file or directory"):
        Tls(missing)
    with pytest.raises(ConfigError, match=r"tls.key .* is not given: a certificate and its key go together"):
        Tls(TlsOptions(certificate=str(mounted.certificate)))
    with pytest.raises(ConfigError, match=r"tls.certificate .* expired on .*: renew it"):
        Tls(mounted.options(), lambda: utc_now() + timedelta(days=31))
    mounted.show(mounted.certificate.read_bytes(), mounted.key.read_bytes(), b"none")
    with pytest.raises(ConfigError, match=r"tls.clientCa .* holds no certificate in PEM form"):
        Tls(mounted.options(mutual=True))


def test_a_key_that_everybody_can_read_is_warned_of(mounted: Mounted) -> None:
    mounted.key.resolve().chmod(0o644)

    (warning,) = Tls(mounted.options()).state().warnings
    assert "can be read by everybody on this machine" in warning
