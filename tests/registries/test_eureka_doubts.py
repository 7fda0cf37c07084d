"""When the Eureka adapter does not believe what a server says: a fake says it, as no real one can be made to in time.

Mass eviction and deltas by a real server are in test_eureka.py.
"""

from __future__ import annotations

from tests.registries.eureka_fake import DELTA, FULL, SHOP, fake_eureka, polls, shop, shops
from tests.registries.eureka_watch import TIMEOUT, addresses, guarded, until, watching
from tests.rig.wait import wait_for_async


async def test_EU1_deltas_that_always_fail_do_not_prolong_the_settling_time() -> None:
    async with fake_eureka() as fake:
        fake.hold(*shops(20))
        async with guarded(fake.address, settle=1.0) as source:
            await wait_for_async(lambda: len(addresses(source, SHOP)) == 20, TIMEOUT, "first read")
            fake.say(DELTA, status=500)
            fake.hold(*shops(19))
            await wait_for_async(lambda: len(addresses(source, SHOP)) == 19, TIMEOUT, "the withdrawal")
            assert (source.generation, source.guard.held, source.stale_since) == (1, 0, None)


async def test_G4_a_deletion_is_believed_in_the_end_though_contact_keeps_breaking() -> None:
    async with fake_eureka() as one, fake_eureka() as other:
        for each in (one, other):
            each.hold(*shops(20))
        async with guarded(f"{one.address},{other.address}", settle=1.0) as source:
            await wait_for_async(lambda: len(addresses(source, SHOP)) == 20, TIMEOUT, "first read")
            # The first read of a connection is good, and all that follows is not.
            for each in (one, other):
                each.broken.add(DELTA)
                each.hold(*shops(19))
            await wait_for_async(lambda: len(addresses(source, SHOP)) == 19, TIMEOUT, "the withdrawal")
            assert source.generation > 3


async def test_EU3_what_a_delta_told_is_not_undone_by_an_older_full_answer() -> None:
    async with fake_eureka() as fake:
        fake.version = 5
        fake.hold(*shops(8))
        async with watching(fake.address, full_every=2) as seen:
            await wait_for_async(lambda: len(seen.addresses(SHOP)) == 8, TIMEOUT, "first read")
            fake.freeze()
            fake.version = 6
            fake.changed = [(shop(9), "ADDED"), (shop(1, port=9090), "MODIFIED"), (shop(8), "DELETED")]
            fake.hold(shop(1, port=9090), *shops(9)[1:7], shop(9))
            expected = ["10.0.0.1:9090", *(f"10.0.0.{number}:8080" for number in (2, 3, 4, 5, 6, 7, 9))]
            await until(seen, SHOP, *expected)
            seen.watch_fewest()
            await polls(fake, 3, FULL)
            assert (seen.addresses(SHOP), seen.fewest, seen.mended_count) == (expected, {SHOP: 8}, 0)


async def test_EU5_a_second_loss_within_the_settling_time_has_one_of_its_own() -> None:
    async with fake_eureka() as fake:
        fake.version = 50
        fake.hold(*shops(20))
        async with guarded(fake.address, settle=600.0, full_every=2) as source:
            await wait_for_async(lambda: len(addresses(source, SHOP)) == 20, TIMEOUT, "first read")
            await polls(fake, 1)
            fake.version = 1
            fake.hold(*shops(19))
            await wait_for_async(lambda: source.guard.held == 1, TIMEOUT, "the first hold")
            until_first = source.guard.seconds_left(0.0)
            fake.hold()
            await wait_for_async(lambda: source.guard.held == 20, TIMEOUT, "the second hold")
            assert source.generation == 3
            assert source.guard.seconds_left(0.0) > until_first


async def test_EU6_leases_that_end_one_by_one_are_believed_and_many_are_held() -> None:
    async with fake_eureka() as fake:
        fake.hold(*shops(20))
        async with guarded(fake.address, settle=600.0, full_every=1_000_000) as source:
            await wait_for_async(lambda: len(addresses(source, SHOP)) == 20, TIMEOUT, "first read")
            for left in (19, 18, 17):
                fake.version += 1
                fake.changed = [(one, "EVICTED") for one in shops(20)[left:]]
                fake.hold(*shops(left))
                await wait_for_async(lambda left=left: len(addresses(source, SHOP)) == left, TIMEOUT, "an eviction")  # type: ignore[misc]
            assert (source.generation, source.guard.held) == (1, 0)
            # The deltas repeat all of them, and each is counted once.
            fake.version += 1
            fake.changed = [(one, "EVICTED") for one in shops(20)[15:]]
            fake.hold(*shops(15))
            await wait_for_async(lambda: source.guard.held == 2, TIMEOUT, "the hold")
            await polls(fake, 3)
            assert (source.generation, len(addresses(source, SHOP))) == (2, 17)


async def test_EU5_what_serves_is_lost_though_most_of_what_does_not_is_there() -> None:
    async with fake_eureka() as fake:
        down = [shop(number, status="DOWN") for number in range(20, 120)]
        fake.hold(*shops(10), *down)
        async with guarded(fake.address, settle=600.0) as source:
            await wait_for_async(lambda: len(addresses(source, SHOP)) == 10, TIMEOUT, "first read")
            fake.hold(*down)
            await wait_for_async(lambda: source.guard.held == 10, TIMEOUT, "the hold")


