"""What the Consul adapter does not believe, and how it asks: a fake says what no real server can be made to in time."""

from __future__ import annotations

import json

import pytest

from isthmus.adapters.consul import adapter, patience, reader, watch
from isthmus.adapters.consul.adapter import ConsulAdapter
from isthmus.registry import codes
from isthmus.registry.errors import SourceUnavailable
from tests.registries.consul_fake import HEALTH, LEADER, NODES, SERVICES, STATES, asked_again, fake_consul, passing
from tests.registries.consul_watch import TIMEOUT, options, until, watching
from tests.registries.recorder import Recorder
from tests.rig.wait import wait_for_async

ONE, TWO, THREE = (f"10.0.0.{number}" for number in (1, 2, 3))
AT_ONE, AT_TWO, AT_THREE = (f"{one}:8080" for one in (ONE, TWO, THREE))


async def test_CO1_an_index_that_goes_back_means_to_read_everything_in_a_new_generation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(adapter, "_LIKELY_ONE_SERVER", 0.0)
    async with fake_consul() as fake:
        fake.hold(web=passing(ONE))
        async with watching(fake.address) as seen:
            await until(seen, "app:web", AT_ONE)
            await wait_for_async(lambda: fake.count(SERVICES) == 2, TIMEOUT, "the question for changes")
            fake.hold(web=passing(TWO))
            fake.wake(by=-9)
            await until(seen, "app:web", AT_TWO)
            await wait_for_async(lambda: seen.generation == 2, TIMEOUT, "another generation")
            assert not [one for one in seen.history if one.startswith("stale")]


async def test_CO1_an_index_that_goes_back_again_and_again_is_no_busy_loop() -> None:
    async with fake_consul() as fake:
        fake.hold(web=passing(ONE))
        async with watching(fake.address) as seen:
            await until(seen, "app:web", AT_ONE)
            await wait_for_async(lambda: fake.count(SERVICES) == 2, TIMEOUT, "the question for changes")
            fake.wake(by=-1)
            await wait_for_async(lambda: "older state" in (seen.stale_reason or ""), TIMEOUT, "stale")
            assert seen.addresses("app:web") == [AT_ONE]


@pytest.mark.parametrize("index", [0, -5])
async def test_CO2_an_index_below_1_does_not_make_a_busy_loop(index: int) -> None:
    async with fake_consul() as fake:
        fake.hold(web=passing(ONE))
        fake.index = index
        async with watching(fake.address) as seen:
            await until(seen, "app:web", AT_ONE)
            await wait_for_async(lambda: fake.count(SERVICES) == 2, TIMEOUT, "the question for changes")
            fake.index = 5
            fake.hold(web=passing(TWO))
            await until(seen, "app:web", AT_TWO)
    asked = [query["index"] for path, query in fake.asked if path == SERVICES and "index" in query]
    assert asked[0] == "1"
    assert len(asked) <= 4


async def test_CO3_an_answer_is_no_change() -> None:
    async with fake_consul() as fake:
        fake.hold(web=passing(ONE), db=passing(TWO))
        async with watching(fake.address) as seen:
            await until(seen, "app:web", AT_ONE)
            before = list(seen.history)
            for _ in range(3):
                fake.wake()
                await asked_again(fake, SERVICES)
            await wait_for_async(lambda: seen.syncs > 1, TIMEOUT, "the sweep")
            assert [one for one in seen.history[len(before) :] if one != "sync"] == []
            assert (seen.generation, seen.mended_count) == (1, 0)


async def test_CO4_a_page_that_changes_all_the_time_is_asked_for_with_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "rest_after", lambda _: 3600.0)
    async with fake_consul() as fake:
        fake.churning = NODES
        fake.hold(web=passing(ONE))
        async with watching(fake.address) as seen:
            await until(seen, "app:web", AT_ONE)
            # The first read, a burst of two, and the question behind whose answer there is a rest.
            await wait_for_async(lambda: fake.count(NODES) == 4, TIMEOUT, "the burst")
            fake.hold(web=passing(TWO))
            await until(seen, "app:web", AT_TWO)
            assert fake.count(NODES) == 4


async def test_CO5_the_wait_that_was_set_is_asked_for() -> None:
    async with fake_consul() as fake:
        fake.hold(web=passing(ONE))
        async with watching(fake.address, wait=1.0) as seen:
            await until(seen, "app:web", AT_ONE)
            await asked_again(fake, SERVICES, 2)
            assert (seen.stale_reason, seen.generation) == (None, 1)
    waits = {query["wait"] for path, query in fake.asked if "wait" in query}
    assert waits == {"1s"}


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_CO6_who_has_had_enough_of_us_is_left_alone_and_loses_nothing(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "_PATIENCE", 0.5)
    async with fake_consul() as fake:
        fake.hold(web=passing(ONE))
        async with watching(fake.address) as seen:
            await until(seen, "app:web", AT_ONE)
            fake.answers[f"{HEALTH}web"] = (status, b"No cluster leader")
            fake.hold(web=passing(ONE, TWO), new=passing(THREE))
            await wait_for_async(lambda: str(status) in (seen.stale_reason or ""), TIMEOUT, "stale")
            assert seen.addresses("app:web") == [AT_ONE]
            seen_so_far = len(fake.asked)
            fake.answers.clear()
            await until(seen, "app:web", AT_ONE, AT_TWO)
            await until(seen, "app:new", AT_THREE)
    again = [query for path, query in fake.asked[seen_so_far:] if path == SERVICES]
    assert "index" not in again[0], "after a fault it begins from the start"


