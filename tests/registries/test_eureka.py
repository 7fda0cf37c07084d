"""The Eureka adapter against real Eureka servers of Spring Cloud: the rules EU1 to EU7 (reference/registry-rules.md).

What a real server cannot be brought to do is in test_eureka_faults.py.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import re
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from isthmus.adapters.applications import ApplicationPort
from isthmus.adapters.eureka import adapter as adapter_module
from isthmus.adapters.eureka import client as client_module
from isthmus.adapters.eureka import records
from isthmus.adapters.eureka.adapter import EurekaAdapter
from isthmus.adapters.web import fetch
from isthmus.registry import codes
from isthmus.registry.errors import SourceDenied, SourceUnavailable
from isthmus.registry.model import Port
from tests.registries.eureka_watch import TIMEOUT, addresses, guarded, options, until, watching
from tests.registries.recorder import Recorder
from tests.rig.certificates import Certificates
from tests.rig.eureka import LONG_LEASE_S, Instance
from tests.rig.wait import wait_for, wait_for_async

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.rig.bridge import Bridge
    from tests.rig.eureka import Eureka
    from tests.rig.py_eureka import PyEurekaClient
    from tests.rig.spring import SpringClient

FULL, DELTA = "/eureka/apps", "/eureka/apps/delta"


def asked(server: Eureka) -> list[str]:
    """Return the pages that the adapter asked for, in order."""
    return [request.path for request in server.requests() if request.agent == "isthmus"]


def renewals(server: Eureka, app: str) -> list[int]:
    """Return the status of each renewal of an app's leases, in order."""
    page = f"{FULL}/{app}/"
    return [
        request.status for request in server.requests() if request.method == "PUT" and request.path.startswith(page)
    ]


async def test_a_real_service_that_comes_and_goes(eureka: Eureka, spring_client: Callable[..., SpringClient]) -> None:
    async with watching(eureka.address, region="eu", labels={"version": "version"}) as seen:
        shop = await asyncio.to_thread(
            spring_client, eureka.spring_address, "real-shop", zone="z1", metadata={"version": "v2"}
        )
        await until(seen, "app:real-shop", shop.address)
        service = seen.services["app:real-shop"]
        assert (service.host, service.ports) == ("real-shop.mesh", (Port(80, "http", "HTTP"),))
        workload = service.endpoints[0].workload
        assert (workload.locality, workload.labels) == ("eu/z1", (("version", "v2"),))
        await asyncio.to_thread(shop.stop)
        await until(seen, "app:real-shop")


async def test_an_instance_of_py_eureka_client_that_comes_and_goes(
    eureka: Eureka, py_eureka_client: Callable[..., PyEurekaClient]
) -> None:
    # Leases that outlive the test: nothing goes because the server ended its lease.
    start = functools.partial(py_eureka_client, eureka.spring_address, "py-shop", lease_s=LONG_LEASE_S)
    async with watching(eureka.address, labels={"version": "version"}) as seen:
        one = await asyncio.to_thread(start, ip="10.20.1.1", metadata={"version": "v2"})
        await until(seen, "app:py-shop", one.address)
        assert seen.services["app:py-shop"].endpoints[0].workload.labels == (("version", "v2"),)
        await wait_for_async(lambda: len(renewals(eureka, "PY-SHOP")) >= 2, TIMEOUT, "two renewals")
        assert set(renewals(eureka, "PY-SHOP")) == {200}
        other = await asyncio.to_thread(start, ip="10.20.1.2")
        await until(seen, "app:py-shop", one.address, other.address)
        await asyncio.to_thread(other.kill)
        await asyncio.to_thread(one.stop)
        await until(seen, "app:py-shop", other.address)


async def test_names_and_ports_of_services(eureka: Eureka) -> None:
    eureka.register("NAMED-A", "a:1", ip="10.20.1.1", vip="named-front,Named-Back", secure_port=8443)
    eureka.register("NAMED-B", "b:1", ip="10.20.1.2", vip="named-back", secure_port=8443)
    https = {"named-back": ApplicationPort(443, "HTTPS")}
    async with watching(eureka.address, name_from="vip", suffix="vip", services=https) as seen:
        await until(seen, "app:named-front", "10.20.1.1:8080")
        await until(seen, "app:named-back", "10.20.1.1:8443", "10.20.1.2:8443")
        assert seen.services["app:named-back"].ports == (Port(443, "https", "HTTPS"),)
        assert seen.services["app:named-back"].host == "named-back.vip"
        eureka.register("NAMED-A", "a:1", ip="10.20.1.1", vip="named-front", secure_port=8443)
        await until(seen, "app:named-back", "10.20.1.2:8443")
        assert seen.addresses("app:named-front") == ["10.20.1.1:8080"]


