"""registry/guard.py: within the settling time nothing is withdrawn, and after it nothing dead stays."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from isthmus.registry.catalog import Catalog
from isthmus.registry.guard import PATIENCE, Guard
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


def reads(*numbers: int) -> Service | None:
    return with_endpoints(frozenset(numbers)) if numbers else None


# Seconds until the next reconnect and the read after it, and whether that shows the live endpoint.
FAILURES = st.lists(st.tuples(st.integers(1, int(SETTLE)), st.booleans()), min_size=5, max_size=60)


@given(FAILURES)
def test_G4_however_often_contact_is_lost_the_dead_leave_and_the_living_stay(failures: list[tuple[int, bool]]) -> None:
    guard = Guard(SETTLE)
    guard.reconnected(0.0)
    believed, now, shown_at = guard.judge("a.b", reads(1, 2), reads(1), 0.0), 0.0, 0.0
    for later, shown in failures:
        now += later
        # A live one is in a read now and then, however little lasts.
        if shown or now + SETTLE - shown_at >= PATIENCE * SETTLE:
            shown_at = now
        guard.reconnected(now)
        believed = guard.judge("a.b", believed, reads(1) if shown_at == now else None, now)
        dead = set() if now >= PATIENCE * SETTLE else {"10.0.0.2"}
        assert addresses(believed) == {"10.0.0.1"} | dead
        assert guard.held == len(dead) + (shown_at < now)


@given(st.lists(st.integers(30, 59), min_size=12, max_size=20))
def test_G4_a_complete_read_is_asked_for_in_time_to_let_the_dead_go(failures: list[int]) -> None:
    one = Catalog()
    source = one.add_source(Policy("zk", settle=SETTLE), required=True, now=0.0)
    alive = service("c.d", endpoint("10.0.0.3"))
    one.sync("zk", one.connect("zk", 0.0), [service("a.b", endpoint("10.0.0.1")), alive], 0.0)
    now, again = 0.0, one.sync("zk", one.connect("zk", 0.0), [alive], 0.0)
    for later in failures:
        # An adapter does as it is told, unless contact is lost before.
        assert again is not None
        if again < later:
            now += again
            one.sync("zk", source.generation, [alive], now)
        else:
            now += later
        again = one.sync("zk", one.connect("zk", now), [alive], now)
        assert source.guard.held == (now < PATIENCE * SETTLE)
        assert source.services.keys() == ({"a.b", "c.d"} if source.guard.held else {"c.d"})


def test_G4_an_outage_does_not_count_as_time_to_come_back() -> None:
    guard = Guard(SETTLE)
    guard.reconnected(0.0)
    both = reads(1, 2)
    assert guard.judge("a.b", both, None, 0.0) == both
    # It was away for a day, and comes back empty as it went.
    guard.reconnected(86_400.0)
    assert guard.judge("a.b", both, None, 86_400.0) == both
    assert guard.read_again_in(86_400.0) == SETTLE


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
