"""What the values of a configuration may be, beyond their types: one rule for each field, as plain functions.

A rule yields what is wrong with a value; none of its texts holds the value, which may be a secret. What the keys of
sources may hold is in source_rules.py.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING

from isthmus.config.mistakes import Fault, Rule
from isthmus.registry.acceptance import port_number_fault

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DEFAULT_LISTEN = "127.0.0.1:16010"
DEFAULT_DEBUG = "127.0.0.1:16014"

DAY = 86_400
_HOST_LENGTH = 253
_SMALLEST_RANGE = 4
_HOST_LABEL = re.compile("[A-Za-z0-9_](?:[-A-Za-z0-9_]{0,61}[A-Za-z0-9_])?")
_HOST_PORT = re.compile(r"(?:\[(?P<ipv6>[^\[\]]*)\]|(?P<host>[^\[\]:]*)):(?P<port>[0-9]{1,20})", re.ASCII)


def host_port(text: str) -> tuple[str, int]:
    """Part `host:port`, where IPv6 stands in brackets; port 0 passes.

    Raises ValueError, whose text says what is wrong and does not hold the value.
    """
    match = _HOST_PORT.fullmatch(text)
    if match is None:
        raise ValueError(_why_no_host_port(text))
    host, ipv6, port = match["host"], match["ipv6"], int(match["port"])
    if host is None and not _is_ipv6(ipv6):
        raise ValueError("has no IPv6 address between its brackets")
    if host is not None and not _is_host(host):
        raise ValueError("has no host name or address that can be")
    if port and port_number_fault(port):
        raise ValueError("has a port that is not 1 to 65535")
    return (ipv6 if host is None else host), port


def listen_address(value: str) -> Iterator[Fault]:
    """An address to listen on; port 0 stands for any free port."""
    try:
        host_port(value)
    except ValueError as error:
        yield Fault(f"is not `host:port`: it {error}")


def debug_address(value: str) -> Iterator[Fault]:
    """An address to listen on, or nothing."""
    if value:
        yield from listen_address(value)


def seconds(least: float, most: float) -> Rule:
    """Return the rule for a time in seconds; the upper end catches milliseconds."""

    def rule(value: float) -> Iterator[Fault]:
        if not least <= value <= most:
            yield Fault(f"is not {least:g} to {most:g} seconds")

    return rule


def vip_range(value: str) -> Iterator[Fault]:
    """An IPv4 range that addresses can be taken of."""
    yield from cidr(value)
    try:
        network = ip_network(value)
    except ValueError:
        return
    if not isinstance(network, IPv4Network) or network.num_addresses < _SMALLEST_RANGE:
        yield Fault(f"is not an IPv4 range of at least {_SMALLEST_RANGE} addresses")


def whole_sources(value: Mapping[str, object]) -> Iterator[Fault]:
    """What the sources of a configuration owe each other; they may still be of any type."""
    sources = value.get("sources")
    if isinstance(sources, list):
        if not sources:
            yield Fault("there is no source", ("sources",), quoting=False)
        yield from _names(sources)


def cidr(value: str) -> Iterator[Fault]:
    """A range of addresses, without bits beyond its prefix."""
    try:
        ip_network(value)
    except ValueError:
        try:
            meant = ip_network(value, strict=False)
        except ValueError:
            yield Fault("is not a CIDR, such as 10.0.0.0/8")
        else:
            yield Fault(f'has bits set beyond its prefix; did you mean "{meant}"?')


def is_loopback(host: str) -> bool:
    """Tell whether an address or name leads to this machine only."""
    if not _is_address(host):
        return host.lower() == "localhost"
    return _unmapped(host).is_loopback


def is_below_localhost(host: str) -> bool:
    """Tell whether a name is one below `localhost`, which is to lead to this machine and which few resolvers know."""
    return host.lower().endswith(".localhost")


def astray(host: str, bound: str) -> str:
    """Return what a listener is on alone, where a host surely does not lead to it; empty: it may.

    host: a name or address as others say it. bound: that of the address that is listened on.
    """
    here = is_loopback(host) or is_below_localhost(host)
    if not here:
        return "loopback" if is_loopback(bound) else ""
    if not _is_address(bound) or ip_address(bound).is_unspecified:
        return ""
    same = _unmapped(host) == _unmapped(bound) if _is_address(host) else is_loopback(bound)
    return "" if same else bound


def is_host(text: str) -> bool:
    """Tell whether a text can be the name or address of a machine; IPv6 has no brackets here."""
    return _is_ipv6(text) or _is_host(text)


def _names(sources: list[object]) -> Iterator[Fault]:
    first: dict[str, int] = {}
    for index, source in enumerate(sources):
        name = source.get("name") if isinstance(source, dict) else None
        if not isinstance(name, str) or not name:
            continue
        if first.setdefault(name, index) != index:
            yield Fault(f"is the name of sources[{first[name]}] too", ("sources", index, "name"))


def _why_no_host_port(text: str) -> str:
    if _is_ipv6(text) or _is_ipv6(text.rpartition(":")[0]):
        return "has an IPv6 address without brackets: write [::1]:2181"
    host, _, port = text.rpartition(":")
    if ":" not in text or not port or text.endswith("]"):
        return "has no port"
    return "has more than a host and a port" if ":" in host else "has a port that is not 1 to 65535"


def _is_host(text: str) -> bool:
    labels = text.removesuffix(".").split(".")
    if labels[-1].isdecimal():
        return _is_address(text)
    return len(text) <= _HOST_LENGTH and all(map(_HOST_LABEL.fullmatch, labels))


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _unmapped(text: str) -> IPv4Address | IPv6Address:
    address = ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _is_ipv6(text: str) -> bool:
    return ":" in text and _is_address(text)
