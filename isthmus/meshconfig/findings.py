"""What is wrong with a mesh configuration for an istiod that is to be served by ours (pure).

A source is taken for one of ours where its port is one of a listener's: names and addresses of machines are often
others for istiod than for us. Sources that lead elsewhere are another server's affair.
"""

from __future__ import annotations

import re
from itertools import combinations
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, urlsplit

from msgspec import Struct

from isthmus.config.mistakes import Mistake
from isthmus.config.rules import astray, host_port, is_below_localhost
from isthmus.meshconfig.sources import KUBERNETES
from isthmus.meshconfig.stated import said
from isthmus.meshconfig.tls_findings import TlsSaid, Wrong, read_tls, tls_findings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from isthmus.config.listeners import Listener
    from isthmus.meshconfig.ours import Ours
    from isthmus.meshconfig.stated import Stated

# As the server reads it from the first label of the name that it is called by.
SHARD_NAME: Final = re.compile(r"(?:.*-)?shard-(\d+)-of-(\d+)", re.ASCII)
_SOURCES: Final = "configSources"


class _Source(Struct, frozen=True):
    """One xds:// source. path: where it stands."""

    path: str
    url: SplitResult
    host: str
    port: int
    tls: TlsSaid


class _Match(Struct, frozen=True):
    """A source and the listener it leads to. shard: the one it asks for; None: none that there is."""

    source: _Source
    listener: Listener
    shard: int | None


def findings(stated: Stated, ours: Ours) -> list[Mistake]:
    """Return everything by which an istiod with this mesh configuration would be served otherwise than it seems."""
    return _found(stated, ours, harmless=False)


def remarks(stated: Stated, ours: Ours) -> list[Mistake]:
    """Return what is worth knowing of a mesh configuration, and may be as it should."""
    return _found(stated, ours, harmless=True)


def _found(stated: Stated, ours: Ours, *, harmless: bool) -> list[Mistake]:
    found = [one for one in dict.fromkeys(_all(stated, ours)) if one.harmless == harmless]
    mistakes = (Mistake(f"{stated.path}{one.path}", stated.line(one.path), one.text) for one in found)
    return sorted(mistakes, key=lambda one: one.line or 0)


def _all(stated: Stated, ours: Ours) -> Iterator[Wrong]:
    listed = said(stated.value, _SOURCES)
    if not isinstance(listed, list) or not listed:
        yield Wrong(_SOURCES, "there is none, so istiod reads its own custom resources only")
        return
    if not any(_is_kubernetes(_address(one)) for one in listed):
        yield Wrong(
            _SOURCES, f"`- address: {KUBERNETES}` is missing: istiod would not read its own custom resources any more"
        )
    sources = []
    for index, one in enumerate(listed):
        path = f"{_SOURCES}[{index}]"
        source = _source(one, path)
        if isinstance(source, _Source):
            sources.append(source)
        elif source:
            yield Wrong(f"{path}.address" if _address(one) else path, source)
    yield from _of_sources(sources, ours)


def _address(source: object) -> str:
    address = source.get("address") if isinstance(source, dict) else None
    return address if isinstance(address, str) else ""


def _is_kubernetes(address: str) -> bool:
    url = _split(address)
    return url is not None and url.scheme == "k8s" and url.path in ("", "/")


def _split(address: str) -> SplitResult | None:
    # Python forgives these, Go does not.
    if not address.isprintable() or " " in address:
        return None
    try:
        url = urlsplit(address)
        _ = url.port
    except ValueError:
        return None
    return url


def _source(value: object, path: str) -> _Source | str:
    """Read a source; return why it leads nowhere, or nothing where there is nothing to say of one that is not ours."""
    address = _address(value)
    url = _split(address)
    if not address:
        return "has no address"
    if url is None:
        return "is no URL, and istiod exits as it starts"
    if url.scheme in ("fs", "k8s"):
        elsewhere = url.scheme == "k8s" and not _is_kubernetes(address)
        return f"istiod ignores this: write `{KUBERNETES}`, to the letter" if elsewhere else ""
    if url.scheme != "xds" or not url.hostname:
        return "istiod ignores this, or exits as it starts: write xds://HOST:PORT"
    if url.port is None:
        return "has no port: write xds://HOST:PORT"
    return _Source(path, url, url.hostname, url.port, read_tls(value))


def _of_sources(sources: Sequence[_Source], ours: Ours) -> Iterator[Wrong]:
    matches = [match for source in sources if (match := _match(source, ours.listeners)) is not None]
    if not matches:
        ports = ", ".join(_ports_of(listener) for listener in ours.listeners)
        yield Wrong(_SOURCES, f"no source leads to this configuration, whose ports are {ports}")
        return
    yield from _stray(sources, matches)
    for match in matches:
        yield from _of_match(match, ours)
    for listener in ours.listeners:
        own = [match for match in matches if match.listener is listener]
        if own:
            yield from _of_shards(listener, own)
    yield from _mixed(matches)


