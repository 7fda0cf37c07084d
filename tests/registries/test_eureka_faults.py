"""What a Eureka says wrongly, or of what it was in another life: the rules EU1 to EU7 where no real one will do it."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest

from isthmus.adapters.eureka import adapter as adapter_module
from isthmus.adapters.eureka.adapter import EurekaAdapter
from isthmus.registry.errors import SourceDenied, SourceError, SourceUnavailable
from tests.registries.eureka_fake import DELTA, FULL, SHOP, fake_eureka, polls, shop, shops
from tests.registries.eureka_watch import TIMEOUT, addresses, guarded, options, until, watching
from tests.registries.recorder import Recorder
from tests.rig.eureka import Instance
from tests.rig.wait import wait_for_async

GOLDEN = Path(__file__).parent.parent / "golden" / "eureka"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        *((status, b"") for status in (401, 403, 404, 405, 500, 502, 200)),
        (200, b"null"),
        (200, b"<html>"),
        (200, b'{"applications":null}'),
        (200, b'{"applications":{"application":[{"instance":[]}]}}'),
    ],
)
async def test_EU1_where_there_are_no_deltas_everything_is_read(status: int, body: bytes) -> None:
    async with fake_eureka() as fake:
        fake.say(DELTA, body, status)
        fake.hold(shop(1), shop(2))
        async with watching(fake.address) as seen:
            await until(seen, SHOP, "10.0.0.1:8080", "10.0.0.2:8080")
            fake.hold(shop(2), shop(3))
            await until(seen, SHOP, "10.0.0.2:8080", "10.0.0.3:8080")
            assert (seen.generation, seen.mended_count, seen.stale_reason) == (1, 0, None)


async def test_EU2_a_hash_that_differs_means_a_full_read() -> None:
    async with fake_eureka() as fake:
        fake.hold(shop(1))
        async with watching(fake.address, full_every=1_000_000) as seen:
            await until(seen, SHOP, "10.0.0.1:8080")
            # No delta tells of the second one, nor of the end of the third.
            fake.hold(shop(1), shop(2), shop(3))
            await until(seen, SHOP, "10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.3:8080")
            assert seen.mended_count == 2
            fake.hold(shop(1), shop(2))
            await until(seen, SHOP, "10.0.0.1:8080", "10.0.0.2:8080")
            assert (seen.mended_count, seen.syncs) == (3, 3)


async def test_EU2_an_equal_hash_is_not_equal_content() -> None:
    async with fake_eureka() as fake:
        fake.hold(shop(1))
        async with watching(fake.address, full_every=3) as seen:
            await until(seen, SHOP, "10.0.0.1:8080")
            fake.hold(shop(1, port=9090))
            await until(seen, SHOP, "10.0.0.1:9090")
            assert seen.mended_count == 1


async def test_EU3_a_delta_is_applied_by_what_is_newer() -> None:
    async with fake_eureka() as fake:
        fake.version = 5
        fake.hold(shop(1))
        async with watching(fake.address, full_every=1_000_000) as seen:
            await until(seen, SHOP, "10.0.0.1:8080")
            fake.changed = [(shop(1, port=9090), "MODIFIED"), (shop(2), "ADDED"), (shop(3), "ADDED")]
            fake.instances = [shop(1, port=9090), shop(2), shop(3)]
            fake.version = 6
            await until(seen, SHOP, "10.0.0.1:9090", "10.0.0.2:8080", "10.0.0.3:8080")
            fake.changed = [(shop(2), "DELETED")]
            fake.instances = [shop(1, port=9090), shop(3)]
            fake.version = 7
            await until(seen, SHOP, "10.0.0.1:9090", "10.0.0.3:8080")
            assert fake.asked.count(FULL) == 1


async def test_EU5_explicit_deletions_are_believed_however_many() -> None:
    async with fake_eureka() as fake:
        fake.hold(*shops(4))
        async with guarded(fake.address, settle=600.0) as source:
            await wait_for_async(lambda: len(addresses(source, SHOP)) == 4, TIMEOUT, "first read")
            fake.version = 2
            fake.changed = [(one, "DELETED") for one in shops(4)]
            fake.hold()
            await wait_for_async(lambda: not addresses(source, SHOP), TIMEOUT, "the deletions")
            assert (source.generation, source.guard.held) == (1, 0)


@pytest.mark.parametrize("deltas", [True, False])
async def test_EU5_an_answer_that_lost_everything_is_held_on_the_same_connection(deltas: bool) -> None:
    async with fake_eureka() as fake:
        if not deltas:
            fake.say(DELTA, status=403)
        fake.hold(*shops(4))
        async with guarded(fake.address, settle=600.0) as source:
            await wait_for_async(lambda: len(addresses(source, SHOP)) == 4, TIMEOUT, "first read")
            fake.hold()
            await wait_for_async(lambda: source.guard.held == 4, TIMEOUT, "the hold")
            await polls(fake, 5)
            assert source.generation == 2, "it is held already: a new hold with each answer would never end"
            assert len(addresses(source, SHOP)) == 4
            assert source.mended == 0, "that is no fault of the deltas"


async def test_EU5_the_only_instance_there_was_is_held_when_it_is_lacking() -> None:
    async with fake_eureka() as fake:
        fake.hold(shop(1))
        async with guarded(fake.address, settle=600.0) as source:
            await wait_for_async(lambda: addresses(source, SHOP), TIMEOUT, "first read")
            fake.hold()
            await wait_for_async(lambda: source.guard.held == 1, TIMEOUT, "the hold")
            assert addresses(source, SHOP) == ["10.0.0.1"]


async def test_EU5_a_part_that_is_lost_is_held_and_let_go_after_the_settling_time() -> None:
    async with fake_eureka() as fake:
        fake.hold(*shops(20))
        # Nothing but the end of the settling time gives a reason to read everything.
        async with guarded(fake.address, settle=1.5, full_every=1_000_000) as source:
            await wait_for_async(lambda: len(addresses(source, SHOP)) == 20, TIMEOUT, "first read")
            fake.hold(*shops(16))
            await wait_for_async(lambda: source.guard.held == 4, TIMEOUT, "the hold")
            await wait_for_async(lambda: len(addresses(source, SHOP)) == 16, TIMEOUT, "the end of the hold")
            assert (source.generation, source.guard.held) == (2, 0)


async def test_EU5_a_few_that_are_lacking_are_believed() -> None:
    async with fake_eureka() as fake:
        fake.hold(*shops(20))
        async with guarded(fake.address, settle=600.0) as source:
            await wait_for_async(lambda: len(addresses(source, SHOP)) == 20, TIMEOUT, "first read")
            fake.hold(*shops(17))
            await wait_for_async(lambda: len(addresses(source, SHOP)) == 17, TIMEOUT, "the withdrawal")
            assert (source.generation, source.guard.held) == (1, 0)


async def test_EU5_a_delta_that_counts_from_the_start_is_of_a_server_that_was_restarted() -> None:
    async with fake_eureka() as fake:
        fake.version = 50
        fake.hold(*shops(20))
        async with guarded(fake.address, settle=600.0) as source:
            await wait_for_async(lambda: len(addresses(source, SHOP)) == 20, TIMEOUT, "first read")
            await polls(fake, 2)
            fake.hold(*shops(19))
            fake.version = 1
            await wait_for_async(lambda: source.guard.held == 1, TIMEOUT, "the hold")
            # One name for several servers in turn: the hold is not begun anew each time.
            fake.version = 60
            await polls(fake, 2)
            fake.version = 2
            await polls(fake, 2)
            assert source.generation == 2


async def test_EU5_a_delta_that_does_not_count_says_nothing_of_a_restart() -> None:
    async with fake_eureka() as fake:
        fake.version = 50
        fake.hold(shop(1))
        async with watching(fake.address) as seen:
            await until(seen, SHOP, "10.0.0.1:8080")
            await polls(fake, 2)
            fake.version = 0
            await polls(fake, 3)
            assert seen.generation == 1


async def test_EU5_a_failure_is_marked_before_the_next_server_is_read() -> None:
    async with fake_eureka() as one, fake_eureka() as other:
        one.hold(shop(1))
        other.hold(shop(1), shop(2))
        async with watching(f"{one.address},{other.address}") as seen:
            await until(seen, SHOP, "10.0.0.1:8080")
            one.say(FULL, status=500)
            one.say(DELTA, status=500)
            await until(seen, SHOP, "10.0.0.1:8080", "10.0.0.2:8080")
            assert [reason for reason in seen.history if reason.startswith("stale")] == [
                f"stale 127.0.0.1:{one.port} answers 500"
            ]
            assert (seen.generation, seen.stale_reason) == (2, None)


async def test_EU5_every_server_is_tried_before_contact_counts_as_lost() -> None:
    async with fake_eureka() as one, fake_eureka() as other:
        one.say(FULL, status=503)
        other.say(FULL, b"<html>", kind="text/html")
        with pytest.raises(SourceUnavailable) as raised:
            await EurekaAdapter(options(f"{one.address},{other.address}")).run(Recorder())
        assert f"127.0.0.1:{one.port} answers 503, not available for now; " in str(raised.value)
        assert "no whole JSON" in str(raised.value)
        assert (one.asked, other.asked) == ([FULL], [FULL])


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "application/json"),
        (b"null", "application/json"),
        (b"{}", "application/json"),
        (b'{"applications":{"application":[', "application/json"),
        (b'{"applications":{"application":[{"instance":[]}]}}', "application/json"),
        (b"<applications>", "application/xml"),
        (b"", "application/xml"),
        (b"<!DOCTYPE applications><applications/>", "application/xml"),
        (b"<html></html>", "text/html"),
    ],
)
async def test_G1_what_cannot_be_read_withdraws_nothing(body: bytes, kind: str) -> None:
    async with fake_eureka() as fake:
        fake.hold(shop(1))
        async with watching(fake.address) as seen:
            await until(seen, SHOP, "10.0.0.1:8080")
            seen.watch_fewest()
            fake.say(FULL, body, kind=kind)
            fake.say(DELTA, body, kind=kind)
            await wait_for_async(lambda: seen.stale_reason, TIMEOUT, "word of it")
            fake.answers.clear()
            fake.hold(shop(1), shop(2))
            await until(seen, SHOP, "10.0.0.1:8080", "10.0.0.2:8080")
            assert seen.fewest == {SHOP: 1}


@pytest.mark.parametrize("status", [401, 403])
async def test_G1_a_server_that_refuses_us_is_denied_and_withdraws_nothing(status: int) -> None:
    async with fake_eureka() as fake:
        fake.hold(shop(1))
        async with watching(fake.address) as seen:
            await until(seen, SHOP, "10.0.0.1:8080")
            fake.say(FULL, status=status)
            fake.say(DELTA, status=status)
            await wait_for_async(lambda: f"answers {status}" in (seen.stale_reason or ""), TIMEOUT, "word of it")
            assert seen.addresses(SHOP) == ["10.0.0.1:8080"]
            with pytest.raises(SourceDenied):
                await EurekaAdapter(options(fake.address)).run(Recorder())


@pytest.mark.parametrize("refusal", [406, 415, 200])
async def test_EU7_XML_is_read_where_there_is_no_JSON(refusal: int) -> None:
    xml = (GOLDEN / "1-two-spring-cloud-services.apps.xml").read_bytes()

    async with fake_eureka() as fake:
        fake.refuse_json = refusal
        fake.say(FULL, xml, kind="application/xml")
        fake.say(DELTA, (GOLDEN / "2-greeting-out-of-service.apps-delta.xml").read_bytes(), kind="application/xml")
        async with watching(fake.address) as seen:
            await until(seen, "app:after", "10.20.1.1:8080")
            await until(seen, "app:greeting-service")
            assert seen.mended_count == 0


async def test_an_instance_without_a_service_is_shown_while_it_is_there() -> None:
    async with fake_eureka() as fake:
        fake.hold(shop(1, metadata={"dns": "pay"}), shop(2))
        async with watching(fake.address, name_from="metadata:dns") as seen:
            await until(seen, "app:pay", "10.0.0.1:8080")
            assert [one.record.partition(",")[0] for one in seen.refused["SHOP"]] == ['{"instanceId":"shop:2"']
            fake.hold(shop(1, metadata={"dns": "pay"}))
            await wait_for_async(lambda: not seen.refused["SHOP"], TIMEOUT, "the end of the refusal")


async def test_an_address_or_a_CA_file_that_cannot_be_used_is_said_in_words(tmp_path: Path) -> None:
    for settings, text in (
        (options("http://me:secret@127.0.0.1:1/eureka"), "the address cannot be used: server 1 has credentials"),
        (options("http://127.0.0.1:1/eureka", ca=str(tmp_path / "ca.pem")), "cannot be read"),
    ):
        with pytest.raises(SourceError, match=text) as raised:
            await EurekaAdapter(settings).run(Recorder())
        assert "secret" not in str(raised.value)


async def test_the_loop_is_not_kept_by_a_large_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    # Each application is a large one here.
    monkeypatch.setattr(adapter_module, "_STINT", 0.0)
    async with fake_eureka() as fake:
        fake.hold(*(Instance(f"A{number}", f"a:{number}", ip="10.0.0.1") for number in range(20)))
        async with watching(fake.address) as seen, asyncio.TaskGroup() as tasks:

            async def take_turns() -> None:
                while True:
                    seen.history.append("turn")
                    await asyncio.sleep(0)

            taking = tasks.create_task(take_turns())
            await wait_for_async(lambda: seen.syncs, TIMEOUT, "first read")
            taking.cancel()
        places = [place for place, one in enumerate(seen.history) if one.startswith("progress")]
        assert [seen.history[place] for place in places] == [f"progress {done}/20" for done in range(1, 21)]
        assert all("turn" in seen.history[one:other] for one, other in itertools.pairwise(places))
