"""Fractional weights of a registry to the whole numbers that Envoy takes (pure).

A weight of 1.0 becomes 100, which is also Dubbo's default, so that endpoints of one service from two sources are on one
scale. The factor is a power of ten and leaves 100 only where it has to, so a change of one weight rarely touches the
other numbers, and with them other endpoints on the wire (G7).
"""

from __future__ import annotations

from decimal import Decimal
from math import isfinite
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

# Envoy refuses a cluster whose weights add up to more than 32 bits; 5,000 endpoints of the greatest weight from each of
# eight sources stay below.
MAX_WEIGHT = 100_000
# What a weight of 1.0 becomes, and what an application's endpoint without a weight counts as beside one that has one.
USUAL_WEIGHT = 100
_MAX_SUM = 2**32 - 1
_USUAL_POWER = 2
_TOLERANCE = Decimal("0.01")


def scale_weights(weights: Sequence[float]) -> tuple[int, ...]:
    """Return a whole number of at least 1 for each weight, in the order and the ratios of the weights.

    Equal weights all become 0, the model's "not said". A number is within 1 % of what its weight stands for, unless
    the weight is less than 1/200 of the greatest one: then it may get more than its share, and never nothing.

    Raises ValueError: a weight is not finite, or not above 0; who has it takes no traffic and is the caller's to leave
    out.
    """
    for weight in weights:
        if not (isfinite(weight) and weight > 0):
            raise ValueError(f"weight {weight} is not a number above 0")
    distinct = {weight: Decimal(repr(weight)) for weight in set(weights)}
    if len(distinct) < 2:
        return (0,) * len(weights)
    power = _power(distinct.values(), min(MAX_WEIGHT, _MAX_SUM // len(weights)))
    scaled = {weight: _scaled(exact, power) for weight, exact in distinct.items()}
    return tuple(scaled[weight] for weight in weights)


def _power(weights: Collection[Decimal], limit: int) -> int:
    """Return the power of ten to multiply by: 2 unless that passes the limit, or tells some weights badly."""
    greatest = max(weights)
    most = len(str(limit)) - 1 - greatest.adjusted()
    if greatest.scaleb(most) > limit:
        most -= 1
    usual = min(_USUAL_POWER, most)
    return next((power for power in range(usual, most) if all(_is_told_well(one, power) for one in weights)), most)


def _is_told_well(weight: Decimal, power: int) -> bool:
    exact = weight.scaleb(power)
    return abs(_scaled(weight, power) - exact) <= exact * _TOLERANCE


def _scaled(weight: Decimal, power: int) -> int:
    return max(1, round(weight.scaleb(power)))