async def test_EU1_everything_first_and_then_what_changed(eureka_server: Callable[..., Eureka]) -> None:
    server = await asyncio.to_thread(eureka_server)
    server.register("FIRST", "first:1", ip="10.20.1.1")
    async with watching(server.address, full_every=1_000_000) as seen:
        await until(seen, "app:first", "10.20.1.1:8080")
        server.register("SECOND", "second:1", ip="10.20.1.2")
        await until(seen, "app:second", "10.20.1.2:8080")
        server.cancel("FIRST", "first:1")
        await until(seen, "app:first")
        await wait_for_async(lambda: asked(server).count(DELTA) >= 10, TIMEOUT, "ten polls")
    # That no full read was needed also shows that our hash is the server's (EU2).
    assert asked(server)[0] == FULL
    assert set(asked(server)[1:]) == {DELTA}
    assert (seen.syncs, seen.mended_count) == (1, 0)


async def test_EU1_a_server_without_deltas_is_read_in_full(eureka_server: Callable[..., Eureka]) -> None:
    server = await asyncio.to_thread(eureka_server, delta=False)
    server.register("SHOP", "shop:1", ip="10.20.1.1")
    async with watching(server.address) as seen:
        await until(seen, "app:shop", "10.20.1.1:8080")
        server.register("SHOP", "shop:2", ip="10.20.1.2")
        await until(seen, "app:shop", "10.20.1.1:8080", "10.20.1.2:8080")
        server.cancel("SHOP", "shop:1")
        await until(seen, "app:shop", "10.20.1.2:8080")
        assert (seen.mended_count, seen.generation) == (0, 1)


async def test_EU1_a_server_that_is_starting_refuses_us_and_is_not_empty(eureka_server: Callable[..., Eureka]) -> None:
    server = await asyncio.to_thread(eureka_server)
    server.register("SHOP", "shop:1")
    starting = await asyncio.to_thread(eureka_server, warm_up_s=600)
    with pytest.raises(SourceDenied, match="a Eureka server that is starting answers 403"):
        await EurekaAdapter(options(starting.address)).run(Recorder())
    async with watching(f"{starting.address},{server.address}") as seen:
        await until(seen, "app:shop", "10.20.0.1:8080")


async def test_EU2_the_hash_agrees_with_a_real_server_for_all_statuses(eureka_server: Callable[..., Eureka]) -> None:
    server = await asyncio.to_thread(eureka_server)
    for status in ("UP", "DOWN", "STARTING", "OUT_OF_SERVICE", "UNKNOWN"):
        server.register("SHOP", f"shop:{status}", ip="10.20.1.1", status=status)
    server.register("OTHER", "other:1", ip="10.20.1.3")
    async with watching(server.address, full_every=1_000_000) as seen:
        await until(seen, "app:shop", "10.20.1.1:8080")
        server.override("OTHER", "other:1")
        server.register("SHOP", "shop:DOWN", ip="10.20.1.2")
        server.cancel("SHOP", "shop:STARTING")
        await until(seen, "app:shop", "10.20.1.1:8080", "10.20.1.2:8080")
        await until(seen, "app:other")
        await wait_for_async(lambda: asked(server).count(DELTA) >= 10, TIMEOUT, "ten polls")
    assert asked(server).count(FULL) == 1


async def test_EU2_everything_is_read_again_now_and_then_and_nothing_is_found(
    eureka_server: Callable[..., Eureka],
) -> None:
    server = await asyncio.to_thread(eureka_server)
    server.register("SHOP", "shop:1", ip="10.20.1.1")
    async with watching(server.address, full_every=3) as seen:
        await wait_for_async(lambda: seen.syncs >= 4, TIMEOUT, "three full reads more")
        assert seen.mended_count == 0
        assert "put app:shop" not in seen.history
    assert asked(server)[:9] == [FULL, DELTA, DELTA, DELTA, FULL, DELTA, DELTA, DELTA, FULL]


