"""registry/guard.py: within the settling time nothing is withdrawn, and after it nothing dead stays."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from isthmus.registry.catalog import Catalog
from isthmus.registry.guard import Guard
from isthmus.registry.model import Port, Service
from isthmus.registry.policy import Policy
from tests.unit.builders import endpoint, service

SETTLE = 60.0
SETS = st.frozensets(st.integers(1, 6))


def with_endpoints(numbers: frozenset[int]) -> Service:
    return service("a.b", *(endpoint(f"10.0.0.{number}") for number in sorted(numbers)))


def addresses(of: Service | None) -> set[str]:
    return {one.workload.address for one in of.endpoints} if of else set()


@given(SETS, st.one_of(st.none(), SETS), st.floats(0, 2 * SETTLE))
def test_G4_nothing_is_withdrawn_while_it_settles_and_everything_read_is_taken(
    known: frozenset[int], read: frozenset[int] | None, after: float
) -> None:
    guard = Guard(SETTLE)
    guard.reconnected(100.0)
    before, now = with_endpoints(known), None if read is None else with_endpoints(read)
    believed = guard.judge("a.b", before, now, 100.0 + after)

    if after < SETTLE:
        assert addresses(believed) == addresses(before) | addresses(now)
        assert guard.held == len(addresses(before) - addresses(now))
    else:
        assert believed == now
        assert guard.held == 0


def test_a_newer_word_on_an_endpoint_wins_and_other_ports_are_another_service() -> None:
    guard = Guard(SETTLE)
    guard.reconnected(0.0)
    known = service("a.b", endpoint("10.0.0.1", weight=1), endpoint("10.0.0.2"))
    believed = guard.judge("a.b", known, service("a.b", endpoint("10.0.0.1", weight=9)), 1.0)
    assert believed is not None
    assert [(one.workload.address, one.workload.weight) for one in believed.endpoints] == [
        ("10.0.0.1", 9),
        ("10.0.0.2", 0),
    ]
    moved = service("a.b", ports=(Port(9, "grpc", "GRPC"),))
    assert guard.judge("a.b", known, moved, 2.0) == moved


def settled(one: Catalog, now: float) -> dict[str, list[str]]:
    one.take_changes()
    assert now >= 0
    return {name: [each.address for each in entry.endpoints] for name, entry in one.entries.items()}


def test_G4_ZK5_a_registry_that_comes_back_empty_withdraws_nothing_until_a_second_read_says_so() -> None:
    one = Catalog()
    one.add_source(Policy("zk", settle=SETTLE), required=True, now=0.0)
    both = [service("a.b", endpoint("10.0.0.1")), service("c.d", endpoint("10.0.0.2"))]
    assert one.sync("zk", one.connect("zk", 0.0), both, 0.0) is None

    # Before any reconnect a deregistration is believed at once.
    one.put("zk", 1, service("c.d"), 5.0)
    assert settled(one, 5.0) == {"legacy/a.b": ["10.0.0.1"], "legacy/c.d": []}
    one.put("zk", 1, both[1], 6.0)

    generation = one.connect("zk", 10.0)
    assert one.sync("zk", generation, [], 12.0) == SETTLE - 2
    one.drop("zk", generation, "c.d", 13.0)
    one.put("zk", generation, service("a.b"), 14.0)
    one.put("zk", generation, service("e.f", endpoint("10.0.0.3")), 15.0)
    assert settled(one, 15.0) == {"legacy/a.b": ["10.0.0.1"], "legacy/c.d": ["10.0.0.2"], "legacy/e.f": ["10.0.0.3"]}
    assert one.sources[0].guard.held == 2

    # a.b was registered again meanwhile, c.d was not: the second read is believed.
    assert one.sync("zk", generation, [both[0]], 10.0 + SETTLE) is None
    assert settled(one, 80.0) == {"legacy/a.b": ["10.0.0.1"]}
    assert one.sources[0].guard.held == 0
