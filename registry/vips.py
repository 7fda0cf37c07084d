"""Stable virtual addresses, which istiod gives to nothing that comes over MCP since 1.25 (istio.md finding 9).

An address follows from the host's name alone, so replicas and restarts agree without talking: a hash picks a place in
the range, and a host whose place is taken goes to the next place of its own sequence. The first allocation of a start
is made in the order of names (Catalog.take_changes), so that also the few hosts that collide (in the default range of
16 million about one pair among 5,000) get the same address again.
"""

from __future__ import annotations

from hashlib import blake2b
from ipaddress import IPv4Network, ip_network

from isthmus.registry.errors import ConfigError

# Class E like Istio's own 240.240.0.0/16, and beside it: no route leads there, and the two cannot meet.
DEFAULT_RANGE = "241.0.0.0/8"
_TRIES = 64


class Vips:
    """The table of virtual addresses: resource name -> address."""

    def __init__(self, cidr: str = DEFAULT_RANGE) -> None:
        """Use the addresses of an IPv4 CIDR but its first and last.

        Raises ConfigError: the range is not IPv4 or holds fewer than two usable addresses.
        """
        network = ip_network(cidr)
        if not isinstance(network, IPv4Network) or network.num_addresses < 4:
            raise ConfigError([f"vips.range: {cidr} is not an IPv4 range of at least four addresses"])
        self._network = network
        self._by_name: dict[str, str] = {}
        self._names: dict[str, str] = {}

    def address(self, name: str) -> str | None:
        """Return the address of a name, which it keeps until `release`; None when the range is as good as full."""
        if (known := self._by_name.get(name)) is not None:
            return known
        for attempt in range(_TRIES):
            candidate = self._candidate(name, attempt)
            if candidate not in self._names:
                self._names[candidate] = name
                self._by_name[name] = candidate
                return candidate
        return None

    def release(self, name: str) -> None:
        """Give the address of a name back."""
        if (address := self._by_name.pop(name, None)) is not None:
            del self._names[address]

    def _candidate(self, name: str, attempt: int) -> str:
        digest = blake2b(f"{attempt}/{name}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
        usable = self._network.num_addresses - 2
        return str(self._network[1 + int.from_bytes(digest) % usable])
