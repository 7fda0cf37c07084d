"""What is published: every resource encoded once, dealt to shards, and shown to each subscriber as its view allows.

A shard under a view is made when the first subscriber asks for it, and kept up to date while one does. Most processes
have one view for each shard, because all their subscribers are istiods of one revision.
"""

from __future__ import annotations

import logging
from hashlib import blake2b
from typing import TYPE_CHECKING

from msgspec import Struct

from isthmus.mcp.encode import Frame, encode_service_entry
from isthmus.mcp.limits import Limits
from isthmus.mcp.resources import ResourceSet
from isthmus.registry.audience import Audience, restrict
from isthmus.registry.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from isthmus.mcp.views import Part, View
    from isthmus.registry.catalog import Change

_log = logging.getLogger("isthmus.mcp")

SERVICE_ENTRY_URLS = tuple(f"networking.istio.io/{version}/ServiceEntry" for version in ("v1", "v1beta1", "v1alpha3"))
WORKLOAD_ENTRY_URLS = tuple(f"networking.istio.io/{version}/WorkloadEntry" for version in ("v1", "v1beta1", "v1alpha3"))


def shard_index(name: str, count: int) -> int:
    """Return the shard, from 0, of a resource called `namespace/host`: by a hash of its host, the same for ever."""
    if count == 1:
        return 0
    host = name.rpartition("/")[2]
    return int.from_bytes(blake2b(host.encode(), digest_size=8).digest()) % count


class Published(Struct, frozen=True, gc=False):
    """A resource, encoded as who may see all of it is shown it, and what it comes from.

    partial: for each choice of its contributions that somebody sees, the resource of those alone, once asked for.
    """

    frame: Frame
    change: Change
    partial: dict[tuple[bool, ...], Frame | None]


class Shard:
    """One part of the services under one view: a set for each type that we have, nothing of the others.

    others: sets of more types by their URL, fed by whoever made them; the streams know nothing of any type.
    """

    def __init__(self, part: Part, view: View, publication: Publication) -> None:
        self.part = part
        self.view = view
        self.service_entries = ResourceSet()
        self.users = 0
        self._publication = publication
        self._nothing = ResourceSet()
        workload_entries = ResourceSet()
        self._sets: dict[str, ResourceSet] = {
            **dict.fromkeys(SERVICE_ENTRY_URLS, self.service_entries),
            **dict.fromkeys(WORKLOAD_ENTRY_URLS, workload_entries),
            **publication.others,
        }

    @property
    def held(self) -> bool:
        """Whether the types that we have are silent still."""
        return self._publication.held

    def lookup(self, type_url: str) -> ResourceSet | None:
        """Return the resources of a type; None while they are held."""
        known = self._sets.get(type_url)
        if known is None or not self.view.has_kind(type_url):
            return self._nothing
        return None if self.held else known

    def take(self, published: Iterable[tuple[str, Published | None]]) -> bool:
        """Take what changed of this part, as far as it is shown; return whether anything here is other than before."""
        shown = ((name, one) for name, one in published if self.view.has_namespace(name))
        return self.service_entries.update(self._framed(shown))

    def _framed(self, published: Iterable[tuple[str, Published | None]]) -> Iterator[tuple[str, Frame | None]]:
        for name, one in published:
            try:
                yield name, None if one is None else seen_by(one, self.view.audience)
            except (UnicodeEncodeError, ValueError):
                # The last good bytes stay, and the others go out (X62, T11).
                _log.exception("resource %r, as %s sees it, cannot be encoded", name, self.view.audience)


