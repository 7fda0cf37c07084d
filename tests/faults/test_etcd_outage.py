"""The whole way from real clients of etcd to an xDS subscriber, over everything that can befall an etcd."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.faults.subscriber import state, subscribed
from tests.rig.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.rig.bridge import Bridge
    from tests.rig.etcd import Etcd
    from tests.rig.etcd_writers import EtcdWriters

TIMEOUT = 180.0
# Longer than it takes a client to register again, on a slow machine.
SETTLE_S = 15
APPLICATION = "shop.kratos"
NAME = "default/shop.kratos.grpc"
LIVE, DOOMED, LATER, LEAVING = (f"10.0.0.{number}:9000" for number in (1, 2, 3, 4))


def test_G4_ET6_no_live_endpoint_leaves_while_an_etcd_is_restored_from_an_older_backup(
    etcd_server: Callable[..., Etcd],
    etcd_writers: Callable[..., EtcdWriters],
    bridge: Callable[..., Bridge],
    tmp_path: Path,
) -> None:
    server = etcd_server()
    live, doomed, leaving = (etcd_writers(server) for _ in range(3))
    doomed.register("kratos", APPLICATION, DOOMED)
    backup = server.backup()
    live.register("kratos", APPLICATION, LIVE)
    leaving.register("kratos", APPLICATION, LEAVING)
    prefixes = {"/microservices/": {"format": "kratos"}}
    source = {"kind": "etcd", "address": server.url, "prefixes": prefixes, "settle": SETTLE_S, "timeout": 2}
    started = bridge([source])
    with subscribed(started, tmp_path) as subscriber:
        told = subscriber.told_last
        wait_for(lambda: told(NAME) == {LIVE, DOOMED, LEAVING}, TIMEOUT, "all three at the subscriber")
        # Its lease ends: outside of a settling time that is believed at once.
        leaving.kill()
        wait_for(lambda: told(NAME) == {LIVE, DOOMED}, TIMEOUT, "the lease that ended to be seen")

        before = len(subscriber.told(NAME))
        # Frozen, the one that lives cannot register before the restored server was read, which lacks it.
        live.pause()
        server.kill()
        wait_for(lambda: state(started)["phase"] == "STALE", TIMEOUT, "word of the outage")
        doomed.kill()
        server.restore(backup)
        wait_for(lambda: state(started)["phase"] == "READY", TIMEOUT, "contact again")
        wait_for(lambda: state(started)["held"] >= 1, TIMEOUT, "the older state to be read")
        assert len(subscriber.told(NAME)) == before, "nothing is withdrawn for an older state"
        live.resume()
        later = etcd_writers(server)
        later.register("kratos", APPLICATION, LATER)
        wait_for(lambda: told(NAME) == {LIVE, LATER}, TIMEOUT, "the dead one to be withdrawn, and it alone")

        assert all(LIVE in endpoints for endpoints in subscriber.told(NAME)[before:])
        assert state(started)["held"] == 0


def test_G4_ET3_what_ends_while_the_bridge_is_cut_off_leaves_after_it_settled(
    etcd_server: Callable[..., Etcd],
    etcd_writers: Callable[..., EtcdWriters],
    bridge: Callable[..., Bridge],
    tmp_path: Path,
) -> None:
    """The server is frozen for the bridge and the clients alike; its history is forgotten before the bridge is back."""
    server = etcd_server()
    live, doomed = etcd_writers(server), etcd_writers(server)
    live.register("kratos", APPLICATION, LIVE)
    doomed.register("kratos", APPLICATION, DOOMED)
    prefixes = {"/microservices/": {"format": "kratos"}}
    started = bridge([{"kind": "etcd", "address": server.url, "prefixes": prefixes, "settle": 5, "timeout": 1}])
    with subscribed(started, tmp_path) as subscriber:
        told = subscriber.told_last
        wait_for(lambda: told(NAME) == {LIVE, DOOMED}, TIMEOUT, "both at the subscriber")
        before = len(subscriber.told(NAME))
        started.pause()
        doomed.kill()
        wait_for(lambda: len(server.gateway.pairs("/microservices/")) == 1, TIMEOUT, "the lease to end")
        server.gateway.compact()
        server.kill()
        server.restart()
        started.resume()
        wait_for(lambda: told(NAME) == {LIVE}, TIMEOUT, "the dead one to be withdrawn")
        later = etcd_writers(server)
        later.register("kratos", APPLICATION, LATER)
        wait_for(lambda: told(NAME) == {LIVE, LATER}, TIMEOUT, "a new one")
        assert all(LIVE in endpoints for endpoints in subscriber.told(NAME)[before:])
