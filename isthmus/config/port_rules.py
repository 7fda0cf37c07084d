"""What ports a configuration opens: that they can be had together, and that strangers reach none without TLS or words.

A rule yields what is wrong with a value; none of its texts holds the value, which may be a secret. The rule sees
values of any type.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

from isthmus.config.mistakes import Fault
from isthmus.config.rules import DEFAULT_DEBUG, DEFAULT_LISTEN, host_port, is_loopback

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from isthmus.config.mistakes import Steps

MOST_SHARDS = 64
_LAST_PORT = 65_535
_LOCAL = "127.0.0.1"


class _Opened(NamedTuple):
    """A run of ports.

    title: how messages call it. key: what says where it begins. place: where a message about it goes; empty: it is
    there by default, and nothing in the file is to mend.
    """

    title: str
    key: str
    place: Steps
    host: str
    first: int
    ports: int
    secured: bool

    @property
    def last(self) -> int:
        return self.first + self.ports - 1

    @property
    def shown(self) -> str:
        return f"port {self.first}" if self.ports == 1 else f"the ports {self.first} to {self.last}"


def whole_ports(value: Mapping[str, object]) -> Iterator[Fault]:
    """The ports of all listeners, one for each shard, and that of the debug pages."""
    listeners = list(_listeners(value))
    debug = _debug(value)
    if value.get("plaintext") != "anywhere":
        yield from _plaintext(listeners)
    if debug is not None and not is_loopback(debug.host):
        yield Fault(
            "can be reached from other machines, and the pages there have no access control: "
            'name a loopback address, or "" for no pages',
            debug.place,
        )
    yield from _collisions(listeners, debug)


def _listeners(value: Mapping[str, object]) -> Iterator[_Opened]:
    main = _opened({"listen": DEFAULT_LISTEN, **value}, "listen", (), "`listen`")
    if main is not None:
        place = next(((key,) for key in ("listen", "shards") if key in value), ())
        yield main._replace(place=place)
    listeners = value.get("listeners")
    for index, listener in enumerate(listeners if isinstance(listeners, list) else ()):
        opened = _opened(listener, "address", ("listeners", index, "address"), f"listeners[{index}]")
        if opened is not None:
            yield opened


def _opened(listener: object, key: str, place: Steps, title: str) -> _Opened | None:
    parted = _parted(listener.get(key)) if isinstance(listener, dict) else None
    if parted is None or not isinstance(listener, dict):
        return None
    count = listener.get("shards", 1)
    if listener.get("routing") == "authority" or not isinstance(count, int) or not 1 <= count <= MOST_SHARDS:
        count = 1
    tls = listener.get("tls")
    secured = isinstance(tls, dict) and bool(tls.get("certificate") or tls.get("key"))
    return _Opened(title, key, place, *parted, count, secured)


def _debug(value: Mapping[str, object]) -> _Opened | None:
    parted = _parted(value.get("debug", DEFAULT_DEBUG))
    if parted is None:
        return None
    return _Opened("`debug`", "debug", ("debug",) if "debug" in value else (), *parted, 1, secured=False)


def _plaintext(listeners: list[_Opened]) -> Iterator[Fault]:
    for one in listeners:
        if not one.secured and not is_loopback(one.host):
            yield Fault(
                "can be reached from other machines, without TLS: name a loopback address, give it `tls`, "
                "or set `plaintext: anywhere`",
                one.place,
            )


def _collisions(listeners: list[_Opened], debug: _Opened | None) -> Iterator[Fault]:
    fitting = [] if debug is None else [debug]
    for one in reversed(listeners):
        if one.last > _LAST_PORT:
            yield Fault(f"would begin a range of {one.ports} ports, one for each shard, beyond {_LAST_PORT}", one.place)
        else:
            fitting.insert(0, one)
    for one, other in combinations(fitting, 2):
        if _collide(one, other):
            yield _collision(one, other, fitting)


def _collide(one: _Opened, other: _Opened) -> bool:
    """Tell whether two cannot be had together; port 0 stands for any that are free."""
    if not one.first or not other.first or one.first > other.last or other.first > one.last:
        return False
    hosts = {_LOCAL if host.lower() == "localhost" else host for host in (one.host, other.host)}
    return len(hosts) == 1 or not hosts.isdisjoint(("0.0.0.0", "::"))


def _collision(one: _Opened, other: _Opened, opened: list[_Opened]) -> Fault:
    at, against = (other, one) if other.place else (one, other)
    if at.ports == against.ports == 1:
        return Fault(f"has the port of {against.title}", at.place)
    moved = other if at is other and other.key != "debug" else one
    port = next((port for port in range(16_100, _LAST_PORT, 100) if _is_free(moved._replace(first=port), opened)), 0)
    advice = f"`{moved.key}: {_LOCAL}:{port}`" if moved.host == _LOCAL else f"another port in `{moved.key}`, as {port}"
    where = "" if moved.key == "listen" else f" in {moved.title}"
    return Fault(
        f"{at.title} takes {at.shown}, and {against.title} {against.shown}: set {advice}{where}",
        at.place,
        quoting=False,
    )


def _is_free(one: _Opened, opened: list[_Opened]) -> bool:
    return not any(_collide(one, other) for other in opened if other.title != one.title)


def _parted(address: object) -> tuple[str, int] | None:
    """Return host and port of an address to listen on; None where there is none."""
    if not isinstance(address, str):
        return None
    try:
        return host_port(address)
    except ValueError:
        return None
