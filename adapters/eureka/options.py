"""What the operator says of a Eureka source."""

from __future__ import annotations

from typing import Final

from msgspec import field

from isthmus.adapters.applications import DEFAULT_PORT, DEFAULT_SUFFIX, ApplicationPort
from isthmus.adapters.base import SourceOptions

METADATA: Final = "metadata:"
NAMES_FROM: Final = ("app", "vip", METADATA)
SECURE_PORTS: Final = ("auto", "never", "always")
# What speaks TLS itself: its instances are reached at their secure port.
TLS_PROTOCOLS: Final = frozenset({"HTTPS", "TLS"})


class EurekaOptions(SourceOptions, frozen=True, kw_only=True, tag_field="kind", tag="eureka"):
    """The applications of one Eureka cluster.

    address: `http(s)://host:port/eureka[,http(s)://host:port/eureka…]`, the service URLs of its servers without
        credentials. The first is read; the next one when it fails, and then that one until it fails (EU5).
    username, password: basic authentication; write `${NAME}` to take the password from the environment.
    ca: PEM file of the authorities that may vouch for the servers; empty: those of the system.
    name_from: what names the service of an instance: `app`; `vip`, its VIP addresses, of which it may have several;
        or `metadata:KEY`. The name is lower-cased.
    suffix: the last part of the host.
    port, protocol: the service's port for its clients, the same whatever port each instance listens on.
    services: service name -> port and protocol of that service.
    secure_port: which port of an instance is called: `auto`, the secure one of a service whose protocol is HTTPS or
        TLS and else the plain one; `never`; `always`, for a mesh that originates the TLS itself (DestinationRule).
        There is one protocol for all endpoints of a service, so an instance whose port of that kind is disabled is
        refused visibly.
    statuses: an instance serves in one of these; an overridden status counts before its own, unless that is DOWN or
        STARTING (EU7).
    region: first part of the locality; empty: no locality.
    zones: zone -> locality of its instances, instead of `region/zone`. The zone is the instance's metadata `zone`, or
        the availability zone of its Amazon data center.
    settle: seconds, as for every source: a lease (90 s), after which a client that was cut off counts as dead, and a
        renewal (30 s), with which it registers anew.
    poll: seconds between two requests for what changed, give or take a tenth; 1 to 300.
    full_every: after so many polls everything is read (EU2).
    """

    address: str
    settle: float = 120.0
    username: str = ""
    password: str = ""
    ca: str = ""
    name_from: str = "app"
    suffix: str = DEFAULT_SUFFIX
    port: int = DEFAULT_PORT.port
    protocol: str = DEFAULT_PORT.protocol
    services: dict[str, ApplicationPort] = field(default_factory=dict)
    secure_port: str = "auto"
    statuses: tuple[str, ...] = ("UP",)
    region: str = ""
    zones: dict[str, str] = field(default_factory=dict)
    poll: float = 30.0
    full_every: int = 10
