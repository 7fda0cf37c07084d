"""The gRPC server around the stream machine: sockets, tasks and deadlines, and no rule of the protocol.

Handlers take and give bytes (identity serializers), so a push costs a copy and no protobuf object. Every stream has
one reader and one writer task; the writer holds at most one encoded response, whatever the client does (X49).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from msgspec import Struct

from isthmus.mcp.delta import DeltaSession
from isthmus.mcp.limits import Limits
from isthmus.mcp.pacing import DEFAULT_GAP, Allowance, Pacer
from isthmus.mcp.sotw import SotwSession
from isthmus.protos import xds_pb2
from isthmus.registry.errors import ConfigError, ProtocolError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from isthmus.mcp.session import Response, Session
    from isthmus.mcp.shards import Shard

_log = logging.getLogger("isthmus.mcp")

SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
_RECENT_PUSHES = 200
# To gRPC a client that is gone looks like one that half-closed, until a moment later our task is cancelled. Who sends a
# status between the two has an error logged (X44).
_CANCEL_SECONDS = 0.5
_MIB = 1024 * 1024
# Clients with gRPC's default options take no response above the first (istiod up to 1.11 is one); the second is where
# a mesh should be split into shards (X47).
_SIZES_TO_WARN_OF = (4 * _MIB, 64 * _MIB)


class Stream:
    """One open stream, for its writer task and for the pages that show it."""

    def __init__(self, number: int, peer: str, session: Session[Any], *, delta: bool, now: float) -> None:
        self.number = number
        self.peer = peer
        self.session = session
        self.delta = delta
        self.opened_at = now
        self.wake = asyncio.Event()
        self.burst = False
        self.sent_bytes = 0
        self.sent_responses = 0


class Push(Struct, frozen=True):
    """One response that went out; times are monotonic seconds."""

    at: float
    stream: int
    type_url: str
    version: str
    count: int
    removed: int
    size: int
    write_seconds: float


class Hub:
    """All streams of a process and their common bursts."""

    def __init__(self, shard: Shard, gap: float = DEFAULT_GAP, limits: Limits | None = None) -> None:
        self.shard = shard
        self.limits = limits or Limits()
        self.streams: dict[int, Stream] = {}
        self._running: set[asyncio.Task[Any]] = set()
        self.pushes: deque[Push] = deque(maxlen=_RECENT_PUSHES)
        self.pushed: dict[tuple[str, str], int] = {}
        self.pushed_bytes = 0
        self._warned_of: dict[str, int] = {}
        self._pacer = Pacer(gap)
        self._numbers = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def gap(self) -> float:
        return self._pacer.gap

    def changed(self) -> None:
        """Push to every stream, at once after quiet, else when the rest is over; latest state wins (X20)."""
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            return
        opens_at = self._pacer.opens_at()
        if loop.time() >= opens_at:
            self._burst()
        else:
            self._timer = loop.call_at(opens_at, self._burst)

    def open(self) -> None:
        """Let the held types speak: the sources are read."""
        self.shard.open()
        self.changed()

    def _burst(self) -> None:
        self._timer = None
        self._pacer.burst(asyncio.get_running_loop().time())
        for stream in self.streams.values():
            stream.burst = True
            stream.wake.set()

    def add(self, peer: str, session: Session[Any], *, delta: bool) -> Stream:
        """Take a new stream. Raises ProtocolError: there are too many (X53)."""
        if len(self.streams) >= self.limits.streams:
            raise ProtocolError("RESOURCE_EXHAUSTED", f"more than {self.limits.streams} streams")
        self._numbers += 1
        stream = Stream(self._numbers, peer, session, delta=delta, now=asyncio.get_running_loop().time())
        self.streams[stream.number] = stream
        return stream

    def own_this_task(self) -> None:
        """Keep the task that runs now, which serves a stream, for `ended`; gRPC starts them and waits for none."""
        if (task := asyncio.current_task()) is not None:
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def ended(self) -> None:
        """Wait until every task that served a stream has ended, once the server is stopped."""
        if self._running:
            await asyncio.wait(self._running)

    def remove(self, stream: Stream) -> None:
        """Forget a stream that ended (X43)."""
        del self.streams[stream.number]

    def note(self, stream: Stream, response: Response, started: float, ended: float) -> None:
        """Count a response that was written."""
        size = len(response.data)
        self._warn_of_size(response.type_url, size)
        stream.sent_bytes += size
        stream.sent_responses += 1
        self.pushed_bytes += size
        # Types that we have none of are clients' words, and would fill the table.
        type_url = response.type_url if self.shard.has(response.type_url) else "other"
        kind = (type_url, "delta" if stream.delta else "sotw")
        self.pushed[kind] = self.pushed.get(kind, 0) + 1
        self.pushes.append(
            Push(
                *(ended, stream.number, response.type_url, response.version),
                *(response.count, response.removed, size, ended - started),
            )
        )

    def _warn_of_size(self, type_url: str, size: int) -> None:
        """Warn once a type for each size that it passes, not at every push (X47)."""
        passed = sum(size > mark for mark in _SIZES_TO_WARN_OF)
        if passed > self._warned_of.get(type_url, 0):
            self._warned_of[type_url] = passed
            mark = _SIZES_TO_WARN_OF[passed - 1]
            _log.warning("a response of %s has %d bytes, more than %d MiB", type_url, size, mark // _MIB)

    def close(self) -> None:
        """Stop the timer of the next burst."""
        if self._timer is not None:
            self._timer.cancel()


async def _serve(context: grpc.aio.ServicerContext[bytes, bytes], hub: Hub, *, delta: bool) -> None:
    """Serve one stream to its end, and leave that end to gRPC where the client may be gone."""
    hub.own_this_task()
    await _converse(context, hub, delta=delta)
    if context.code() is None:
        await asyncio.sleep(_CANCEL_SECONDS)


async def _converse(context: grpc.aio.ServicerContext[bytes, bytes], hub: Hub, *, delta: bool) -> None:
    """Read and write until the client ends the stream or breaks the protocol."""
    session: Session[Any] = (DeltaSession if delta else SotwSession)(hub.shard.lookup, hub.limits)
    request_type = xds_pb2.DeltaDiscoveryRequest if delta else xds_pb2.DiscoveryRequest
    try:
        stream = hub.add(context.peer(), session, delta=delta)
    except ProtocolError as error:
        _end(context, error)
        return
    try:
        # With the first response it would be lost where that is given up, and the stream could never be ended.
        await context.send_initial_metadata(())
        async with asyncio.TaskGroup() as tasks:
            writer = tasks.create_task(_write(context, hub, stream))
            await _read(context, hub.limits, stream, request_type)
            writer.cancel()
    except* ProtocolError as group:
        for broken in group.exceptions:
            _log.info("stream %d of %s ended: %s", stream.number, stream.peer, broken)
            _end(context, broken)
    except* grpc.aio.BaseError:
        _log.info("stream %d of %s broke", stream.number, stream.peer)
    finally:
        hub.remove(stream)


def _end(context: grpc.aio.ServicerContext[bytes, bytes], error: BaseException) -> None:
    status = error.status if isinstance(error, ProtocolError) else "UNKNOWN"
    context.set_code(grpc.StatusCode[status])
    context.set_details(str(error))


async def _read(
    context: grpc.aio.ServicerContext[bytes, bytes], limits: Limits, stream: Stream, request_type: Callable[[], Any]
) -> None:
    """Feed the session with requests until the client half-closes (X43)."""
    loop = asyncio.get_running_loop()
    allowance = Allowance(limits.requests_at_once, limits.requests_per_second)
    deadline: float | None = limits.first_request
    while True:
        try:
            async with asyncio.timeout(deadline):
                data = await context.read()
        except TimeoutError as error:
            late = f"no request within {limits.first_request:g} s of opening the stream"
            raise ProtocolError("DEADLINE_EXCEEDED", late) from error
        if data is grpc.aio.EOF:  # type: ignore[attr-defined]
            return
        deadline = None
        request = request_type()
        try:
            request.ParseFromString(data)
        except DecodeError as error:
            raise ProtocolError("INVALID_ARGUMENT", "the request is not an xDS request") from error
        stream.session.receive(request, loop.time())
        stream.wake.set()
        # A client that sends without end gets its requests taken at our speed; what it may not yet send waits with it.
        await asyncio.sleep(allowance.take(loop.time()))


async def _write(context: grpc.aio.ServicerContext[bytes, bytes], hub: Hub, stream: Stream) -> None:
    """Write what is due, one response at a time, whenever the stream is woken."""
    loop = asyncio.get_running_loop()
    while True:
        stream.wake.clear()
        burst, stream.burst = stream.burst, False
        for response in stream.session.due(loop.time(), hub.gap, push=burst):
            started = loop.time()
            await _send(context, hub.limits.write, response)
            hub.note(stream, response, started, loop.time())
        await _rest(hub, stream)


async def _send(context: grpc.aio.ServicerContext[bytes, bytes], seconds: float, response: Response) -> None:
    try:
        async with asyncio.timeout(seconds):
            await context.write(response.data)
    except TimeoutError as error:
        raise ProtocolError("UNAVAILABLE", f"the client did not take a response within {seconds:g} s") from error


async def _rest(hub: Hub, stream: Stream) -> None:
    """Wait to be woken; a stream that missed a burst, its client not being ready, asks for another in time."""
    loop = asyncio.get_running_loop()
    retry_at = stream.session.retry_at(loop.time(), hub.gap)
    if retry_at is None:
        await stream.wake.wait()
        return
    try:
        async with asyncio.timeout_at(retry_at):
            await stream.wake.wait()
    except TimeoutError:
        hub.changed()
        await stream.wake.wait()


def _handlers(hub: Hub) -> Any:
    """Return the two methods of the aggregated discovery service; anything else is UNIMPLEMENTED (X63)."""

    async def sotw(_: object, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        await _serve(context, hub, delta=False)

    async def delta(_: object, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        await _serve(context, hub, delta=True)

    methods: Any = {
        "StreamAggregatedResources": grpc.stream_stream_rpc_method_handler(sotw),
        "DeltaAggregatedResources": grpc.stream_stream_rpc_method_handler(delta),
    }
    return grpc.method_handlers_generic_handler(SERVICE, methods)


def _options(limits: Limits) -> list[tuple[str, int]]:
    # istiod pings every 30 s; gRPC's core by default takes one ping in five minutes and then ends the connection with
    # "too_many_pings" (X46). Our own pings find a peer that the network swallowed (X45).
    return [
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.keepalive_time_ms", round(limits.keepalive * 1000)),
        ("grpc.keepalive_timeout_ms", round(limits.keepalive_answer * 1000)),
        ("grpc.http2.ping_timeout_ms", round(limits.keepalive_answer * 1000)),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.max_receive_message_length", limits.request_bytes),
        ("grpc.max_send_message_length", -1),
        # Two processes on one port would share the streams between them; the second must fail instead.
        ("grpc.so_reuseport", 0),
    ]


@asynccontextmanager
async def serve(hub: Hub, address: str, *, drain_seconds: float = 2.0) -> AsyncIterator[int]:
    """Listen on `host:port` (port 0: any) and yield the port; on leaving, streams get GOAWAY and end (X57).

    Raises ConfigError: the address cannot be bound.
    """
    server = grpc.aio.server(options=_options(hub.limits))
    server.add_generic_rpc_handlers((_handlers(hub),))
    # gRPC is content with one of the two addresses of `localhost`, though the other is taken.
    address = address.replace("localhost:", "127.0.0.1:")
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise ConfigError([f"listen: cannot bind {address}; is it in use?"]) from error
    if port == 0:
        raise ConfigError([f"listen: cannot bind {address}; is it in use?"])
    await server.start()
    try:
        yield port
    finally:
        hub.close()
        await server.stop(drain_seconds)
        await hub.ended()
