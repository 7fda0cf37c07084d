"""What every bench measures of a process, and how figures are summed up."""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bench.subscriber import RawSubscriber, Received

_TICKS = os.sysconf("SC_CLK_TCK")


def rss_mib(pid: int) -> float:
    """Return the resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def summary(values: Iterable[float]) -> dict[str, float]:
    """Return median, 90 % and most, to two places."""
    ordered = sorted(values)
    return {
        "median": round(statistics.median(ordered), 2),
        "p90": round(ordered[int(len(ordered) * 0.9)], 2),
        "max": round(ordered[-1], 2),
    }


def say(text: str) -> None:
    """Tell who waits; stdout carries the figures only."""
    print(text, file=sys.stderr, flush=True)


class Timing(NamedTuple):
    """How long until the whole response to a change was there: from just before the write, and from its answer."""

    from_write_ms: float
    from_answer_ms: float


async def timed(
    write: Callable[[], object], one: RawSubscriber, wanted: Callable[[bytes], bool], timings: list[Timing]
) -> Received:
    """Write, wait for the response that is wanted, note how long that took; return the response."""
    began = time.monotonic()
    await asyncio.to_thread(write)
    answered = time.monotonic()
    received = await one.until(wanted)
    timings.append(Timing((received.at - began) * 1000, (received.at - answered) * 1000))
    return received


def timings_summary(timings: list[Timing]) -> dict[str, dict[str, float]]:
    """Return the summary of each of both times."""
    return {
        "from_write_ms": summary([one.from_write_ms for one in timings]),
        "from_answer_ms": summary([one.from_answer_ms for one in timings]),
    }
