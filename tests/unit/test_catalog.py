"""registry/catalog.py: per-source truth in, changed resources out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from isthmus.registry import codes
from isthmus.registry.audience import Audience, restrict
from isthmus.registry.catalog import Catalog
from isthmus.registry.model import Port, Service, ServiceEntry
from isthmus.registry.policy import Policy
from isthmus.registry.vips import Vips
from tests.unit.builders import endpoint, service

if TYPE_CHECKING:
    from isthmus.registry.merge import Contribution


def catalog(*sources: str, required: bool = True) -> Catalog:
    made = Catalog()
    for name in sources or ("zk",):
        made.add_source(Policy(name), required=required, now=0.0)
        made.connect(name, 0.0)
    return made


def served(of: Catalog) -> dict[str, list[str]]:
    of.take_changes()
    return {name: [one.address for one in entry.endpoints] for name, entry in of.entries.items()}


def test_G1_only_a_complete_read_that_lacks_a_service_withdraws_it() -> None:
    one = catalog()
    one.sync("zk", 1, [service("a.b", endpoint("10.0.0.1")), service("c.d", endpoint("10.0.0.2"))], 1.0)
    one.stale("zk", 1, "connection lost", 2.0)
    assert served(one) == {"legacy/a.b": ["10.0.0.1"], "legacy/c.d": ["10.0.0.2"]}

    one.sync("zk", 1, [service("c.d", endpoint("10.0.0.2"))], 3.0)
    assert served(one) == {"legacy/c.d": ["10.0.0.2"]}


def test_G2_a_required_source_is_waited_for_without_end_and_others_for_the_grace_only() -> None:
    one = Catalog()
    one.add_source(Policy("zk"), required=True, now=0.0)
    one.add_source(Policy("files"), required=False, now=0.0)
    assert [source.name for source in one.missing(29.0, 30.0)] == ["zk", "files"]
    assert [source.name for source in one.missing(9999.0, 30.0)] == ["zk"]

    one.connect("zk", 0.0)
    one.sync("zk", 1, [], 1.0)
    assert [source.name for source in one.missing(29.0, 30.0)] == ["files"]
    assert one.missing(31.0, 30.0) == []


def test_G3_a_lost_source_keeps_its_state_and_says_since_when() -> None:
    one = catalog()
    one.sync("zk", 1, [service("a.b", endpoint("10.0.0.1"))], 1.0)
    one.stale("zk", 1, "connection lost", 2.0)
    one.stale("zk", 1, "still lost", 50.0)

    source = one.sources[0]
    assert (source.phase, source.stale_since, source.last_error) == ("STALE", 2.0, "still lost")
    assert served(one) == {"legacy/a.b": ["10.0.0.1"]}
    one.put("zk", 1, service("a.b", endpoint("10.0.0.1")), 60.0)
    assert (source.phase, source.stale_since, source.last_error) == ("READY", None, None)


def test_G3_contact_without_news_is_contact_and_a_late_one_is_none() -> None:
    one = catalog()
    one.sync("zk", 1, [], 1.0)
    one.contact("zk", 1, 30.0)
    source = one.sources[0]
    assert source.contact_at == 30.0

    new = one.connect("zk", 40.0)
    one.stale("zk", new, "connection lost", 41.0)
    one.contact("zk", 1, 42.0)
    assert (source.phase, source.contact_at, source.late) == ("STALE", 30.0, 1)
    one.contact("zk", new, 43.0)
    assert (source.phase, source.contact_at) == ("READY", 43.0)


def test_G5_a_late_answer_of_an_older_connection_is_dropped() -> None:
    one = catalog()
    old = one.connect("zk", 0.0)
    new = one.connect("zk", 0.0)
    one.sync("zk", new, [service("a.b", endpoint("10.0.0.1"))], 1.0)
    one.sync("zk", old, [], 2.0)
    one.drop("zk", old, "a.b", 2.0)
    one.put("zk", old, service("a.b"), 2.0)

    assert served(one) == {"legacy/a.b": ["10.0.0.1"]}
    assert one.sources[0].late == 3


def test_equal_content_is_no_change() -> None:
    one = catalog()
    one.sync("zk", 1, [service("a.b", endpoint("10.0.0.1"))], 1.0)
    assert len(one.take_changes()) == 1
    one.sync("zk", 1, [service("a.b", endpoint("10.0.0.1"))], 2.0)
    one.put("zk", 1, service("a.b", endpoint("10.0.0.1")), 3.0)
    assert one.take_changes() == []


def test_X19_there_and_back_before_it_was_taken_is_no_change() -> None:
    one = catalog()
    one.sync("zk", 1, [service("a.b", endpoint("10.0.0.1"))], 1.0)
    one.take_changes()
    one.put("zk", 1, service("a.b"), 2.0)
    one.put("zk", 1, service("a.b", endpoint("10.0.0.1")), 3.0)
    assert one.take_changes() == []


def test_X62_what_istiod_would_refuse_never_goes_out_and_what_was_good_stays() -> None:
    one = catalog()
    one.sync("zk", 1, [service("a.b", endpoint("10.0.0.1"))], 1.0)
    one.take_changes()
    bad = service("a.b", endpoint("10.0.0.2"), ports=(Port(8080, "http", "DUBBO"),))
    one.put("zk", 1, bad, 2.0)

    assert one.take_changes() == []
    assert served(one) == {"legacy/a.b": ["10.0.0.1"]}
    assert [(source, refusal.code) for _, source, refusal in one.conflicts()] == [("zk", codes.NOT_ACCEPTABLE)]
    one.put("zk", 1, service("a.b", endpoint("10.0.0.2")), 3.0)
    assert served(one) == {"legacy/a.b": ["10.0.0.2"]}
    assert list(one.conflicts()) == []


def test_refusals_are_there_while_their_cause_is_and_counted_once() -> None:
    one = catalog()
    source = one.sources[0]
    for moment in (1.0, 2.0):
        one.sync("zk", 1, [service("a.b", endpoint("127.0.0.1"), endpoint("10.0.0.1"))], moment)
    assert [(key, refusal.code) for key, refusal in source.refusals()] == [("a.b", codes.FORBIDDEN_ADDRESS)]
    one.put("zk", 1, service("a.b", endpoint("127.0.0.1"), endpoint("10.0.0.2")), 3.0)
    assert source.refused_total == {codes.FORBIDDEN_ADDRESS: 1}

    one.put("zk", 1, service("a.b", endpoint("10.0.0.2")), 4.0)
    assert list(source.refusals()) == []
    assert source.refused_total == {codes.FORBIDDEN_ADDRESS: 1}


@given(st.permutations(["zk", "nacos", "files"]), st.randoms())
def test_addresses_do_not_depend_on_which_source_was_read_first(order: list[str], chance: object) -> None:
    # A range so small that many of these hosts collide.
    names = ["zk", "nacos", "files"]
    hosts = {name: [f"h{index}.{name}" for index in range(12)] for name in names}

    def addresses(read: list[str], *, shuffled: bool) -> dict[str, tuple[str, ...]]:
        one = Catalog(Vips("241.1.1.0/26"))
        for name in names:
            one.add_source(Policy(name), required=True, now=0.0)
        for name in read:
            services = [service(host, endpoint("10.0.0.1")) for host in hosts[name]]
            if shuffled:
                chance.shuffle(services)  # type: ignore[attr-defined]
            one.sync(name, one.connect(name, 0.0), services, 1.0)
        one.take_changes()
        return {name: entry.addresses for name, entry in one.entries.items()}

    assert addresses(order, shuffled=True) == addresses(names, shuffled=False)


def test_explain_names_the_source_of_each_endpoint() -> None:
    one = catalog("zk", "nacos")
    one.sync("zk", 1, [service("a.b", endpoint("10.0.0.2"))], 1.0)
    one.sync("nacos", 1, [service("a.b", endpoint("10.0.0.1"))], 1.0)
    merged = one.explain("legacy/a.b")

    assert merged is not None
    assert [(source, origin.record) for source, origin in merged.origins] == [
        ("nacos", "record of 10.0.0.1:8080"),
        ("zk", "record of 10.0.0.2:8080"),
    ]


TWICE = (Port(80, "http", "HTTP"), Port(80, "other", "HTTP"))


def two_of_one_host(*, unacceptable: bool) -> Catalog:
    """Two sources with one host: `zk` for everybody, and `nacos`, which may say what istiod would not take."""
    one = catalog("zk", "nacos")
    one.sync("zk", 1, [service("a.b", endpoint("10.0.0.1"))], 1.0)
    one.sync("nacos", 1, [service("a.b", endpoint("10.0.0.2"))], 1.0)
    one.take_changes()
    if unacceptable:
        one.sync("nacos", 1, [service("a.b", endpoint("10.0.0.3"), ports=TWICE)], 2.0)
    return one


def test_X62_of_a_source_that_says_what_istiod_would_not_take_the_last_good_stays_and_only_of_it() -> None:
    one = two_of_one_host(unacceptable=True)
    assert served(one) == {"legacy/a.b": ["10.0.0.1", "10.0.0.2"]}
    assert [(source, refusal.code) for _, source, refusal in one.conflicts()] == [("nacos", codes.NOT_ACCEPTABLE)]
    one.sync("zk", 1, [service("a.b", endpoint("10.0.0.9"))], 3.0)
    assert served(one) == {"legacy/a.b": ["10.0.0.2", "10.0.0.9"]}, "the other source is not held up"
    one.sync("zk", 1, [], 4.0)
    assert served(one) == {"legacy/a.b": ["10.0.0.2"]}, "and takes nothing with it that is gone"


def test_X60_the_last_good_is_seen_by_those_only_who_saw_it() -> None:
    one = two_of_one_host(unacceptable=True)
    one.sync("zk", 1, [service("a.b", endpoint("10.0.0.9"))], 3.0)
    (change,) = one.take_changes()
    of_zk, of_nacos = (restrict(change, Audience(sources=frozenset({source}))) for source in ("zk", "nacos"))
    assert of_zk is not None
    assert [each.address for each in of_zk.endpoints] == ["10.0.0.9"]
    assert of_nacos is not None
    assert [each.address for each in of_nacos.endpoints] == ["10.0.0.2"]
    one.sync("zk", 1, [], 4.0)
    (change,) = one.take_changes()
    assert restrict(change, Audience(sources=frozenset({"zk"}))) is None


def test_X62_what_was_never_good_is_not_served_at_all() -> None:
    one = catalog()
    one.sync("zk", 1, [service("a.b", endpoint("10.0.0.1"), ports=TWICE)], 1.0)
    assert served(one) == {}
    one.sync("zk", 1, [service("a.b", endpoint("10.0.0.1"))], 2.0)
    assert served(one) == {"legacy/a.b": ["10.0.0.1"]}
    assert not list(one.conflicts())


SERVICES = st.builds(
    lambda host, addresses: service(host, *(endpoint(f"10.0.0.{number}") for number in addresses)),
    st.sampled_from(["a.b", "c.d", "e.f"]),
    st.sets(st.integers(1, 4)),
)


class CatalogMachine(RuleBasedStateMachine):
    """Random reports of two sources against a dictionary of what they said last."""

    @initialize()
    def begin(self) -> None:
        self.catalog = catalog("zk", "nacos")
        self.said: dict[str, dict[str, Service]] = {"zk": {}, "nacos": {}}
        self.told: dict[str, ServiceEntry] = {}
        self.made_of: dict[str, tuple[Contribution, ...]] = {}

    @rule(name=st.sampled_from(["zk", "nacos"]), services=st.lists(SERVICES, unique_by=lambda one: one.key))
    def sync(self, name: str, services: list[Service]) -> None:
        self.catalog.sync(name, self.catalog.connect(name, 0.0), services, 0.0)
        self.said[name] = {one.key: one for one in services}

    @rule(name=st.sampled_from(["zk", "nacos"]), one=SERVICES)
    def put(self, name: str, one: Service) -> None:
        self.catalog.put(name, self.catalog.connect(name, 0.0), one, 0.0)
        self.said[name][one.key] = one

    @rule(name=st.sampled_from(["zk", "nacos"]), key=st.sampled_from(["a.b", "c.d", "e.f"]))
    def drop(self, name: str, key: str) -> None:
        self.catalog.drop(name, self.catalog.connect(name, 0.0), key, 0.0)
        self.said[name].pop(key, None)

    @rule(name=st.sampled_from(["zk", "nacos"]))
    def lose(self, name: str) -> None:
        self.catalog.stale(name, self.catalog.connect(name, 0.0), "lost", 0.0)

    @rule()
    def take(self) -> None:
        for change in self.catalog.take_changes():
            # The same resource may be made of other contributions, and so be another one in somebody's view.
            news = (change.entry, change.contributions)
            assert news != (self.told.get(change.name), self.made_of.pop(change.name, ()))
            if change.entry is None:
                del self.told[change.name]
            else:
                self.told[change.name], self.made_of[change.name] = change.entry, change.contributions
        expected: dict[str, set[str]] = {}
        for services in self.said.values():
            for one in services.values():
                addresses = {each.workload.address for each in one.endpoints}
                expected.setdefault(f"legacy/{one.host}", set()).update(addresses)
        told = {name: {one.address for one in entry.endpoints} for name, entry in self.told.items()}
        assert told == expected

    @invariant()
    def nothing_is_taken_twice(self) -> None:
        if hasattr(self, "catalog"):
            assert self.catalog.entries == self.told


TestCatalogMachine = CatalogMachine.TestCase
TestCatalogMachine.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