@pytest.mark.parametrize("status", [429, 500, 503, 0])
async def test_CO6_a_server_that_stumbles_now_and_then_is_read_to_the_end(status: int) -> None:
    async with fake_consul() as fake:
        fake.hold(**{f"s{number}": passing(ONE) for number in range(60)})
        fake.stumbling = (status, 7)
        async with watching(fake.address) as seen:
            await wait_for_async(lambda: len(seen.services) == 60, TIMEOUT, "all of them")
            fake.hold(**{f"s{number}": passing(ONE, TWO) for number in range(60)})
            for number in range(60):
                await until(seen, f"app:s{number}", AT_ONE, AT_TWO)
            assert (seen.generation, [one for one in seen.history if one.startswith("stale")]) == (1, [])


async def test_CO6_a_service_that_only_fails_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_PATIENCE_WITH_ONE", 0.5)
    async with fake_consul() as fake:
        fake.hold(web=passing(ONE), bad=passing(TWO))
        fake.answers[f"{HEALTH}bad"] = (500, b"rpc error")
        async with watching(fake.address) as seen:
            await until(seen, "app:web", AT_ONE)
            assert [one.code for one in seen.refused["bad"]] == [codes.GARBLED]
            fake.answers.clear()
            fake.hold(web=passing(ONE), bad=passing(TWO, THREE))
            await until(seen, "app:bad", AT_TWO, AT_THREE)
            assert seen.stale_reason is None


async def test_CO6_too_many_requests_for_a_page_are_no_reason_to_begin_anew() -> None:
    async with fake_consul() as fake:
        fake.hold(web=passing(ONE))
        async with watching(fake.address) as seen:
            await until(seen, "app:web", AT_ONE)
            fake.answers[NODES] = fake.answers[LEADER] = (429, b"")
            fake.wake()
            await asked_again(fake, NODES, 2)
            fake.answers.clear()
            fake.hold(web=passing(TWO))
            await until(seen, "app:web", AT_TWO)
            assert (seen.generation, seen.stale_reason) == (1, None)


async def test_CO8_one_list_shows_of_many_that_are_empty_that_nothing_hides_them() -> None:
    async with fake_consul() as fake:
        fake.hold(**{f"s{number}": passing(ONE) for number in range(60)})
        async with watching(fake.address, requests=1000.0, settle=0.1) as seen:
            await wait_for_async(lambda: len(seen.services) == 60, TIMEOUT, "all of them")
            lists = fake.count(SERVICES)
            fake.hold(s0=passing(ONE))
            for number in range(1, 60):
                await until(seen, f"app:s{number}")
            assert fake.count(SERVICES) < lists + 30


@pytest.mark.parametrize(
    "headers",
    [{"X-Consul-KnownLeader": "false"}, {"X-Consul-LastContact": "60000"}],
)
async def test_CO7_an_answer_of_another_time_adds_and_takes_nothing_away(headers: dict[str, str]) -> None:
    async with fake_consul() as fake:
        fake.hold(web=passing(ONE, TWO), db=passing(ONE))
        async with watching(fake.address, consistency="stale", requests=1000.0) as seen:
            await until(seen, "app:web", AT_ONE, AT_TWO)
            fake.headers = headers
            reads = fake.count(f"{HEALTH}db")
            fake.hold(web=[*passing(THREE), (ONE, "critical")], new=passing(ONE))
            await until(seen, "app:new", AT_ONE)
            await until(seen, "app:web", AT_ONE, AT_TWO, AT_THREE)
            await wait_for_async(lambda: fake.count(f"{HEALTH}db") > reads, TIMEOUT, "a read of what is gone")
            assert seen.addresses("app:db") == [AT_ONE]
            fake.headers = {}
            fake.wake()
            await until(seen, "app:web", AT_THREE)
            await until(seen, "app:db")


async def test_CO7_a_server_that_is_far_behind_is_not_begun_with() -> None:
    async with fake_consul() as fake:
        fake.hold(web=passing(ONE))
        fake.headers = {"X-Consul-LastContact": "60000"}
        with pytest.raises(SourceUnavailable, match="for 60 s; `maxStale` is 10 s"):
            await ConsulAdapter(options(fake.address)).run(Recorder())
        async with watching(fake.address, max_stale=61.0) as seen:
            await until(seen, "app:web", AT_ONE)


