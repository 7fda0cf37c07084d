"""Who of a service's instances is healthy, and when that is not to be believed (CO10; pure).

Where few are healthy, the fault is more likely with the checks than with the instances: an agent that is away turns all
of its node's critical at once. Below a threshold all are kept, as Envoy would do. Two kinds count on neither side and
are never kept so: an instance in maintenance, which somebody meant, and one that has not been healthy since it came,
else a service that grows quickly would send its callers to instances that are still starting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct

from isthmus.adapters.consul.wire import CRITICAL, PASSING, WARNING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from isthmus.adapters.consul.wire import Check

MAINTENANCE: Final = "maintenance"
# What each policy of the options takes.
HEALTHY: Final = {
    "passing": frozenset({PASSING}),
    "warning": frozenset({PASSING, WARNING}),
    "any": frozenset({PASSING, WARNING, CRITICAL, MAINTENANCE}),
}
_SEVERITY: Final = (PASSING, WARNING, CRITICAL, MAINTENANCE)
_NODE_MAINTENANCE = "_node_maintenance"
_SERVICE_MAINTENANCE = "_service_maintenance:"


class Tally(Struct, frozen=True):
    """How many instances count, and how many of them are healthy."""

    counted: int = 0
    healthy: int = 0

    def plus(self, other: Tally) -> Tally:
        return Tally(self.counted + other.counted, self.healthy + other.healthy)

    def minus(self, other: Tally) -> Tally:
        return Tally(self.counted - other.counted, self.healthy - other.healthy)

    def panics(self, threshold: float) -> bool:
        """Tell whether, of several, so few are healthy that all are kept."""
        return self.counted > 1 and self.healthy < self.counted * threshold


def status_of(checks: Iterable[Check], service_id: str) -> str:
    """Return the worst status of an instance's own checks and its node's; without any it is passing.

    What Consul does not know as a status counts as critical.
    """
    return max((_status(check, service_id) for check in checks), key=_SEVERITY.index, default=PASSING)


def _status(check: Check, service_id: str) -> str:
    if check.status == CRITICAL and check.check_id in (_NODE_MAINTENANCE, f"{_SERVICE_MAINTENANCE}{service_id}"):
        return MAINTENANCE
    return check.status if check.status in (PASSING, WARNING) else CRITICAL
