"""adapters/web.py against a real HTTP server on loopback that does what a registry should not (T14 to T18)."""

from __future__ import annotations

import asyncio
import errno
import gzip
import socket
import ssl
import threading
import tracemalloc
import zlib
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web
from msgspec import Struct

from isthmus.adapters.tls import tls_fault
from isthmus.adapters.web import BODY_LIMIT, HttpError, NotFound, decode_json, fetch, web_session
from isthmus.registry.errors import SourceDenied, SourceError, SourceUnavailable
from tests.rig.certificates import Certificates, ClientCertificates
from tests.rig.tools import run as run_tool
from tests.rig.tools import tool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

MIB = 2**20
PASSWORD = "hunter2-hunter2"


@asynccontextmanager
async def serving(handler: Handler, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> AsyncIterator[str]:
    """Serve every path by one handler; give the URL."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(application, handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, 0, ssl_context=tls).start()
        yield f"{'https' if tls else 'http'}://{host}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def bytes_served(data: bytes) -> AsyncIterator[str]:
    """Answer every connection with these bytes, HTTP or not, and close it."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(data)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def saying(text: str = "", status: int = 200, **headers: str) -> Handler:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(
            text=text, status=status, headers={name.replace("_", "-"): headers[name] for name in headers}
        )

    return handler


def compressed(body: bytes, encoding: str = "gzip") -> Handler:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=body, headers={"Content-Encoding": encoding})

    return handler


async def failure(
    url: str, *, password: str = "", ca: str = "", cert: tuple[Path, Path] | None = None, **options: object
) -> SourceError:
    cert_file, key_file = map(str, cert or ("", ""))
    user = "user" if password else ""
    async with web_session(ca, user, password, cert_file=cert_file, key_file=key_file) as session:
        with pytest.raises(SourceError) as raised:
            await fetch(session, url, **options)  # type: ignore[arg-type]
    return raised.value


async def test_an_answer_with_what_was_asked() -> None:
    async def handler(request: web.Request) -> web.Response:
        form = await request.post()
        text = f"{request.method} {request.path_qs} {request.headers['Authorization']} {form.get('a')!r}"
        return web.Response(text=text, headers={"X-Consul-Index": "7"})

    async with serving(handler) as url, web_session(username="me", password="secret") as session:
        answer = await fetch(session, f"{url}/x", method="POST", params={"q": "1 2"}, form={"a": "b"})
        assert answer.body == b"POST /x?q=1+2 Basic bWU6c2VjcmV0 'b'"
        assert (answer.headers["x-consul-index"], answer.content_type) == ("7", "text/plain")


async def test_a_compressed_answer_of_several_steps() -> None:
    text = b"0123456789" * 300_000
    async with serving(compressed(gzip.compress(text))) as url, web_session() as session:
        assert (await fetch(session, url)).body == text


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, SourceDenied), (403, SourceDenied), (404, NotFound), (204, HttpError), (429, HttpError), (500, HttpError)],
)
async def test_another_status_is_an_error_that_names_it(status: int, kind: type[SourceError]) -> None:
    async with serving(saying("no cluster leader" if status != 204 else "", status)) as url:
        error = await failure(url)
    assert type(error) is kind
    assert f"{url.removeprefix('http://')} answers {status}" in str(error)
    assert status == 204 or "(no cluster leader)" in str(error)
    assert not isinstance(error, HttpError) or error.status == status


async def test_T16_a_redirect_is_named_and_not_followed() -> None:
    reached: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        reached.append(request.path)
        return web.Response(status=302, headers={"Location": "http://me:secret@elsewhere.test:81/there?token=secret"})

    async with serving(handler) as url:
        error = await failure(f"{url}/here")
    assert isinstance(error, HttpError)
    assert error.status == 302
    assert "302, a redirect to http://elsewhere.test:81/there; it is not followed" in str(error)
    assert reached == ["/here"]


async def test_T17_an_error_does_not_repeat_what_we_sent() -> None:
    async def handler(request: web.Request) -> web.Response:
        authorization = request.headers["Authorization"]
        token = authorization.removeprefix("Basic ")
        text = f"{authorization} {token} {PASSWORD} {request.path_qs} {request.headers['X-Consul-Token']}"
        return web.Response(text=text, status=500)

    async with serving(handler) as url:
        error = await failure(
            url, password=PASSWORD, params={"accessToken": "eyJ.abc.def"}, headers={"X-Consul-Token": "0-1-2-3"}
        )
    assert "500 (*** *** *** /?accessToken=*** ***)" in str(error)


