"""adapters/eureka/view.py and client.py: what is forgotten, and what of an answer is no clock."""

from __future__ import annotations

import pytest

from isthmus.adapters.eureka.client import _clock
from isthmus.adapters.eureka.records import EurekaRules, Member, Reading
from isthmus.adapters.eureka.view import View
from isthmus.adapters.kept import EMPTY_KEPT_SECONDS
from isthmus.adapters.web import Answer
from isthmus.registry.model import Endpoint, WorkloadEntry
from tests.registries.recorder import Recorder


def reading(*names: str) -> list[Reading]:
    endpoint = Endpoint(WorkloadEntry("10.0.0.1", (("http", 80),)))
    return [Reading(name.upper(), (Member(name, "UP", (1, 0), placed=((name, endpoint),)),)) for name in names]


def report_all(view: View, sink: Recorder, now: float) -> None:
    for _ in view.build(now):
        pass
    view.report_all(sink, sink.generation, now)


def test_a_service_that_was_empty_for_long_leaves_nothing_behind() -> None:
    view, sink = View(EurekaRules()), Recorder()
    for moment, names in enumerate((("a", "b"), ("b",))):
        view.replace(reading(*names), float(moment))
        report_all(view, sink, float(moment))
    assert sink.services.keys() == {"app:a", "app:b"}

    view.replace(reading("b"), 2.0 + EMPTY_KEPT_SECONDS)
    report_all(view, sink, 2.0 + EMPTY_KEPT_SECONDS)
    assert sink.services.keys() == {"app:b"}
    assert list(view._kept.places) == ["b"]

    view.replace(reading("a", "b"), 3.0 + EMPTY_KEPT_SECONDS)
    report_all(view, sink, 3.0 + EMPTY_KEPT_SECONDS)
    assert sink.addresses("app:a") == ["10.0.0.1:80"]


@pytest.mark.parametrize(
    "date",
    [
        "",
        "soon",
        "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
        "Mon, 01 Jan 2024 00:00:00 +9999999999999999",
        "Mon, 99 Jan 2024 00:00:00 GMT",
    ],
)
def test_an_absurd_date_is_none(date: str) -> None:
    assert _clock(Answer(b"", {"Date": date})) is None


def test_the_clock_of_an_answer() -> None:
    assert _clock(Answer(b"", {"Date": "Thu, 01 Jan 1970 00:01:00 GMT"})) == 60.0
