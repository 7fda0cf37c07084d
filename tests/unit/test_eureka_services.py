"""adapters/eureka/services.py: who is in which service, whatever the order of the news."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from isthmus.adapters.eureka.records import EurekaRules, Member
from isthmus.adapters.eureka.services import Services
from isthmus.adapters.eureka.state import Change
from isthmus.registry import codes
from isthmus.registry.model import Endpoint, Refusal, WorkloadEntry

if TYPE_CHECKING:
    from random import Random

# An instance may be in several services, and is in them as an endpoint or as a refusal.
members = st.dictionaries(
    st.tuples(st.sampled_from("AB"), st.sampled_from("abc")),
    st.dictionaries(st.sampled_from(("front", "back")), st.booleans(), max_size=2),
    max_size=6,
)


def member(application: str, key: str, names: dict[str, bool]) -> Member:
    endpoint = Endpoint(WorkloadEntry(f"10.0.{ord(application)}.{ord(key)}", (("http", 80),)))
    refusal = Refusal(codes.DISABLED, "status DOWN", f"{application}/{key}")
    return Member(key, "UP", (0, 0), False, tuple((name, endpoint if up else refusal) for name, up in names.items()))


@given(members, members, st.randoms())
def test_G7_the_services_do_not_depend_on_the_order_of_the_news(
    before: dict[tuple[str, str], dict[str, bool]], after: dict[tuple[str, str], dict[str, bool]], chance: Random
) -> None:
    first = {place: member(*place, names) for place, names in before.items()}
    last = {place: member(*place, names) for place, names in after.items()}
    grown, fresh = Services(EurekaRules()), Services(EurekaRules())
    grown.take(Change(*place, None, one) for place, one in first.items())
    places = sorted(first.keys() | last.keys())
    chance.shuffle(places)
    told = grown.take(Change(*place, first.get(place), last.get(place)) for place in places)
    fresh.take(Change(*place, None, one) for place, one in sorted(last.items()))
    assert told == {name for names in (*before.values(), *after.values()) for name in names}
    for name in ("front", "back"):
        assert grown.read(name) == fresh.read(name)
        bearers = [names[name] for names in after.values() if name in names]
        services = list(grown.read(name).values())
        assert len(services) == (1 if bearers else 0)
        assert sum(len(one.endpoints) for one in services) == bearers.count(True)
        assert sum(len(one.refused) for one in services) == bearers.count(False)