async def test_T17_an_error_masks_the_headers_of_the_session_and_not_our_own() -> None:
    async def handler(request: web.Request) -> web.Response:
        text = f"rpc error: {request.headers['X-Consul-Token']} lacks service:read on isthmus"
        return web.Response(text=text, status=403)

    async with serving(handler) as url, web_session(headers={"X-Consul-Token": "0-1-2-3"}) as session:
        with pytest.raises(SourceDenied, match=r"403 \(rpc error: \*\*\* lacks service:read on isthmus\): check"):
            await fetch(session, url)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (429, "answers 429, too many requests at once (Your IP is issuing too many concurrent connections)"),
        (500, "answers 500 (No cluster leader)"),
        (503, "answers 503, not available for now (No cluster leader)"),
    ],
)
async def test_CO6_an_error_in_plain_text_is_shown_with_what_its_status_says(status: int, said: str) -> None:
    text = said.partition("(")[2].removesuffix(")") + "\n"
    async with serving(saying(text, status)) as url:
        assert str(await failure(url)).endswith(said)


async def test_T11_an_error_shows_little_of_a_body_and_that_escaped() -> None:
    async with serving(saying("\x1b[31m\u202e\n" + "x" * 100_000, 500)) as url:
        text = str(await failure(url))
    assert "\\x1b[31m\\u202e xxx" in text
    assert text.isprintable()
    assert len(text) < 300


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ('{"timestamp":"AT","status":500,"error":"Server Error","message":"caused: x","path":"/"}', " (caused: x)"),
        ('{"timestamp":"AT","status":500,"error":"Server Error","path":"/"}', " (Server Error)"),
        ('{"timestamp":"AT","error":"Server Error","message":" "}', " (Server Error)"),
        ('{"timestamp":"AT","error":"Server Error","message":{"a":1}}', " (Server Error)"),
        ('{"timestamp":"AT","trace":"%s","message":"caused: x"}' % ("at x " * 5_000), " (caused: x)"),
        (f'{{"timestamp":"AT","message":"{PASSWORD} \\u001b[31m"}}', r" (*** \x1b[31m)"),
        ('{"message":"%s"}' % ("x" * 1_000), f" ({'x' * 200}…)"),
    ],
)
async def test_an_error_in_JSON_is_shown_by_its_message_whatever_the_time(body: str, shown: str) -> None:
    async def shown_at(time: str) -> str:
        async with serving(saying(body.replace("AT", time), 500, Content_Type="application/json")) as url:
            return str(await failure(url, password=PASSWORD)).partition(" answers 500")[2]

    assert await shown_at("2026-01-01T00:00:01Z") == shown
    assert await shown_at("2026-01-01T00:00:02Z") == shown


@pytest.mark.parametrize(
    "body", ['{"code":7}', '"text"', "[1]", '{"message":"cut sho', '{"message":"\\ud800"}', "[" * 99]
)
async def test_what_has_no_message_in_JSON_is_shown_as_it_is(body: str) -> None:
    async with serving(saying(body, 500)) as url:
        assert str(await failure(url)).endswith(f"answers 500 ({body})")


async def test_a_message_in_pieces_is_read_whole() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=500)
        await response.prepare(request)
        for piece in (b'{"timestamp":1,', b'"message":"caused', b': x"}'):
            await response.write(piece)
            # Turns of the loop, in which the client takes the piece.
            for _ in range(20):
                await asyncio.sleep(0)
        return response

    async with serving(handler) as url:
        assert str(await failure(url)).endswith("answers 500 (caused: x)")


async def test_an_error_that_breaks_off_is_shown_as_far_as_it_came() -> None:
    async with bytes_served(b"HTTP/1.1 500 No\r\nContent-Length: 100\r\n\r\nno leader") as url:
        assert str(await failure(url)).endswith("answers 500 (no leader)")


async def test_T17_a_page_that_is_not_there_is_named_without_its_query() -> None:
    async with serving(saying("", 404)) as url:
        text = str(await failure(f"{url}/nacos/%E7%94%A8%1B", params={"accessToken": "eyJ.abc.def"}))
    assert text.endswith(r" answers 404 to /nacos/用\x1b")