async def test_EU3_a_change_that_deltas_repeat_is_reported_once(eureka_server: Callable[..., Eureka]) -> None:
    server = await asyncio.to_thread(eureka_server)
    async with watching(server.address, full_every=1_000_000) as seen:
        await wait_for_async(lambda: seen.syncs, TIMEOUT, "first read")
        server.register("SHOP", "shop:1", ip="10.20.1.1")
        await until(seen, "app:shop", "10.20.1.1:8080")
        polls = len(asked(server))
        await wait_for_async(lambda: len(asked(server)) >= polls + 10, TIMEOUT, "ten polls")
        assert server.page("apps/delta")["applications"]["application"], "the delta still tells of it"
    assert seen.history.count("put app:shop") == 1


async def test_EU3_after_too_long_a_silence_everything_is_read(
    eureka_server: Callable[..., Eureka], monkeypatch: pytest.MonkeyPatch
) -> None:
    # 150 s are not waited for: every silence is too long here.
    monkeypatch.setattr(adapter_module, "_DELTA_REACHES", 0.0)
    server = await asyncio.to_thread(eureka_server)
    async with watching(server.address) as seen:
        await wait_for_async(lambda: seen.syncs >= 3, TIMEOUT, "third full read")
    assert set(asked(server)) == {FULL}


async def test_EU4_what_the_caches_of_a_server_hold_back_is_shown_and_no_error(
    eureka_server: Callable[..., Eureka],
) -> None:
    server = await asyncio.to_thread(eureka_server, profile="defaults")
    server.register("SHOP", "shop:1", ip="10.20.1.1")
    async with watching(server.address, full_every=50) as seen:
        await until(seen, "app:shop", "10.20.1.1:8080")
        server.register("SHOP", "shop:2", ip="10.20.1.2")
        await until(seen, "app:shop", "10.20.1.1:8080", "10.20.1.2:8080")
        assert seen.generation == 1
        assert not [one for one in seen.history if one.startswith("stale")]
        (note,) = seen.notes
        assert re.match(r"the last change was \d+ s old when it was told", note)


async def test_EU5_the_next_server_is_read_when_one_fails_and_kept_when_that_is_back(
    eureka_pair: tuple[Eureka, Eureka],
) -> None:
    one, other = eureka_pair
    one.register("SHOP", "shop:1", ip="10.20.1.1")
    await wait_for_async(lambda: other.statuses("SHOP"), TIMEOUT, "replication")
    async with watching(f"{one.address},{other.address}") as seen:
        await until(seen, "app:shop", "10.20.1.1:8080")
        seen.watch_fewest()
        assert (seen.generation, asked(other)) == (1, [])
        await asyncio.to_thread(one.kill)
        await wait_for_async(lambda: seen.generation > 1 and not seen.stale_reason, TIMEOUT, "the other server")
        assert asked(other)[0] == FULL
        other.register("SHOP", "shop:2", ip="10.20.1.2")
        await until(seen, "app:shop", "10.20.1.1:8080", "10.20.1.2:8080")
        assert seen.fewest == {"app:shop": 1}

        before = len(asked(one))
        await asyncio.to_thread(one.start)
        polls = len(asked(other))
        await wait_for_async(lambda: len(asked(other)) >= polls + 10, TIMEOUT, "ten polls of the other")
        assert len(asked(one)) == before


async def test_EU5_a_server_that_comes_back_empty_takes_nothing_with_it(eureka_server: Callable[..., Eureka]) -> None:
    server = await asyncio.to_thread(eureka_server)
    server.register("SHOP", "shop:1", ip="10.20.1.1")
    server.register("SHOP", "shop:2", ip="10.20.1.2")
    async with guarded(server.address, settle=600.0) as source:
        await wait_for_async(lambda: len(addresses(source, "app:shop")) == 2, TIMEOUT, "first read")
        await asyncio.to_thread(server.kill)
        await wait_for_async(lambda: source.stale_since, TIMEOUT, "loss of contact")
        await asyncio.to_thread(server.start)
        await wait_for_async(lambda: source.guard.held == 2 and not source.stale_since, TIMEOUT, "the empty answer")
        server.register("SHOP", "shop:2", ip="10.20.1.2")
        server.register("SHOP", "shop:3", ip="10.20.1.3")
        await wait_for_async(lambda: len(addresses(source, "app:shop")) == 3, TIMEOUT, "what is new")
        assert source.guard.held == 1


