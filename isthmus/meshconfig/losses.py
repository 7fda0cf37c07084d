"""What an istiod that was told nothing loses when a listener deals its services out otherwise (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from isthmus.mcp.shards import shard_index

if TYPE_CHECKING:
    from collections.abc import Iterable

    from isthmus.meshconfig.layout import Move, Served


class Losses(Struct, frozen=True):
    """How many services are found elsewhere after a move, and what an istiod that was told nothing makes of it.

    deleted: those that it would delete. unheard: those that it would keep, and hear nothing more of.
    """

    moved: int
    deleted: int
    unheard: int


def losses(move: Move, names: Iterable[str]) -> Losses:
    """Count what a move does to resources (`namespace/host`), for an istiod that lists the sources of before."""
    before, after = move.before, move.after
    answering = [_answering(before, shard, after) for shard in range(before.shards)]
    heard = set(answering)
    moved = deleted = unheard = 0
    for name in names:
        answer, now = answering[shard_index(name, before.shards)], shard_index(name, after.shards)
        moved += answer != now
        if now not in heard:
            # From a source that answers still it is missing; one that answers no more stays as it was.
            deleted += answer is not None
            unheard += answer is None
    return Losses(moved, deleted, unheard)


def _answering(before: Served, shard: int, after: Served) -> int | None:
    """Return the shard that answers where one did before; None: none. Ports not known count from the other's."""
    first, port = after.port or before.port, before.port or after.port
    if after.routing == "authority":
        # By a name without a shard, or with one of another number, nothing is to be had.
        same = (before.routing, before.shards, port) == (after.routing, after.shards, first)
        return shard if same else None
    # Where ports say it, the name does not count: all sources that were told apart by their names get the same.
    index = port - first + (shard if before.routing == "ports" else 0)
    return index if 0 <= index < after.shards else None
