"""The whole way from a real Nacos client to an xDS subscriber, and over a Nacos that is killed and comes back empty."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.subscriber import state, subscribed
from tests.rig.nacos_writer import Instance
from tests.rig.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.rig.bridge import Bridge
    from tests.rig.nacos import Nacos
    from tests.rig.nacos_writer import NacosWriter

TIMEOUT = 120.0
# NA5 asks for 33 s or more.
SETTLE_S = 45
NAME = "default/user-service.mesh"
ONE, OTHER, DEAD = (Instance(f"10.0.0.{number}", 8080) for number in (1, 2, 3))


@pytest.mark.parametrize("version", ["2", "3"])
def test_G4_NA5_no_live_endpoint_leaves_while_a_nacos_comes_back_empty(
    nacos_server: Callable[..., Nacos],
    nacos_writer: Callable[..., NacosWriter],
    bridge: Callable[..., Bridge],
    tmp_path: Path,
    version: str,
) -> None:
    server = nacos_server(version=version)
    one, other, dead = (nacos_writer(server) for _ in range(3))
    one.register("user-service", ONE)
    started = bridge([{"kind": "nacos", "address": server.address, "settle": SETTLE_S}])
    with subscribed(started, tmp_path) as subscriber:
        told = subscriber.told_last
        wait_for(lambda: told(NAME) == {"10.0.0.1:8080"}, TIMEOUT, "the first one at the subscriber")
        other.register("user-service", OTHER)
        dead.register("user-service", DEAD)
        all_three = {"10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.3:8080"}
        wait_for(lambda: told(NAME) == all_three, TIMEOUT, "all three at the subscriber")
        other.deregister("user-service", OTHER)
        wait_for(lambda: told(NAME) == all_three - {"10.0.0.2:8080"}, TIMEOUT, "the one that left to be withdrawn")

        before = len(subscriber.told(NAME))
        # Frozen, the one that lives cannot register before the empty server was read.
        one.pause()
        server.kill()
        wait_for(lambda: state(started)["phase"] == "STALE", TIMEOUT, "word of the outage")
        dead.kill()
        server.restart(empty=True)
        wait_for(lambda: state(started)["phase"] == "READY", TIMEOUT, "contact again")
        wait_for(lambda: state(started)["held"] == 2, TIMEOUT, "the empty server to be read")
        assert len(subscriber.told(NAME)) == before, "nothing is withdrawn for an empty server"
        one.resume()
        wait_for(lambda: state(started)["held"] == 1, TIMEOUT, "the live one to register again")
        wait_for(lambda: told(NAME) == {"10.0.0.1:8080"}, TIMEOUT, "the dead one to be withdrawn")

        assert all("10.0.0.1:8080" in endpoints for endpoints in subscriber.told(NAME)[before:])
        assert state(started)["held"] == 0