async def test_a_page_for_browsers_is_not_shown() -> None:
    async with serving(saying("<html>", 502, Content_Type="text/html")) as url:
        assert str(await failure(url)).endswith("answers 502")


@pytest.mark.parametrize("url", ["http://user:pw@h:1/", "http://user@h:1/", "https://:pw@h/"])
async def test_T17_an_address_with_credentials_is_refused_without_showing_it(url: str) -> None:
    error = await failure(url)
    assert "credentials" in str(error)
    assert "pw" not in str(error)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "h:80",
        "file:///etc/passwd",
        "ftp://h/",
        "http://",
        "http://h:99999/",
        "http://a..b/",
        "http://xn--/",
        f"http://{'a' * 70}/",
    ],
)
async def test_T16_what_is_no_http_address_is_refused(url: str) -> None:
    assert not isinstance(await failure(url), SourceUnavailable)


async def test_T15_a_gzip_bomb_costs_little_more_than_the_limit() -> None:
    squeeze = zlib.compressobj(9, wbits=31)
    zeros = bytes(MIB)
    bomb = b"".join(squeeze.compress(zeros) for _ in range(512)) + squeeze.flush()
    async with serving(compressed(bomb)) as url, web_session() as session:
        tracemalloc.start()
        try:
            with pytest.raises(SourceUnavailable, match=f"longer than {4 * MIB} bytes"):
                await fetch(session, url, limit=4 * MIB)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 16 * MIB, f"{peak / MIB:.0f} MiB"


async def test_T15_of_100_MB_no_more_than_the_limit_is_read() -> None:
    sent = 0
    ended = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            for _ in range(100):
                await response.write(bytes(MIB))
                sent += MIB
        finally:
            ended.set()
        return response

    async with serving(handler) as url:
        assert f"longer than {BODY_LIMIT} bytes" in str(await failure(url))
        await ended.wait()
    assert sent < 100 * MIB


async def test_T15_an_answer_that_never_ends_is_given_up() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"[")
        await asyncio.Event().wait()
        return response

    async with serving(handler) as url:
        assert "no whole answer within 0.3 s" in str(await failure(url, total=0.3))


@pytest.mark.parametrize(
    ("body", "encoding", "text"),
    [
        (gzip.compress(b"x" * 100_000)[:60], "gzip", "broke off"),
        (gzip.compress(b"x" * 1_000) + b"more", "gzip", "broke off"),
        (b"", "gzip", "broke off"),
        (b"no gzip", "gzip", "cannot be decompressed"),
        (b"?", "br", "compressed as br"),
    ],
    # The bytes hold the time, by which two processes would call one test by two names.
    ids=["cut", "with more behind it", "empty", "no gzip", "not asked for"],
)
async def test_compressed_data_that_is_not_whole(body: bytes, encoding: str, text: str) -> None:
    async with serving(compressed(body, encoding)) as url:
        error = await failure(url)
    assert isinstance(error, SourceUnavailable)
    assert text in str(error)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc", "broke off"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", "broke off"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "no HTTP"),
        (b"", "the connection broke"),
    ],
)
async def test_an_answer_that_is_not_whole(data: bytes, text: str) -> None:
    async with bytes_served(data) as url:
        error = await failure(url)
    assert isinstance(error, SourceUnavailable)
    assert text in str(error)
    assert url.removeprefix("http://") in str(error)


async def test_nobody_answers() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        assert (
            str(await failure(f"http://127.0.0.1:{port}/x?y")) == f"127.0.0.1:{port}: no connection: connection refused"
        )


async def test_nobody_takes_the_connection() -> None:
    with socket.socket() as busy, socket.socket() as first, socket.socket() as second:
        busy.bind(("127.0.0.1", 0))
        busy.listen(0)
        # The queue of those that wait to be accepted is full with one.
        for waiting in (first, second):
            waiting.setblocking(False)
            waiting.connect_ex(busy.getsockname())
        port = busy.getsockname()[1]
        error = await failure(f"http://127.0.0.1:{port}/", connect=0.3)
        assert str(error) == f"127.0.0.1:{port}: no connection within 0.3 s"


async def test_a_name_that_cannot_be_resolved() -> None:
    assert str(await failure("http://nobody.invalid:8761/")) == "nobody.invalid:8761: its name cannot be resolved"


