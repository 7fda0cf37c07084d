"""The gRPC server around the stream machine: sockets, tasks and deadlines, and no rule of the protocol.

Handlers take and give bytes (identity serializers), so a push costs a copy and no protobuf object. Every stream has
one reader and one writer task; the writer holds at most one encoded response, whatever the client does (X49).
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from msgspec import Struct

from isthmus.mcp.delta import DeltaSession
from isthmus.mcp.front import peer_behind
from isthmus.mcp.pacing import Allowance
from isthmus.mcp.published import ADS
from isthmus.mcp.services import Health, add_services
from isthmus.mcp.slime import SlimeSession
from isthmus.mcp.sotw import SotwSession
from isthmus.mcp.views import Door
from isthmus.protos import xds_pb2
from isthmus.registry.errors import ConfigError, ProtocolError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from isthmus.mcp.hub import Hub, Stream
    from isthmus.mcp.limits import Limits
    from isthmus.mcp.session import Lookup, Response, Session, Subscriber
    from isthmus.mcp.transport import Tls
    from isthmus.mcp.writes import Writes

_log = logging.getLogger("isthmus.mcp")

# To gRPC a client that is gone looks like one that half-closed, until a moment later our task is cancelled. Who sends a
# status between the two has an error logged (X44).
_CANCEL_SECONDS = 0.5


class Port(Struct, frozen=True):
    """One port to listen on: `host:port` (port 0: any), what it offers, and its certificate; None: plaintext."""

    address: str
    door: Door = Door()
    tls: Tls | None = None


class _Tasks:
    """The tasks that serve streams: gRPC starts them and waits for none."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def own_this_one(self) -> None:
        """Keep the task that runs now, for `ended`."""
        if (task := asyncio.current_task()) is not None:
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def ended(self) -> None:
        """Wait until every task has ended, once the server is stopped."""
        if self._running:
            await asyncio.wait(self._running)


async def _serve(context: grpc.aio.ServicerContext[bytes, bytes], hub: Hub, door: Door, *, delta: bool) -> None:
    """Serve one stream to its end, and leave that end to gRPC where the client may be gone."""
    await _converse(context, hub, door, delta=delta)
    if context.code() is None:
        await asyncio.sleep(_CANCEL_SECONDS)


async def _converse(context: grpc.aio.ServicerContext[bytes, bytes], hub: Hub, door: Door, *, delta: bool) -> None:
    """Read and write until the client ends the stream or breaks the protocol."""
    request_type = xds_pb2.DeltaDiscoveryRequest if delta else xds_pb2.DiscoveryRequest
    try:
        stream = hub.add(peer_behind(context.peer()), door, delta=delta)
    except ProtocolError as error:
        _end(context, hub, door, error)
        return
    stream.session = _session(hub, stream)
    try:
        # With the first response it would be lost where that is given up, and the stream could never be ended.
        await context.send_initial_metadata(())
        async with asyncio.TaskGroup() as tasks:
            writer = tasks.create_task(_write(context, hub, stream))
            await _read(context, hub, stream, request_type)
            writer.cancel()
    except* ProtocolError as group:
        for broken in group.exceptions:
            _log.info("stream %d of %s ended: %s", stream.number, stream.peer, broken)
            _end(context, hub, door, broken)
    except* grpc.aio.BaseError:
        # Not our doing: the network's, or gRPC's own, as for a request above its limit (X48).
        _log.info("stream %d of %s broke", stream.number, stream.peer)
        hub.refuse(door.listener, stream.peer, "BROKEN", "it broke off, or sent more than a request may have")
    finally:
        hub.remove(stream)


def _session(hub: Hub, stream: Stream) -> Session[Any]:
    def admit(subscriber: Subscriber) -> Lookup:
        return hub.admit(stream, subscriber)

    pages = hub.debug_pages if stream.door.debug else None
    if stream.delta:
        return DeltaSession(admit, hub.limits, pages)
    return (SlimeSession if stream.door.form == "slime" else SotwSession)(admit, hub.limits, pages)


def _end(context: grpc.aio.ServicerContext[bytes, bytes], hub: Hub, door: Door, error: BaseException) -> None:
    status = error.status if isinstance(error, ProtocolError) else "UNKNOWN"
    hub.refuse(door.listener, peer_behind(context.peer()), status, str(error))
    context.set_code(grpc.StatusCode[status])
    context.set_details(str(error))


