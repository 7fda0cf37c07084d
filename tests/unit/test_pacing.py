"""Bursts: at once after quiet, common to all streams, never closer than the gap; and how fast a stream is read."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.mcp.limits import Limits
from isthmus.mcp.pacing import Allowance, Pacer
from isthmus.mcp.server import Hub
from isthmus.mcp.shards import Shard
from isthmus.mcp.sotw import SotwSession
from isthmus.registry.errors import ProtocolError
from tests.rig.wait import wait_for_async

if TYPE_CHECKING:
    from isthmus.mcp.server import Stream

STEPS = st.lists(st.floats(0, 3), min_size=1, max_size=30)
WITHIN_S = 120.0


@given(STEPS, st.floats(0.01, 2))
def test_bursts_keep_their_distance(steps: list[float], gap: float) -> None:
    pacer = Pacer(gap)
    now = 100.0
    assert pacer.opens_at() <= now, "the first goes out at once"
    last = None
    for step in steps:
        now = max(now + step, pacer.opens_at())
        if last is not None:
            assert now >= last + gap
        pacer.burst(now)
        last = now


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


def open_streams(hub: Hub, count: int) -> list[Stream]:
    return [hub.add("test", SotwSession(hub.shard.lookup, hub.limits), delta=False) for _ in range(count)]


async def test_bursts_are_common_to_all_streams_and_keep_their_distance() -> None:
    gap, changes, at_once = 0.05, 10, 3
    hub = Hub(Shard(), gap)
    streams = open_streams(hub, 3)
    bursts: list[list[float]] = [[] for _ in streams]

    async def listen(stream: Stream, times: list[float]) -> None:
        while True:
            await stream.wake.wait()
            stream.wake.clear()
            assert stream.burst
            stream.burst = False
            # When it was said, not when this task had its turn.
            times.append(hub._pacer.opens_at() - gap)

    async with asyncio.TaskGroup() as tasks:
        listeners = [tasks.create_task(listen(*pair)) for pair in zip(streams, bursts, strict=True)]
        for _ in range(changes):
            # However slow the machine is, of several in one turn of the loop the last ones come before they may go out.
            for _ in range(at_once):
                hub.changed()
            # Five times as fast as bursts may follow each other.
            await asyncio.sleep(gap / 5)
        await wait_for_async(lambda: hub._timer is None, WITHIN_S, "the last burst")
        for listener in listeners:
            listener.cancel()
    hub.close()
    assert bursts[0] == bursts[1] == bursts[2]
    assert 2 <= len(bursts[0]) < changes * at_once
    # asyncio may call back early by the resolution of its clock, and a clock that has run for months has a coarse sum.
    tolerance = time.get_clock_info("monotonic").resolution + 1e-6
    for earlier, later in zip(bursts[0], bursts[0][1:], strict=False):
        assert later - earlier >= gap - tolerance


async def test_a_change_after_quiet_goes_out_at_once_and_the_next_after_the_gap() -> None:
    hub = Hub(Shard(), gap=3600.0)
    (stream,) = open_streams(hub, 1)
    hub.changed()
    assert stream.burst
    stream.burst = False
    hub.changed()
    hub.changed()
    assert not stream.burst
    (opened_later,) = open_streams(hub, 1)
    assert not opened_later.burst
    hub.close()


async def test_what_changes_after_the_end_wakes_nobody() -> None:
    hub = Hub(Shard(), gap=0.01)
    hub.changed()
    (stream,) = open_streams(hub, 1)
    # Where the machine stands still for the gap, the change is a burst and not one that waits.
    for _ in range(100):
        if hub._timer is None:
            hub.changed()
    assert hub._timer is not None
    stream.burst = False
    hub.close()
    # A timer of the same length, set later: were the burst still to come, it would come before this.
    await asyncio.sleep(0.02)
    assert not stream.burst


async def test_G2_to_open_the_shard_is_a_burst() -> None:
    hub = Hub(Shard())
    (stream,) = open_streams(hub, 1)
    hub.open()
    assert stream.burst
    assert not hub.shard.held


async def test_X53_streams_are_counted() -> None:
    hub = Hub(Shard(), limits=Limits(streams=2))
    first, _ = open_streams(hub, 2)
    with pytest.raises(ProtocolError) as raised:
        open_streams(hub, 1)
    assert raised.value.status == "RESOURCE_EXHAUSTED"
    hub.remove(first)
    (third,) = open_streams(hub, 1)
    assert third.number == 3
