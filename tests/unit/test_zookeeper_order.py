"""ZK6: a new session may land on a server that lags behind what was already seen.

A lagging follower cannot be had on demand from a real ensemble, so the connection is a stand-in here; everything else
of the adapter is tried on a real server (tests/registries/test_zookeeper.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from isthmus.adapters.zookeeper.client import Children
from isthmus.adapters.zookeeper.nodes import Nodes

if TYPE_CHECKING:
    from isthmus.adapters.zookeeper.client import ZookeeperClient


class LaggingServer:
    """Answers with an old state until it is asked to catch up."""

    def __init__(self, *answers: Children | None) -> None:
        self.answers = list(answers)
        self.caught_up: list[str] = []

    async def children(self, path: str) -> Children | None:
        del path
        return self.answers.pop(0)

    async def catch_up(self, path: str) -> None:
        self.caught_up.append(path)


async def test_ZK6_an_older_state_than_the_known_one_is_read_again_after_a_sync() -> None:
    nodes = Nodes()
    server = LaggingServer(Children(("new",), 7), Children((), 3), Children(("new",), 7), Children(("newer",), 8))
    client = cast("ZookeeperClient", server)

    read = [await nodes.children(client, "/dubbo/a.B/providers") for _ in range(3)]

    assert [children.names for children in read if children] == [("new",), ("new",), ("newer",)]
    assert server.caught_up == ["/dubbo/a.B/providers"]


async def test_ZK6_a_known_node_that_is_missing_is_looked_for_again_after_a_sync() -> None:
    nodes = Nodes()
    server = LaggingServer(Children(("one",), 7), None, Children(("one",), 7), None, None, None)
    client = cast("ZookeeperClient", server)

    read = [await nodes.children(client, "/dubbo/a.B/providers") for _ in range(4)]

    assert [children.names if children else None for children in read] == [("one",), ("one",), None, None]
    assert server.caught_up == ["/dubbo/a.B/providers"] * 2
