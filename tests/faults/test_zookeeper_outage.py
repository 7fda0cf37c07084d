"""A real ZooKeeper that is away longer than its clients' sessions: no live endpoint leaves, and no dead one stays."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from tests.faults.subscriber import state, subscribed
from tests.rig.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.rig.bridge import Bridge
    from tests.rig.zookeeper import ZooKeeper

TIMEOUT = 60.0
NAME = "default/a.b.dubbo"


def node(number: int) -> str:
    return f"/dubbo/a.B/providers/dubbo%3A%2F%2F10.0.0.{number}%3A20880%2Fa.B"


def test_G4_ZK5_providers_whose_sessions_ended_are_not_withdrawn_before_they_could_come_back(
    zookeeper: ZooKeeper, bridge: Callable[..., Bridge], tmp_path: Path
) -> None:
    source = {"kind": "zookeeper", "address": zookeeper.address, "sessionTimeout": 1, "settle": 20}
    both = {"10.0.0.1:20880", "10.0.0.2:20880"}
    with ExitStack() as stack:
        # A session that a busy machine keeps alive, and that ends well within the settling time.
        with zookeeper.client(session=3.0) as registered:
            registered.ensure_path("/dubbo/a.B/providers")
            for number in (1, 2):
                registered.create(node(number), ephemeral=True)
            started = bridge([source])
            subscriber = stack.enter_context(subscribed(started, tmp_path))
            wait_for(lambda: subscriber.told(NAME) == [both], TIMEOUT, "both providers at the subscriber")
            # Its client is ended while no server hears it: the session is left to run out, after the restart.
            zookeeper.kill()
        wait_for(lambda: state(started)["phase"] == "STALE", TIMEOUT, "word of the outage")
        zookeeper.start()
        wait_for(lambda: state(started)["held"] == 2, TIMEOUT, "the guard to hold both when their session ends")
        with zookeeper.client() as again:
            # One of the two comes back, as a provider that lives does.
            again.create(node(1), ephemeral=True)
            wait_for(lambda: state(started)["held"] == 1, TIMEOUT, "the guard to hold the other only")
            assert subscriber.told(NAME) == [both]
            wait_for(lambda: subscriber.told(NAME)[-1] == {"10.0.0.1:20880"}, TIMEOUT, "the dead one to leave")

            assert subscriber.told(NAME) == [both, {"10.0.0.1:20880"}]
            assert state(started)["held"] == 0
