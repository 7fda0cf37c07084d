"""What the keys of listeners and of istiods may hold, and how those of one configuration are told apart.

A rule yields what is wrong with a value; none of its texts holds the value, which may be a secret. The rules of whole
maps see values of any type. What ports listeners open is in port_rules.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from isthmus.config import source_values as values
from isthmus.config.listeners import MAIN, IstiodOptions, Listener
from isthmus.config.mistakes import Fault, Rules, choose_from
from isthmus.config.port_rules import MOST_SHARDS
from isthmus.config.rules import DAY, listen_address, seconds
from isthmus.mcp.transport import TlsOptions
from isthmus.registry.names import LABEL_LENGTH, is_label

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# What there can be resources of here; istiod's other types are answered empty on every listener.
KINDS = ("ServiceEntry", "WorkloadEntry", "Sidecar")
# Those of them that something makes resources of.
PUBLISHED = ("ServiceEntry",)
_TOKEN = "`tokenFile`"  # noqa: S105 (the name of a key)


def shard_count(value: int) -> Iterator[Fault]:
    """How many shards a listener has."""
    if not 1 <= value <= MOST_SHARDS:
        yield Fault(f"is not 1 to {MOST_SHARDS}")


def file_path(value: str) -> Iterator[Fault]:
    """The name of a file or directory, or nothing."""
    if "\0" in value:
        yield Fault("is not a path")


def whole_listeners(value: Mapping[str, object]) -> Iterator[Fault]:
    """What tells the listeners and the istiods of a configuration apart, and the sources that listeners name."""
    listeners, istiods = value.get("listeners"), value.get("istiods")
    if isinstance(listeners, list):
        yield from _listener_names(listeners)
        yield from _served_sources(listeners, value.get("sources"))
    if isinstance(istiods, list):
        yield from _istiod_names(istiods)
        yield from _read_listeners(istiods, listeners if isinstance(listeners, list) else [])


def source_names(given: Sequence[tuple[object, object]]) -> list[str]:
    """Return the names of sources, for each of which its name and kind are given.

    One without a name has that of its kind, with a number from the second on.
    """
    taken = {name for name, _ in given if isinstance(name, str)}
    names: list[str] = []
    for said, kind in given:
        name, number = said if isinstance(said, str) else "", 1
        if not name:
            name = str(kind)
            while name in taken:
                number += 1
                name = f"{kind}-{number}"
        taken.add(name)
        names.append(name)
    return names


def _name(value: str) -> Iterator[Fault]:
    if not is_label(value):
        yield Fault(f"is not a name of 1 to {LABEL_LENGTH} small letters, digits and '-'")


def _types(value: list[str]) -> Iterator[Fault]:
    for index, kind in enumerate(value):
        if kind not in KINDS:
            yield Fault(f"is no kind that is served here; {choose_from(kind, KINDS, 'choose from')}", (index,))
        elif kind in value[:index]:
            yield Fault("is said before", (index,))


def _namespaces(value: list[str]) -> Iterator[Fault]:
    for index, namespace in enumerate(value):
        for text, _, _ in values.namespace(namespace):
            yield Fault(text, (index,))
        if namespace in value[:index]:
            yield Fault("is said before", (index,))


def _whole_listener(value: Mapping[str, object]) -> Iterator[Fault]:
    if "name" not in value:
        yield Fault("has no `name`", quoting=False)
    if value.get("routing") == "authority" and value.get("shards", 1) == 1:
        yield Fault("is for more than one shard: set `shards`", ("routing",))


def _whole_tls(value: Mapping[str, object]) -> Iterator[Fault]:
    yield from values.together(value, "certificate", "key")
    if value.get("clientCa") and not (value.get("certificate") or value.get("key")):
        yield Fault("says who may connect, but there is no `certificate`, so no TLS", ("clientCa",))


def _istiod_name(value: str) -> Iterator[Fault]:
    if value:
        yield from values.name(value)


def _revision(value: str) -> Iterator[Fault]:
    if value:
        yield from values.revision(value)


def _whole_istiod(value: Mapping[str, object]) -> Iterator[Fault]:
    address = value.get("address")
    if value.get("ca") and isinstance(address, str) and not address.lower().startswith("https:"):
        yield Fault("says whom to trust, but the address does not begin with `https:`", ("ca",))


def _listener_names(listeners: list[object]) -> Iterator[Fault]:
    first: dict[str, str] = {MAIN: "the listener that `listen` makes"}
    for index, listener in enumerate(listeners):
        name = listener.get("name") if isinstance(listener, dict) else None
        if not isinstance(name, str):
            continue
        if name in first:
            yield Fault(f"is the name of {first[name]} too", ("listeners", index, "name"))
        first.setdefault(name, f"listeners[{index}]")


def _istiod_names(istiods: list[object]) -> Iterator[Fault]:
    first: dict[str, int] = {}
    for index, istiod in enumerate(istiods):
        if not isinstance(istiod, dict):
            continue
        key = "name" if istiod.get("name") else "address"
        name = istiod.get(key)
        if isinstance(name, str) and first.setdefault(name, index) != index:
            yield Fault(f"is the {key} of istiods[{first[name]}] too", ("istiods", index, key))


def _read_listeners(istiods: list[object], listeners: list[object]) -> Iterator[Fault]:
    names = [MAIN, *(str(one.get("name")) for one in listeners if isinstance(one, dict))]
    for index, istiod in enumerate(istiods):
        read = istiod.get("listener") if isinstance(istiod, dict) else None
        if isinstance(read, str) and read and read not in names:
            yield Fault(f"is no listener; {choose_from(read, names, 'choose from')}", ("istiods", index, "listener"))


def _served_sources(listeners: list[object], sources: object) -> Iterator[Fault]:
    if not isinstance(sources, list) or not all(isinstance(source, dict) for source in sources):
        return
    names = source_names([(source.get("name"), source.get("kind")) for source in sources])
    for index, listener in enumerate(listeners):
        served = listener.get("sources") if isinstance(listener, dict) else None
        if not isinstance(served, list):
            continue
        for number, name in enumerate(served):
            if not isinstance(name, str):
                continue
            if name not in names:
                advice = choose_from(name, names, "there are")
                yield Fault(f"is the name of no source; {advice}", ("listeners", index, "sources", number))
            elif name in served[:number]:
                yield Fault("is said before", ("listeners", index, "sources", number))


LISTENER_RULES: Rules = {
    Listener: {
        "": _whole_listener,
        "name": _name,
        "address": listen_address,
        "shards": shard_count,
        "types": _types,
        "namespaces": _namespaces,
    },
    TlsOptions: {"": _whole_tls, "certificate": file_path, "key": file_path, "clientCa": file_path},
    IstiodOptions: {
        "": _whole_istiod,
        "name": _istiod_name,
        "address": values.url("http(s)://host:port", _TOKEN),
        "revision": _revision,
        "interval": seconds(1, DAY),
        "tokenFile": file_path,
        "ca": file_path,
    },
}
