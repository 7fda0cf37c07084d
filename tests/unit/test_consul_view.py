"""adapters/consul/view.py: what reads add up to, who is kept, and what is not believed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from isthmus.adapters.consul.records import PassedBy, Reading
from isthmus.adapters.consul.view import Doubt, View
from isthmus.adapters.consul.wire import Checked
from isthmus.adapters.kept import EMPTY_KEPT_SECONDS, Kept
from isthmus.registry import codes
from isthmus.registry.model import Refusal
from tests.registries.recorder import Recorder
from tests.unit.consul_answers import RULES, check, reading

if TYPE_CHECKING:
    from collections.abc import Mapping

    from isthmus.adapters.consul.wire import Key
    from isthmus.registry.model import Service


def synced(**readings: Reading) -> tuple[View, Recorder]:
    """Return a view that was told these, and a sink that it was reported to."""
    view, sink = View(RULES), Recorder()
    for name, one in readings.items():
        view.take(name, one)
    report_all(view, sink)
    return view, sink


def report_all(view: View, sink: Recorder, now: float = 0.0) -> None:
    for _ in view.build(now):
        pass
    view.report_all(sink, sink.generation, now)


def report(view: View, sink: Recorder, now: float = 0.0) -> None:
    for _ in view.build(now):
        pass
    view.report(sink, sink.generation)


def test_only_what_changed_is_reported() -> None:
    view, sink = synced(web=reading(("a", "1")), db=reading(("b", "1")))
    assert sink.history == ["sync"]
    view.take("web", reading(("a", "1")))
    report(view, sink)
    view.take("web", reading(("a", "1"), ("c", "1")))
    report(view, sink)
    assert (sink.history, sink.contacts) == (["sync", "put app:web"], 1)
    assert sink.addresses("app:web") == ["10.0.0.97:80", "10.0.0.99:80"]


@pytest.mark.parametrize("doubt", [Doubt.HIDDEN, Doubt.OLD])
def test_CO7_CO8_what_an_answer_in_doubt_lacks_is_kept_and_what_it_has_is_taken(doubt: Doubt) -> None:
    view, sink = synced(web=reading(("a", "1"), ("b", "1")))
    view.take("web", reading(("b", "1"), ("c", "1")), doubt)
    report(view, sink)
    assert sink.addresses("app:web") == ["10.0.0.97:80", "10.0.0.98:80", "10.0.0.99:80"]
    view.take("web", reading(("c", "1")))
    report(view, sink)
    assert sink.addresses("app:web") == ["10.0.0.99:80"]


def test_CO7_an_old_status_takes_nobody_away_and_one_that_acls_leave_over_is_true() -> None:
    view, sink = synced(web=reading(*((one, "1") for one in "abcd")))
    worse = reading(*((one, "1") for one in "abcd"), unhealthy="a")
    view.take("web", worse, Doubt.OLD)
    report(view, sink)
    assert len(sink.addresses("app:web")) == 4
    view.take("web", worse, Doubt.HIDDEN)
    report(view, sink)
    assert len(sink.addresses("app:web")) == 3
    view.take("web", reading(("a", "1")), Doubt.OLD)
    report(view, sink)
    assert len(sink.addresses("app:web")) == 4, "better news is believed"


def test_CO8_what_a_node_that_can_be_seen_lacks_is_gone_though_acls_hide_others() -> None:
    view, sink = synced(web=reading(("a", "1"), ("a", "2"), ("b", "1"), ("c", "1"), ("z", "1")))
    view.take("web", reading(("a", "2")), Doubt.HIDDEN)
    report(view, sink)
    assert sink.addresses("app:web") == ["10.0.0.122:80", "10.0.0.97:80", "10.0.0.98:80", "10.0.0.99:80"]
    assert view.differing([Checked(node, "1", "web") for node in "bcz"] + [Checked("a", "2", "web")]) == set()
    view.see_nodes({"a", "b"})
    view.take("web", reading(("a", "2")), Doubt.HIDDEN)
    report(view, sink)
    assert sink.addresses("app:web") == ["10.0.0.122:80", "10.0.0.97:80", "10.0.0.99:80"], "c and z may be hidden"
    view.take("web", reading(), Doubt.HIDDEN)
    report(view, sink)
    assert len(sink.addresses("app:web")) == 3, "the service itself may be hidden"


def test_CO8_a_node_that_was_seen_before_an_instance_was_missed_may_be_hidden_by_now() -> None:
    view, sink = synced(web=reading(("a", "1"), ("b", "1")))
    view.see_nodes({"a", "b"})
    for _ in range(2):
        view.take("web", reading(("a", "1")), Doubt.HIDDEN)
        report(view, sink)
        assert len(sink.addresses("app:web")) == 2
    view.see_nodes({"a"})
    view.take("web", reading(("a", "1")), Doubt.HIDDEN)
    report(view, sink)
    assert len(sink.addresses("app:web")) == 2


def test_CO10_a_service_of_which_few_are_healthy_is_kept() -> None:
    view, sink = synced(web=reading(*((one, "1") for one in "abcd")), db=reading(*((one, "1") for one in "klmnopq")))
    view.take("web", reading(*((one, "1") for one in "abcd"), unhealthy="ab"))
    report(view, sink)
    assert len(sink.addresses("app:web")) == 2
    assert list(view.notes()) == []
    view.take("web", reading(*((one, "1") for one in "abcd"), unhealthy="abc"))
    report(view, sink)
    assert len(sink.addresses("app:web")) == 4
    assert list(view.notes()) == [
        "1 of 4 of web are healthy, fewer than 30%: all of each are kept but those in maintenance"
    ]


def test_CO10_the_one_instance_of_a_service_leaves_unless_all_the_source_is_unhealthy() -> None:
    view, sink = synced(**{one: reading((one, "1")) for one in "abcd"})
    for name in "ab":
        view.take(name, reading((name, "1"), unhealthy="ab"))
    report(view, sink)
    assert [len(sink.addresses(f"app:{one}")) for one in "abcd"] == [0, 0, 1, 1]
    (refusal,) = sink.services["app:a"].refused
    assert (refusal.code, refusal.reason) == (codes.UNHEALTHY, "its checks are critical")
    view.take("c", reading(("c", "1"), unhealthy="c"))
    report(view, sink)
    assert [len(sink.addresses(f"app:{one}")) for one in "abcd"] == [1, 1, 1, 1]
    assert next(iter(view.notes())).startswith("1 of 4 instances are healthy, fewer than 30%")
    view.take("a", reading(("a", "1")))
    report(view, sink)
    assert [len(sink.addresses(f"app:{one}")) for one in "abcd"] == [1, 0, 0, 1]


def test_CO10_an_outage_of_all_is_seen_before_the_first_service_is_read() -> None:
    view, sink = synced(**{one: reading((one, "1")) for one in "abcd"})
    checks = [check(one, service=one, service_id="1") for one in "ab"] + [check("c")]
    view.foresee(checks)
    for name in "abc":
        view.take(name, reading((name, "1"), unhealthy="abc"))
        report(view, sink)
        assert [len(sink.addresses(f"app:{one}")) for one in "abcd"] == [1, 1, 1, 1]
    view.foresee([check(one, "_node_maintenance") for one in "abc"])
    for name in "abc":
        view.take(name, reading((name, "1"), unhealthy="abc", status="maintenance"))
    report(view, sink)
    assert [len(sink.addresses(f"app:{one}")) for one in "abcd"] == [0, 0, 0, 1], "that was meant"


def test_CO10_the_checks_of_who_is_in_maintenance_are_no_sign_of_an_outage() -> None:
    view, sink = synced(**{one: reading((one, "1")) for one in "abcdefg"})
    away = "cdefg"
    meant = [check(one, "_node_maintenance") for one in away]
    failing = [check(one, service=one, service_id="1") for one in away]
    view.foresee([*meant, *failing])
    for name in away:
        view.take(name, reading((name, "1"), unhealthy=away, status="maintenance"))
    # One more fails, of the two that are left.
    view.foresee([*meant, *failing, check("a", service="a", service_id="1")])
    view.take("a", reading(("a", "1"), unhealthy="a"))
    report(view, sink)
    assert [len(sink.addresses(f"app:{one}")) for one in "abc"] == [0, 1, 0]


def test_CO10_what_was_foreseen_ends_when_it_has_been_read() -> None:
    view, sink = synced(**{one: reading((one, "1")) for one in "abcd"})
    view.foresee([check(one, service=one, service_id="1") for one in "abc"])
    for name in "abc":
        view.take(name, reading((name, "1"), unhealthy="abc"))
    for number in range(20):
        view.take(f"new-{number}", reading(("n", str(number))))
    report(view, sink)
    assert [len(sink.addresses(f"app:{one}")) for one in "abcd"] == [0, 0, 0, 1]
    assert list(view.notes()) == []


def test_CO10_who_has_not_been_healthy_since_it_came_is_no_sign_of_an_outage() -> None:
    view, sink = synced(web=reading(("a", "1"), ("b", "1")))
    grown = [(one, "1") for one in "abcdefghij"]
    view.take("web", reading(*grown, unhealthy="cdefghij"))
    report(view, sink)
    assert len(sink.addresses("app:web")) == 2
    assert list(view.notes()) == []
    view.take("web", reading(*grown, unhealthy="d"))
    view.take("web", reading(*grown, unhealthy="bcdefghij"))
    report(view, sink)
    assert len(sink.addresses("app:web")) == 9, "all but the one that never was healthy"


def test_CO10_of_whom_was_there_from_the_start_nobody_knows_what_it_was() -> None:
    view, sink = synced(web=reading(("a", "1"), ("b", "1"), unhealthy="ab"))
    assert len(sink.addresses("app:web")) == 2
    assert view.served == 2


def test_what_a_read_changes_is_told() -> None:
    view, _ = synced(web=reading(*((one, "1") for one in "abcdef"), unhealthy="f"))
    assert view.served == 5
    changed = view.take("web", reading(*((one, "1") for one in "cdeg")))
    assert (changed.changed, changed.gone, view.served) == (True, 1, 4)
    again = view.take("web", reading(*((one, "1") for one in "cdeg")))
    assert (again.changed, again.gone) == (False, 0)
    assert view.take("web", reading()).gone == 4
    assert view.served == 0


def test_which_services_a_check_or_a_node_concerns() -> None:
    view, _ = synced(web=reading(("a", "1"), ("b", "1")), db=reading(("a", "2")))
    assert view.concerned(check("a")) == {"web", "db"}
    assert view.concerned(check("a", service="DB", service_id="2")) == {"db"}
    view.take("other", reading(("a", "1")))
    view.take("web", reading(("b", "1")))
    assert view.on_node("a") == {"db", "other"}
    assert view.on_node("nowhere") == set()


def test_which_services_all_checks_show_to_have_changed() -> None:
    view, _ = synced(
        web=reading(("a", "1"), ("b", "1")), db=reading(("a", "2")), bare=replace(reading(), checked=frozenset())
    )
    same = [Checked("a", "1", "web"), Checked("b", "1", "web"), Checked("a", "2", "db")]
    assert view.differing([*same, Checked("a")]) == set()
    assert view.differing(same[1:]) == {"web"}
    assert view.differing([*same, Checked("z", "9", "New")]) == {"new"}
    # Its id bears another name now.
    assert view.differing([*same[:2], Checked("a", "2", "other")]) == {"db", "other"}


def test_a_service_that_cannot_be_read_keeps_its_state_and_is_shown() -> None:
    view, sink = synced(web=reading(("a", "1")))
    refusal = Refusal(codes.GARBLED, "nonsense")
    view.cannot_read("web", refusal)
    view.cannot_read("never-read", refusal)
    report(view, sink)
    assert sink.refused == {"web": (refusal,), "never-read": (refusal,)}
    assert sink.addresses("app:web") == ["10.0.0.97:80"]
    report_all(view, sink)
    assert "never-read" in view.names
    view.take("web", reading(("b", "1")))
    view.take("never-read", reading())
    report_all(view, sink)
    assert sink.refused == {"web": (), "never-read": ()}
    assert view.names == {"web"}


def test_a_service_that_cannot_be_read_and_is_gone_is_forgotten() -> None:
    view, sink = synced(web=reading(("a", "1")), db=reading(("b", "1")))
    refusal = Refusal(codes.GARBLED, "nonsense")
    for name in ("web", "never-read"):
        view.cannot_read(name, refusal)
    view.see_names(None)
    report_all(view, sink)
    assert sink.addresses("app:web") == ["10.0.0.97:80"], "what is listed may not be all"
    view.see_names({"db"})
    for name in ("web", "never-read"):
        view.cannot_read(name, refusal)
    report_all(view, sink)
    assert sink.refused == {"web": (), "never-read": ()}
    assert (sink.addresses("app:web"), view.names) == ([], {"web", "db"})
    view.see_names({"db", "web"})
    view.cannot_read("web", refusal)
    report(view, sink)
    assert sink.refused["web"] == (refusal,)


def test_G9_what_several_build_at_the_same_time_is_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []

    class Counting(Kept[str]):
        def take(self, place: str, read: Mapping[str, Service], now: float) -> list[Service]:
            built.append(place)
            return super().take(place, read, now)

    monkeypatch.setattr("isthmus.adapters.consul.view.Kept", Counting)
    view = View(RULES)
    names = [f"s{number}" for number in range(1000)]
    for name in names:
        view.take(name, reading(("a", name)))
    builders = [view.build(0.0) for _ in range(16)]
    while builders:
        builders = [one for one in builders if next(one, "end") != "end"]
    assert sorted(built) == sorted(names)


def test_a_service_that_was_empty_for_long_leaves_nothing_behind() -> None:
    view, sink = synced(web=reading(("a", "1")), db=reading(("b", "1")))
    view.take("web", reading())
    report_all(view, sink, 1.0)
    assert sink.addresses("app:web") == []
    assert sink.services.keys() == {"app:web", "app:db"}
    report_all(view, sink, 2.0 + EMPTY_KEPT_SECONDS)
    assert sink.services.keys() == {"app:db"}
    assert view.names == {"db"}
    assert view.on_node("a") == set()


def test_what_is_passed_by_is_counted() -> None:
    view, sink = synced(web=Reading(passed_by=PassedBy(2, 1)), db=Reading(passed_by=PassedBy(0, 1)))
    assert sink.services == {}
    assert list(view.notes()) == [
        "2 instances that Kubernetes put there are passed by",
        "2 proxies and gateways of Consul's own mesh are passed by",
    ]
    view.take("web", Reading())
    view.take("db", Reading())
    assert list(view.notes()) == []


keys = st.tuples(st.sampled_from("abc"), st.sampled_from("12"))
readings = st.builds(
    lambda keys, unhealthy: reading(*keys, unhealthy=unhealthy), st.sets(keys), st.text("abc", max_size=3)
)
steps = st.lists(st.tuples(st.sampled_from(("web", "db")), readings, st.sampled_from(Doubt)), max_size=12)


@given(steps)
def test_G7_the_last_complete_reads_are_all_that_counts(steps: list[tuple[str, Reading, Doubt]]) -> None:
    """Whatever was told before: only who has never been healthy since it came is history, so all are by the end."""
    view, sink = synced()
    for name, one, doubt in steps:
        view.take(name, one, doubt)
        report(view, sink)
    last: dict[str, set[Key]] = {"web": {("a", "1"), ("b", "2")}, "db": {("c", "1")}}
    fresh, expected = synced(**{name: reading(*keys) for name, keys in last.items()})
    for name, keys in last.items():
        view.take(name, reading(*keys))
    report(view, sink)
    assert {key: one for key, one in sink.services.items() if one.endpoints} == expected.services
    assert (view.served, list(view.notes())) == (fresh.served, [])


@given(steps)
def test_CO8_an_answer_in_doubt_never_takes_an_endpoint_away(steps: list[tuple[str, Reading, Doubt]]) -> None:
    view, sink = synced()
    for name, one, doubt in steps:
        before = {key[1:] for key in sink.addresses(f"app:{name}")}
        view.take(name, reading(*one.instances), doubt)
        report(view, sink)
        if doubt is not Doubt.NONE:
            assert before <= {key[1:] for key in sink.addresses(f"app:{name}")}
        assert view.served == sum(len(service.endpoints) for service in sink.services.values())
