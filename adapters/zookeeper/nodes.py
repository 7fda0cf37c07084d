"""Reads of nodes that never fall behind what an earlier one showed (ZK6), and how many are sent at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    from isthmus.adapters.zookeeper.client import Children, Content, ZookeeperClient

    Node = TypeVar("Node", Children, Content)

# Reads sent before the first answer is waited for: enough to hide the way there and back, few enough that the loop
# is never blocked for long by the parsing of one batch.
_BATCH = 200


class Nodes:
    """What was seen of each node, over all connections: the transaction that last changed it."""

    def __init__(self) -> None:
        self._zxids: dict[str, int] = {}

    async def children(self, client: ZookeeperClient, path: str) -> Children | None:
        """Read and watch the children of a node; as ZookeeperClient.children."""
        return await self._fresh(client, path, client.children)

    async def content(self, client: ZookeeperClient, path: str) -> Content | None:
        """Read and watch the data of a node without children; as ZookeeperClient.content."""
        return await self._fresh(client, path, client.content)

    def forget(self, path: str) -> None:
        """Forget a node that is gone."""
        self._zxids.pop(path, None)

    async def _fresh(
        self, client: ZookeeperClient, path: str, read: Callable[[str], Awaitable[Node | None]]
    ) -> Node | None:
        node = await read(path)
        known = self._zxids.get(path, 0)
        if (node.zxid if node else 0) < known:
            await client.catch_up(path)
            node = await read(path)
        self._zxids[path] = node.zxid if node else 0
        return node


def batches(names: Iterable[str]) -> Iterator[list[str]]:
    """Yield names in order, as many at a time as are to be read at once."""
    ordered = sorted(names)
    return (ordered[start : start + _BATCH] for start in range(0, len(ordered), _BATCH))