class Publication:
    """All resources, and the shards and views that subscribers see of them.

    Until `open` is called the types that we do have are held: a client that asks for them hears nothing, because an
    empty answer would delete what it knows (G2). All other types are answered empty at once.
    """

    def __init__(self, others: Mapping[str, ResourceSet] | None = None, limits: Limits | None = None) -> None:
        self.others = others or {}
        self.held = True
        self._limits = limits or Limits()
        self._published: dict[str, Published] = {}
        self._names: list[str] | None = None
        self._shards: dict[tuple[Part, View], Shard] = {}

    @property
    def resources(self) -> Mapping[str, Published]:
        """Every resource by name. Read only."""
        return self._published

    def names(self) -> list[str]:
        """Return the names of all resources, in order."""
        if self._names is None:
            self._names = sorted(self._published)
        return self._names

    @property
    def shards(self) -> list[Shard]:
        """What subscribers see now, and what they saw last."""
        return list(self._shards.values())

    def open(self) -> None:
        """Let the held types speak, once the sources are read."""
        self.held = False

    def publish(self, changes: Iterable[Change]) -> bool:
        """Encode and take changed resources; return whether a subscriber may have to be told."""
        published = list(self._encoded(changes))
        before = len(self._published)
        for name, one in published:
            if one is None:
                self._published.pop(name, None)
            else:
                self._published[name] = one
        if any(one is None for _, one in published) or len(self._published) != before:
            self._names = None
        told = [self._tell(count, published) for count in {part.count for part, _ in self._shards}]
        return any(told)

    def enter(self, part: Part, view: View) -> Shard:
        """Return a shard under a view, for a subscriber that leaves it by `leave`.

        Raises ProtocolError: subscribers with too many different views are connected.
        """
        shard = self._shards.get((part, view))
        if shard is None:
            self._forget_unused()
            views = {view for _, view in self._shards} | {view}
            if len(views) > self._limits.views:
                raise ProtocolError("RESOURCE_EXHAUSTED", f"more than {self._limits.views} different views")
            shard = self._shards[part, view] = Shard(part, view, self)
            shard.take(_dealt(self._published.items(), part.count).get(part.index, ()))
        shard.users += 1
        return shard

    def leave(self, shard: Shard) -> None:
        """Note that a subscriber is gone; the shard stays until room is needed, for it may come back."""
        shard.users -= 1

    def has(self, type_url: str) -> bool:
        """Tell whether a type is one that we have resources of, or could have."""
        return type_url in SERVICE_ENTRY_URLS or type_url in WORKLOAD_ENTRY_URLS or type_url in self.others

    def expected(self, view: View) -> dict[str, str]:
        """Return name and version of each ServiceEntry that a subscriber with a view of all shards should hold."""
        if not view.has_kind(SERVICE_ENTRY_URLS[0]):
            return {}
        shown = ((name, one) for name, one in self._published.items() if view.has_namespace(name))
        seen = ((name, seen_by(one, view.audience)) for name, one in shown)
        return {name: frame.version for name, frame in seen if frame is not None}

    def _tell(self, count: int, published: Iterable[tuple[str, Published | None]]) -> bool:
        """Deal what changed to the shards of one number; return whether anything in one is other than before."""
        dealt = _dealt(published, count)
        mine = [shard for shard in self._shards.values() if shard.part.count == count and shard.part.index in dealt]
        told = [shard.take(dealt[shard.part.index]) for shard in mine]
        return any(told)

    def _forget_unused(self) -> None:
        for key in [key for key, shard in self._shards.items() if not shard.users]:
            del self._shards[key]

    def _encoded(self, changes: Iterable[Change]) -> Iterator[tuple[str, Published | None]]:
        for change in changes:
            if change.entry is None:
                yield change.name, None
                continue
            try:
                yield change.name, Published(encode_service_entry(change.entry), change, {})
            except (UnicodeEncodeError, ValueError):
                # The last good bytes stay, and the others go out (X62, T11).
                _log.exception("resource %r cannot be encoded", change.name)


def seen_by(published: Published, audience: Audience) -> Frame | None:
    """Return a resource as an audience sees it; None: not at all."""
    seen = tuple(map(audience.sees, published.change.contributions))
    if all(seen):
        return published.frame
    if seen not in published.partial:
        entry = restrict(published.change, audience)
        published.partial[seen] = None if entry is None else encode_service_entry(entry)
    return published.partial[seen]


def _dealt(
    published: Iterable[tuple[str, Published | None]], count: int
) -> dict[int, list[tuple[str, Published | None]]]:
    """Deal resources to so many shards: index -> those of it."""
    dealt: dict[int, list[tuple[str, Published | None]]] = {}
    for name, one in published:
        dealt.setdefault(shard_index(name, count), []).append((name, one))
    return dealt
