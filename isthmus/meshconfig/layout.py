"""On how many shards each listener served until now, kept in the `state` directory: no start changes it unasked.

A service is in a shard by a hash of its host and their number. Where that changes, services move to other shards, and
an istiod that still lists the sources of before deletes what moved away from all of them.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import msgspec
from msgspec import Struct

from isthmus.config.rules import host_port
from isthmus.mcp.shards import shard_index
from isthmus.registry.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from isthmus.config import Config
    from isthmus.config.listeners import Listener

_FILE: Final = "layout.json"


class Served(Struct, frozen=True, forbid_unknown_fields=True):
    """How a listener dealt its services out. port: its first; 0: any."""

    shards: int
    port: int
    routing: Literal["ports", "authority"]


class Layout(Struct, frozen=True, forbid_unknown_fields=True):
    """What the file holds; listeners by name, those that are gone as well."""

    isthmus: Literal["layout-1"]
    listeners: dict[str, Served]


class Move(Struct, frozen=True):
    """A listener on whose ports other services would stand. known: the name it was recorded under."""

    listener: str
    known: str
    before: Served
    after: Served

    def __str__(self) -> str:
        before, after = self.before, self.after
        if before.shards != after.shards:
            shards = "1 shard" if before.shards == 1 else f"{before.shards} shards"
            told = f"served {shards} until now, and the configuration says {after.shards}"
            renamed = "" if self.known == self.listener else f", as {self.known}, on the same ports"
            return f"listener {self.listener}{renamed} {told}"
        return (
            f"listener {self.listener} served its {before.shards} shards from port {before.port} on until now, and the "
            f"configuration says {after.port}, so most of the same ports would be of other shards"
        )


class Losses(Struct, frozen=True):
    """How many services are found elsewhere after a move, and what an istiod that was told nothing makes of it.

    deleted: those that it would delete. unheard: those that it would keep, and hear nothing more of.
    """

    moved: int
    deleted: int
    unheard: int


def confirm_layout(config: Config) -> None:
    """Record how services are dealt out, at the first start; at a later one make sure that it is so still.

    Without `state` nothing is done. Raises ConfigError: it is not, the directory cannot be used, or what stands there
    is not ours.
    """
    if not config.state:
        return
    known = read_layout(config.state)
    if moved := moves(known, config.all_listeners):
        raise ConfigError([_refusal(move) for move in moved])
    layout = {**known, **layout_of(config.all_listeners)}
    if layout != known:
        write_layout(config.state, layout)


def layout_of(listeners: Iterable[Listener]) -> dict[str, Served]:
    """Return how listeners deal their services out, by name."""
    return {one.name: Served(one.shards, host_port(one.address)[1], one.routing) for one in listeners}


def moves(known: Mapping[str, Served], listeners: Iterable[Listener]) -> list[Move]:
    """Return the listeners that would deal out otherwise than is known of them, or of their ports."""
    layout = layout_of(listeners)
    former = {name: served for name, served in known.items() if layout.get(name) != served}
    moved: list[Move] = []
    for name, after in layout.items():
        before = known.get(name, after)
        if before.shards != after.shards:
            moved.append(Move(name, name, before, after))
        elif (other := next((one for one, served in former.items() if _shifted(served, after)), None)) is not None:
            moved.append(Move(name, other, former[other], after))
    return moved


def losses(move: Move, names: Iterable[str]) -> Losses:
    """Count what a move does to resources (`namespace/host`), for an istiod that lists the sources of before."""
    before, after = move.before, move.after
    listed, opened = _sources(before, after), _sources(after, before)
    moved = deleted = unheard = 0
    for name in names:
        was, now = listed[shard_index(name, before.shards)], opened[shard_index(name, after.shards)]
        moved += was != now
        if now not in listed:
            # From a source that answers still it is missing; one that is closed stays as it was.
            deleted += was in opened
            unheard += was not in opened
    return Losses(moved, deleted, unheard)


def _sources(one: Served, other: Served) -> list[str]:
    """Return what istiod calls each shard by; ports that are not known count from those of the other."""
    if one.routing == "authority":
        return [f"{shard} of {one.shards}" for shard in range(one.shards)]
    return [str((one.port or other.port) + shard) for shard in range(one.shards)]


def read_layout(state: str) -> dict[str, Served]:
    """Return what is recorded in a `state` directory. Raises ConfigError: it cannot be read, or is not ours."""
    path = Path(state, _FILE)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Layout).listeners
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError([f"state: {path} cannot be read: {error.strerror}"]) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError([_foreign(path, error)]) from error


def write_layout(state: str, layout: Mapping[str, Served]) -> None:
    """Record a layout: the file is the old one or the new one, whatever happens. Raises ConfigError: it cannot be."""
    path = Path(state, _FILE)
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        # Made by mkstemp, so nobody else can read it.
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{_FILE}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(Layout("layout-1", dict(layout)))) + b"\n")
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


def _shifted(before: Served, after: Served) -> bool:
    """Tell whether a port was of one shard and would be of another."""
    if not before.port or not after.port or "authority" in (before.routing, after.routing):
        return False
    if (before.port, before.shards) == (after.port, after.shards):
        return False
    return before.port < after.port + after.shards and after.port < before.port + before.shards


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
