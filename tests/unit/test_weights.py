"""adapters/weights.py: fractional weights become whole numbers that say the same."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.adapters.weights import MAX_WEIGHT, scale_weights
from isthmus.registry.policy import ENDPOINT_LIMIT

ENVOYS_SUM = 2**32 - 1
ANY = st.floats(min_value=0.0, exclude_min=True, allow_infinity=False, allow_nan=False)
# What Nacos lets a user say.
HUNDREDTHS = st.integers(1, 100_000).map(lambda hundredths: hundredths / 100)


@pytest.mark.parametrize(
    ("weights", "numbers"),
    [
        ([], ()),
        ([0.4, 1.0], (40, 100)),
        ([1.0, 3.0], (100, 300)),
        ([0.01, 1.0, 0.07], (1, 100, 7)),
        ([1.0, 0.005], (1000, 5)),
        ([10_000.0, 1.0], (100_000, 10)),
        ([5e-324, 1e-323], (5, 10)),
        ([5e-324, 1.7e308], (1, 17_000)),
    ],
)
def test_weights_keep_their_ratios(weights: list[float], numbers: tuple[int, ...]) -> None:
    assert scale_weights(weights) == numbers


@pytest.mark.parametrize("weight", [0.4, 1.0, 1e308, 5e-324])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_equal_weights_are_not_said(weight: float, count: int) -> None:
    assert scale_weights([weight] * count) == (0,) * count


@pytest.mark.parametrize("bad", [0.0, -0.0, -1.0, float("nan"), float("inf"), float("-inf")])
def test_what_takes_no_traffic_is_the_callers_to_leave_out(bad: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        scale_weights([1.0, bad])


@given(st.lists(ANY, min_size=2, max_size=30, unique=True))
def test_nobody_gets_nothing_and_the_order_is_kept(weights: list[float]) -> None:
    by_weight = sorted(zip(weights, scale_weights(weights), strict=True))

    assert all(1 <= number <= MAX_WEIGHT for _, number in by_weight)
    assert all(less[1] <= more[1] for less, more in pairwise(by_weight))


@given(ANY.filter(lambda greatest: greatest > 1e-300), st.lists(st.floats(1 / 200, 1), min_size=1, max_size=30))
def test_ratios_are_kept_to_two_percent_down_to_a_two_hundredth(greatest: float, shares: list[float]) -> None:
    weights = [greatest, *(greatest * share for share in shares)]
    numbers = scale_weights(weights)

    if any(numbers):
        for weight, number in zip(weights, numbers, strict=True):
            assert number / numbers[0] == pytest.approx(weight / greatest, rel=0.0203)
    else:
        assert len(set(weights)) == 1


@given(st.lists(HUNDREDTHS, min_size=2, max_size=30), st.data())
def test_a_change_of_one_weight_touches_no_other(weights: list[float], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(weights) - 1))
    changed = [*weights[:place], data.draw(HUNDREDTHS), *weights[place + 1 :]]

    for one in (weights, changed):
        if len(set(one)) > 1:
            assert scale_weights(one) == tuple(round(weight * 100) for weight in one)


@pytest.mark.parametrize("count", [2, ENDPOINT_LIMIT, 60_000])
def test_envoy_takes_the_sum(count: int) -> None:
    numbers = scale_weights([1e9] * (count - 1) + [1.0])

    assert min(numbers) >= 1
    # Other sources may know endpoints of the same service.
    assert sum(numbers) * (8 if count <= ENDPOINT_LIMIT else 1) <= ENVOYS_SUM
