"""A server of the test's own on loopback, whose resources the test sets by hand."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from isthmus.mcp.server import Hub, Push, serve
from isthmus.mcp.shards import ResourceSet, Shard
from isthmus.registry.model import Pairs, Port, ServiceEntry, WorkloadEntry
from tests.protocol.stream import ANSWER_WITHIN_S, SOTW, RawStream, connect, open_stream
from tests.rig.wait import wait_for_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from isthmus.mcp.limits import Limits
    from isthmus.mcp.server import Stream
    from isthmus.mcp.session import Session, Watch

PORTS = (Port(80, "http", "HTTP"),)


class Served:
    """A running server and what it serves."""

    def __init__(self, hub: Hub, address: str) -> None:
        self.hub = hub
        self.address = address

    @property
    def shard(self) -> Shard:
        """What is published."""
        return self.hub.shard

    def publish(self, *entries: ServiceEntry) -> bool:
        """Publish resources as the bridge does, and return whether there was anything to push."""
        return self._take((f"{entry.namespace}/{entry.name}", entry) for entry in entries)

    def withdraw(self, *names: str) -> bool:
        """Withdraw resources, and return whether there was anything to push."""
        return self._take((name, None) for name in names)

    def _take(self, changes: Iterable[tuple[str, ServiceEntry | None]]) -> bool:
        if changed := self.shard.publish(changes):
            self.hub.changed()
        return changed

    async def assert_silent(self, stream: RawStream) -> None:
        """Prove that the server has nothing to say on a stream, now or after the rest that follows a response."""
        await wait_for_async(lambda: not self._plans(), ANSWER_WITHIN_S, "a server that has sent all that it has")
        await stream.fence()

    async def assert_waits(self, stream: RawStream) -> None:
        """Prove that the server has more to say on its streams and waits for acknowledgements before it does."""
        await stream.fence()
        waiting = [watch.awaiting for session, watch in self._watches() if session.behind(watch)]
        assert waiting
        assert None not in waiting

    async def pushes(self, type_url: str, count: int) -> list[Push]:
        """Return the responses of a type once there are `count`; the client may have one before the server notes it."""

        def noted() -> list[Push] | None:
            pushes = [push for push in self.hub.pushes if push.type_url == type_url]
            return pushes if len(pushes) == count else None

        return await wait_for_async(noted, ANSWER_WITHIN_S, f"{count} responses of {type_url}")

    def sent_at(self, type_url: str) -> float:
        """Return when the last response of a type was made on the only stream, by the clock of the loop."""
        (stream,) = self.hub.streams.values()
        watch: Watch = stream.session.watches[type_url]
        return watch.sent_at

    async def subscribed(self, number: int = 1) -> Stream:
        """Return the stream with a number, once its first request is read and its answer is made and under way."""

        def opened() -> Stream | None:
            stream = self.hub.streams.get(number)
            watches = stream.session.watches.values() if stream else ()
            return stream if any(watch.last_nonce for watch in watches) else None

        return await wait_for_async(opened, ANSWER_WITHIN_S, "the answer to the first request of a stream")

    def _plans(self) -> bool:
        return any(session.behind(watch) for session, watch in self._watches())

    def _watches(self) -> list[tuple[Session[Any], Watch]]:
        sessions = [stream.session for stream in self.hub.streams.values()]
        return [(session, watch) for session in sessions for watch in session.watches.values()]

    @asynccontextmanager
    async def stream(self, form: str = SOTW, **options: int) -> AsyncIterator[RawStream]:
        """Give a stream on a connection of its own, with options of gRPC's."""
        async with connect(self.address, **options) as channel:
            stream = open_stream(channel, form)
            try:
                yield stream
            finally:
                stream.call.cancel()


@asynccontextmanager
async def serving(
    *,
    gap: float = 0.0,
    limits: Limits | None = None,
    others: dict[str, ResourceSet] | None = None,
    held: bool = False,
    drain_seconds: float = 2.0,
) -> AsyncIterator[Served]:
    """Give a server that is open unless `held`; without a gap, so that what is due is due at once."""
    shard = Shard(others)
    hub = Hub(shard, gap, limits)
    async with serve(hub, "127.0.0.1:0", drain_seconds=drain_seconds) as port:
        if not held:
            hub.open()
        yield Served(hub, f"127.0.0.1:{port}")


def entry(name: str, *addresses: str, labels: Pairs = ()) -> ServiceEntry:
    """Make a resource `reg/NAME` with an endpoint at each address, 10.0.0.1 where none is given."""
    return ServiceEntry(
        namespace="reg",
        name=name,
        hosts=(f"{name}.reg",),
        ports=PORTS,
        endpoints=tuple(WorkloadEntry(address, (("http", 8080),)) for address in addresses or ("10.0.0.1",)),
        labels=labels,
    )


def big_entries(count: int, filler: int = 1_000_000) -> list[ServiceEntry]:
    """Make resources of about `filler` bytes each."""
    return [entry(f"big-{number}", labels=(("filler", "x" * filler),)) for number in range(count)]
