"""What an adapter remembers: what changed, what stays empty, and for how long."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from isthmus.adapters.kept import EMPTY_KEPT_SECONDS, Kept
from isthmus.registry import codes
from isthmus.registry.model import Refusal, Service
from tests.unit.builders import endpoint, service

NAMES = st.sampled_from(["a.x", "b.x", "c.x"])
READS = st.dictionaries(NAMES, st.integers(0, 2), max_size=3)


def read_of(sizes: dict[str, int]) -> dict[str, Service]:
    return {
        host: service(host, *(endpoint(f"10.0.0.{number}") for number in range(1, size + 1)))
        for host, size in sizes.items()
    }


@given(reads=st.lists(READS, max_size=8))
def test_a_take_returns_what_changed_and_nothing_else(reads: list[dict[str, int]]) -> None:
    kept: Kept[str] = Kept()
    told: dict[str, Service] = {}
    for now, sizes in enumerate(reads):
        for changed in kept.take("place", read_of(sizes), float(now)):
            assert told.get(changed.key) != changed
            told[changed.key] = changed
        assert {one.key: one for one in kept.everything()} == told
        for key, known in told.items():
            assert len(known.endpoints) == sizes.get(key, 0)


def test_a_service_whose_last_endpoint_left_is_kept_empty_for_an_hour() -> None:
    kept: Kept[str] = Kept()
    kept.take("place", read_of({"a.x": 1}), 0.0)
    (emptied,) = kept.take("place", {}, 10.0)

    assert emptied.endpoints == ()
    assert kept.drop_long_empty(10.0 + EMPTY_KEPT_SECONDS) == []
    assert kept.drop_long_empty(10.1 + EMPTY_KEPT_SECONDS) == [emptied.key]
    assert kept.everything() == []
    assert "place" in kept


def test_one_that_comes_back_is_counted_anew() -> None:
    kept: Kept[str] = Kept()
    kept.take("place", read_of({"a.x": 1}), 0.0)
    kept.take("place", {}, 10.0)
    kept.take("place", read_of({"a.x": 1}), 20.0)
    kept.take("place", {}, 30.0)

    assert kept.drop_long_empty(20.0 + EMPTY_KEPT_SECONDS) == []


def test_what_was_never_there_is_passed_by_unless_it_was_refused() -> None:
    kept: Kept[str] = Kept()
    nobody = service("a.x")
    refused = replace(service("b.x"), refused=(Refusal(codes.DISABLED, "disabled"),))

    assert kept.take("place", {nobody.key: nobody, refused.key: refused}, 0.0) == [refused]
    assert kept.drop_long_empty(2 * EMPTY_KEPT_SECONDS) == []


def test_forgetting_a_place_names_its_services() -> None:
    kept: Kept[str] = Kept()
    kept.take("place", read_of({"a.x": 1, "b.x": 0}), 0.0)
    kept.hold("other")

    assert sorted(kept.forget("place")) == [key for key, one in read_of({"a.x": 1}).items()]
    assert list(kept.places) == ["other"]
    assert kept.services("place") == {}


def test_a_place_is_forgotten_with_its_last_service_that_was_long_empty() -> None:
    kept: Kept[str] = Kept()
    kept.take("place", read_of({"a.x": 1}), 0.0)
    kept.take("place", {}, 10.0)
    kept.take("other", read_of({"b.x": 1}), 0.0)

    kept.forget_long_empty(10.0 + EMPTY_KEPT_SECONDS)
    assert set(kept.places) == {"place", "other"}
    kept.forget_long_empty(11.0 + EMPTY_KEPT_SECONDS)
    assert set(kept.places) == {"other"}
