"""adapters/eureka/state.py: deltas come late, twice and out of order, and end in what the server has (EU2, EU3)."""

from __future__ import annotations

from collections import Counter, deque
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from isthmus.adapters.eureka.records import EurekaRules, Member, Reading, read_application
from isthmus.adapters.eureka.state import GONE_KEPT_SECONDS, TOLD_KEPT_SECONDS, Registry
from isthmus.adapters.eureka.wire import open_json
from isthmus.adapters.losses import Losses
from isthmus.registry import codes
from isthmus.registry.model import Endpoint, Refusal, WorkloadEntry

GOLDEN = Path(__file__).parent.parent / "golden" / "eureka"
STATUSES = ("UP", "DOWN", "STARTING", "OUT_OF_SERVICE", "UNKNOWN")
WINDOW_MS = 180_000
# (what happens, to which instance, after how many milliseconds)
Happening = tuple[str, str, int]

happenings = st.lists(
    st.tuples(
        st.sampled_from((*STATUSES, "leaves", "cached")), st.sampled_from(("a", "b", "c", "d")), st.integers(0, 100_000)
    ),
    max_size=30,
)


def member(key: str, status: str, updated: int, deleted: bool = False) -> Member:
    endpoint = Endpoint(WorkloadEntry(f"10.0.0.{ord(key)}", (("http", updated % 60_000 + 1),)), status)
    return Member(key, status, (updated, 0), deleted, (("shop", endpoint),))


class Server(Struct):
    """What a Eureka server does: the truth, the changes of three minutes, and the answers that it made of them."""

    instances: dict[str, Member] = {}
    changed: dict[str, Member] = {}
    deltas: list[tuple[Reading, str]] = []
    now: int = 1_000_000

    def happen(self, what: str, key: str, later: int) -> None:
        self.now += later + 1
        if what == "cached":
            self.deltas.append(self.delta())
            return
        if what == "leaves":
            if key not in self.instances:
                return
            self.changed[key] = member(key, self.instances.pop(key).status, self.now, deleted=True)
        else:
            self.changed[key] = self.instances[key] = member(key, what, self.now)

    def delta(self) -> tuple[Reading, str]:
        recent = tuple(one for one in self.changed.values() if one.version[0] > self.now - WINDOW_MS)
        return Reading("SHOP", recent), self.hashcode()

    def full(self) -> Reading:
        return Reading("SHOP", tuple(self.instances.values()))

    def hashcode(self) -> str:
        counts = Counter(one.status for one in self.instances.values())
        return "".join(f"{status}_{counts[status]}_" for status in sorted(counts))


def known(registry: Registry) -> dict[str, Member]:
    return dict(registry.instances("SHOP"))


@given(happenings, st.lists(st.tuples(st.integers(0, 1_000), st.integers(1, 3)), max_size=10))
def test_EU3_deltas_of_one_window_in_any_order_any_number_of_times_give_the_full_registry(
    story: list[Happening], repeated: list[tuple[int, int]]
) -> None:
    server, registry = Server(), Registry()
    for what, key, _ in story:
        # All within one window: the last delta tells everything.
        server.happen(what, key, 0)
    server.deltas.append(server.delta())
    for index, times in repeated:
        reading, _ = server.deltas[index % len(server.deltas)]
        for _ in range(times):
            registry.apply([reading], 0.0)
    reading, hashcode = server.deltas[-1]
    registry.apply([reading], 0.0)
    assert known(registry) == server.instances
    assert registry.hashcode == hashcode == server.hashcode()
    for old, _ in server.deltas:
        assert registry.apply([old], 0.0) == []
    assert known(registry) == server.instances


@given(happenings, st.data())
def test_EU2_a_hash_that_differs_or_a_gap_and_then_a_full_read_give_the_full_registry(
    story: list[Happening], data: st.DataObject
) -> None:
    server, registry = Server(), Registry()
    read_at = server.now
    for what, key, later in story:
        server.happen(what, key, later)
        if data.draw(st.booleans()):
            continue
        reading, hashcode = server.delta()
        registry.apply([reading], server.now / 1000)
        if server.now - read_at > 150_000:
            registry.forget_told()
        if server.now - read_at > 150_000 or registry.hashcode != hashcode:
            registry.replace([server.full()], server.now / 1000)
        read_at = server.now
        assert known(registry) == server.instances


@given(happenings)
def test_EU2_the_hash_counts_all_instances_by_status(story: list[Happening]) -> None:
    server, registry = Server(), Registry()
    for what, key, later in story:
        server.happen(what, key, later)
        registry.replace([server.full()], 0.0)
        assert registry.hashcode == server.hashcode()
        assert len(registry) == len(server.instances)


@given(happenings)
def test_the_changes_tell_what_is_other_than_before(story: list[Happening]) -> None:
    server, registry = Server(), Registry()
    told: dict[str, Member] = {}
    for what, key, later in story:
        server.happen(what, key, later)
        changes = (
            registry.replace([server.full()], 0.0) if what == "cached" else registry.apply([server.delta()[0]], 0.0)
        )
        for change in changes:
            assert told.get(change.key) == change.before
            if change.after is None:
                del told[change.key]
            else:
                told[change.key] = change.after
        assert told == known(registry)


