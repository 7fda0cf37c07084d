"""Who sees what of a resource: what he may not see does not show in what he sees."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from isthmus.registry.audience import EVERYBODY, Audience, restrict
from isthmus.registry.catalog import Change
from isthmus.registry.merge import REVISION_LABEL, Contribution, merge
from tests.unit.builders import endpoint, service

SOURCES = st.sampled_from(["zk", "eureka", "nacos"])
REVISIONS = st.lists(st.sampled_from(["default", "canary"]), unique=True).map(lambda names: tuple(sorted(names)))
ENDPOINTS = st.lists(st.integers(1, 5).map(lambda number: endpoint(f"10.0.0.{number}")), unique=True, max_size=3)
CONTRIBUTIONS = st.lists(
    st.builds(
        lambda source, endpoints, revisions: Contribution(source, service("a", *endpoints, revisions=revisions)),
        *(SOURCES, ENDPOINTS, REVISIONS),
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda one: one.source,
).map(tuple)
AUDIENCES = st.builds(
    Audience, st.none() | st.frozensets(SOURCES), st.none() | st.frozensets(st.sampled_from(["default", "canary"]))
)


def change_of(contributions: tuple[Contribution, ...], address: str | None = "240.240.0.1") -> Change:
    return Change("legacy/a", merge(contributions, address).entry, contributions, address)


@given(CONTRIBUTIONS, AUDIENCES)
def test_what_is_seen_is_merged_of_what_may_be_seen(
    contributions: tuple[Contribution, ...], audience: Audience
) -> None:
    visible = tuple(
        one
        for one in contributions
        if (audience.sources is None or one.source in audience.sources)
        and (audience.revisions is None or not one.service.revisions or audience.revisions & {*one.service.revisions})
    )
    expected = merge(visible, "240.240.0.1").entry if visible else None
    assert restrict(change_of(contributions), audience) == expected


@given(CONTRIBUTIONS)
def test_everybody_sees_the_resource_as_it_is(contributions: tuple[Contribution, ...]) -> None:
    change = change_of(contributions)
    assert restrict(change, EVERYBODY) is change.entry


def test_what_is_gone_is_gone_for_all() -> None:
    assert restrict(Change("legacy/a", None), EVERYBODY) is None
    assert restrict(Change("legacy/a", None), Audience(sources=frozenset({"zk"}))) is None


def test_X60_the_label_by_which_istiod_filters_too_is_that_of_what_is_seen() -> None:
    contributions = (
        Contribution("zk", service("a", endpoint("10.0.0.1"), revisions=("canary",))),
        Contribution("eureka", service("a", endpoint("10.0.0.2"))),
    )
    change = change_of(contributions)
    # One that is for some and one that is for all: istiod of any revision takes the part that is for it.
    assert change.entry is not None
    assert REVISION_LABEL not in dict(change.entry.labels)
    default = restrict(change, Audience(revisions=frozenset({"default"})))
    assert default is not None
    assert [one.address for one in default.endpoints] == ["10.0.0.2"]
    only_zk = restrict(change, Audience(frozenset({"zk"}), frozenset({"canary"})))
    assert only_zk is not None
    assert dict(only_zk.labels)[REVISION_LABEL] == "canary"