async def _read(
    context: grpc.aio.ServicerContext[bytes, bytes], hub: Hub, stream: Stream, request_type: Callable[[], Any]
) -> None:
    """Feed the session with requests until the client half-closes (X43)."""
    loop = asyncio.get_running_loop()
    limits = hub.limits
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
        hub.heard(stream)
        stream.wake.set()
        # A client that sends without end gets its requests taken at our speed; what it may not yet send waits with it.
        await asyncio.sleep(allowance.take(loop.time()))


async def _write(context: grpc.aio.ServicerContext[bytes, bytes], hub: Hub, stream: Stream) -> None:
    """Write what is due, one response at a time, whenever the stream is woken."""
    loop = asyncio.get_running_loop()
    while True:
        stream.wake.clear()
        push, stream.round = stream.round, False
        for response in stream.session.due(loop.time(), push=push):
            hub.warn_of_size(response)
            started = loop.time()
            await _send(context, hub.writes, response)
            stream.session.written(response, loop.time())
            hub.note(stream, response, started, loop.time())
        await _rest(hub, stream)


async def _send(context: grpc.aio.ServicerContext[bytes, bytes], writes: Writes, response: Response) -> None:
    began = asyncio.get_running_loop().time()
    try:
        async with writes.one(len(response.data)):
            await context.write(response.data)
    except TimeoutError as error:
        waited = asyncio.get_running_loop().time() - began
        raise ProtocolError("UNAVAILABLE", f"the client did not take a response within {waited:.0f} s") from error


async def _rest(hub: Hub, stream: Stream) -> None:
    """Wait to be woken; a stream with unsent changes, its client not being ready, asks for a round once it is."""
    opens_at = stream.session.opens_at()
    if opens_at is not None and opens_at > asyncio.get_running_loop().time():
        with suppress(TimeoutError):
            async with asyncio.timeout_at(opens_at):
                await stream.wake.wait()
        return
    if opens_at is not None:
        hub.ask(stream)
    await stream.wake.wait()


def _handlers(hub: Hub, door: Door, tasks: _Tasks) -> Any:
    """Return the two methods of the aggregated discovery service; anything else is UNIMPLEMENTED (X63)."""

    async def sotw(_: object, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        tasks.own_this_one()
        await _serve(context, hub, door, delta=False)

    async def delta(_: object, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        tasks.own_this_one()
        await _serve(context, hub, door, delta=True)

    methods: Any = {
        "StreamAggregatedResources": grpc.stream_stream_rpc_method_handler(sotw),
        "DeltaAggregatedResources": grpc.stream_stream_rpc_method_handler(delta),
    }
    return grpc.method_handlers_generic_handler(ADS, methods)


def _options(limits: Limits) -> list[tuple[str, int]]:
    # istiod pings every 30 s; gRPC's core by default takes one ping in five minutes and then ends the connection with
    # "too_many_pings" (X46). Our own pings find a peer that the network swallowed (X45).
    return [
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # A connection that says nothing is closed as a stream without a request is (X52).
        ("grpc.server_handshake_timeout_ms", round(limits.first_request * 1000)),
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
async def serve(
    hub: Hub, ports: Sequence[Port], *, health: Health | None = None, drain_seconds: float = 2.0
) -> AsyncIterator[list[int]]:
    """Listen on all of these and yield their numbers; on leaving, streams get GOAWAY and end (X57).

    health: what the standard health service of each port says; None: that all is served.
    Raises ConfigError: an address cannot be bound.
    """
    tasks = _Tasks()
    health = health or Health(serving=True)
    servers: list[grpc.aio.Server] = []
    numbers: list[int] = []
    try:
        for port in ports:
            server = grpc.aio.server(options=_options(hub.limits))
            servers.append(server)
            server.add_generic_rpc_handlers((_handlers(hub, port.door, tasks),))
            add_services(server, health, channelz=port.door.debug, listener=port.door.listener)
            numbers.append(_bind(server, port))
        for server in servers:
            await server.start()
        yield numbers
    finally:
        hub.close()
        await asyncio.gather(*(server.stop(drain_seconds) for server in servers))
        await tasks.ended()
        await health.ended()


def _bind(server: grpc.aio.Server, port: Port) -> int:
    """Bind a port and return its number. Raises ConfigError: it cannot be had."""
    # gRPC is content with one of the two addresses of `localhost`, though the other is taken.
    address = port.address.replace("localhost:", "127.0.0.1:")
    try:
        if port.tls is None:
            number = server.add_insecure_port(address)
        else:
            number = server.add_secure_port(address, port.tls.credentials())
    except RuntimeError as error:
        raise ConfigError([f"{port.door.listener}: cannot bind {address}; is it in use?"]) from error
    if number == 0:
        raise ConfigError([f"{port.door.listener}: cannot bind {address}; is it in use?"])
    return number
