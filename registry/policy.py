"""The house rules: what one source may publish, checked endpoint by endpoint and label by label.

They are stricter than istiod, which takes loopback addresses, unix sockets and the labels that steer its own mTLS
(security.md T02, T05, T06, T08, T09). The offender is refused with a reason; its service lives on (G8).
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from isthmus.registry import codes
from isthmus.registry.acceptance import endpoint_reasons, host_fault, label_key_fault, label_value_fault
from isthmus.registry.model import Endpoint, Pairs, Refusal, Service, WorkloadEntry
from isthmus.registry.names import is_label

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network

ENDPOINT_LIMIT = 5_000
SERVICE_LIMIT = 50_000
LABEL_LIMIT = 16
LABEL_VALUE_LENGTH = 63
RECORD_LENGTH = 65_536
_ADDRESS_LENGTH = 64

_RESERVED_DOMAINS = ("istio.io", "k8s.io", "kubernetes.io")
_CLUSTER_SUFFIXES = (".svc", ".cluster.local", ".localhost")
_FORBIDDEN = tuple(
    map(
        ip_network,
        (
            *("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4"),
            *("::/96", "::ffff:0:0/96", "fe80::/10", "fec0::/10", "ff00::/8"),
            # These carry an IPv4 address inside.
            *("64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16"),
        ),
    )
)


class Policy(Struct, frozen=True):
    """What the operator says of one source; registrants cannot change any of it (T09).

    `allow` are CIDRs that pass although the house rules forbid them; `settle` is in seconds (registry/guard.py).
    """

    source: str
    locality: str = ""
    network: str = ""
    vip: bool = True
    export_to: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    settle: float = 0.0
    revisions: tuple[str, ...] = ()


def admit(service: Service, policy: Policy, known: Service | None = None) -> Service:
    """Return the service as it may be published: its good endpoints, and a refusal for everything left out.

    known: what was admitted of it last, by the same policy; an endpoint that is the same passes again unlooked at.
    """
    if fault := forbidden_host(service.host) or forbidden_namespace(service.namespace):
        refusal = Refusal(codes.INVALID_HOST, fault, service.key)
        return replace(service, endpoints=(), refused=(*service.refused, refusal))
    refused = list(service.refused)
    port_names = frozenset(port.name for port in service.ports)
    admitted: list[Endpoint] = []
    passed = frozenset(known.endpoints) if known is not None and known.ports == service.ports else frozenset()
    for endpoint in service.endpoints:
        if endpoint in passed:
            admitted.append(endpoint)
        elif (found := refuse_endpoint(endpoint, port_names, policy)) is not None:
            refused.append(found)
        else:
            admitted.append(_as_published(endpoint, policy, refused))
    if len(admitted) > ENDPOINT_LIMIT:
        reason = f"{len(admitted)} endpoints; {ENDPOINT_LIMIT} are served, the first by address"
        refused.append(Refusal(codes.TOO_MANY, reason, service.key))
        admitted = sorted(admitted, key=lambda one: (one.workload.address, one.workload.ports))[:ENDPOINT_LIMIT]
    return replace(
        service,
        endpoints=tuple(admitted),
        refused=tuple(refused),
        export_to=policy.export_to or service.export_to,
        revisions=policy.revisions or service.revisions,
    )


def forbidden_host(host: str) -> str | None:
    """Say why no source may publish `host`, or None: istiod's own rules, wildcards, and what the cluster owns (T02)."""
    if fault := host_fault(host):
        return fault
    if "*" in host:
        return f"host {host!r} is a wildcard"
    bare = host.lower().rstrip(".")
    if "." not in bare:
        return f"host {host!r} is a bare name, which would take the short name of a Kubernetes service"
    if bare.endswith(_CLUSTER_SUFFIXES) or ".svc." in bare:
        return f"host {host!r} belongs to the cluster"
    return None


def forbidden_namespace(namespace: str) -> str | None:
    """Say why `namespace` is none that Kubernetes could have, or None."""
    return None if is_label(namespace) else f"namespace {namespace[:100]!r} is not a DNS label"


