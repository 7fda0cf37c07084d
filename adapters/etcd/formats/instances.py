"""Formats whose records are instances of applications: from what one of them says to services (pure).

A format is a function, its reader, from a path and a value to what the record says. All the rest is the same for all:
who takes no traffic, what is shown of a record, and that a service here is the same as in any other registry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import unquote

from msgspec import Struct
from msgspec.structs import replace

from isthmus.adapters.etcd.formats.base import (
    Item,
    Layout,
    Placed,
    place_of,
    record_of,
    refusal_of,
    require_host,
    require_length,
)
from isthmus.adapters.instances import ApplicationRules, Member, application, key_of, require_port, texts
from isthmus.registry import codes
from isthmus.registry.errors import RecordError
from isthmus.registry.model import Refusal, Service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_NOTHING: dict[str, str] = {}


class Instance(Struct, frozen=True, gc=False):
    """One instance as its record says it.

    address: `address:port` or a URL; an address alone where `port` is not None.
    weight: 1.0 is the usual one.
    off: why it takes no traffic, None where it does.
    """

    address: str
    port: int | None = None
    weight: float = 1.0
    metadata: Mapping[str, Any] = _NOTHING
    locality: str = ""
    off: tuple[str, str] | None = None


class Said(Struct, frozen=True, gc=False):
    """What a record says of one service: a name, the kind of service it is of that name, and instances."""

    name: str
    instances: tuple[Instance, ...]
    kind: str = ""


Reader: TypeAlias = "Callable[[str, bytes], tuple[Said, ...]]"


class Kind(Struct, frozen=True):
    """A kind of services of one format: `scheme` is Dubbo's where it is one of Dubbo's applications."""

    rules: ApplicationRules
    scheme: str = ""


class InstanceFormat:
    """The records below one prefix; `kinds` of services by what the reader calls them."""

    def __init__(
        self,
        prefix: str,
        kinds: Mapping[str, Kind],
        reader: Reader,
        *,
        may_be_service: bool = False,
    ) -> None:
        self._prefix = prefix
        self._layout = Layout(prefix, may_be_service=may_be_service)
        self._kinds = kinds
        self._reader = reader
        self._labels = frozenset(name for kind in kinds.values() for name in kind.rules.labels)

    def read(self, key: str, value: bytes) -> tuple[Placed, ...]:
        """Return what a key holds. Raises RecordError: the key is outside of the layout, or the value garbled."""
        require_length(key, value)
        every = self._reader(self._layout.path(key), value)
        if not every:
            return ()
        full = self._prefix + key
        return tuple([Placed(key_of(said.name, mark=said.kind), self._taken(said, full, value)) for said in every])

    def service(self, place: str, items: Mapping[str, Item]) -> Service:
        """Return the service at a place, of what its keys hold."""
        quoted, _, mark = place.partition("#")
        name, kind = unquote(quoted, errors="surrogatepass"), self._kinds[mark]
        ordered = [one for _, item in sorted(items.items()) for one in _members(item)]
        members = [one for one in ordered if isinstance(one, Member)]
        refused = tuple(one for one in ordered if isinstance(one, Refusal))
        return replace(
            application(name, kind.scheme, members, kind.rules), key=f"{self._prefix}{place}", refused=refused
        )

    def _taken(self, said: Said, key: str, value: bytes) -> tuple[Member | Refusal, ...]:
        record = record_of(key, value)
        taken: list[Member | Refusal] = []
        for instance in said.instances:
            try:
                taken.append(self._member(instance, record))
            except RecordError as error:
                taken.append(refusal_of(error, key, value))
        return tuple(taken)

    def _member(self, instance: Instance, record: str) -> Member:
        """Return an instance that takes traffic. Raises RecordError: it does not."""
        if instance.off:
            raise RecordError(*instance.off)
        if instance.weight <= 0:
            raise RecordError(codes.ZERO_WEIGHT, "weight 0 takes the instance out of traffic")
        if instance.port is None:
            address, port = place_of(instance.address)
        else:
            require_port(instance.port)
            address, port = require_host(instance.address, instance.address), instance.port
        # The record holds all of the metadata; of 50,000 instances it need not be kept twice.
        said = {name: instance.metadata[name] for name in self._labels if name in instance.metadata}
        return Member(address, port, instance.weight, texts(said) if said else _NOTHING, instance.locality, record)


def _members(item: Item) -> Iterator[Member | Refusal]:
    if isinstance(item, tuple):
        yield from item
