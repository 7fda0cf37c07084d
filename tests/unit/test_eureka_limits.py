"""adapters/eureka/wire.py and records.py: what is too long or too many costs itself and little else (T15)."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from isthmus.adapters.eureka import records
from isthmus.adapters.eureka.records import Member, read_in_pieces
from isthmus.adapters.eureka.wire import APPLICATION_LIMIT, INSTANCE_LIMIT, open_json
from isthmus.registry import codes
from isthmus.registry.errors import SourceUnavailable
from isthmus.registry.model import Endpoint, Refusal
from tests.unit.eureka_answers import RULES, answer, endpoint, instance, read


@pytest.mark.parametrize("number", ["1" + "0" * 400, "9" * 19])
@pytest.mark.parametrize("quote", ['"', ""])
def test_G8_a_number_beyond_64_bits_costs_its_instance(number: str, quote: str) -> None:
    def read_with(**fields: Any) -> Member:
        body = answer(instance(instanceId="bad", **fields), instance()).replace(
            b'"@@"', (quote + number + quote).encode()
        )
        (reading,) = read(body)
        bad, good = reading.members
        assert isinstance(good.placed[0][1], Endpoint)
        return bad

    for field in ("lastUpdatedTimestamp", "lastDirtyTimestamp"):
        bad = read_with(**{field: "@@"})
        assert bad.refused is not None
        assert (bad.refused.code, bad.status, bad.version[1]) == (codes.GARBLED, "UP", 0)
    for field in ("durationInSecs", "lastRenewalTimestamp"):
        lease = {"durationInSecs": 90, "lastRenewalTimestamp": 1_000_000, field: "@@"}
        assert read_with(leaseInfo=lease).lease_ends == 0.0


def test_T15_more_instances_than_an_application_may_have_are_not_read() -> None:
    most = answer(*([0] * INSTANCE_LIMIT))
    (reading,) = read(most)
    assert (reading.whole, len(reading.refused)) == (True, 101)
    assert reading.refused[-1] == Refusal(codes.TOO_MANY, f"{INSTANCE_LIMIT - 100} more are refused and not shown")
    for one in (b"0", b"{}", b'{"instanceId":"a"}'):
        (reading,) = read(answer("@@").replace(b'"@@"', b",".join([one] * (INSTANCE_LIMIT + 1))))
        assert (reading.name, reading.members, reading.whole) == ("SHOP", (), False)
        assert [one.code for one in reading.refused] == [codes.TOO_MANY]


def test_T15_more_applications_than_a_registry_may_have_are_not_read() -> None:
    for one in (b"0", b'{"name":"A"}'):
        body = answer(application="@@").replace(b'"@@"', b"[" + b",".join([one] * (APPLICATION_LIMIT + 1)) + b"]")
        with pytest.raises(SourceUnavailable, match="more than 100000 applications"):
            read(body)


def test_T15_a_large_list_costs_no_more_than_its_bytes() -> None:
    body = answer("@@").replace(b'"@@"', b"0," * 2_000_000 + b"0")
    tracemalloc.start()
    try:
        read(body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * len(body)


def test_a_large_application_is_read_in_pieces() -> None:
    document = open_json(answer(*({**instance(), "instanceId": f"shop:{number}"} for number in range(1_000))))
    assert document is not None
    *pieces, reading = read_in_pieces(document.applications[0], RULES)
    assert pieces == [None] * 5
    assert reading is not None
    assert len(reading.members) == 1_000


def test_a_long_text_is_no_address_and_is_not_remembered() -> None:
    before = records._is_address.cache_info().currsize
    assert endpoint(ipAddr="9" * 65, hostName="10.9.9.9").workload.address == "10.9.9.9"
    assert endpoint(ipAddr="8" * 65, hostName=None).workload.address == "8" * 65
    assert records._is_address.cache_info().currsize <= before + 1