def refuse_endpoint(endpoint: Endpoint, port_names: frozenset[str], policy: Policy) -> Refusal | None:
    """Return why an endpoint of a service with these ports may not be published, or None."""
    workload = endpoint.workload
    for name, number in workload.ports:
        if not 0 < number < 65_536:
            return Refusal(codes.BAD_PORT, f"port {name} is {number}, not 1 to 65535", endpoint.record)
    if len(workload.address) > _ADDRESS_LENGTH:
        # Not cached, and not shown: it is no address, and may be long.
        return Refusal(codes.NOT_AN_ADDRESS, f"a text of {len(workload.address)} characters is no IP address")
    if found := _judge_address(workload.address, policy.allow):
        return Refusal(*found, endpoint.record)
    if reasons := endpoint_reasons(_bare(workload), port_names, "STATIC"):
        return Refusal(codes.NOT_ACCEPTABLE, "; ".join(reasons), endpoint.record)
    return None


def _bare(workload: WorkloadEntry) -> WorkloadEntry:
    # Labels are judged one by one, and cost themselves only.
    return replace(workload, labels=()) if workload.labels else workload


@lru_cache(maxsize=65_536)
def _judge_address(text: str, allow: tuple[str, ...]) -> tuple[str, str] | None:
    try:
        address = ip_address(text)
    except ValueError:
        return codes.NOT_AN_ADDRESS, f"{text[:100]!r} is not an IP address"
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return codes.FORBIDDEN_ADDRESS, f"{text} is bound to one host's interface"
    if not any(_within(address, net) for net in _FORBIDDEN):
        return None
    if any(_within(address, ip_network(cidr)) for cidr in allow):
        return None
    return codes.FORBIDDEN_ADDRESS, f"{text} is {_kind(address)}; list it under `allow` of the source if it is meant"


def _within(address: IPv4Address | IPv6Address, net: IPv4Network | IPv6Network) -> bool:
    return address.version == net.version and address in net


def _kind(address: IPv4Address | IPv6Address) -> str:
    kinds = {
        "loopback": address.is_loopback,
        "link-local": address.is_link_local,
        "multicast": address.is_multicast,
        "the unspecified address": address.is_unspecified,
    }
    return next((kind for kind, true in kinds.items() if true), "in a reserved or embedding range")


def _as_published(endpoint: Endpoint, policy: Policy, refused: list[Refusal]) -> Endpoint:
    workload = endpoint.workload
    canonical = str(ip_address(workload.address)) if ":" in workload.address else workload.address
    labels = _labels(workload, endpoint.record, refused) if workload.labels else ()
    locality = policy.locality or workload.locality
    network = policy.network or workload.network
    if (canonical, labels, locality, network) == (
        workload.address,
        workload.labels,
        workload.locality,
        workload.network,
    ):
        return endpoint
    published = replace(workload, address=canonical, labels=labels, locality=locality, network=network)
    return Endpoint(published, endpoint.record)


def _labels(workload: WorkloadEntry, record: str, refused: list[Refusal]) -> Pairs:
    kept: list[tuple[str, str]] = []
    for key, value in workload.labels:
        fault = label_fault(key, value)
        if fault is None and len(kept) == LABEL_LIMIT:
            fault = f"label {key!r} is one more than the {LABEL_LIMIT} an endpoint may have"
        if fault is None:
            kept.append((key, value))
        else:
            refused.append(Refusal(codes.LABEL_REFUSED, fault, record))
    return tuple(kept)


def label_fault(key: str, value: str) -> str | None:
    """Say why a label may not go out, or None: istiod's syntax, Kubernetes's length, and Istio's own keys (T09)."""
    domain = key.rpartition("/")[0].lower()
    if any(domain == reserved or domain.endswith("." + reserved) for reserved in _RESERVED_DOMAINS):
        return f"label {key!r} belongs to Istio or Kubernetes"
    if len(value) > LABEL_VALUE_LENGTH:
        return f"value of label {key!r} is longer than {LABEL_VALUE_LENGTH} characters"
    return label_key_fault(key) or label_value_fault(value)