async def test_T17_nothing_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")

    async def handler(request: web.Request) -> web.Response:
        return web.Response(text=request.headers.get("Authorization", "nothing"))

    async with serving(handler) as url, web_session() as session:
        assert (await fetch(session, url)).body == b"nothing"


async def test_no_cookie_is_kept() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(text=request.headers.get("Cookie", "none"), headers={"Set-Cookie": "a=b"})

    async with serving(handler) as url, web_session() as session:
        # A cookie jar would take none from an address anyway.
        named = url.replace("127.0.0.1", "localhost")
        assert [(await fetch(session, named)).body for _ in range(2)] == [b"none", b"none"]


def tls(certificates: Certificates) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.cert_file, certificates.key_file)
    return context


async def test_T18_the_certificate_is_verified_against_the_own_authority_only(tmp_path: Path) -> None:
    own, other = Certificates(tmp_path / "own"), Certificates(tmp_path / "other")
    async with serving(saying("hello"), tls(own)) as url:
        async with web_session(str(own.ca_file)) as session:
            assert (await fetch(session, url)).body == b"hello"
        for ca in ("", str(other.ca_file)):
            error = await failure(url, ca=ca)
            assert isinstance(error, SourceUnavailable)
            assert "its certificate is not trusted" in str(error)


async def test_T18_a_certificate_for_another_name_is_refused(tmp_path: Path) -> None:
    own = Certificates(tmp_path)
    async with serving(saying("hello"), tls(own), "127.0.0.2") as url:
        assert "its certificate is not trusted" in str(await failure(url, ca=str(own.ca_file)))


async def test_tls_to_a_server_without(tmp_path: Path) -> None:
    async with serving(saying("hello")) as url:
        assert "no TLS connection" in str(await failure(url.replace("http:", "https:")))


@pytest.mark.parametrize(("content", "text"), [(None, "cannot be read"), ("no certificate", "no certificates in PEM")])
async def test_a_CA_file_that_cannot_be_used(tmp_path: Path, content: str | None, text: str) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SourceError, match=text):
        async with web_session(str(file)):
            pass


class _Hello(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name it has there)
        """Say nothing: pytest shows what goes to stderr."""


@contextmanager
def asking_for_certificates(own: Certificates, version: ssl.TLSVersion) -> Iterator[str]:
    """Serve TLS to clients with a certificate of the own authority; give the URL.

    In a thread: asyncio's TLS closes the connection without the alert that other servers send.
    """
    context = tls(own)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(own.ca_file)
    context.maximum_version = version
    with ThreadingHTTPServer(("127.0.0.1", 0), _Hello) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"https://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


TLS_VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])


@TLS_VERSIONS
async def test_T18_a_client_certificate_is_shown_to_who_asks_for_it(tmp_path: Path, version: ssl.TLSVersion) -> None:
    own = ClientCertificates(tmp_path)
    cert, key = str(own.client_cert_file), str(own.client_key_file)
    with asking_for_certificates(own, version) as url:
        async with web_session(str(own.ca_file), cert_file=cert, key_file=key) as session:
            assert (await fetch(session, url)).body == b"hello"
        error = await failure(url, ca=str(own.ca_file))
    assert isinstance(error, SourceUnavailable)
    # How it says so depends on the version, and on whether its alert comes before the end of the connection.
    assert "client certificate: `cert` and `key`" in str(error)


@TLS_VERSIONS
async def test_T18_a_client_certificate_that_is_not_trusted(tmp_path: Path, version: ssl.TLSVersion) -> None:
    own, other = Certificates(tmp_path / "own"), Certificates(tmp_path / "other")
    with asking_for_certificates(own, version) as url:
        error = await failure(url, ca=str(own.ca_file), cert=(other.cert_file, other.key_file))
    assert isinstance(error, SourceUnavailable)
    assert "client certificate" in str(error)
    assert "`cert` and `key`" in str(error)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required (_ssl.c:2580)", "it asks for a"),
        ("[SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca (_ssl.c:2580)", "the lack of one (unknown ca)"),
        ("[SSL: SSL/TLS_ALERT_BAD_CERTIFICATE] ssl/tls alert bad certificate (_ssl.c:1000)", "(bad certificate)"),
        ("[SSL: SSLV3_ALERT_CERTIFICATE_EXPIRED] sslv3 alert certificate expired", "(certificate expired)"),
        ("[SSL: SSLV3_ALERT_HANDSHAKE_FAILURE] sslv3 alert handshake failure (_ssl.c:1006)", "or asks for a"),
    ],
)
def test_what_an_alert_says_of_the_client_certificate(text: str, said: str) -> None:
    """The words of OpenSSL, since which of them come depends on the version and on who is faster."""
    fault = tls_fault(ssl.SSLError(1, text))
    assert fault is not None
    assert said in fault
    assert "`cert` and `key`" in fault


