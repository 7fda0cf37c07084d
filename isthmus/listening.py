"""From the configuration's listeners to open ports."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from msgspec import Struct

from isthmus.config.rules import host_port, is_loopback
from isthmus.mcp.front import check_room, front, shard_of
from isthmus.mcp.server import Port, serve
from isthmus.mcp.transport import PLAINTEXT, Tls
from isthmus.mcp.views import Door, Part, View
from isthmus.registry.audience import Audience

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from isthmus.config import Config
    from isthmus.config.listeners import Listener
    from isthmus.mcp.hub import Hub
    from isthmus.mcp.services import Health
    from isthmus.mcp.transport import TlsOptions


class Bound(Struct, frozen=True):
    """A listener that is open: `host:port` of each of its ports, in the order of its shards, and its certificate."""

    listener: Listener
    addresses: tuple[str, ...]
    tls: Tls | None

    def __str__(self) -> str:
        first, last = self.addresses[0], self.addresses[-1]
        return first if first == last else f"{first} to {last.rpartition(':')[2]}"


@asynccontextmanager
async def listening(hub: Hub, config: Config, health: Health) -> AsyncIterator[list[Bound]]:
    """Open every listener and yield what they are bound to.

    Raises ConfigError: a port cannot be had, or a certificate cannot be used.
    """
    health.on_refused = hub.refuse
    secured = _secured(config.all_listeners)
    opened = [_Opened(listener, secured.get(listener.tls)) for listener in config.all_listeners]
    async with AsyncExitStack() as stack:
        # Left last: what the servers behind them tell their clients at the end goes through the fronts.
        for one in opened:
            if one.listener.routing == "authority":
                await stack.enter_async_context(one.front(hub))
        ports = [port for one in opened for port in one.ports()]
        numbers = iter(await stack.enter_async_context(serve(hub, ports, health=health)))
        yield [one.bound(numbers) for one in opened]


def _secured(listeners: Sequence[Listener]) -> dict[TlsOptions, Tls]:
    """Return the certificates: those who have the same files share one, which looks at them and tells of them once.

    Raises ConfigError: one cannot be used.
    """
    whose: dict[TlsOptions, list[str]] = {}
    for listener in listeners:
        if listener.tls != PLAINTEXT:
            whose.setdefault(listener.tls, []).append(listener.name)
    return {options: Tls(options, listeners=names) for options, names in whose.items()}


def doors(listener: Listener) -> list[Door]:
    """Return what each shard of a listener offers."""
    return [_door(listener, Part(listener.shards, index)) for index in range(listener.shards)]


def _door(listener: Listener, part: Part, closed: str = "") -> Door:
    view = View(
        frozenset(listener.types) or None,
        frozenset(listener.namespaces) or None,
        Audience(sources=frozenset(listener.sources) or None),
    )
    return Door(listener.name, part, closed, listener.form, view, _gives_debug(listener))


def _gives_debug(listener: Listener) -> bool:
    """Tell whether the debug pages are given: on this machine, to who showed a certificate, or as the operator says.

    Who may see only some namespaces or sources is not shown the others there, unless the operator says so.
    """
    if listener.debug != "auto":
        return listener.debug == "always"
    narrowed = bool(listener.namespaces or listener.sources)
    return not narrowed and (bool(listener.tls.client_ca) or is_loopback(host_port(listener.address)[0]))


class _Opened:
    """A listener on its way to be open."""

    def __init__(self, listener: Listener, tls: Tls | None) -> None:
        self.listener = listener
        self.tls = tls
        # Where its shards have one port for all: the sockets behind it, the last for who names none of the shards.
        self._sockets: list[str] = []
        self._front_number = 0

    @asynccontextmanager
    async def front(self, hub: Hub) -> AsyncIterator[None]:
        """Open the one port, which tells the shards by the name that is dialled.

        Raises ConfigError: it cannot be had, or there is no room for the sockets behind it.
        """
        shards = self.listener.shards
        refused = partial(hub.refuse, self.listener.name)
        with TemporaryDirectory(prefix="isthmus-") as private:
            check_room(private)
            self._sockets = [str(Path(private) / str(index)) for index in range(shards + 1)]

            def choose(authority: str) -> str:
                index = shard_of(authority, shards)
                return self._sockets[-1 if index is None else index]

            context = self.tls.context if self.tls else None
            opening = front(self.listener.address, choose, context=context, limits=hub.limits, refused=refused)
            async with opening as number:
                self._front_number = number
                yield

    def ports(self) -> list[Port]:
        """Return the ports that gRPC serves: a shard each, in their order."""
        if not self._sockets:
            each = enumerate(doors(self.listener))
            return [Port(self.listener.port_address(index), door, self.tls) for index, door in each]
        refusal = f"there are {self.listener.shards} shards here: dial shard-N-of-{self.listener.shards}..., N from 0"
        behind = [*doors(self.listener), _door(self.listener, Part(self.listener.shards), refusal)]
        return [Port(f"unix:{path}", door) for path, door in zip(self._sockets, behind, strict=True)]

    def bound(self, numbers: Iterator[int]) -> Bound:
        """Return what it is bound to, given the numbers of all ports in order, of which it takes its own."""
        own = [next(numbers) for _ in self.ports()]
        if self._sockets:
            own = [self._front_number]
        return Bound(self.listener, tuple(with_port(self.listener.address, number) for number in own), self.tls)


def with_port(address: str, port: int) -> str:
    """Return an address to listen on with the number that was bound."""
    return f"{address.rpartition(':')[0]}:{port}"