async def test_EU5_what_does_not_come_back_is_let_go_after_the_settling_time(
    eureka_server: Callable[..., Eureka],
) -> None:
    server = await asyncio.to_thread(eureka_server)
    server.register("SHOP", "shop:1", ip="10.20.1.1")
    server.register("SHOP", "shop:2", ip="10.20.1.2")
    async with guarded(server.address, settle=3.0) as source:
        await wait_for_async(lambda: len(addresses(source, "app:shop")) == 2, TIMEOUT, "first read")
        await asyncio.to_thread(server.kill)
        await wait_for_async(lambda: source.stale_since, TIMEOUT, "loss of contact")
        await asyncio.to_thread(server.start)
        server.register("SHOP", "shop:2", ip="10.20.1.2")
        await wait_for_async(lambda: addresses(source, "app:shop") == ["10.20.1.2"], TIMEOUT, "the end of the hold")
        assert source.guard.held == 0


async def test_EU6_what_the_server_keeps_by_self_preservation_is_kept_and_said(
    eureka_server: Callable[..., Eureka], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The two and a half minutes after which a lease is certainly overdue are not waited for.
    monkeypatch.setattr(records, "_EVICTED_WITHIN", 0.0)
    caplog.set_level(logging.INFO, "isthmus.eureka")
    server = await asyncio.to_thread(eureka_server, self_preservation=True)
    server.register("SHOP", "shop:1", ip="10.20.1.1", lease_s=1)
    async with watching(server.address, full_every=1) as seen:
        await until(seen, "app:shop", "10.20.1.1:8080")
        await wait_for_async(lambda: "self-preservation" in caplog.text, TIMEOUT, "word of the lease")
        rounds = server.lease_rounds()
        await wait_for_async(lambda: server.lease_rounds() >= rounds + 2, TIMEOUT, "two rounds of eviction")
        assert seen.addresses("app:shop") == ["10.20.1.1:8080"]
        assert "keeps 1 instances" in seen.notes[-1]
        server.register("SHOP", "shop:1", ip="10.20.1.1", lease_s=3600)
        await wait_for_async(lambda: "renew their leases again" in caplog.text, TIMEOUT, "the end of it")
    assert caplog.text.count("self-preservation") == 1


async def test_EU6_an_evicted_instance_is_withdrawn(eureka: Eureka) -> None:
    eureka.register("MORTAL", "mortal:1", ip="10.20.1.1", lease_s=1)
    async with watching(eureka.address) as seen:
        await until(seen, "app:mortal", "10.20.1.1:8080")
        await until(seen, "app:mortal")
        assert seen.generation == 1


async def test_EU7_only_what_is_up_serves_and_an_override_wins(eureka: Eureka) -> None:
    eureka.register("STATES", "states:1", ip="10.20.1.1")
    eureka.register("STATES", "states:2", ip="10.20.1.2", status="STARTING")
    async with watching(eureka.address) as seen:
        await until(seen, "app:states", "10.20.1.1:8080")
        eureka.override("STATES", "states:1")
        await until(seen, "app:states")
        found = {(one.code, one.reason) for one in seen.services["app:states"].refused}
        assert found == {(codes.DISABLED, "status OUT_OF_SERVICE"), (codes.DISABLED, "status STARTING")}
        eureka.end_override("STATES", "states:1")
        eureka.register("STATES", "states:2", ip="10.20.1.2")
        await until(seen, "app:states", "10.20.1.1:8080", "10.20.1.2:8080")
        assert seen.services["app:states"].refused == ()


async def test_EU6_a_server_that_ends_the_leases_of_all_is_not_believed(eureka_server: Callable[..., Eureka]) -> None:
    server = await asyncio.to_thread(eureka_server)
    everyone = [Instance("SHOP", f"shop:{number}", ip=f"10.20.1.{number}", lease_s=5) for number in range(1, 41)]
    async with guarded(server.address, settle=600.0, full_every=1_000_000) as source:
        await wait_for_async(lambda: source.synced or source.last_error, TIMEOUT, "first read")
        await asyncio.to_thread(server.register_all, everyone)
        await wait_for_async(lambda: len(addresses(source, "app:shop")) == 40, TIMEOUT, "all of them")
        # Nobody renews, and each second 15 % go.
        await wait_for_async(lambda: not server.statuses("SHOP"), TIMEOUT, "the last eviction")
        await wait_for_async(lambda: source.guard.held >= 34, TIMEOUT, "the hold")
        assert len(addresses(source, "app:shop")) == source.guard.held
        assert source.generation > 1


async def test_EU6_that_all_leave_is_believed(eureka_server: Callable[..., Eureka]) -> None:
    server = await asyncio.to_thread(eureka_server)
    for number in range(1, 6):
        server.register("SHOP", f"shop:{number}", ip=f"10.20.1.{number}")
    async with guarded(server.address, settle=600.0, full_every=1_000_000) as source:
        await wait_for_async(lambda: len(addresses(source, "app:shop")) == 5, TIMEOUT, "first read")
        for number in range(1, 6):
            server.cancel("SHOP", f"shop:{number}")
        await wait_for_async(lambda: not addresses(source, "app:shop"), TIMEOUT, "the withdrawal")
        assert (source.generation, source.guard.held) == (1, 0)


async def test_EU7_no_override_brings_an_instance_up_that_says_it_is_down(eureka: Eureka) -> None:
    for number in (1, 2, 3):
        eureka.register("RAISED", f"raised:{number}", ip=f"10.20.1.{number}")
        eureka.override("RAISED", f"raised:{number}")
        eureka.override("RAISED", f"raised:{number}", "UP")
    async with watching(eureka.address) as seen:
        await until(seen, "app:raised", "10.20.1.1:8080", "10.20.1.2:8080", "10.20.1.3:8080")
        eureka.register("RAISED", "raised:1", ip="10.20.1.1", status="DOWN")
        eureka.register("RAISED", "raised:2", ip="10.20.1.2", status="STARTING")
        await until(seen, "app:raised", "10.20.1.3:8080")
        found = {(one.code, one.reason) for one in seen.services["app:raised"].refused}
        assert found == {(codes.DISABLED, "status DOWN"), (codes.DISABLED, "status STARTING")}


async def test_EU7_one_bad_instance_costs_itself(eureka: Eureka) -> None:
    eureka.register("MIXED", "mixed:1", ip="10.20.1.1")
    eureka.register("MIXED", "mixed:2", ip="10.20.1.2", port=None, secure_port=8443)
    eureka.register("MIXED", "mixed:3", ip="10.20.1.3", metadata={"a": "\ud800", "b": "\u202e\x00", "c": "<&>"})
    async with watching(eureka.address) as seen:
        await until(seen, "app:mixed", "10.20.1.1:8080", "10.20.1.3:8080")
        assert [one.code for one in seen.services["app:mixed"].refused] == [codes.BAD_PORT]


async def test_EU7_credentials_and_a_certificate_of_the_own_authority(
    eureka_server: Callable[..., Eureka], tmp_path: Path
) -> None:
    certificates = Certificates(tmp_path / "certificates")
    server = await asyncio.to_thread(eureka_server, credentials=("me", "hunter2:@%"), certificates=certificates)
    server.register("SHOP", "shop:1", ip="10.20.1.1")
    ca = str(certificates.ca_file)
    async with watching(server.address, ca=ca, username="me", password="hunter2:@%") as seen:
        await until(seen, "app:shop", "10.20.1.1:8080")
    with pytest.raises(SourceDenied, match="answers 401") as denied:
        await EurekaAdapter(options(server.address, ca=ca, username="me", password="hunter3")).run(Recorder())
    assert "hunter3" not in str(denied.value)
    with pytest.raises(SourceUnavailable, match="certificate is not trusted"):
        await EurekaAdapter(options(server.address, username="me", password="hunter2:@%")).run(Recorder())


async def test_G3_a_server_that_is_gone_leaves_the_state_and_marks_it(eureka_server: Callable[..., Eureka]) -> None:
    server = await asyncio.to_thread(eureka_server)
    server.register("SHOP", "shop:1", ip="10.20.1.1")
    async with watching(server.address) as seen:
        await until(seen, "app:shop", "10.20.1.1:8080")
        seen.watch_fewest()
        await asyncio.to_thread(server.kill)
        await wait_for_async(lambda: "connection refused" in (seen.stale_reason or ""), TIMEOUT, "loss of contact")
        assert f"127.0.0.1:{server.port}" in (seen.stale_reason or "")
        assert seen.fewest == {"app:shop": 1}
        assert seen.addresses("app:shop") == ["10.20.1.1:8080"]
        await asyncio.to_thread(server.start)
        server.register("SHOP", "shop:2", ip="10.20.1.2")
        await wait_for_async(
            lambda: "10.20.1.2:8080" in seen.addresses("app:shop") and not seen.stale_reason, TIMEOUT, "contact again"
        )


async def test_G3_a_frozen_server_leaves_the_state_and_marks_it(
    eureka_server: Callable[..., Eureka], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The 30 s that an answer may take are not waited for.
    monkeypatch.setattr(client_module, "fetch", functools.partial(fetch, total=3.0))
    server = await asyncio.to_thread(eureka_server)
    server.register("SHOP", "shop:1", ip="10.20.1.1")
    async with watching(server.address) as seen:
        await until(seen, "app:shop", "10.20.1.1:8080")
        seen.watch_fewest()
        server.pause()
        await wait_for_async(lambda: "no whole answer" in (seen.stale_reason or ""), TIMEOUT, "loss of contact")
        # Also once a new connection was tried, which the kernel takes in the server's place.
        enough = stales(seen) + 2
        await wait_for_async(lambda: stales(seen) >= enough, TIMEOUT, "two vain attempts")
        assert seen.addresses("app:shop") == ["10.20.1.1:8080"]
        server.resume()
        await wait_for_async(lambda: not seen.stale_reason, TIMEOUT, "contact again")
        server.register("SHOP", "shop:2", ip="10.20.1.2")
        await until(seen, "app:shop", "10.20.1.1:8080", "10.20.1.2:8080")
        assert seen.fewest == {"app:shop": 1}
        assert not [one for one in seen.history if one.startswith("drop")]


def stales(seen: Recorder) -> int:
    return len([one for one in seen.history if one.startswith("stale")])


def test_the_bridge_registers_nothing(eureka_server: Callable[..., Eureka], bridge: Callable[..., Bridge]) -> None:
    server = eureka_server()
    server.register("SHOP", "shop:1", ip="10.20.1.1")
    bridge([{"kind": "eureka", "address": server.address, "poll": 1}])
    wait_for(lambda: asked(server).count(DELTA) >= 3, TIMEOUT, "three polls")
    assert {(request.agent, request.method) for request in server.requests()} == {("isthmus", "GET")}
    assert [one["name"] for one in server.page("apps")["applications"]["application"]] == ["SHOP"]


@pytest.mark.parametrize("name_from", ["app", "vip"])
async def test_a_name_in_Chinese_gets_a_host_of_its_own(eureka_server: Callable[..., Eureka], name_from: str) -> None:
    server = await asyncio.to_thread(eureka_server)
    names = {"用户服务": "10.20.1.1", "支付服务": "10.20.1.2"}
    for number, (name, ip) in enumerate(names.items()):
        app, vip = (name, f"vip-{number}") if name_from == "app" else (f"APP-{number}", name)
        server.register(app, f"{number}", ip=ip, vip=vip)
    async with watching(server.address, name_from=name_from) as seen:
        for name, ip in names.items():
            await until(seen, f"app:{quote(name)}", f"{ip}:8080")
        hosts = [service.host for service in seen.services.values()]
    assert all(re.fullmatch(r"x-[0-9a-f]{8}\.mesh", host) for host in hosts)
    assert len(set(hosts)) == 2


async def test_two_thousand_applications(eureka_server: Callable[..., Eureka]) -> None:
    server = await asyncio.to_thread(eureka_server, heap="256m")
    await asyncio.to_thread(server.fill, 2_000, 5)
    async with watching(server.address) as seen:
        await wait_for_async(lambda: seen.syncs, TIMEOUT, "first read")
        assert len(seen.services) == 2_000
        assert sum(len(one.endpoints) for one in seen.services.values()) == 10_000
        assert any(one.startswith("progress") for one in seen.history)
        server.register("LATE", "late:1", ip="10.20.1.1")
        await until(seen, "app:late", "10.20.1.1:8080")
        puts = [one for one in seen.history if one.startswith("put")]
        assert puts == ["put app:late"] or not puts, "only what changed is reported"
