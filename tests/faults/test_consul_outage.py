"""The whole way from real clients of Consul to an xDS subscriber, over everything that can befall a Consul."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.faults.subscriber import state, subscribed
from tests.rig.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.rig.bridge import Bridge
    from tests.rig.consul import Consul
    from tests.rig.consul_spring import ConsulSpringClient
    from tests.rig.py_consul import PyConsulClient

TIMEOUT = 180.0
# Longer than it takes a client to register again, on a slow machine.
SETTLE_S = 20
NAME = "default/shop.mesh"


def test_G4_CO1_no_live_endpoint_leaves_while_a_consul_comes_back_empty(
    consul_server: Callable[..., Consul],
    py_consul_client: Callable[..., PyConsulClient],
    spring_consul_client: Callable[..., ConsulSpringClient],
    bridge: Callable[..., Bridge],
    tmp_path: Path,
) -> None:
    server = consul_server()
    live, doomed = (py_consul_client(server, address=f"10.0.0.{number}") for number in (1, 2))
    spring = spring_consul_client(server)
    started = bridge([{"kind": "consul", "address": server.url, "settle": SETTLE_S}])
    with subscribed(started, tmp_path) as subscriber:
        told = subscriber.told_last
        everybody = {live.address, doomed.address, spring.address}
        wait_for(lambda: told(NAME) == everybody, TIMEOUT, "all three at the subscriber")

        # Its check turns critical, and passes again: both are believed at once.
        live.set_status("critical")
        wait_for(lambda: told(NAME) == everybody - {live.address}, TIMEOUT, "the critical one to be withdrawn")
        live.set_status("passing")
        wait_for(lambda: told(NAME) == everybody, TIMEOUT, "it to be back")
        # It deregisters.
        spring.stop()
        wait_for(lambda: told(NAME) == {live.address, doomed.address}, TIMEOUT, "the one that left to be withdrawn")

        before = len(subscriber.told(NAME))
        # Frozen, the one that lives cannot register before the empty server was read.
        live.pause()
        server.kill()
        wait_for(lambda: state(started)["phase"] == "STALE", TIMEOUT, "word of the outage")
        doomed.kill()
        server.restart(empty=True)
        wait_for(lambda: state(started)["phase"] == "READY", TIMEOUT, "contact again")
        wait_for(lambda: state(started)["held"] == 2, TIMEOUT, "the empty server to be read")
        assert len(subscriber.told(NAME)) == before, "nothing is withdrawn for an empty server"
        live.resume()
        wait_for(lambda: state(started)["held"] == 1, TIMEOUT, "the live one to register again")
        wait_for(lambda: told(NAME) == {live.address}, TIMEOUT, "the dead one to be withdrawn")

        assert all(live.address in endpoints for endpoints in subscriber.told(NAME)[before:])
        assert state(started)["held"] == 0


def test_G4_CO1_what_an_older_backup_lacks_is_held_and_let_go(
    consul_server: Callable[..., Consul], bridge: Callable[..., Bridge], tmp_path: Path
) -> None:
    """Restored on a server that runs on; the nodes are of other agents, which tell it anew what runs on them."""
    server = consul_server()
    server.put("other-node", "shop", "shop-1", address="10.0.0.1")
    server.put("other-node", "shop", "shop-2", address="10.0.0.2")
    backup = server.snapshot()
    server.remove("other-node", "shop-2")
    server.put("other-node", "shop", "shop-3", address="10.0.0.3")
    server.put("other-node", "shop", "shop-4", address="10.0.0.4")
    one, two, three, four = (f"10.0.0.{number}:8080" for number in range(1, 5))
    started = bridge([{"kind": "consul", "address": server.url, "settle": 8}])
    with subscribed(started, tmp_path) as subscriber:
        told = subscriber.told_last
        wait_for(lambda: told(NAME) == {one, three, four}, TIMEOUT, "what there is before")
        before = len(subscriber.told(NAME))
        server.restore(backup)
        # The backup brings one back; what it lacks is held.
        wait_for(lambda: told(NAME) == {one, two, three, four}, TIMEOUT, "the older state to be read")
        assert state(started)["held"] == 2
        server.put("other-node", "shop", "shop-3", address="10.0.0.3")
        wait_for(lambda: told(NAME) == {one, two, three}, TIMEOUT, "what nobody told anew to be withdrawn")
        assert all({one, three} <= endpoints for endpoints in subscriber.told(NAME)[before:])
