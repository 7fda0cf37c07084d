"""Who may see what of a resource: some subscribers are shown some sources only, or are of one revision (pure).

A resource that several sources contribute to is another one for who may see only some of them: it is merged again, of
those alone, so that nothing of the others shows in it (X60).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from isthmus.registry.merge import merge

if TYPE_CHECKING:
    from isthmus.registry.catalog import Change
    from isthmus.registry.merge import Contribution
    from isthmus.registry.model import ServiceEntry


class Audience(Struct, frozen=True):
    """What a subscriber may see: services of these sources, and of these revisions or of none; None: of any.

    An empty set of revisions is that of a subscriber without one: it sees what is for everybody.
    """

    sources: frozenset[str] | None = None
    revisions: frozenset[str] | None = None

    def sees(self, contribution: Contribution) -> bool:
        """Tell whether what one source says of a host may be seen."""
        if self.sources is not None and contribution.source not in self.sources:
            return False
        wanted = contribution.service.revisions
        return self.revisions is None or not wanted or not self.revisions.isdisjoint(wanted)


EVERYBODY = Audience()


def restrict(change: Change, audience: Audience) -> ServiceEntry | None:
    """Return a changed resource as an audience sees it; None: not at all.

    Istiod takes each contribution by itself (`Catalog`), so it takes any of them together.
    """
    if change.entry is None:
        return None
    seen = tuple(one for one in change.contributions if audience.sees(one))
    if len(seen) == len(change.contributions):
        return change.entry
    if not seen:
        return None
    return merge(seen, change.address).entry
