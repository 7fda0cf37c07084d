"""What is published: every resource in exactly one shard, for whoever may see it, and of it what he may see."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from isthmus.mcp.limits import Limits
from isthmus.mcp.resources import ResourceSet
from isthmus.mcp.shards import SERVICE_ENTRY_URLS, WORKLOAD_ENTRY_URLS, Publication, Shard, shard_index
from isthmus.mcp.views import EVERYTHING, WHOLE, Part, View
from isthmus.protos import networking_pb2
from isthmus.registry.audience import Audience
from isthmus.registry.catalog import Change
from isthmus.registry.errors import ProtocolError
from isthmus.registry.merge import Contribution, merge
from isthmus.registry.model import ServiceEntry
from tests.unit.builders import endpoint, service
from tests.unit.test_encode import resource_of

if TYPE_CHECKING:
    from isthmus.registry.model import Service

CANARY = View(audience=Audience(revisions=frozenset({"canary"})))
DEFAULT = View(audience=Audience(revisions=frozenset({"default"})))
UNNAMED = View(audience=Audience(revisions=frozenset()))
GATEWAYS = "networking.istio.io/v1/Gateway"


def entry(name: str, host: str) -> ServiceEntry:
    return ServiceEntry("reg", name, (host,))


def publish(publication: Publication, *names: str) -> bool:
    """Publish resources that are for everybody; a name with a minus before it is withdrawn."""
    return publication.publish(
        Change(name.lstrip("-"), None if name.startswith("-") else entry(*[name.partition("/")[2]] * 2))
        for name in names
    )


def change_of(*contributions: tuple[str, Service]) -> Change:
    """Merge what sources say of one host as the catalog does."""
    parts = tuple(Contribution(*one) for one in contributions)
    merged = merge(parts, None).entry
    return Change(f"{merged.namespace}/{merged.name}", merged, parts)


def addresses(shard: Shard, name: str) -> list[str]:
    body = networking_pb2.ServiceEntry.FromString(resource_of(shard.service_entries.frames[name]).body.value)
    return [one.address for one in body.endpoints]


# To shards.

# These are in clients' configuration, as ports: where they change, istiod would lose services until all is restarted.
GOLDEN = {
    "reg/orders": (0, 1, 5, 13),
    "reg/a": (0, 2, 7, 15),
    "legacy/com.example.shop.orders.dubbo": (0, 2, 4, 12),
    "eureka/billing.eureka": (0, 2, 6, 6),
    "legacy/xn--bcher-kva.example": (0, 1, 1, 9),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_a_service_stays_in_its_shard_for_ever(name: str) -> None:
    assert tuple(shard_index(name, count) for count in (1, 3, 8, 16)) == GOLDEN[name]


HOSTS = st.text("abcdefghijklmnopqrstuvwxyz0123456789.-", min_size=1, max_size=20)


@given(st.sets(HOSTS, min_size=1, max_size=30), st.integers(1, 64))
def test_every_resource_is_in_exactly_one_shard(hosts: set[str], count: int) -> None:
    publication = Publication()
    names = [f"reg/{host}" for host in hosts]
    publish(publication, *names)
    shards = [publication.enter(Part(count, index), EVERYTHING) for index in range(count)]
    seen = [name for shard in shards for name in shard.service_entries.frames]
    assert sorted(seen) == sorted(names)
    # What comes later too, and what goes leaves only its own.
    publish(publication, "reg/later", f"-{names[0]}")
    seen = [name for shard in shards for name in shard.service_entries.frames]
    assert sorted(seen) == sorted({*names, "reg/later"} - {names[0]})
    for index, shard in enumerate(shards):
        assert {shard_index(name, count) for name in shard.service_entries.frames} <= {index}


def test_a_host_has_one_shard_in_whatever_namespace() -> None:
    assert shard_index("legacy/orders.example", 64) == shard_index("eureka/orders.example", 64)


def test_shards_are_of_about_one_size() -> None:
    sizes = Counter(shard_index(f"reg/service-{number}.example", 16) for number in range(16_000))
    assert set(sizes) == set(range(16))
    # Six times the deviation that chance makes.
    assert all(abs(size - 1_000) < 6 * 31 for size in sizes.values())


def test_a_change_is_one_of_its_shard_alone() -> None:
    publication = Publication()
    names = [f"reg/{number}" for number in range(40)]
    publish(publication, *names)
    shards = [publication.enter(Part(4, index), EVERYTHING) for index in range(4)]
    before = [shard.service_entries.version for shard in shards]
    assert publication.publish([Change("reg/7", entry("7", "other.example"))])
    index = shard_index("reg/7", 4)
    assert [one for one in range(4) if shards[one].service_entries.version != before[one]] == [index]


def test_layouts_of_different_size_stand_side_by_side() -> None:
    publication = Publication()
    whole = publication.enter(WHOLE, EVERYTHING)
    thirds = [publication.enter(Part(3, index), EVERYTHING) for index in range(3)]
    names = {f"reg/{number}" for number in range(30)}
    publish(publication, *names)
    assert set(whole.service_entries.frames) == names
    assert {name for shard in thirds for name in shard.service_entries.frames} == names
    # A resource is encoded once for all who see all of it.
    for shard in thirds:
        for name, frame in shard.service_entries.frames.items():
            assert frame is whole.service_entries.frames[name]


# Held, and what is not ours.


def test_G2_a_held_shard_is_silent_of_what_it_has_and_empty_of_the_rest() -> None:
    publication = Publication()
    publish(publication, "reg/a")
    shard = publication.enter(WHOLE, EVERYTHING)
    for type_url in (*SERVICE_ENTRY_URLS, *WORKLOAD_ENTRY_URLS):
        assert shard.lookup(type_url) is None
    other = shard.lookup(GATEWAYS)
    assert other is not None
    assert not other.frames
    publication.open()
    for type_url in SERVICE_ENTRY_URLS:
        assert shard.lookup(type_url) is shard.service_entries
    for type_url in WORKLOAD_ENTRY_URLS:
        workloads = shard.lookup(type_url)
        assert workloads is not None
        assert not workloads.frames


def test_other_types_are_served_as_they_were_given() -> None:
    clusters = ResourceSet()
    publication = Publication({"type.googleapis.com/envoy.config.cluster.v3.Cluster": clusters})
    publication.open()
    shard = publication.enter(WHOLE, EVERYTHING)
    assert shard.lookup("type.googleapis.com/envoy.config.cluster.v3.Cluster") is clusters
    assert publication.has("type.googleapis.com/envoy.config.cluster.v3.Cluster")
    assert not publication.has(GATEWAYS)


def test_X62_one_that_cannot_be_encoded_does_not_cost_the_others(caplog: pytest.LogCaptureFixture) -> None:
    publication = Publication()
    shard = publication.enter(WHOLE, EVERYTHING)
    assert publish(publication, "reg/a")
    good = shard.service_entries.frames["reg/a"]
    changes = [("reg/a", entry("a", "a\ud800")), ("reg/b", entry("b", "b.reg")), ("reg/c", entry("c", "c\ud800"))]
    assert publication.publish(Change(*one) for one in changes)
    assert shard.service_entries.frames["reg/a"] is good
    assert shard.service_entries.names() == publication.names() == ["reg/a", "reg/b"]
    assert [record.args for record in caplog.records] == [("reg/a",), ("reg/c",)]
    # Gone is gone, whatever came between.
    assert publish(publication, "-reg/a")
    assert shard.service_entries.names() == publication.names() == ["reg/b"]


# Views.


def test_a_type_that_is_not_shown_is_empty_and_never_held() -> None:
    publication = Publication()
    shard = publication.enter(WHOLE, View(kinds=frozenset({"WorkloadEntry"})))
    publish(publication, "reg/a")
    for type_url in SERVICE_ENTRY_URLS:
        hidden = shard.lookup(type_url)
        assert hidden is not None
        assert not hidden.frames
    assert shard.lookup(WORKLOAD_ENTRY_URLS[0]) is None


def test_only_the_namespaces_of_a_view_are_in_it() -> None:
    publication = Publication()
    publish(publication, "reg/a", "eureka/a")
    shard = publication.enter(WHOLE, View(namespaces=frozenset({"eureka"})))
    assert shard.service_entries.names() == ["eureka/a"]
    assert not publish(publication, "reg/b", "-reg/a"), "nothing that anybody sees"
    assert publish(publication, "eureka/b")
    assert shard.service_entries.names() == ["eureka/a", "eureka/b"]


def test_a_view_of_one_source_holds_nothing_of_another() -> None:
    publication = Publication()
    both = ("zk", service("a", endpoint("10.0.0.1"))), ("eureka", service("a", endpoint("10.0.0.2")))
    publication.publish([change_of(*both)])
    whole = publication.enter(WHOLE, EVERYTHING)
    zk = publication.enter(WHOLE, View(audience=Audience(sources=frozenset({"zk"}))))
    eureka = publication.enter(WHOLE, View(audience=Audience(sources=frozenset({"eureka"}))))
    assert addresses(whole, "legacy/a") == ["10.0.0.1", "10.0.0.2"]
    assert addresses(zk, "legacy/a") == ["10.0.0.1"]
    assert addresses(eureka, "legacy/a") == ["10.0.0.2"]
    # What one source alone says of it changes nothing for the other.
    before = eureka.service_entries.version
    publication.publish([change_of(("zk", service("a", endpoint("10.0.0.9"))), both[1])])
    assert addresses(zk, "legacy/a") == ["10.0.0.9"]
    assert eureka.service_entries.version == before
    publication.publish([change_of(both[1])])
    assert "legacy/a" not in zk.service_entries.frames
    assert eureka.service_entries.version == before


def test_X60_a_view_of_a_revision_holds_its_own_and_what_is_for_all() -> None:
    publication = Publication()
    canary, default = publication.enter(WHOLE, CANARY), publication.enter(WHOLE, DEFAULT)
    nobody = publication.enter(WHOLE, View(audience=Audience(revisions=frozenset())))
    publication.publish(
        [
            change_of(("zk", service("all", endpoint("10.0.0.1")))),
            change_of(("zk", service("new", endpoint("10.0.0.1"), revisions=("canary",)))),
            change_of(("zk", service("two", endpoint("10.0.0.1"), revisions=("canary", "default")))),
        ]
    )
    assert canary.service_entries.names() == ["legacy/all", "legacy/new", "legacy/two"]
    assert default.service_entries.names() == ["legacy/all", "legacy/two"]
    assert nobody.service_entries.names() == ["legacy/all"]


def test_X61_a_moved_resource_is_in_one_view_at_a_time() -> None:
    publication = Publication()
    canary, default = publication.enter(WHOLE, CANARY), publication.enter(WHOLE, DEFAULT)
    publication.publish([change_of(("zk", service("a", endpoint("10.0.0.1"), revisions=("canary",))))])
    assert (canary.service_entries.names(), default.service_entries.names()) == (["legacy/a"], [])
    publication.publish([change_of(("zk", service("a", endpoint("10.0.0.1"), revisions=("default",))))])
    assert (canary.service_entries.names(), default.service_entries.names()) == ([], ["legacy/a"])


def test_T11_what_is_left_of_a_resource_and_cannot_be_encoded_leaves_what_was_good(
    caplog: pytest.LogCaptureFixture,
) -> None:
    publication = Publication()
    zk = publication.enter(WHOLE, View(audience=Audience(sources=frozenset({"zk"}))))
    good = ("zk", service("a", endpoint("10.0.0.1"))), ("eureka", service("a", endpoint("10.0.0.1")))
    publication.publish([change_of(*good)])
    # The same address in the source before has its say, so as a whole it can be encoded.
    unreadable = endpoint("10.0.0.1")
    unreadable = replace(unreadable, workload=replace(unreadable.workload, locality="\ud800"))
    others = change_of(("eureka", service("b", endpoint("10.0.0.9"))))
    assert publication.publish([change_of(good[1], ("zk", service("a", unreadable))), others]) is False
    assert set(publication.resources) == {"legacy/a", "legacy/b"}
    assert addresses(zk, "legacy/a") == ["10.0.0.1"]
    assert "legacy/a" in caplog.text


@pytest.mark.parametrize(
    "view",
    [EVERYTHING, CANARY, DEFAULT, View(namespaces=frozenset({"other"})), View(kinds=frozenset({"WorkloadEntry"}))],
)
def test_what_a_subscriber_should_hold_is_what_all_of_its_shards_give(view: View) -> None:
    publication = Publication()
    publication.publish(
        [
            change_of(("zk", service("all", endpoint("10.0.0.1")))),
            change_of(("zk", service("new", endpoint("10.0.0.1"), revisions=("canary",)))),
            change_of(("zk", service("a", endpoint("10.0.0.1"))), ("eureka", service("a", revisions=("canary",)))),
        ]
    )
    publication.open()
    given: dict[str, str] = {}
    for index in range(3):
        resources = publication.enter(Part(3, index), view).lookup(SERVICE_ENTRY_URLS[0])
        assert resources is not None
        given |= {name: frame.version for name, frame in resources.frames.items()}
    assert publication.expected(view) == given


# As many views as subscribers need, and no more.


def test_subscribers_of_one_view_share_it() -> None:
    publication = Publication()
    assert publication.enter(WHOLE, CANARY) is publication.enter(WHOLE, View(audience=CANARY.audience))
    assert publication.enter(WHOLE, CANARY).users == 3
    assert len(publication.shards) == 1


def test_too_many_views_are_refused_and_those_of_nobody_make_room() -> None:
    publication = Publication(limits=Limits(views=2))
    first = publication.enter(WHOLE, DEFAULT)
    publication.enter(Part(2, 0), CANARY)
    # A view has as many shards as there are ports.
    publication.enter(Part(2, 1), CANARY)
    with pytest.raises(ProtocolError, match="different views") as raised:
        publication.enter(WHOLE, EVERYTHING)
    assert raised.value.status == "RESOURCE_EXHAUSTED"
    assert publication.enter(WHOLE, DEFAULT) is first, "what is there is not refused"
    publication.leave(first)
    publication.leave(first)
    publish(publication, "reg/a")
    assert first.service_entries.names() == ["reg/a"], "who comes back finds it as it is now"
    publication.enter(WHOLE, EVERYTHING)
    assert first not in publication.shards
