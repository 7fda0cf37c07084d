"""One gRPC connection to one Nacos server: requests on one side, pushes on the other.

Nacos ties what is subscribed to the connection, so everything goes over one channel, and with it everything ends.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
import grpc.aio
from msgspec import Struct

from isthmus import __version__
from isthmus.adapters.nacos import wire
from isthmus.adapters.nacos.wire import (
    OK,
    Answer,
    Forbidden,
    Push,
    ServerRequest,
    ServiceInfo,
    TooLarge,
    Unreadable,
    decode,
    encode,
    envelope,
)
from isthmus.registry.errors import SourceDenied, SourceUnavailable
from isthmus.registry.names import printable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

AnyAnswer = TypeVar("AnyAnswer", bound=Answer)

# Less than Nacos would send, and far more than the endpoints that are served of one service.
LARGEST_MESSAGE = 16 << 20
_SETUP_PAUSE = 0.02
_LONGEST_MESSAGE_SHOWN = 200


class Node(Struct, frozen=True, order=True):
    """Where a service is in Nacos: the namespace's id, the group and the name."""

    namespace: str
    group: str
    name: str


class Name(Struct, frozen=True):
    """All that a push says of where a service is: the namespace is not in it."""

    group: str
    name: str


class NotRegistered(SourceUnavailable):
    """The server does not know our connection, or not yet."""


class Connection:
    """What one server says; all methods belong to the event loop."""

    def __init__(self, channel: grpc.aio.Channel, server: str, timeout: float) -> None:
        open_stream: Any = channel.stream_stream("/BiRequestStream/requestBiStream", None, None)
        self._request: Any = channel.unary_unary("/Request/request", None, None)
        self._stream: grpc.aio.StreamStreamCall[bytes, bytes] = open_stream()
        self._server = server
        self._timeout = timeout
        self._pushed: dict[Name, ServiceInfo] = {}
        self._wake = asyncio.Event()

    async def set_up(self) -> None:
        """Make ourselves known; wait until the server takes requests.

        Raises SourceUnavailable: it does not answer, or not in time.
        """
        await self.request("ServerCheckRequest", {"module": "internal"}, Answer)
        labels = {"source": "sdk", "module": "naming"}
        body = {"clientVersion": f"Isthmus:v{__version__}", "tenant": "", "labels": labels, "abilityTable": {}}
        await self._write(encode("ConnectionSetupRequest", body | {"module": "internal"}))
        try:
            async with asyncio.timeout(self._timeout):
                # Older servers do not say when they are done.
                while not await self._is_registered():  # noqa: ASYNC110 (only the server could set an event)
                    await asyncio.sleep(_SETUP_PAUSE)
        except TimeoutError as error:
            raise SourceUnavailable(f"{self._server} takes no requests: is it still starting?") from error

    async def request(
        self, kind: str, body: object, wanted: type[AnyAnswer], headers: dict[str, str] | None = None
    ) -> AnyAnswer:
        """Send one request and return its answer.

        Raises SourceUnavailable: no contact. Forbidden: no right to it. Unreadable: no answer in time, one that is
        garbled or too large, or one that says that this question failed.
        """
        try:
            raw = await self._request(encode(kind, body, headers), timeout=self._timeout)
        except grpc.aio.AioRpcError as error:
            raise self._failure(kind, error) from error
        answer = decode(envelope(raw)[1], wanted)
        if answer.result_code != OK:
            raise self._fault(kind, answer)
        return answer

    async def receive(self) -> None:
        """Take what the server sends until the connection ends, which raises SourceUnavailable."""
        try:
            while isinstance(raw := await self._stream.read(), bytes):
                await self._answer(raw)
        except grpc.aio.AioRpcError as error:
            raise SourceUnavailable(f"{self._server}: {self._why(error)}") from error
        raise SourceUnavailable(f"{self._server} ended the connection")

    async def check_health(self) -> None:
        """Ask whether the server is there: a frozen one keeps its connections open. Raises SourceUnavailable: no."""
        await self.request("HealthCheckRequest", {"module": "internal"}, Answer)

    async def pushed(self) -> dict[Name, ServiceInfo]:
        """Wait for pushes and return them, the latest of each name."""
        while not self._pushed:
            self._wake.clear()
            await self._wake.wait()
        pushed, self._pushed = self._pushed, {}
        return pushed

    async def _answer(self, raw: bytes) -> None:
        try:
            kind, text = envelope(raw)
            asked = decode(text, ServerRequest)
        except Unreadable:
            # Whatever it was, the next reconcile reads it.
            return
        if kind == "NotifySubscriberRequest":
            self._note(text)
        await self._write(encode(f"{kind.removesuffix('Request')}Response", {"requestId": asked.request_id}))
        if kind == "ConnectResetRequest":
            raise SourceUnavailable(f"{self._server} sends its clients to another server")

    def _note(self, text: bytes) -> None:
        try:
            info = decode(text, Push).service_info
        except Unreadable:
            # It counts as lost: the next reconcile reads the service.
            return
        if info is not None:
            # Some versions put the group in front of the name.
            name = Name(info.group_name, info.name.removeprefix(f"{info.group_name}@@"))
            self._pushed[name] = info
            self._wake.set()

    async def _is_registered(self) -> bool:
        try:
            await self.check_health()
        except NotRegistered:
            return False
        return True

    async def _write(self, message: bytes) -> None:
        try:
            await self._stream.write(message)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            raise SourceUnavailable(f"{self._server} ended the connection") from error

    def _failure(self, kind: str, error: grpc.aio.AioRpcError) -> SourceUnavailable:
        said = f"{self._server}: {self._why(error)}"
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return Unreadable(f"{said} to {kind}")
        if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in (error.details() or ""):
            return TooLarge(f"{said}, the answer to {kind}")
        return SourceUnavailable(said)

    def _fault(self, kind: str, answer: Answer) -> SourceUnavailable | SourceDenied:
        said = f"{self._server} answers {kind} with {answer.error_code}: {_shown(answer.message)}"
        match answer.error_code:
            case wire.DENIED:
                return Forbidden(f"{said}; check the credentials and rights of this source")
            case wire.UNREGISTERED:
                return NotRegistered(said)
        return Unreadable(said)

    def _why(self, error: grpc.aio.AioRpcError) -> str:
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return f"no answer within {self._timeout:g} s"
        return _shown(error.details())


@asynccontextmanager
async def connect(server: str, roots: bytes | None, timeout: float) -> AsyncIterator[Connection]:
    """Open a connection to a server's gRPC port and make ourselves known there.

    server: `host:port` of gRPC. roots: PEM of the authorities to trust, empty for the system's; None: no TLS.
    Raises SourceUnavailable: there is no contact.
    """
    options = [
        ("grpc.max_receive_message_length", LARGEST_MESSAGE),
        # A proxy of the environment is none for a registry inside, and another source's connection is not ours.
        ("grpc.enable_http_proxy", 0),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if roots is None:
        channel = grpc.aio.insecure_channel(server, options)
    else:
        channel = grpc.aio.secure_channel(server, grpc.ssl_channel_credentials(roots or None), options)
    async with channel:
        connection = Connection(channel, f"{server} (gRPC)", timeout)
        await connection.set_up()
        yield connection


def _shown(text: str | None) -> str:
    return printable(text or "no reason given")[:_LONGEST_MESSAGE_SHOWN]
