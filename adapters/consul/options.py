"""What the operator says of a Consul source."""

from __future__ import annotations

from typing import Final

from msgspec import field

from isthmus.adapters.applications import DEFAULT_PORT, DEFAULT_SUFFIX, ApplicationPort
from isthmus.adapters.base import SourceOptions

HEALTH: Final = ("passing", "warning", "any")
CONSISTENCY: Final = ("default", "consistent", "stale")


class ConsulOptions(SourceOptions, frozen=True, kw_only=True, tag_field="kind", tag="consul"):
    """The services of one datacenter of Consul.

    address: `http(s)://host:port[,http(s)://host:port…]`, agents or servers. One is asked; the next one when it fails.
    token: an ACL token; write `${NAME}` to take it from the environment.
    ca: PEM file of the authorities that may vouch for Consul; empty: those of the system.
    cert, key: PEM files of the client certificate that Consul asks for, and of its key; empty: none.
    datacenter: the one that is read; empty: the agent's own.
    consul_namespace, partition: of Consul Enterprise; empty: the token's own.
    suffix: the last part of the host, `web.mesh`. Give sources of two datacenters the same one, and a service that is
        in both is one service; give them different ones, and it is two.
    port, protocol: the service's port for its clients, the same whatever port each instance listens on.
    services: service name -> port and protocol of that service.
    health: `passing` takes instances all of whose checks pass, `warning` those with a warning too, `any` all. An
        instance in maintenance is critical, and never taken but by `any`.
    panic_threshold: below this share of healthy instances health says more of the checks than of the instances, and
        all are kept (CO10): of a service that has several, and of the whole source. Two kinds of instances count on
        neither side, and are never kept so: those in maintenance, which is meant, and those that have not been healthy
        since they came, which may be starting. 0: never.
    tagged_address: which of the tagged addresses is an endpoint's: `lan`, `wan`, `virtual` or another one; where the
        instance has none of that name, and if this is empty, its own address, and where it has none its node's (CO13).
    kubernetes_tag: instances with this tag were put there by Consul's sync from Kubernetes, and are passed by.
    settle: seconds, as for every source: in which Consul's agents tell a cluster anew what runs on them.
    consistency: `default`, `consistent`, or `stale`, by which any server answers, not the leader alone.
    max_stale: seconds; an answer of a server that was out of touch with its leader for longer withdraws nothing (CO7).
    wait: seconds that Consul may let a question for changes wait; 1 to 600 (CO5).
    requests: services a second that are read again: those that changed, and all of them where Consul tells of a change
        and not of which service. What was not used lately, up to ten seconds of it, may be used at once; the first read
        is not held back.
    reconcile: seconds, give or take a tenth, after which every service is read again behind the watches (G6).
    """

    address: str
    settle: float = 120.0
    token: str = ""
    ca: str = ""
    cert: str = ""
    key: str = ""
    datacenter: str = ""
    consul_namespace: str = ""
    partition: str = ""
    suffix: str = DEFAULT_SUFFIX
    port: int = DEFAULT_PORT.port
    protocol: str = DEFAULT_PORT.protocol
    services: dict[str, ApplicationPort] = field(default_factory=dict)
    health: str = "passing"
    panic_threshold: float = 0.3
    tagged_address: str = ""
    kubernetes_tag: str = "k8s"
    consistency: str = "default"
    max_stale: float = 10.0
    wait: float = 300.0
    requests: float = 200.0
    reconcile: float = 300.0
