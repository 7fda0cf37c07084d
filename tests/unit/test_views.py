"""What a port offers and what a subscriber makes of it: he can ask for less, never for more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.mcp.views import Door, View
from isthmus.registry.audience import Audience
from isthmus.registry.errors import ProtocolError

WORDS = ["ServiceEntry", "WorkloadEntry", "Sidecar"]
SETS = st.none() | st.frozensets(st.sampled_from(WORDS))
OFFERS = st.builds(View, SETS, SETS, st.builds(Audience, SETS))
LISTS = st.lists(st.sampled_from(WORDS), max_size=3)
NONE, DEFAULT, BOTH = frozenset[str](), frozenset({"default"}), frozenset({"rev1", "rev2"})
KEYS = ("ISTHMUS_TYPES", "ISTHMUS_NAMESPACES", "ISTHMUS_SOURCES")


def parts(view: View) -> tuple[frozenset[str] | None, ...]:
    return view.kinds, view.namespaces, view.audience.sources


@given(OFFERS, st.tuples(LISTS, LISTS, LISTS), st.booleans())
def test_metadata_can_only_narrow(offer: View, asked: tuple[list[str], ...], text: bool) -> None:
    metadata = {
        key: " , ".join(words) if text else words for key, words in zip(KEYS, asked, strict=True) if words or text
    }
    seen = Door(view=offer).view_of(metadata)
    for offered, wanted, shown in zip(parts(offer), asked, parts(seen), strict=True):
        # Nothing asked for is all that is offered; nothing of what is asked for being offered is nothing at all.
        expected = offered if not wanted else frozenset(wanted) if offered is None else offered & frozenset(wanted)
        assert shown == expected


@pytest.mark.parametrize("key", [*KEYS, "ISTIO_REVISION"])
@pytest.mark.parametrize("value", [7.0, {"a": "b"}, ["a", 7.0], None, True])
def test_metadata_that_is_no_list_of_words_is_refused(key: str, value: object) -> None:
    with pytest.raises(ProtocolError, match=key) as raised:
        Door().view_of({key: value})
    assert raised.value.status == "INVALID_ARGUMENT"


@pytest.mark.parametrize(
    ("metadata", "standard", "slime"),
    [
        ({}, NONE, None),
        ({"ISTIO_REVISION": ""}, NONE, None),
        ({"ISTIO_REVISION": "default"}, DEFAULT, DEFAULT),
        ({"ISTIO_REVISION": "rev1, rev2,"}, BOTH, BOTH),
    ],
)
def test_X60_the_revisions_of_a_subscriber(
    metadata: dict[str, object], standard: frozenset[str], slime: frozenset[str] | None
) -> None:
    assert Door().view_of(metadata).audience.revisions == standard
    # Slime's clients without a revision see everything, and are used to it (slime.md 2.2 rule 5).
    assert Door(form="slime").view_of(metadata).audience.revisions == slime


def test_other_metadata_makes_no_other_view() -> None:
    istiod = {"GENERATOR": "api", "ISTIO_REVISION": "default", "ISTIO_VERSION": "65536.65536.65536"}
    assert Door().view_of(istiod) == Door().view_of({"ISTIO_REVISION": "default", "POD": ["a"]})


@pytest.mark.parametrize(
    "type_url", ["networking.istio.io/v1/ServiceEntry", "type.googleapis.com/istio.networking.v1alpha3/ServiceEntry"]
)
def test_a_kind_is_the_end_of_its_type(type_url: str) -> None:
    assert View(kinds=frozenset({"ServiceEntry"})).has_kind(type_url)
    assert not View(kinds=frozenset({"WorkloadEntry"})).has_kind(type_url)
    assert not View(kinds=frozenset()).has_kind(type_url)
    assert View().has_kind(type_url)


def test_a_namespace_is_the_beginning_of_a_name() -> None:
    view = View(namespaces=frozenset({"legacy"}))
    assert view.has_namespace("legacy/a")
    assert not view.has_namespace("legacy-b/a")
    assert not view.has_namespace("eureka/legacy")


def test_a_closed_door_says_why() -> None:
    with pytest.raises(ProtocolError, match="shards were 4") as raised:
        Door(closed="shards were 4").enter()
    assert raised.value.status == "FAILED_PRECONDITION"
    Door().enter()