def test_EU3_what_a_full_read_lacks_does_not_come_back_by_an_older_delta() -> None:
    registry = Registry()
    old = Reading("SHOP", (member("a", "UP", 1),))
    registry.replace([old], 0.0)
    registry.replace([], 1.0)
    assert registry.apply([old], 2.0) == []
    assert len(registry) == 0
    registry.apply([Reading("SHOP", (member("a", "UP", 2),))], 2.0)
    assert registry.hashcode == "UP_1_"


def test_EU3_what_a_delta_told_outweighs_an_older_full_read_for_a_while() -> None:
    registry = Registry()
    full = Reading("SHOP", (member("a", "UP", 1), member("b", "UP", 1)))
    registry.replace([full], 0.0)
    told = [member("a", "DOWN", 2), member("b", "UP", 2, deleted=True), member("c", "UP", 2)]
    registry.apply([Reading("SHOP", tuple(told))], 1.0)

    assert registry.replace([full], 2.0) == []
    assert registry.hashcode == "DOWN_1_UP_1_"
    # Had it been really so, the next deltas would have said it.
    registry.replace([full], 2.0 + TOLD_KEPT_SECONDS)
    assert {key: one.version[0] for key, one in known(registry).items()} == {"a": 1}
    registry.replace([full], 2.0 + GONE_KEPT_SECONDS)
    assert known(registry).keys() == {"a", "b"}


def test_EU5_another_server_is_taken_at_its_word() -> None:
    registry = Registry()
    full = Reading("SHOP", (member("a", "UP", 1), member("b", "UP", 1)))
    registry.replace([full], 0.0)
    registry.apply([Reading("SHOP", (member("a", "DOWN", 2), member("b", "UP", 2, deleted=True)))], 1.0)
    registry.forget_told()
    registry.replace([full], 2.0)
    assert registry.hashcode == "UP_2_"


def test_an_application_that_was_not_read_whole_stays_and_is_not_lost() -> None:
    registry = Registry()
    registry.replace([Reading("SHOP", (member("a", "UP", 1),)), Reading("PAY", (member("a", "UP", 1),))], 0.0)
    refused = (Refusal(codes.TOO_MANY, "too many"),)
    partial = [Reading("SHOP", (), refused, whole=False)]
    assert registry.lost(partial) == 1
    assert [change.application for change in registry.replace(partial, 1.0)] == ["PAY"]
    assert (registry.hashcode, registry.refused("SHOP")) == ("UP_1_", refused)


def test_EU3_a_deletion_of_the_same_time_is_the_later_state() -> None:
    here, left = Reading("SHOP", (member("a", "UP", 1),)), Reading("SHOP", (member("a", "UP", 1, deleted=True),))
    for story in ([here, left], [left, here], [here, left, here]):
        registry = Registry()
        for one in story:
            registry.apply([one], 0.0)
        assert len(registry) == 0


def test_what_is_gone_is_not_remembered_for_ever() -> None:
    registry = Registry()
    old = Reading("SHOP", (member("a", "UP", 1),))
    registry.replace([old], 0.0)
    registry.replace([], 1.0)
    assert registry.apply([old], 1.0 + GONE_KEPT_SECONDS) == []
    assert len(registry.apply([old], 2.0 + GONE_KEPT_SECONDS)) == 1


def test_what_is_gone_is_not_remembered_for_ever_without_deltas_either() -> None:
    registry = Registry()
    for number in range(100):
        registry.replace([Reading("SHOP", (member(chr(97 + number), "UP", 1),))], 30.0 * number)
    assert len(registry._gone) <= GONE_KEPT_SECONDS / 30.0 + 1


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 100)), max_size=30), st.integers(2, 60))
def test_EU6_what_is_evicted_is_held_before_more_than_15_percent_is_gone(
    rounds: list[tuple[int, int]], serving: int
) -> None:
    evictions, now, believed = Losses(180.0), 0.0, deque[tuple[float, int]]()
    for count, later in rounds:
        now += later
        count = min(count, serving)
        many = evictions.are_many(count, serving, now)
        believed = deque((at, one) for at, one in believed if now - at <= 180)
        earlier = sum(one for _, one in believed)
        if many:
            assert count
            assert earlier + count > 1
            believed.clear()
        else:
            assert earlier + count <= max(1.0, 0.15 * (serving + earlier)) or not count
            believed.append((now, count))
        serving -= count


def test_the_hash_of_a_real_server() -> None:
    registry = Registry()

    def take(name: str) -> tuple[str | None, list[Reading]]:
        document = open_json((GOLDEN / f"{name}.json").read_bytes())
        assert document is not None
        return document.hashcode, [read_application(one, EurekaRules()) for one in document.applications]

    hashcode, readings = take("1-two-spring-cloud-services.apps")
    registry.replace(readings, 0.0)
    assert registry.hashcode == hashcode == "STARTING_1_UP_2_"
    for name, expected in (
        ("2-greeting-out-of-service.apps-delta", "OUT_OF_SERVICE_1_STARTING_1_UP_1_"),
        ("3-order-service-stopped.apps-delta", "UP_2_"),
    ):
        hashcode, readings = take(name)
        registry.apply(readings, 0.0)
        assert registry.hashcode == hashcode == expected


def test_an_empty_registry_has_an_empty_hash() -> None:
    assert Registry().hashcode == ""
