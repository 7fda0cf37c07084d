"""etcd's v3 API as far as it is needed: log in, list what is under a prefix, watch it.

One channel to one member: which one is asked next is the adapter's affair. Every list is linearizable, and everything
demands a leader, so a member that is cut off from its cluster refuses at once (ET4).
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from msgspec import Struct

from isthmus.adapters.etcd.told import Origin, Record, Told, origin_of, record_of, told_by
from isthmus.adapters.tls import read_authorities, tls_context
from isthmus.protos import etcd_pb2 as pb
from isthmus.registry.errors import SourceDenied, SourceError, SourceUnavailable
from isthmus.registry.names import printable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from isthmus.adapters.etcd.options import EtcdOptions

# A value has at most 1.5 MiB unless the operator of etcd said more (ET9).
LARGEST_MESSAGE = 64 << 20
PAGE = 2_000
_LISTS = 3
_LONGEST_SHOWN = 200
_WITH_LEADER = ("hasleader", "true")
_OLD_TOKEN = ("invalid auth token", "revision of auth store is old")
_NO_RIGHTS = ("permission denied",)
_CREDENTIALS = ("authentication failed", "user name is empty", "user name not found", "password")
_NO_ETCD = "what answers there does not speak etcd's v3 API"
# What gRPC says of a connection that it could not make, and what that means; the first that fits.
_MEANINGS = (
    ("CERTIFICATE_VERIFY_FAILED", "its certificate is not trusted: `ca` names who vouches for it"),
    ("Unwrap failed", "it may ask for a client certificate, or refuse this one: `cert` and `key`"),
    ("Handshake read failed", "it may speak no TLS: then the address begins with `http:`"),
    ("Expected SETTINGS frame", _NO_ETCD),
    ("last error: UNAVAILABLE", "it may speak TLS: then the address begins with `https:`"),
)


class Compacted(SourceUnavailable):
    """The revision that was asked for is not kept any more."""


class TooLarge(SourceUnavailable):
    """The answer is larger than may be received."""


class NoSuchRevision(SourceUnavailable):
    """The revision that was asked for is yet to come."""


class Forbidden(SourceDenied):
    """We may not read this prefix; it says nothing of the others."""


class _TokenExpired(SourceUnavailable):
    """The token is not, or no longer, what the member takes (ET9)."""


class Listed(Struct, frozen=True):
    """Everything under a prefix, as it was at one revision: that of `origin`."""

    records: tuple[Record, ...]
    origin: Origin


class Newest(Struct, frozen=True):
    """How many keys there are under a prefix, and the one that was put last; None where there is none."""

    count: int
    record: Record | None


class EtcdClient:
    """One member of a cluster, over one channel."""

    def __init__(self, channel: grpc.aio.Channel, server: str, options: EtcdOptions) -> None:
        self._range = _unary(channel, "KV/Range", pb.RangeRequest, pb.RangeResponse)
        login = "Auth/Authenticate"
        self._authenticate = _unary(channel, login, pb.AuthenticateRequest, pb.AuthenticateResponse)
        self._open_watch: Any = channel.stream_stream(
            "/etcdserverpb.Watch/Watch", pb.WatchRequest.SerializeToString, None
        )
        self.server = server
        self._username = options.username
        self._password = options.password
        self._timeout = options.timeout
        self._token = ""
        self._page = PAGE

    async def log_in(self) -> None:
        """Get a token, where there is a user name. Raises SourceDenied: it or the password is wrong."""
        if not self._username:
            return
        request = pb.AuthenticateRequest(name=self._username, password=self._password)
        try:
            answer = await self._call(self._authenticate, request, authenticated=False)
        except _AuthIsOff:
            # Nobody needs a token there; that the rights do not depend on it is the operator's to know.
            return
        self._token = answer.token

    async def list(self, prefix: bytes) -> Listed:
        """Read everything under a prefix, all of it as it was at one revision (ET1).

        Raises Forbidden: no right to it. SourceDenied: no right to anything. SourceUnavailable: no answer, or none that
        could be finished before its revision was compacted.
        """
        self._page = PAGE
        for _ in range(_LISTS - 1):
            with suppress(Compacted):
                return await self._list_once(prefix)
        return await self._list_once(prefix)

    async def _list_once(self, prefix: bytes) -> Listed:
        answer = await self._read_page(prefix or b"\0", range_end(prefix), 0)
        # The headers of later pages tell the revision of their own moment.
        origin = origin_of(answer.header)
        records = [record_of(kv) for kv in answer.kvs]
        while answer.more and answer.kvs:
            answer = await self._read_page(answer.kvs[-1].key + b"\0", range_end(prefix), origin.revision)
            records += map(record_of, answer.kvs)
        return Listed(tuple(records), origin)

    async def _read_page(self, start: bytes, end: bytes, revision: int) -> Any:
        while True:
            request = pb.RangeRequest(key=start, range_end=end, limit=self._page, revision=revision)
            try:
                return await self._with_token(request)
            except TooLarge:
                if self._page == 1:
                    raise
                self._page = max(1, self._page // 8)

    async def _with_token(self, request: pb.RangeRequest) -> Any:
        try:
            return await self._call(self._range, request)
        except _TokenExpired:
            await self.log_in()
        return await self._call(self._range, request)

    async def newest(self, prefix: bytes, revision: int) -> Newest:
        """Return how many keys there were under a prefix at a revision, and which of them was put last.

        Raises Compacted: that is not kept any more. NoSuchRevision: there was none yet, so other data is in its place.
        Else as `list`.
        """
        request = pb.RangeRequest(
            key=prefix or b"\0",
            range_end=range_end(prefix),
            revision=revision,
            limit=1,
            sort_order=pb.RangeRequest.DESCEND,
            sort_target=pb.RangeRequest.MOD,
        )
        answer = await self._with_token(request)
        return Newest(answer.count, record_of(answer.kvs[0]) if answer.kvs else None)

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[WatchStream]:
        """Open a stream for a watch."""
        call = self._open_watch(metadata=(*self._metadata(), _WITH_LEADER))
        try:
            yield WatchStream(call, self.server, self._timeout)
        finally:
            call.cancel()

    async def _call(self, method: Any, request: Any, *, authenticated: bool = True) -> Any:
        token = self._metadata() if authenticated else ()
        try:
            # Of gRPC's own there is no error for an answer that cannot be decoded, but None.
            answer = await method(request, timeout=self._timeout, metadata=(*token, _WITH_LEADER))
        except grpc.aio.AioRpcError as error:
            raise fault(self.server, error.code(), error.details() or "", self._timeout) from error
        if answer is None:
            raise SourceUnavailable(f"{self.server}: {_NO_ETCD}")
        return answer

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return (("token", self._token),) if self._token else ()


class WatchStream:
    """One watch, on a stream of its own: a second one there would share its token, and its fate."""

    def __init__(self, call: Any, server: str, timeout: float) -> None:
        self._call = call
        self._server = server
        self._timeout = timeout

    async def begin(self, prefix: bytes, revision: int) -> None:
        """Watch a prefix from a revision on. Raises SourceUnavailable: the stream has ended."""
        create = pb.WatchCreateRequest(
            key=prefix or b"\0", range_end=range_end(prefix), start_revision=revision, progress_notify=True
        )
        await self._write(pb.WatchRequest(create_request=create))

    async def ask_progress(self) -> None:
        """Ask the server to say how far it is, which shows that it is there. Raises SourceUnavailable."""
        await self._write(pb.WatchRequest(progress_request=pb.WatchProgressRequest()))

    async def read(self) -> Told:
        """Return what is told next.

        Raises TooLarge: it is more than may be received. SourceUnavailable: the stream has ended. SourceDenied: we may
        not watch.
        """
        try:
            raw = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise fault(self._server, error.code(), error.details() or "", self._timeout) from error
        if not isinstance(raw, bytes):
            raise SourceUnavailable(f"{self._server} ended the watch")
        try:
            return told_by(pb.WatchResponse.FromString(raw))
        except DecodeError as error:
            raise SourceUnavailable(f"{self._server}: {_NO_ETCD}") from error

    async def _write(self, request: pb.WatchRequest) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                await self._call.write(request)
        except TimeoutError as error:
            raise SourceUnavailable(f"{self._server} takes nothing any more") from error
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            raise SourceUnavailable(f"{self._server} ended the watch") from error


class _AuthIsOff(SourceUnavailable):
    """etcd knows no users there."""


def fault(server: str, code: grpc.StatusCode, details: str, timeout: float) -> SourceError:
    """Return the error that etcd's status stands for; the details are etcd's words, which versions share."""
    shown = printable(details or "no reason given")[:_LONGEST_SHOWN]
    said = f"{server}: {shown}"
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return SourceUnavailable(f"{server}: no answer within {timeout:g} s")
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return SourceUnavailable(f"{said}: {_NO_ETCD}")
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in details:
        return TooLarge(said)
    if code is grpc.StatusCode.OUT_OF_RANGE and "compacted" in details:
        return Compacted(said)
    if code is grpc.StatusCode.OUT_OF_RANGE and "future revision" in details:
        return NoSuchRevision(said)
    if "authentication is not enabled" in details:
        return _AuthIsOff(said)
    if any(words in details for words in _OLD_TOKEN):
        return _TokenExpired(said)
    if any(words in details for words in _NO_RIGHTS):
        return Forbidden(f"{said}: grant this source's user the right to read its prefixes")
    if any(words in details for words in _CREDENTIALS):
        return SourceDenied(f"{said}: check `username` and `password` of this source")
    meaning = next((f": {meaning}" for words, meaning in _MEANINGS if words in details), "")
    return SourceUnavailable(f"{said}{meaning}")


def range_end(prefix: bytes) -> bytes:
    """Return the first key after all that begin with a prefix; one zero byte stands for the end of all keys."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else b"\0"


