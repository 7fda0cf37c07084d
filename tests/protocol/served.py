"""A server of the test's own on loopback, whose resources the test sets by hand."""

from __future__ import annotations

import itertools
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from isthmus.mcp.hub import Hub, Push
from isthmus.mcp.server import Port as ListeningPort
from isthmus.mcp.server import serve
from isthmus.mcp.shards import Publication
from isthmus.mcp.views import Door
from isthmus.registry.catalog import Change
from isthmus.registry.model import Pairs, Port, ServiceEntry, WorkloadEntry
from tests.protocol.stream import ANSWER_WITHIN_S, SOTW, RawStream, connect, open_stream
from tests.rig.wait import wait_for_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from isthmus.mcp.hub import Stream
    from isthmus.mcp.limits import Limits
    from isthmus.mcp.resources import ResourceSet
    from isthmus.mcp.session import Session, Watch
    from isthmus.mcp.shards import Shard

PORTS = (Port(80, "http", "HTTP"),)


class Served:
    """A running server and what it serves."""

    def __init__(self, hub: Hub, addresses: Sequence[str]) -> None:
        self.hub = hub
        self.addresses = addresses
        self._changes = itertools.count()

    @property
    def address(self) -> str:
        """Where the first port is."""
        return self.addresses[0]

    @property
    def publication(self) -> Publication:
        """What is published."""
        return self.hub.publication

    @property
    def shard(self) -> Shard:
        """What all subscribers see, where they all see the same."""
        (shard,) = self.publication.shards
        return shard

    def publish(self, *entries: ServiceEntry) -> bool:
        """Publish resources as the bridge does, and return whether there was anything to push."""
        return self.take(Change(f"{entry.namespace}/{entry.name}", entry) for entry in entries)

    def withdraw(self, *names: str) -> bool:
        """Withdraw resources, and return whether there was anything to push."""
        return self.take(Change(name, None) for name in names)

    def take(self, changes: Iterable[Change]) -> bool:
        """Publish changes, and return whether there was anything to push."""
        if changed := self.publication.publish(changes):
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

    async def assert_lives(self, other: RawStream, *, times: int = 3) -> None:
        """Prove that changes still reach another stream, which is subscribed to `reg/live`."""
        for number in itertools.islice(self._changes, times):
            address = f"10.9.{number // 250}.{number % 250 + 1}"
            self.publish(entry("live", address))
            answer = await other.read()
            assert answer.addresses("reg/live") == [address]
            await other.ack(answer, "reg/live")

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
    async def stream(self, form: str = SOTW, *, port: int = 0, **options: int) -> AsyncIterator[RawStream]:
        """Give a stream on a connection of its own to one of the ports, with options of gRPC's."""
        async with connect(self.addresses[port], **options) as channel:
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
    doors: Sequence[Door] = (Door(),),
) -> AsyncIterator[Served]:
    """Give a server that is open unless `held`; without a gap, so that what is due is due at once.

    doors: what each of its ports offers; streams go to the first, unless a test opens them elsewhere.
    """
    hub = Hub(Publication(others, limits), gap, limits)
    ports = [ListeningPort("127.0.0.1:0", door) for door in doors]
    async with serve(hub, ports, drain_seconds=drain_seconds) as numbers:
        if not held:
            hub.open()
        yield Served(hub, [f"127.0.0.1:{number}" for number in numbers])


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
