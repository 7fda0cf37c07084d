"""Rounds: at once after quiet, never closer than the gap, never without end; and how fast a stream is read."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from isthmus.mcp.pacing import _LONGEST_REST, _PATIENCE, _QUIET, _REST_SHARE, Allowance, Rounds

STEPS = st.lists(st.floats(0, 3), min_size=1, max_size=30)
GAPS = st.floats(0.01, 3)


@given(st.lists(st.tuples(st.floats(0, 3), st.booleans()), max_size=40), GAPS)
def test_rounds_keep_their_distance_and_wait_for_acknowledgements(steps: list[tuple[float, bool]], gap: float) -> None:
    rounds = Rounds(gap)
    now = 100.0
    assert rounds.opens_at(outstanding=False) <= now, "the first goes out at once"
    rounds.begin(now)
    begun, settled = now, None
    for step, acknowledges in steps:
        now += step
        opens_at = rounds.opens_at(outstanding=settled is None)
        if settled is None:
            patience_ends = begun + max(gap, _PATIENCE)
            assert opens_at == patience_ends, "what is outstanding is waited for, and not without end"
        else:
            rested = settled + min(_LONGEST_REST, max(_QUIET, _REST_SHARE * (settled - begun)))
            assert opens_at == max(begun + gap, rested), "who takes long to take a round gets a longer rest"
        if now >= opens_at:
            assert now >= begun + gap
            rounds.begin(now)
            begun, settled = now, None
        elif acknowledges and settled is None:
            rounds.settle(now)
            settled = now


@given(STEPS, GAPS)
def test_what_is_settled_is_settled_once(steps: list[float], gap: float) -> None:
    rounds = Rounds(gap)
    rounds.begin(100.0)
    rounds.settle(100.1)
    opens_at = rounds.opens_at(outstanding=False)
    for step in steps:
        # Acknowledgements of answers, that are of no round.
        rounds.settle(100.1 + step)
    assert rounds.opens_at(outstanding=False) == opens_at


def test_an_answer_that_is_outstanding_holds_no_round_up() -> None:
    rounds = Rounds(0.25)
    assert rounds.opens_at(outstanding=True) <= 0
    rounds.begin(100.0)
    rounds.settle(100.1)
    assert rounds.opens_at(outstanding=True) == rounds.opens_at(outstanding=False)


@given(STEPS)
def test_without_a_gap_there_is_no_rest(steps: list[float]) -> None:
    rounds = Rounds(0.0)
    now = 100.0
    for step in steps:
        now += step
        assert rounds.opens_at(outstanding=True) <= now
        rounds.begin(now)
        assert rounds.opens_at(outstanding=True) <= now
        rounds.settle(now)
        assert rounds.opens_at(outstanding=False) <= now


@given(STEPS, st.integers(1, 20), st.floats(1, 100))
def test_X51_no_more_is_read_than_the_allowance(steps: list[float], at_once: int, per_second: float) -> None:
    allowance = Allowance(at_once, per_second)
    now = 100.0
    taken: list[float] = []
    for step in steps:
        now += step / 100
        taken.append(now)
        now += allowance.take(now)
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            span = taken[last] - taken[first]
            assert last - first + 1 <= at_once + per_second * span + 1 + 1e-6


@given(st.lists(st.floats(0.011, 1), min_size=1, max_size=50))
def test_X51_who_stays_below_it_never_waits(steps: list[float]) -> None:
    allowance = Allowance(1, 100)
    now = 100.0
    for step in steps:
        now += step
        assert allowance.take(now) == 0
