"""What a Nacos says wrongly, late or not at all: the rules NA1 to NA6 where no real one can be brought to it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from isthmus.registry import codes
from tests.registries.nacos_fake import FakeNacos, fake_nacos, host, info
from tests.registries.nacos_watch import TIMEOUT, until, until_stale, watching
from tests.rig.wait import wait_for_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.registries.recorder import Recorder

A = "public/DEFAULT_GROUP/a"
B = "public/DEFAULT_GROUP/b"


@asynccontextmanager
async def watched(fake: FakeNacos, **options: object) -> AsyncIterator[Recorder]:
    async with watching(f"127.0.0.1:{fake.port}", grpc_port_offset=0, **options) as seen:
        yield seen


async def test_NA1_a_push_without_hosts_says_nothing() -> None:
    async with fake_nacos() as fake:
        fake.hold("a", "10.0.0.1")
        fake.hold("b", "10.0.0.2")
        async with watched(fake) as seen:
            await until(seen, A, "10.0.0.1:8080")
            fake.push(info("a", None, 2_000))
            fake.push(info("b", [host("10.0.0.3")], 2_000))
            await until(seen, B, "10.0.0.3:8080")
            assert seen.addresses(A) == ["10.0.0.1:8080"]


async def test_NA2_every_subscription_is_made_again_on_a_new_connection() -> None:
    async with fake_nacos() as fake:
        fake.hold("a", "10.0.0.1")
        fake.hold("b", "10.0.0.2")
        async with watched(fake) as seen:
            await until(seen, B, "10.0.0.2:8080")
            # What has gone from the list is still subscribed to: its providers come back to where they were.
            fake.listed.clear()
            fake.push(info("", None), kind="ConnectResetRequest")
            await wait_for_async(lambda: seen.syncs >= 2, TIMEOUT, "second read")
            assert seen.addresses(A) == ["10.0.0.1:8080"]
            assert fake.count("SubscribeServiceRequest", "a") >= 2
            assert fake.count("SubscribeServiceRequest", "b") >= 2
            assert "ConnectResetResponse" in fake.replies


async def test_NA3_a_push_that_is_lost_is_made_good_and_counted() -> None:
    async with fake_nacos() as fake:
        fake.hold("a", "10.0.0.1")
        async with watched(fake, reconcile=0.3) as seen:
            await until(seen, A, "10.0.0.1:8080")
            fake.hold("a", "10.0.0.2", made_at=2_000)
            await until(seen, A, "10.0.0.2:8080")
            await wait_for_async(lambda: seen.mended_count == 1, TIMEOUT, "one service mended")


async def test_NA4_what_was_made_before_what_is_known_is_dropped_and_the_service_read_again() -> None:
    async with fake_nacos() as fake:
        fake.hold("a", "10.0.0.1", made_at=5_000)
        async with watched(fake) as seen:
            await until(seen, A, "10.0.0.1:8080")
            seen.watch_fewest()
            fake.push(info("a", [], 4_000))
            await wait_for_async(lambda: fake.count("ServiceQueryRequest", "a"), TIMEOUT, "a read behind it")
            fake.push(info("a", [host("10.0.0.1"), host("10.0.0.2")], 6_000))
            await until(seen, A, "10.0.0.1:8080", "10.0.0.2:8080")
            assert seen.fewest[A] == 1


async def test_NA4_a_server_whose_clock_was_set_back_is_believed_after_a_second_look() -> None:
    async with fake_nacos() as fake:
        fake.hold("a", "10.0.0.1", made_at=5_000)
        async with watched(fake) as seen:
            await until(seen, A, "10.0.0.1:8080")
            fake.hold("a", "10.0.0.9", made_at=1_000)
            fake.push(fake.services["a"])
            await until(seen, A, "10.0.0.9:8080")


async def test_NA6_a_service_that_a_list_slips_is_not_withdrawn() -> None:
    async with fake_nacos() as fake:
        fake.hold("a", "10.0.0.1")
        fake.hold("b", "10.0.0.2")
        async with watched(fake) as seen:
            await until(seen, A, "10.0.0.1:8080")
            seen.watch_fewest()
            fake.listed.remove("a")
            await wait_for_async(lambda: fake.count("ServiceQueryRequest", "a"), TIMEOUT, "a read of it")
            assert fake.count("ServiceListRequest") >= 3
            fake.services["b"] = info("b", [], 2_000)
            fake.push(fake.services["b"])
            await until(seen, B)
            assert seen.addresses(A) == ["10.0.0.1:8080"]
            assert seen.fewest[A] == 1


async def test_NA6_a_service_that_is_listed_again_is_subscribed_to_again() -> None:
    async with fake_nacos() as fake:
        fake.hold("a", "10.0.0.1")
        async with watched(fake) as seen:
            await until(seen, A, "10.0.0.1:8080")
            fake.listed.clear()
            await wait_for_async(lambda: fake.count("ServiceQueryRequest", "a"), TIMEOUT, "it is missed")
            subscribed = fake.count("SubscribeServiceRequest", "a")
            fake.hold("a", "10.0.0.2", made_at=2_000)
            await until(seen, A, "10.0.0.2:8080")
            assert fake.count("SubscribeServiceRequest", "a") > subscribed


BAD_ANSWERS = {
    "truncated": b'{"resultCode": 200, "serviceInfo": {"hosts": [{"ip": "10.',
    "deep": b'{"serviceInfo": {"hosts": [' + b"[" * 100_000 + b"]" * 100_000 + b"]}}",
    "no JSON": b"<html>",
    "100 MB": b'{"pad": "' + b"x" * 100_000_000 + b'"}',
    "no content": b"{}",
    "no list": b'{"resultCode": 200}',
    "null hosts": b'{"resultCode": 200, "serviceInfo": {"name": "a", "groupName": "DEFAULT_GROUP", "hosts": null}}',
    "server error": b'{"resultCode": 500, "errorCode": 500, "message": "java.lang.NullPointerException"}',
    "refused as such": b'{"resultCode": 500, "errorCode": 400, "message": "Param \'serviceName\' is illegal"}',
    "denied": b'{"resultCode": 500, "errorCode": 403, "message": "authorization failed!"}',
}


@pytest.mark.parametrize("answer", BAD_ANSWERS)
async def test_a_bad_answer_costs_its_own_service_only_and_shows(answer: str) -> None:
    async with fake_nacos() as fake:
        fake.hold("a", "10.0.0.1")
        fake.hold("b", "10.0.0.2")
        fake.bodies["SubscribeServiceRequest", "a"] = BAD_ANSWERS[answer]
        async with watched(fake, reconcile=0.3) as seen:
            await until(seen, B, "10.0.0.2:8080")
            (refusal,) = seen.refused["public/DEFAULT_GROUP/a"]
            assert refusal.code == (codes.DENIED if answer == "denied" else codes.GARBLED)
            assert len(refusal.reason) < 500
            del fake.bodies["SubscribeServiceRequest", "a"]
            await until(seen, A, "10.0.0.1:8080")
            await wait_for_async(lambda: not seen.refused["public/DEFAULT_GROUP/a"], TIMEOUT, "nothing refused")


@pytest.mark.parametrize("answer", BAD_ANSWERS)
async def test_a_bad_list_is_a_failure_of_the_source_and_withdraws_nothing(answer: str) -> None:
    async with fake_nacos() as fake:
        fake.hold("a", "10.0.0.1")
        async with watched(fake) as seen:
            await until(seen, A, "10.0.0.1:8080")
            seen.watch_fewest()
            fake.bodies["ServiceListRequest", ""] = BAD_ANSWERS[answer]
            await until_stale(seen, "")
            assert seen.addresses(A) == ["10.0.0.1:8080"]
            del fake.bodies["ServiceListRequest", ""]
            syncs = seen.syncs
            await wait_for_async(lambda: seen.syncs > syncs, TIMEOUT, "read again")
            assert seen.fewest[A] == 1


async def test_a_push_that_cannot_be_read_is_passed_by() -> None:
    async with fake_nacos() as fake:
        fake.hold("a", "10.0.0.1")
        async with watched(fake) as seen:
            await until(seen, A, "10.0.0.1:8080")
            fake.push({"name": 5, "hosts": {}})
            fake.push(info("a", [host("10.0.0.2")], 2_000))
            await until(seen, A, "10.0.0.2:8080")
            assert seen.generation == 1


async def test_G1_where_no_service_can_be_read_the_source_is_not_taken_for_empty() -> None:
    async with fake_nacos() as fake:
        for name in ("a", "b"):
            fake.hold(name, "10.0.0.1")
            fake.bodies["SubscribeServiceRequest", name] = BAD_ANSWERS["server error"]
            fake.bodies["ServiceQueryRequest", name] = BAD_ANSWERS["server error"]
        async with watched(fake) as seen:
            await until_stale(seen, "none of 2 services can be read", "NullPointerException")
            assert seen.syncs == 0
            fake.bodies.clear()
            await until(seen, A, "10.0.0.1:8080")


async def test_G1_what_can_be_read_at_the_second_try_is_in_the_first_report() -> None:
    async with fake_nacos() as fake:
        fake.hold("a", "10.0.0.1")
        fake.hold("b", "10.0.0.2")
        fake.bodies["SubscribeServiceRequest", "a"] = BAD_ANSWERS["server error"]
        async with watched(fake, reconcile=3600.0) as seen:
            await wait_for_async(lambda: fake.count("SubscribeServiceRequest", "a"), TIMEOUT, "the first try")
            fake.bodies.clear()
            await until(seen, A, "10.0.0.1:8080")
            assert seen.history.index(f"put {A}") < seen.history.index("sync")


async def test_a_service_that_may_not_be_read_and_leaves_the_list_disturbs_no_other() -> None:
    async with fake_nacos() as fake:
        fake.hold("a", "10.0.0.1")
        fake.hold("b", "10.0.0.2")
        for kind in ("SubscribeServiceRequest", "ServiceQueryRequest"):
            fake.bodies[kind, "a"] = BAD_ANSWERS["refused as such"]
        async with watched(fake) as seen:
            await until(seen, B, "10.0.0.2:8080")
            assert seen.refused["public/DEFAULT_GROUP/a"]
            fake.listed.remove("a")
            await wait_for_async(lambda: not seen.refused["public/DEFAULT_GROUP/a"], TIMEOUT, "it to be forgotten")
            fake.push(info("b", [host("10.0.0.3")], 2_000))
            await until(seen, B, "10.0.0.3:8080")
            assert seen.generation == 1


async def test_a_service_too_large_to_be_pushed_is_unsubscribed_at_once() -> None:
    async with fake_nacos() as fake:
        fake.hold("a", "10.0.0.1")
        fake.hold("b", "10.0.0.2")
        fake.bodies["SubscribeServiceRequest", "a"] = BAD_ANSWERS["100 MB"]
        fake.bodies["ServiceQueryRequest", "a"] = BAD_ANSWERS["100 MB"]
        async with watched(fake) as seen:
            await until(seen, B, "10.0.0.2:8080")
            assert fake.count("Unsubscribe", "a") >= 1
            assert fake.count("SubscribeServiceRequest", "a") == 1, "it is asked whether it can be read first"


async def test_names_on_several_pages_are_all_read() -> None:
    async with fake_nacos() as fake:
        fake.page = 2
        for number in range(5):
            fake.hold(f"s{number}", f"10.0.0.{number + 1}")
        async with watched(fake) as seen:
            await wait_for_async(lambda: seen.syncs, TIMEOUT, "first read")
            assert len(seen.services) == 5


async def test_questions_carry_the_signature_of_the_keys() -> None:
    async with fake_nacos() as fake:
        fake.hold("a", "10.0.0.1")
        async with watched(fake, access_key="ak", secret_key="sk") as seen:
            await until(seen, A, "10.0.0.1:8080")
            signed = [headers for headers in fake.headers if headers]
            assert {headers["ak"] for headers in signed} == {"ak"}
            assert any(headers["data"].endswith("@@DEFAULT_GROUP@@a") for headers in signed)
            assert all(headers["signature"] for headers in signed)


async def test_G9_of_many_pushes_of_a_service_the_latest_counts() -> None:
    async with fake_nacos() as fake:
        fake.hold("a", "10.0.0.1")
        async with watched(fake) as seen:
            await until(seen, A, "10.0.0.1:8080")
            for number in range(2, 92):
                fake.push(info("a", [host(f"10.0.0.{number}")], 1_000 + number))
            await until(seen, A, "10.0.0.91:8080")
            assert seen.mended_count == 0