async def test_EU5_what_cannot_be_read_any_more_is_lost() -> None:
    async with fake_eureka() as fake:
        fake.hold(*shops(10))
        async with guarded(fake.address, settle=600.0, full_every=1) as source:
            await wait_for_async(lambda: len(addresses(source, SHOP)) == 10, TIMEOUT, "first read")
            fake.hold(*(shop(number, vip=["no", "text"]) for number in range(1, 11)))
            await wait_for_async(lambda: source.guard.held == 10, TIMEOUT, "the hold")


async def test_EU7_that_all_are_down_is_believed() -> None:
    async with fake_eureka() as fake:
        fake.hold(*shops(10))
        async with guarded(fake.address, settle=600.0) as source:
            await wait_for_async(lambda: len(addresses(source, SHOP)) == 10, TIMEOUT, "first read")
            fake.hold(*(shop(number, status="DOWN") for number in range(1, 11)))
            await wait_for_async(lambda: not addresses(source, SHOP), TIMEOUT, "the withdrawal")
            assert source.generation == 1


async def test_G1_a_registry_that_contradicts_its_own_count_withdraws_nothing() -> None:
    async with fake_eureka() as fake:
        fake.hold(*shops(20))
        async with guarded(fake.address, settle=0.0, full_every=1) as source:
            await wait_for_async(lambda: len(addresses(source, SHOP)) == 20, TIMEOUT, "first read")
            for application in ("null", "[]", '[{"name":"SHOP"}]'):
                body = f'{{"applications":{{"apps__hashcode":"UP_20_","application":{application}}}}}'
                fake.say(FULL, body.encode())
                await polls(fake, 2, FULL)
                assert len(addresses(source, SHOP)) == 20
                assert "counts some" in (source.last_error or "")
            fake.say(FULL, b'{"applications":{}}')
            await wait_for_async(lambda: "without a registry" in (source.last_error or ""), TIMEOUT, "word of it")
            assert len(addresses(source, SHOP)) == 20


async def test_EU5_a_registry_that_is_empty_from_the_start_is_believed_after_a_while() -> None:
    async with fake_eureka() as fake:
        fake.says_hash = False
        async with guarded(fake.address, settle=1.0) as source:
            await wait_for_async(lambda: source.last_error, TIMEOUT, "word of the doubt")
            assert "has no instance at all" in (source.last_error or "")
            assert not source.synced
            await wait_for_async(lambda: source.synced, TIMEOUT, "the end of the doubt")
            assert source.last_error is None


async def test_EU5_what_registers_while_an_empty_registry_is_doubted_ends_the_doubt() -> None:
    async with fake_eureka() as fake, guarded(fake.address, settle=600.0) as source:
        await wait_for_async(lambda: source.last_error, TIMEOUT, "word of the doubt")
        fake.hold(shop(1))
        await wait_for_async(lambda: addresses(source, SHOP), TIMEOUT, "the first instance")
        assert (source.synced, source.guard.held) == (True, 0)


async def test_T15_an_application_of_too_many_instances_keeps_its_last_state() -> None:
    async with fake_eureka() as fake:
        fake.hold(shop(1))
        async with guarded(fake.address, settle=0.0, full_every=1) as source:
            await wait_for_async(lambda: addresses(source, SHOP), TIMEOUT, "first read")
            fake.say(FULL, b'{"applications":{"application":{"name":"SHOP","instance":[%s0]}}}' % (b"0," * 100_000))
            await wait_for_async(lambda: source.unplaced.get("SHOP"), TIMEOUT, "the refusal")
            assert "more than 20000 instances" in source.unplaced["SHOP"][0].reason
            await polls(fake, 2, FULL)
            assert (addresses(source, SHOP), source.generation) == (["10.0.0.1"], 1)


async def test_G3_an_answer_without_news_is_contact() -> None:
    async with fake_eureka() as fake:
        fake.hold(shop(1))
        async with watching(fake.address, full_every=1_000_000) as seen:
            await until(seen, SHOP, "10.0.0.1:8080")
            await wait_for_async(lambda: seen.contacts >= 3, TIMEOUT, "three contacts")
            assert seen.history == ["progress 1/1", "sync"] or seen.history == ["sync"]


async def test_EU2_what_a_delta_told_does_not_wait_for_the_full_read_behind_it() -> None:
    async with fake_eureka() as fake:
        fake.hold(shop(1))
        async with watching(fake.address, full_every=1) as seen:
            await until(seen, SHOP, "10.0.0.1:8080")
            fake.say(FULL, status=500)
            fake.version = 2
            fake.changed = [(shop(2), "ADDED")]
            fake.hold(shop(1), shop(2))
            await until(seen, SHOP, "10.0.0.1:8080", "10.0.0.2:8080")


async def test_EU2_a_delta_without_a_hash_promised_nothing_that_a_full_read_mends() -> None:
    async with fake_eureka() as fake:
        fake.says_hash = False
        fake.hold(shop(1))
        async with watching(fake.address) as seen:
            await until(seen, SHOP, "10.0.0.1:8080")
            fake.hold(shop(1), shop(2))
            await until(seen, SHOP, "10.0.0.1:8080", "10.0.0.2:8080")
            assert seen.mended_count == 0