@asynccontextmanager
async def connect(url: str, options: EtcdOptions) -> AsyncIterator[EtcdClient]:
    """Open a channel to the member at a URL and log in.

    Raises SourceUnavailable: no contact. SourceDenied: the credentials are wrong. SourceError: a file cannot be read.
    """
    parts = urlsplit(url)
    target = parts.netloc if parts.port else f"{parts.netloc}:2379"
    channel_options = [
        ("grpc.max_receive_message_length", LARGEST_MESSAGE),
        # A proxy of the environment is none for a registry inside, and another source's connection is not ours.
        ("grpc.enable_http_proxy", 0),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if parts.scheme == "https":
        credentials = await asyncio.to_thread(_credentials, options)
        channel = grpc.aio.secure_channel(target, credentials, channel_options)
    else:
        channel = grpc.aio.insecure_channel(target, channel_options)
    async with channel:
        client = EtcdClient(channel, target, options)
        await client.log_in()
        yield client


def _credentials(options: EtcdOptions) -> grpc.ChannelCredentials:
    """Read the files. Raises SourceError: one cannot be used; of gRPC one would hear that there is no contact."""
    tls_context(options.ca, options.cert, options.key)
    pair = (Path(options.key).read_bytes(), Path(options.cert).read_bytes()) if options.cert else (None, None)
    return grpc.ssl_channel_credentials(read_authorities(options.ca) or None, *pair)


def _unary(channel: grpc.aio.Channel, method: str, request: Any, answer: Any) -> Any:
    return channel.unary_unary(f"/etcdserverpb.{method}", request.SerializeToString, answer.FromString)
