"""adapters/consul/health.py: the status of an instance, and when few healthy ones are not believed (CO10)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.adapters.consul.health import Tally, status_of
from tests.unit.consul_answers import check


@pytest.mark.parametrize(
    ("statuses", "worst"),
    [
        ((), "passing"),
        (("passing",), "passing"),
        (("passing", "warning"), "warning"),
        (("critical", "warning"), "critical"),
        (("passing", "unheard-of"), "critical"),
    ],
)
def test_a_status_is_the_worst_of_all_checks(statuses: tuple[str, ...], worst: str) -> None:
    assert status_of([check("n1", f"c{number}", one) for number, one in enumerate(statuses)], "web-1") == worst


@pytest.mark.parametrize(
    ("check_id", "status", "found"),
    [
        ("_node_maintenance", "critical", "maintenance"),
        ("_service_maintenance:web-1", "critical", "maintenance"),
        ("_service_maintenance:web-2", "critical", "critical"),
        ("_node_maintenance", "passing", "passing"),
    ],
)
def test_maintenance(check_id: str, status: str, found: str) -> None:
    assert status_of([check("n1", check_id, status), check("n1", "c", "passing")], "web-1") == found
    if found == "maintenance":
        assert status_of([check("n1", check_id, status), check("n1")], "web-1") == found


@pytest.mark.parametrize(
    ("counted", "healthy", "threshold", "panics"),
    [
        (10, 3, 0.3, False),
        (10, 2, 0.3, True),
        (2, 0, 0.3, True),
        (1, 0, 0.3, False),
        (0, 0, 0.3, False),
        (9, 0, 0, False),
    ],
)
def test_CO10_below_the_threshold_health_is_not_believed(
    counted: int, healthy: int, threshold: float, panics: bool
) -> None:
    assert Tally(counted, healthy).panics(threshold) is panics


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
def test_tallies_add_up(counted: int, healthy: int, more: int, healthy_more: int) -> None:
    one, other = Tally(counted, healthy), Tally(more, healthy_more)
    assert one.plus(other).minus(other) == one
