"""adapters/losses.py: when so much goes at once that the registry may have lost it."""

from __future__ import annotations

import pytest

from isthmus.adapters.losses import Losses, looks_lost


@pytest.mark.parametrize(
    ("gone", "known", "lost"),
    [
        (0, 0, False),
        (1, 1, False),
        (1, 5, False),
        (2, 2, True),
        (2, 13, True),
        (2, 14, False),
        (3, 20, False),
        (4, 20, True),
    ],
)
def test_G4_several_and_more_than_15_percent_look_lost(gone: int, known: int, lost: bool) -> None:
    assert looks_lost(gone, known) is lost


def test_G4_what_comes_makes_up_for_what_goes_and_what_went_long_ago_does_not_count() -> None:
    losses = Losses(60.0)
    assert not losses.are_many(-2, 10, 0.0)
    assert not losses.are_many(3, 12, 10.0), "one more went than came"
    assert not losses.are_many(1, 9, 75.0), "the others are of another minute"
    assert losses.are_many(1, 8, 76.0)
    assert not losses.are_many(1, 7, 77.0), "each counts once"
    assert losses.are_many(1, 6, 78.0)


def test_G4_nothing_that_goes_is_no_loss() -> None:
    losses = Losses(60.0)
    assert not losses.are_many(2, 100, 0.0)
    assert not losses.are_many(0, 1, 1.0)
