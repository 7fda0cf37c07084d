"""The standard services beside xDS: health, reflection, and channelz where who asks may see it.

Which libraries serve them, and what is our own, is in docs/decisions/0013-standard-services.md.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from grpc_channelz.v1 import channelz_pb2
from grpc_channelz.v1.channelz import add_channelz_servicer
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from isthmus.mcp.front import peer_behind
from isthmus.mcp.pacing import Allowance
from isthmus.mcp.published import ADS, published_pool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

_Context: TypeAlias = grpc.aio.ServicerContext[bytes, bytes]

HEALTH: str = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
CHANNELZ: str = channelz_pb2.DESCRIPTOR.services_by_name["Channelz"].full_name
REFLECTION: str = reflection.SERVICE_NAME

# "" is the server as a whole.
_REPORTED = ("", ADS)
# Streams of these services in a process; who diagnoses needs one.
MOST_STREAMS = 100
# Questions to reflection on one stream: a client that describes everything asks some dozens.
_QUESTIONS_AT_ONCE = 100
_QUESTIONS_PER_SECOND = 20.0
# As in server.py: the end of a client's stream is left to gRPC for so long, which then cancels us (X44).
_CANCEL_SECONDS = 0.5


class Health:
    """Whether this process serves, for the standard services of all of its servers (X64); it belongs to the loop."""

    def __init__(self, *, serving: bool = False) -> None:
        self._serving = serving
        self._stopping = False
        self._news = asyncio.Event()
        self._streams: set[asyncio.Task[Any]] = set()
        # Told of each stream of the standard services that is refused: the listener, the peer, the status and why.
        self.on_refused: Callable[[str, str, str, str], None] | None = None

    @property
    def serving(self) -> bool:
        """What is reported now."""
        return self._serving and not self._stopping

    def set(self, serving: bool) -> None:
        """Say whether all is served; who watches is told in its own time, and nobody is waited for."""
        self._tell(serving=serving, stopping=self._stopping)

    def stop(self) -> None:
        """Say that the process is ending, whatever `set` says after that."""
        self._tell(serving=self._serving, stopping=True)

    @property
    def news(self) -> asyncio.Event:
        """What will be set as soon as something else is reported than now."""
        return self._news

    def own_this_stream(self) -> bool:
        """Keep the task that runs now, for `ended`; False: there are too many."""
        task = asyncio.current_task()
        if task is None or len(self._streams) >= MOST_STREAMS:
            return False
        self._streams.add(task)
        task.add_done_callback(self._streams.discard)
        return True

    def refuse(self, listener: str, peer: str, status: str, reason: str) -> None:
        """Tell that a stream of the standard services is refused."""
        if self.on_refused is not None:
            self.on_refused(listener, peer, status, reason)

    async def ended(self) -> None:
        """Wait until every stream of the standard services has ended, once the servers are stopped."""
        if self._streams:
            await asyncio.wait(self._streams)

    def _tell(self, *, serving: bool, stopping: bool) -> None:
        before = self.serving
        self._serving, self._stopping = serving, stopping
        if self.serving != before:
            self._news.set()
            self._news = asyncio.Event()


def add_services(server: grpc.aio.Server, health: Health, *, channelz: bool, listener: str = "") -> None:
    """Add health and reflection to a server that has not started.

    listener: whose streams are refused, where they are; empty: it is not said.
    channelz: also gRPC's own view of the process: the addresses of all who are connected to any of its ports, and those
        of the registries that it is connected to by gRPC.
    """
    server.add_generic_rpc_handlers((_health(health, listener), _reflection(health, listener, channelz=channelz)))
    if channelz:
        add_channelz_servicer(server)  # type: ignore[arg-type]


def _health(health: Health, listener: str) -> Any:
    def status(service: str) -> Any:
        answer = health_pb2.HealthCheckResponse
        if service not in _REPORTED:
            return answer(status=answer.SERVICE_UNKNOWN)
        return answer(status=answer.SERVING if health.serving else answer.NOT_SERVING)

    async def check(data: bytes, context: _Context) -> bytes:
        request = await _parse(context, health_pb2.HealthCheckRequest, data)
        if request.service not in _REPORTED:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no service but {ADS}, and the empty name, has a health")
        return _bytes(status(request.service))

    async def statuses(_: bytes, __: _Context) -> bytes:
        return _bytes(health_pb2.HealthListResponse(statuses={name: status(name) for name in _REPORTED}))

    async def watch(data: bytes, context: _Context) -> None:
        request = await _parse(context, health_pb2.HealthCheckRequest, data)
        told = None
        while True:
            news = health.news
            if (now := status(request.service)) != told:
                told = now
                await context.write(_bytes(now))
            await news.wait()

    methods: Any = {
        "Check": grpc.unary_unary_rpc_method_handler(check),
        "List": grpc.unary_unary_rpc_method_handler(statuses),
        "Watch": grpc.unary_stream_rpc_method_handler(_stream(health, listener, watch)),
    }
    return grpc.method_handlers_generic_handler(HEALTH, methods)


def _reflection(health: Health, listener: str, *, channelz: bool) -> Any:
    described = [health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR, *([channelz_pb2.DESCRIPTOR] if channelz else [])]
    names = [ADS, HEALTH, REFLECTION, *([CHANNELZ] if channelz else [])]
    aio: Any = reflection.aio  # type: ignore[attr-defined]
    servicer = aio.ReflectionServicer(names, pool=published_pool(described))

    async def info(_: object, context: _Context) -> None:
        async with aclosing(servicer.ServerReflectionInfo(_questions(context), context)) as answers:
            async for answer in answers:
                await context.write(_bytes(answer))

    methods: Any = {"ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(_stream(health, listener, info))}
    return grpc.method_handlers_generic_handler(REFLECTION, methods)


async def _questions(context: _Context) -> AsyncIterator[Any]:
    loop = asyncio.get_running_loop()
    allowance = Allowance(_QUESTIONS_AT_ONCE, _QUESTIONS_PER_SECOND)
    while isinstance(data := await context.read(), bytes):
        yield await _parse(context, reflection_pb2.ServerReflectionRequest, data)
        await asyncio.sleep(allowance.take(loop.time()))


def _stream(
    health: Health, listener: str, serve: Callable[[Any, _Context], Awaitable[None]]
) -> Callable[[Any, _Context], Awaitable[None]]:
    """Bound these streams, own their tasks, and leave the end of one to gRPC where the client may be gone."""

    async def owned(request: Any, context: _Context) -> None:
        if not health.own_this_stream():
            many = f"more than {MOST_STREAMS} streams of this kind"
            health.refuse(listener, peer_behind(context.peer()), "RESOURCE_EXHAUSTED", many)
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, many)
        try:
            await serve(request, context)
        except grpc.aio.AbortError:
            raise
        except grpc.aio.BaseError:
            await asyncio.sleep(_CANCEL_SECONDS)

    return owned


async def _parse(context: _Context, message: Any, data: bytes) -> Any:
    """Decode a request; gRPC would log a traceback for each that is garbage."""
    try:
        return message.FromString(data)
    except DecodeError:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the request is not what this method takes")


def _bytes(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data