async def test_CO8_what_is_hidden_from_somebody_without_a_token_is_not_gone() -> None:
    async with fake_consul() as fake:
        fake.hold(web=passing(ONE, TWO), db=passing(ONE))
        async with watching(fake.address) as seen:
            await until(seen, "app:web", AT_ONE, AT_TWO)
            # The checks tell of it, so services are read before the list says that nothing is left of them.
            fake.indexes[SERVICES] = fake.index
            fake.hold(web=[(ONE, "critical")], db=[(ONE, "critical")])
            await until(seen, "app:web", AT_ONE)
            fake.hold()
            await wait_for_async(lambda: seen.stale_reason, TIMEOUT, "stale")
            assert (seen.addresses("app:web"), seen.addresses("app:db")) == ([AT_ONE], [AT_ONE])
            fake.hold(web=passing(ONE))
            await until(seen, "app:web", AT_ONE)
            await until(seen, "app:db")


async def test_CO9_CO11_it_asks_as_few_questions_as_there_are_pages_and_shows_no_hash() -> None:
    async with fake_consul() as fake:
        fake.hold(**{f"s{number}": passing(ONE) for number in range(50)})
        where = {"datacenter": "dc2", "consul_namespace": "team", "partition": "part", "consistency": "consistent"}
        async with watching(fake.address, **where) as seen:
            await wait_for_async(lambda: seen.syncs, TIMEOUT, "first read")
            waiting = [SERVICES, NODES, f"{STATES}critical", f"{STATES}warning"]
            await wait_for_async(
                lambda: {path for path, query in fake.asked if "index" in query} == set(waiting),
                TIMEOUT,
                "the questions",
            )
    asked = [(path, query) for path, query in fake.asked if path.startswith(("/v1/catalog", "/v1/health"))]
    assert len(asked) == 50 + 2 * len(waiting)
    for _, query in asked:
        assert {name: query[name] for name in ("dc", "ns", "partition", "consistent")} == {
            "dc": "dc2",
            "ns": "team",
            "partition": "part",
            "consistent": "",
        }
        assert query.keys() <= {"dc", "ns", "partition", "consistent", "index", "wait"}, "no hash, and no `passing`"


async def test_CO10_all_states_are_read_and_health_is_judged_here() -> None:
    async with fake_consul() as fake:
        fake.hold(web=[(ONE, "passing"), (TWO, "critical"), (THREE, "warning")])
        async with watching(fake.address, health="any") as everybody, watching(fake.address) as strict:
            await until(everybody, "app:web", AT_ONE, AT_TWO, AT_THREE)
            await until(strict, "app:web", AT_ONE)


async def test_G6_what_no_wake_told_is_mended_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (reader, watch):
        monkeypatch.setattr(module, "TOLD_GRACE", 0.2)
    async with fake_consul() as fake:
        fake.hold(web=passing(ONE), db=passing(ONE))
        async with watching(fake.address, reconcile=1.0, requests=1000.0) as seen:
            await until(seen, "app:web", AT_ONE)
            fake.instances = {"web": passing(TWO), "db": passing(ONE)}
            await until(seen, "app:web", AT_TWO)
            await wait_for_async(lambda: seen.mended_count == 1, TIMEOUT, "the count")


@pytest.mark.parametrize(
    ("status", "body"),
    [(400, b"bad request"), (404, b""), (200, b"<html>"), (200, b'{"a": 1}'), (200, b"[[" * 100_000)],
)
async def test_G8_a_service_that_cannot_be_read_stops_no_other(status: int, body: bytes) -> None:
    async with fake_consul() as fake:
        fake.hold(web=passing(ONE), db=passing(ONE))
        async with watching(fake.address) as seen:
            await until(seen, "app:web", AT_ONE)
            fake.answers[f"{HEALTH}web"] = (status, body)
            fake.hold(web=passing(ONE), db=passing(ONE, TWO))
            await until(seen, "app:db", AT_ONE, AT_TWO)
            fake.hold(web=passing(TWO), db=passing(ONE), new=[(ONE, "critical")])
            await until(seen, "app:db", AT_ONE)
            await wait_for_async(lambda: seen.refused.get("web"), TIMEOUT, "the refusal")
            assert [one.code for one in seen.refused["web"]] == [codes.GARBLED]
            assert (seen.addresses("app:web"), seen.stale_reason) == ([AT_ONE], None)
            fake.answers.clear()
            fake.hold(web=passing(TWO), db=passing(ONE))
            await until(seen, "app:web", AT_TWO)
            await wait_for_async(lambda: not seen.refused["web"], TIMEOUT, "its end")


@pytest.mark.parametrize("page", [SERVICES, NODES, f"{STATES}critical"])
@pytest.mark.parametrize("body", [b"", b"null", b"<html>", json.dumps({"error": "x"}).encode()])
async def test_G1_a_page_that_cannot_be_read_is_no_empty_page(page: str, body: bytes) -> None:
    async with fake_consul() as fake:
        fake.hold(web=passing(ONE))
        async with watching(fake.address) as seen:
            await until(seen, "app:web", AT_ONE)
            fake.answers[page] = (200, body)
            fake.wake()
            await wait_for_async(lambda: seen.stale_reason, TIMEOUT, "stale")
            assert seen.addresses("app:web") == [AT_ONE]
