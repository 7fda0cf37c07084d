"""How each listener dealt services out until now, kept in the `state` directory: no start changes it unasked.

A service is in a shard by a hash of its host and their number. Where that changes, or another shard answers where one
answered before, an istiod that still lists the sources of before deletes what moved away from all of them.
"""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import msgspec
from msgspec import Struct

from isthmus.config.rules import host_port
from isthmus.registry.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from isthmus.config import Config
    from isthmus.config.listeners import Listener

_log = logging.getLogger("isthmus")

_FILE: Final = "layout.json"
_ROUTED: Final = {"ports": "a port for each", "authority": "one port for all"}


class Served(Struct, frozen=True, forbid_unknown_fields=True):
    """How a listener dealt its services out. port: its first; 0: any, or none that still counts."""

    shards: int
    port: int
    routing: Literal["ports", "authority"]

    @property
    def ports(self) -> range:
        """The ports that are known of it."""
        count = self.shards if self.routing == "ports" else 1
        return range(self.port, self.port + count if self.port else self.port)

    def __str__(self) -> str:
        return "1 shard" if self.shards == 1 else f"{self.shards} shards"


class Layout(Struct, frozen=True, forbid_unknown_fields=True):
    """What the file holds.

    listeners: by name, those that are gone as well. former: how they served before that, with the name of then, where
    nobody was asked whether an istiod still lists it.
    """

    isthmus: Literal["layout-1"]
    listeners: dict[str, Served]
    former: tuple[tuple[str, Served], ...] = ()


NOTHING: Final = Layout("layout-1", {})


class Move(Struct, frozen=True):
    """A listener on whose ports other services would stand. known: the name it was recorded under."""

    listener: str
    known: str
    before: Served
    after: Served

    def __str__(self) -> str:
        before, after = self.before, self.after
        renamed = "" if self.known == self.listener else f", as {self.known}, on the same ports"
        served = f"listener {self.listener}{renamed} served"
        if before.routing != after.routing:
            told = f"{after} on {_ROUTED[after.routing]} (`routing: {after.routing}`)"
            return f"{served} {before} on {_ROUTED[before.routing]} until now, and the configuration says {told}"
        if before.shards != after.shards:
            return f"{served} {before} until now, and the configuration says {after.shards}"
        return (
            f"{served} its {before} from port {before.port} on until now, and the configuration says {after.port}, so "
            "most of the same ports would be of other shards"
        )


def confirm_layout(config: Config) -> None:
    """Record how services are dealt out, at the first start; at a later one make sure that it is so still.

    Without `state` nothing is done, and where that leaves shards unguarded the log says so. Raises ConfigError: it is
    not so, the directory cannot be used, or what stands there is not ours.
    """
    if not config.state:
        for line in unguarded(config):
            _log.warning("%s", line)
        return
    known = read_layout(config.state)
    if refused := refusals(known, config.all_listeners):
        raise ConfigError([text for _, text in refused])
    layout = recorded(known, config.all_listeners)
    if layout != known:
        write_layout(config.state, layout)


def unguarded(config: Config) -> list[str]:
    """Say, in a line or none, that nothing would notice another number of shards."""
    dealt = ", ".join(f"{one.name} {one.shards}" for one in config.all_listeners if one.shards > 1)
    if not dealt or config.state:
        return []
    line = (
        f"nothing guards the number of shards ({dealt}): with another one services move, and an istiod not told of it "
        "deletes them; `state: DIRECTORY` has every start compare it with the last"
    )
    return [line]


def refusals(known: Layout, listeners: Iterable[Listener]) -> list[tuple[str, str]]:
    """Return the listeners with which a start is refused, by name, each with the reason."""
    return [(move.listener, _refusal(move)) for move in moves(known, listeners)]


def layout_of(listeners: Iterable[Listener]) -> dict[str, Served]:
    """Return how listeners deal their services out, by name."""
    return {one.name: Served(one.shards, host_port(one.address)[1], one.routing) for one in listeners}


def moves(known: Layout, listeners: Iterable[Listener]) -> list[Move]:
    """Return the listeners that would deal out otherwise than is known of them, or of their ports."""
    layout = layout_of(listeners)
    # Where somebody serves as it was, an address of another machine may have the same port for something else.
    gone = [(name, served) for name, served in _all(known) if served not in layout.values()]
    moved: list[Move] = []
    for name, after in layout.items():
        before = known.listeners.get(name, after)
        if (before.shards, before.routing) != (after.shards, after.routing):
            moved.append(Move(name, name, before, after))
        elif (former := next(((one, served) for one, served in gone if _clash(served, after)), None)) is not None:
            moved.append(Move(name, *former, after))
    return moved


def recorded(known: Layout, listeners: Iterable[Listener]) -> Layout:
    """Return what is to be known once listeners serve as they are, whatever was known of their ports.

    Nothing else is forgotten: a listener that is gone keeps its number, and ports that nobody has now keep theirs.
    """
    layout = layout_of(listeners)
    taken = layout.values()
    absent = {name: served for name, served in known.listeners.items() if name not in layout}
    for name, served in absent.items():
        if served not in taken and any(_clash(served, one) for one in taken):
            absent[name] = Served(served.shards, 0, served.routing)
    former = {
        (name, served): None
        for name, served in _all(known)
        if served.port
        and served not in taken
        and absent.get(name) != served
        and not any(_clash(served, one) for one in taken)
    }
    return Layout("layout-1", {**absent, **layout}, tuple(former))


def read_layout(state: str) -> Layout:
    """Return what is recorded in a `state` directory. Raises ConfigError: it cannot be read, or is not ours."""
    path = Path(state, _FILE)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Layout)
    except FileNotFoundError:
        return NOTHING
    except OSError as error:
        raise ConfigError([f"state: {path} cannot be read: {error.strerror}"]) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError([_foreign(path, error)]) from error


def write_layout(state: str, layout: Layout) -> None:
    """Record a layout: the file is the old one or the new one, whatever happens. Raises ConfigError: it cannot be."""
    path = Path(state, _FILE)
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        # Made by mkstemp, so nobody else can read it.
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{_FILE}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(layout)) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise
        _sync(path.parent)
    except OSError as error:
        raise ConfigError([f"state: {path} cannot be written: {error.strerror}"]) from error


def _sync(directory: Path) -> None:
    """Have the new name of a file outlive a loss of power."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _all(known: Layout) -> Iterator[tuple[str, Served]]:
    yield from known.listeners.items()
    yield from known.former


def _clash(before: Served, after: Served) -> bool:
    """Tell whether another answers on a port than did before."""
    one, other = before.ports, after.ports
    return before != after and one.start < other.stop and other.start < one.stop


def _foreign(path: Path, error: Exception) -> str:
    return (
        f"state: {path} does not hold the number of shards that Isthmus wrote there ({error}). Restore it from a "
        "backup; or make sure that every istiod lists what `isthmus mesh-config` prints, and remove it"
    )


def _refusal(move: Move) -> str:
    return (
        f"{move}: services would move to other shards, and an istiod that still lists the sources of before would "
        "delete what moved away. Nothing was started; say what it was before, or let `isthmus reshard` with the same "
        "configuration tell what it takes"
    )