def _ports_of(listener: Listener) -> str:
    first = host_port(listener.address)[1]
    if not first:
        return f"any free ones (listener {listener.name})"
    return str(first) if listener.ports == 1 else f"{first} to {first + listener.ports - 1}"


def _match(source: _Source, listeners: Sequence[Listener]) -> _Match | None:
    own = [one for one in listeners if 0 <= source.port - host_port(one.address)[1] < one.ports]
    own = [one for one in own if host_port(one.address)[1]]
    # Of two listeners with one port on different addresses the one that is meant by its address.
    own.sort(key=lambda one: host_port(one.address)[0] != source.host)
    if not own:
        return None
    listener = own[0]
    if listener.routing == "ports":
        return _Match(source, listener, source.port - host_port(listener.address)[1])
    named = _shard_named(source)
    good = named is not None and named[1] == listener.shards and named[0] < listener.shards
    return _Match(source, listener, named[0] if named is not None and good else None)


def _shard_named(source: _Source) -> tuple[int, int] | None:
    """Return the shard and the count in the name by which istiod calls the server: `sni` where TLS has one."""
    name = source.tls.sni if source.tls.mode == "SIMPLE" and source.tls.sni else source.host
    match = SHARD_NAME.fullmatch(name.partition(".")[0])
    return None if match is None else (int(match[1]), int(match[2]))


def _stray(sources: Sequence[_Source], matches: Sequence[_Match]) -> Iterator[Wrong]:
    matched = {match.source.path for match in matches}
    hosts = {match.source.host for match in matches}
    for source in sources:
        if source.path not in matched and source.host in hosts:
            yield Wrong(
                f"{source.path}.address", f"{source.port} is the port of no listener here: istiod exits as it starts"
            )


def _of_match(match: _Match, ours: Ours) -> Iterator[Wrong]:
    source, listener = match.source, match.listener
    address = f"{source.path}.address"
    if listener.form == "slime":
        yield Wrong(
            address,
            f"listener {listener.name} sends increments as Slime's istiod wants them: any other deletes all the rest",
            harmless=True,
        )
    elif source.url.path not in ("", "/") or source.url.query or source.url.fragment or source.url.username:
        yield Wrong(
            address,
            "istiod uses host and port only, and drops a path and `?type=`: what is served is chosen by the listener "
            "(`types`)",
        )
    if only := astray(source.host, host_port(listener.address)[0]):
        yield Wrong(address, f"listener {listener.name} is on {only} only, where this does not lead")
    elif is_below_localhost(source.host):
        yield Wrong(
            address,
            "few resolvers know names below localhost: where istiod's machine does not have this one in /etc/hosts, "
            "istiod exits as it starts",
            harmless=True,
        )
    if match.shard is None:
        named = _shard_named(source)
        asked = "no shard" if named is None else f"shard {named[0]} of {named[1]}"
        yield Wrong(
            address,
            f"istiod would ask for {asked} by this name, and listener {listener.name} has `shard-N-of-"
            f"{listener.shards}`, N from 0 to {listener.shards - 1}",
        )
    for one in tls_findings(source.tls, source.host, listener, ours.shown.get(listener.name), ours):
        yield one._replace(path=f"{source.path}.{one.path}")


def _of_shards(listener: Listener, matches: Sequence[_Match]) -> Iterator[Wrong]:
    first: dict[int, _Match] = {}
    for match in matches:
        if match.shard is None:
            continue
        before = first.setdefault(match.shard, match)
        if before is not match:
            yield Wrong(
                f"{match.source.path}.address",
                f"{_shard_title(listener, match.shard)} is listed before, as {before.source.path}: list it once; "
                "replicas share one name",
            )
    missing = [shard for shard in range(listener.shards) if shard not in first]
    if missing and all(match.shard is not None for match in matches):
        named = ", ".join(map(str, missing))
        yield Wrong(
            _SOURCES,
            f"listener {listener.name} has {listener.shards} shards, and {named} (from 0) is not listed: for istiod "
            "the services there do not exist",
        )


def _shard_title(listener: Listener, shard: int) -> str:
    if listener.shards == 1:
        return f"listener {listener.name}"
    return f"shard {shard} of {listener.shards} of listener {listener.name}"


def _mixed(matches: Sequence[_Match]) -> Iterator[Wrong]:
    first = {match.listener.name: match for match in reversed(matches)}
    for one, other in combinations(reversed(first.values()), 2):
        if not _disjoint(one.listener, other.listener):
            yield Wrong(
                f"{other.source.path}.address",
                f"leads to listener {other.listener.name}, and {one.source.path} to {one.listener.name}: they serve "
                "the same services, so list the sources of one of them",
            )


def _disjoint(one: Listener, other: Listener) -> bool:
    """Tell whether no service is served by both."""
    pairs = ((one.types, other.types), (one.namespaces, other.namespaces), (one.sources, other.sources))
    return any(mine and yours and set(mine).isdisjoint(yours) for mine, yours in pairs)