@pytest.mark.parametrize("number", [errno.ECONNRESET, errno.EPIPE])
def test_a_reset_may_have_cut_an_alert_off(number: int) -> None:
    fault = tls_fault(aiohttp.ClientOSError(number, "reset"))
    assert fault is not None
    assert fault.startswith("the connection was reset; it may ask for a client certificate")


def test_a_connection_that_broke_says_nothing_of_certificates() -> None:
    assert tls_fault(TimeoutError()) is None
    assert tls_fault(ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)")) is None


def openssl(*arguments: str | Path, directory: Path) -> None:
    run_tool("openssl", [tool("openssl", "openssl"), *map(str, arguments)], directory)


async def test_a_client_certificate_that_cannot_be_used(tmp_path: Path) -> None:
    own, other = Certificates(tmp_path / "own"), Certificates(tmp_path / "other")
    cert, key, missing = own.cert_file, own.key_file, tmp_path / "missing"
    junk, empty, encrypted, rsa, weak = (tmp_path / name for name in ("junk", "empty", "encrypted", "rsa", "weak"))
    junk.write_text("no certificate")
    empty.write_text("")
    openssl("pkcs8", "-topk8", "-in", key, "-out", encrypted, "-passout", "pass:hunter2", directory=tmp_path)
    openssl("genrsa", "-out", rsa, "1024", directory=tmp_path)
    openssl("req", "-x509", "-key", rsa, "-subj", "/CN=weak", "-out", weak, directory=tmp_path)
    faults = {
        (missing, key): f"{missing} cannot be read: No such file or directory",
        (tmp_path, key): f"{tmp_path} cannot be read: Is a directory",
        (cert, missing): f"{missing} cannot be read: No such file or directory",
        (junk, key): f"{junk} holds no certificates in PEM form",
        (key, cert): f"{key} holds no certificates in PEM form",
        (cert, junk): f"{junk} holds no private key in PEM form",
        (cert, empty): f"{empty} holds no private key in PEM form",
        (cert, cert): f"{cert} holds no private key in PEM form",
        (cert, other.key_file): f"the key in {other.key_file} does not belong to the certificate in {cert}",
        (cert, rsa): f"the key in {rsa} does not belong to the certificate in {cert}",
        (cert, encrypted): f"{encrypted} is encrypted: write the key there without a password",
        (weak, rsa): f"{weak} cannot be used: ee key too small",
    }
    for (cert_file, key_file), said in faults.items():
        with pytest.raises(SourceError) as raised:
            async with web_session(cert_file=str(cert_file), key_file=str(key_file)):
                pass
        assert str(raised.value) == said


async def test_a_user_name_that_cannot_be_sent() -> None:
    with pytest.raises(SourceError, match="user name"):
        async with web_session("", "a:b", "c"):
            pass


class Form(Struct):
    number: int = 0
    text: str = ""


def test_T14_json_with_numbers_in_strings() -> None:
    assert decode_json(b'{"number":"7","text":"x","more":[1]}', Form) == Form(7, "x")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "no whole JSON"),
        (b'{"number":1', "no whole JSON"),
        (b"<html>", "no whole JSON"),
        (b'{"number":NaN}', "no whole JSON"),
        (b"[]", "another form"),
        (b'{"number":"\xe2\x80\xae"}', "another form"),
        (b'{"number":1e400}', "another form"),
        (b'{"number":' + b"9" * 5_000 + b"}", "another form"),
        (b'{"text":"\xff"}', "not UTF-8"),
        (b'{"text":"\\ud800"}', "no whole JSON"),
        (b'{"more":' * 5_000 + b"1" + b"}" * 5_000, "nested too deeply"),
        (b"[" * 5_000_000, "another form"),
        (b'{"more":' + b"[" * 5_000_000, "nested too deeply"),
    ],
)
def test_T14_json_that_cannot_be_read(body: bytes, text: str) -> None:
    with pytest.raises(SourceUnavailable, match=text) as raised:
        decode_json(body, Form)
    assert len(str(raised.value)) < 300
