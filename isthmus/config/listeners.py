"""Where subscribers find xDS: addresses, shards, TLS, and what each of them is shown (docs/xds.md)."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from isthmus.config.rules import host_port
from isthmus.mcp.transport import PLAINTEXT, TlsOptions

MAIN = "xds"


class Listener(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """One way to xDS.

    name: how pages, metrics and logs call it.
    address: `host:port`; with `shards` and `routing: ports` the first port of as many; port 0: any free ones.
    shards: how many parts the services are dealt to by a hash of their host; each is a configSource of its own.
    routing: `ports` gives each shard a port; `authority` has one port for all, and the name by which a subscriber
        calls it, `shard-N-of-K...`, says which shard it wants.
    form: `slime` speaks the increments of Slime's istiod, which would wipe any other (slime.md section 2).
    tls: its certificate; without one the listener speaks plaintext.
    types: kinds that are served here, such as ServiceEntry; empty: all that there are.
    namespaces, sources: the only ones whose services are served here; empty: all.
    debug: whether the debug pages are given over xDS; `auto`: to who is on this machine or has shown a certificate,
        where the listener does not hide some namespaces or sources.
    """

    name: str = MAIN
    address: str
    shards: int = 1
    routing: Literal["ports", "authority"] = "ports"
    form: Literal["standard", "slime"] = "standard"
    tls: TlsOptions = PLAINTEXT
    types: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    debug: Literal["auto", "always", "never"] = "auto"

    @property
    def ports(self) -> int:
        """How many ports it takes."""
        return self.shards if self.routing == "ports" else 1

    def port_address(self, index: int) -> str:
        """Return the `host:port` of the port with this index, from 0."""
        host, port = host_port(self.address)
        return f"{f'[{host}]' if ':' in host else host}:{port and port + index}"


class IstiodOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """An istiod whose store is read back (docs/xds.md): an ACK says nothing of what it kept.

    name: how pages and metrics call it; empty: its address.
    address: URL of its debug port, such as http://istiod.istio-system:15014.
    revision: its ISTIO_REVISION; empty: it has none.
    listener: the name of the one that it is told to read; empty: the one that `listen` makes.
    interval: seconds between two readings.
    token_file: file with a bearer token, read each time; empty: none. istiod asks for one beyond loopback.
    ca: file with the certificates that vouch for it; empty: the system's.
    """

    name: str = ""
    address: str
    revision: str = ""
    listener: str = ""
    interval: float = 30.0
    token_file: str = ""
    ca: str = ""
