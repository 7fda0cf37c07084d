"""adapters/consul/pacing.py, trust.py and backlog.py: when what is asked, and what an answer is worth."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.adapters.consul.backlog import Backlog
from isthmus.adapters.consul.pacing import (
    LONGEST_REST,
    SWEEP_REST,
    WIDEN_AFTER,
    Bucket,
    Sweeps,
    Width,
    longest_answer,
    rest_after,
    rest_after_work,
)
from isthmus.adapters.consul.trust import Trust, read_trust
from isthmus.registry.errors import SourceUnavailable


def test_CO5_an_answer_may_take_a_sixteenth_longer_than_was_asked_for_and_its_way() -> None:
    assert longest_answer(600.0) == 600.0 + 37.5 + 10.0


GOOD = {"X-Consul-Index": "7", "X-Consul-KnownLeader": "true", "X-Consul-LastContact": "0"}


@pytest.mark.parametrize("index", ["0", "-1", "-9999"])
def test_CO2_an_index_below_1_counts_as_1(index: str) -> None:
    assert read_trust({**GOOD, "X-Consul-Index": index}).index == 1


@pytest.mark.parametrize("index", ["", "soon", "1" * 5000, "²"])
def test_an_answer_without_an_index_is_not_consuls(index: str) -> None:
    with pytest.raises(SourceUnavailable, match="is there a Consul"):
        read_trust({"X-Consul-Index": index})


@pytest.mark.parametrize(
    ("headers", "trust", "fault"),
    [
        ({}, Trust(7), ""),
        ({"X-Consul-KnownLeader": "false"}, Trust(7, leader=False), "the cluster has no leader"),
        ({"X-Consul-KnownLeader": ""}, Trust(7, leader=False), "the cluster has no leader"),
        ({"X-Consul-LastContact": "2500"}, Trust(7, contact=2.5), ""),
        ({"X-Consul-LastContact": "10001"}, Trust(7, contact=10.001), "for 10.001 s; `maxStale` is 10 s"),
        ({"X-Consul-Results-Filtered-By-ACLs": "true"}, Trust(7, filtered=True), ""),
    ],
)
def test_CO7_CO8_what_the_headers_say(headers: dict[str, str], trust: Trust, fault: str) -> None:
    found = read_trust({**GOOD, **headers})
    assert found == trust
    assert found.age_fault(10.0).endswith(fault)
    assert found.is_complete(10.0) == (not fault and not trust.filtered)


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0.1, 5)), min_size=1, max_size=30), st.integers(1, 4))
def test_CO4_a_bucket_gives_a_burst_and_then_one_in_each_interval(steps: list[tuple[float, float]], burst: int) -> None:
    bucket, now, taken = Bucket(burst), 0.0, list[float]()
    for later, _ in steps:
        now += later
        wait = bucket.wait(now, 2.0)
        assert wait < 1e-6 or len(taken) >= burst
        now += wait
        taken.append(now)
    for first, last in zip(taken, taken[burst:], strict=False):
        # Between `burst + 1` tokens at least one had to come back.
        assert last - first >= 2.0 - 1e-6


def test_CO4_fewer_are_asked_for_at_once_when_the_server_has_had_enough_and_slowly_more() -> None:
    width = Width(16)
    width.widen(0.0)
    for _ in range(16):
        width.narrow(asked_at=1.0, now=1.5)
    assert width.now == 8, "they went out together"
    for at in (2.0, 3.0, 4.0, 5.0):
        width.narrow(at, at)
    assert width.now == 1
    width.widen(5.1)
    assert width.now == 1
    for step in range(1, 30):
        width.widen(5.0 + step * WIDEN_AFTER)
        assert width.now == min(16, 1 + step)


def test_CO4_what_is_large_or_slow_is_asked_for_less_often_and_every_15_seconds_all_the_same() -> None:
    rests = [rest_after(size) for size in (0, 2, 70_000, 4_000_000, 10**9)]
    assert rests == sorted(rests)
    assert (rests[2] < 0.1, rests[-1]) == (True, LONGEST_REST)
    assert (rest_after_work(0.05) < 1, rest_after_work(60.0)) == (True, LONGEST_REST)


def test_CO4_a_sweep_follows_a_wake_twice_at_once_and_then_not_too_often() -> None:
    sweeps = Sweeps(300.0)
    sweeps.ask(10.0, soon=False, lasts=2.0)
    assert sweeps.at == 10.0 + SWEEP_REST
    sweeps.ask(11.0, soon=True, lasts=2.0)
    assert sweeps.at == 11.0
    assert sweeps.begin(11.0, 300.0) is True
    assert sweeps.at == 311.0
    sweeps.ask(12.0, soon=True, lasts=2.0)
    assert sweeps.at == 12.0
    assert sweeps.begin(12.0, 300.0) is True
    sweeps.ask(13.0, soon=True, lasts=2.0)
    assert sweeps.at == 11.0 + SWEEP_REST
    sweeps.begin(26.0, 300.0)
    sweeps.ask(27.0, soon=True, lasts=50.0)
    assert sweeps.at == 12.0 + 100.0


def test_G6_what_no_wake_asks_for_is_a_reconcile() -> None:
    sweeps = Sweeps(300.0)
    sweeps.confirm(100.0)
    sweeps.confirm(200.0)
    assert sweeps.at == 100.0
    assert sweeps.begin(100.0, 300.0) is False


names = st.sampled_from("abcd")


@given(st.lists(st.tuples(st.sampled_from(("add", "sweep", "take", "done")), names)))
def test_G9_each_name_waits_once_and_is_read_after_its_last_change(steps: list[tuple[str, str]]) -> None:
    backlog, reading = Backlog(), dict[str, set[str]]()
    due: dict[str, set[str]] = {}
    order = list[set[str]]()
    for what, name in steps:
        if what == "add":
            backlog.add([name])
            due.setdefault(name, set()).add(what)
        elif what == "sweep":
            backlog.sweep([name])
            due.setdefault(name, set()).add(what)
        elif what == "take" and (taken := backlog.take()) is not None:
            ready = {one: why for one, why in due.items() if one not in reading}
            changed_first = "add" in ready[taken] or not any("add" in why for why in ready.values())
            assert changed_first or order[-3:] == [{"add"}] * 3
            reading[taken] = due.pop(taken)
            order.append(reading[taken])
        elif what == "done":
            backlog.done(name)
            reading.pop(name, None)
        waiting = [*due.values(), *reading.values()]
        assert bool(backlog) == bool(due.keys() - reading.keys())
        assert backlog.is_quiet == (not any("add" in why for why in waiting))
        assert backlog.is_swept == (not any("sweep" in why for why in waiting))


def test_G9_a_sweep_gets_on_whatever_changes_meanwhile() -> None:
    backlog = Backlog()
    backlog.sweep(["s1", "s2", "s3"])
    order = list[str]()
    for number in range(12):
        backlog.add([f"c{number}", f"d{number}"])
        name = backlog.take()
        assert name is not None
        backlog.done(name)
        order.append(name[0])
    assert "".join(order).replace("d", "c") == "cccscccscccs"
    assert backlog.is_swept
