"""The whole way from a real Spring Cloud client to an xDS subscriber, and over a Eureka that comes back empty."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.faults.subscriber import state, subscribed
from tests.rig.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.rig.bridge import Bridge
    from tests.rig.eureka import Eureka
    from tests.rig.spring import SpringClient

TIMEOUT = 180.0
SETTLE_S = 45
APPLICATION = "greeting-service"
NAME = "default/greeting-service.mesh"


def test_G4_EU5_no_live_endpoint_leaves_while_a_eureka_comes_back_empty(
    eureka_server: Callable[..., Eureka],
    spring_client: Callable[..., SpringClient],
    bridge: Callable[..., Bridge],
    tmp_path: Path,
) -> None:
    server = eureka_server()

    def client(number: int) -> SpringClient:
        return spring_client(server.spring_address, APPLICATION, ip=f"10.0.0.{number}")

    one, dead = client(1), client(3)
    started = bridge([{"kind": "eureka", "address": server.address, "poll": 1, "settle": SETTLE_S}])
    with subscribed(started, tmp_path) as subscriber:
        told = subscriber.told_last
        live, doomed = f"10.0.0.1:{one.port}", f"10.0.0.3:{dead.port}"
        wait_for(lambda: told(NAME) == {live, doomed}, TIMEOUT, "the first two at the subscriber")
        other = client(2)
        leaving = f"10.0.0.2:{other.port}"
        wait_for(lambda: told(NAME) == {live, doomed, leaving}, TIMEOUT, "all three at the subscriber")
        other.stop()
        wait_for(lambda: told(NAME) == {live, doomed}, TIMEOUT, "the one that left to be withdrawn")

        before = len(subscriber.told(NAME))
        # Frozen, the one that lives cannot register before the empty server was read.
        one.pause()
        server.kill()
        wait_for(lambda: state(started)["phase"] == "STALE", TIMEOUT, "word of the outage")
        dead.kill()
        server.start()
        wait_for(lambda: state(started)["phase"] == "READY", TIMEOUT, "contact again")
        wait_for(lambda: state(started)["held"] == 2, TIMEOUT, "the empty server to be read")
        assert len(subscriber.told(NAME)) == before, "nothing is withdrawn for an empty server"
        one.resume()
        wait_for(lambda: state(started)["held"] == 1, TIMEOUT, "the live one to register again")
        wait_for(lambda: told(NAME) == {live}, TIMEOUT, "the dead one to be withdrawn")

        assert all(live in endpoints for endpoints in subscriber.told(NAME)[before:])
        assert state(started)["held"] == 0
