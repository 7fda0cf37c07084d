"""What is known of the keys under a prefix, by lists and watches in any order (isthmus.adapters.etcd.keys)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from isthmus.adapters.etcd.keys import Keys
from isthmus.adapters.etcd.options import EtcdOptions, EtcdPrefix
from isthmus.adapters.etcd.records import format_of
from isthmus.adapters.etcd.told import Record
from isthmus.registry import codes
from tests.registries.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

SERVICES = ("web", "pay")


def keys() -> Keys:
    rules = EtcdPrefix("go-zero")
    return Keys("", format_of("", rules, EtcdOptions(address="http://10.0.0.1:2379", prefixes={"": rules})))


def put(service: str, instance: int, revision: int, port: int = 80) -> Record:
    return Record(f"{service}/{instance}".encode(), f"10.0.0.{instance}:{port}".encode(), revision)


def gone(service: str, instance: int, revision: int) -> Record:
    return Record(f"{service}/{instance}".encode(), None, revision)


def take_list(known: Keys, records: Iterable[Record], revision: int) -> int:
    for _ in known.replace(records, revision):
        pass
    return known.found


def apply(known: Keys, records: Iterable[Record]) -> None:
    for _ in known.apply(records):
        pass


def shown(known: Keys, recorder: Recorder | None = None) -> dict[str, list[str]]:
    """Return the endpoints of each service that has some, as a complete report shows them."""
    recorder = recorder or Recorder()
    for _ in known.build(0.0):
        pass
    generation = recorder.connected()
    recorder.sync(generation, known.take_everything(recorder, generation, 0.0))
    hosts = {service.host.partition(".")[0]: key for key, service in recorder.services.items()}
    return {host: found for host, key in sorted(hosts.items()) if (found := recorder.addresses(key))}


def test_a_list_and_what_the_watch_told_after_it() -> None:
    known = keys()
    take_list(known, [put("web", 1, 3), put("web", 2, 4)], 9)
    apply(known, [gone("web", 1, 10), put("pay", 5, 10)])
    assert shown(known) == {"pay": ["10.0.0.5:80"], "web": ["10.0.0.2:80"]}
    assert known.revision == 10


def test_ET3_what_a_complete_list_lacks_is_gone() -> None:
    known = keys()
    take_list(known, [put("web", 1, 3), put("web", 2, 4)], 9)
    assert take_list(known, [put("web", 2, 4)], 12) == 1
    assert shown(known) == {"web": ["10.0.0.2:80"]}


def test_a_list_that_is_older_than_the_watch_takes_nothing_back() -> None:
    known = keys()
    take_list(known, [put("web", 1, 3), put("web", 2, 4)], 9)
    known.begin_list()
    apply(known, [gone("web", 1, 11), put("web", 3, 12)])
    assert take_list(known, [put("web", 1, 3), put("web", 2, 4)], 10) == 0
    assert shown(known) == {"web": ["10.0.0.2:80", "10.0.0.3:80"]}


def test_what_a_list_has_shown_is_not_taken_again_from_the_watch() -> None:
    known = keys()
    take_list(known, [put("web", 2, 4)], 9)
    apply(known, [put("web", 1, 3), put("web", 2, 2, port=99)])
    assert shown(known) == {"web": ["10.0.0.2:80"]}


def test_ET2_the_watch_goes_on_after_the_last_event_or_the_last_sign_of_progress() -> None:
    known = keys()
    take_list(known, [], 9)
    assert known.revision == 9
    apply(known, [put("web", 1, 14)])
    assert known.revision == 14
    known.reach(20)
    assert known.revision == 20
    known.reach(15)
    assert known.revision == 20


def test_ET6_a_list_of_another_history_outweighs_everything() -> None:
    known = keys()
    take_list(known, [put("web", 1, 30), put("web", 2, 31)], 40)
    known.forget_revisions()
    assert known.revision == 0
    take_list(known, [put("web", 1, 30, port=81)], 30)
    assert shown(known) == {"web": ["10.0.0.1:81"]}
    apply(known, [put("web", 3, 31)])
    assert shown(known) == {"web": ["10.0.0.1:81", "10.0.0.3:80"]}


def test_ET8_a_deletion_needs_no_previous_value() -> None:
    known = keys()
    take_list(known, [put("web", 1, 3)], 9)
    shown(known)
    apply(known, [gone("web", 1, 10)])
    assert shown(known) == {}


def test_only_services_that_changed_are_reported() -> None:
    known = keys()
    take_list(known, [put("web", 1, 3), put("pay", 2, 4)], 9)
    recorder = Recorder()
    shown(known, recorder)
    apply(known, [put("web", 3, 10), put("pay", 2, 11)])
    for _ in known.build(0.0):
        pass
    known.report(recorder, recorder.generation)
    puts = [entry for entry in recorder.history if entry.startswith("put")]
    assert len(puts) == 1
    assert "web" in puts[0]


def test_how_many_endpoints_went_less_those_that_came() -> None:
    known = keys()
    take_list(known, [put("web", 1, 3), put("web", 2, 4), put("pay", 3, 5)], 9)
    shown(known)
    assert (known.served, known.take_lost()) == (3, -3)
    apply(known, [gone("web", 1, 10), gone("web", 2, 11), put("pay", 4, 12)])
    shown(known)
    assert (known.served, known.take_lost(), known.take_lost()) == (2, 1, 0)


def test_a_key_that_is_garbled_is_refused_until_it_is_mended_or_gone() -> None:
    known = keys()
    recorder = Recorder()
    bad = Record(b"web/1", b":8080", 3)
    take_list(known, [bad, Record(b"web/\xff", b"10.0.0.9:80", 4), put("web", 2, 5)], 9)
    assert shown(known, recorder) == {"web": ["10.0.0.2:80"]}
    refused = {scope: [one.code for one in refusals] for scope, refusals in recorder.refused.items()}
    assert refused["web/\\xff"] == [codes.GARBLED]
    assert [one.code for one in recorder.services["web"].refused] == [codes.NOT_AN_ADDRESS]
    apply(known, [put("web", 1, 10), Record(b"web/\xff", None, 11)])
    assert shown(known, recorder) == {"web": ["10.0.0.1:80", "10.0.0.2:80"]}
    assert not any(recorder.refused.values())
    assert not recorder.services["web"].refused


Step = tuple[str, int, bool]
histories = st.lists(st.tuples(st.sampled_from(SERVICES), st.integers(1, 4), st.booleans()), max_size=25)


def states(history: list[Step]) -> Sequence[Mapping[bytes, Record]]:
    """Return what etcd holds at each revision; nothing at revision 0."""
    state: dict[bytes, Record] = {}
    found = [dict(state)]
    for revision, (service, instance, is_put) in enumerate(history, start=1):
        record = event(service, instance, revision, is_put=is_put)
        if is_put:
            state[record.key] = record
        else:
            state.pop(record.key, None)
        found.append(dict(state))
    return found


def event_at(history: list[Step], revision: int) -> Record:
    service, instance, is_put = history[revision - 1]
    return event(service, instance, revision, is_put=is_put)


def event(service: str, instance: int, revision: int, *, is_put: bool) -> Record:
    return put(service, instance, revision, port=1000 + revision) if is_put else gone(service, instance, revision)


@given(histories, st.data())
def test_G6_list_and_watch_agree_wherever_lists_fall(history: list[Step], data: st.DataObject) -> None:
    """Lists at any revisions, older or newer than the watch: once the watch is at the end, so is what is known."""
    at = states(history)
    last = len(history)
    first = data.draw(st.integers(0, last))
    known = keys()
    take_list(known, at[first].values(), first)
    told = first
    while told < last:
        listing = data.draw(st.booleans())
        known.begin_list()
        until = data.draw(st.integers(told + 1, last))
        apply(known, [event_at(history, revision) for revision in range(told + 1, until + 1)])
        if listing:
            revision = data.draw(st.integers(told, last))
            take_list(known, at[revision].values(), revision)
        else:
            known.give_up_list()
        told = until
    fresh = keys()
    take_list(fresh, at[last].values(), last)
    assert shown(known) == shown(fresh)
    assert known.revision == last
