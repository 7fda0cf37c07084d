"""Dubbo's registrations: provider URLs to services (pure; used by every registry that Dubbo writes to).

A provider URL is data from strangers (ZK11): its length is bounded, it is percent-decoded once, and whatever cannot be
read is refused with a reason while its neighbours live on. A service is one (protocol, interface, version, group): an
interface whose providers speak two protocols is two hosts, because an endpoint without a number for one of a
ServiceEntry's ports would be called at the service's own.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from msgspec import Struct, field

from isthmus.registry import codes
from isthmus.registry.errors import RecordError
from isthmus.registry.model import Endpoint, Port, Refusal, Service, WorkloadEntry
from isthmus.registry.names import dns_labels, hashed_label, host_name
from isthmus.registry.policy import RECORD_LENGTH

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

DEFAULT_WEIGHT = 100
# Envoy refuses a cluster whose weights add up to more than 32 bits; 5,000 endpoints of this weight stay far below.
MAX_WEIGHT = 10_000
_LONGEST_SHOWN = 4_096
_PORT_DIGITS = 5
_NUMERIC_VERSION = re.compile(r"[0-9][a-z0-9]*(?:\.[a-z0-9]+)*", re.ASCII)
_PLAIN_GROUP = re.compile(r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)


class DubboProtocol(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """How the providers of one URL scheme are published.

    port: the service's port for its clients, the same whatever port each provider listens on.
    protocol: Istio's name of it; istiod knows no Dubbo, so `dubbo` is carried as TCP.
    suffix: the last part of the host.
    """

    port: int
    protocol: str
    suffix: str


PROTOCOLS: dict[str, DubboProtocol] = {
    "dubbo": DubboProtocol(20880, "TCP", "dubbo"),
    "tri": DubboProtocol(50051, "GRPC", "tri"),
}


class DubboRules(Struct, frozen=True):
    """What the operator says of Dubbo's registrations in one source; `labels` maps parameters to label keys."""

    namespace: str
    protocols: dict[str, DubboProtocol] = field(default_factory=PROTOCOLS.copy)
    labels: dict[str, str] = {}


class Provider(Struct, frozen=True, gc=False):
    """One provider as its URL says it."""

    scheme: str
    address: str
    port: int
    version: str
    group: str
    weight: int
    labels: tuple[tuple[str, str], ...]


class Reading(Struct, frozen=True):
    """The services of one interface, by key, and the records that belong to none."""

    services: dict[str, Service]
    refused: tuple[Refusal, ...]


def read_interface(interface: str, records: Iterable[str], rules: DubboRules) -> Reading:
    """Read all provider records of one interface; the order of the records does not matter (ZK10)."""
    providers: dict[tuple[str, str, str], list[tuple[str, Provider]]] = defaultdict(list)
    refused: list[Refusal] = []
    for record in sorted(records):
        try:
            provider = parse_provider(record, rules)
        except RecordError as error:
            refused.append(Refusal(error.code, error.reason, _shown(record)))
        else:
            if provider is not None:
                providers[provider.scheme, provider.version, provider.group].append((record, provider))
    services = (_service(interface, *names, members, rules) for names, members in providers.items())
    return Reading({service.key: service for service in services}, tuple(refused))


def _shown(record: str) -> str:
    # Whole or not at all: a page masks the credentials in a record, and cannot in one that was cut within them (T17).
    return record if len(record) <= _LONGEST_SHOWN else f"({len(record)} characters)"


def parse_provider(record: str, rules: DubboRules) -> Provider | None:
    """Read one percent-encoded provider URL; None for `empty://`, Dubbo's word for "no provider".

    Raises RecordError: the record is too long or garbled, its scheme is unknown, its port is none, it is disabled or
    has weight 0.
    """
    if len(record) > RECORD_LENGTH:
        raise RecordError(codes.TOO_LONG, f"the record has {len(record)} characters; {RECORD_LENGTH} are read")
    try:
        url = unquote(record, errors="strict")
    except UnicodeDecodeError as error:
        raise RecordError(codes.GARBLED, "the record is not UTF-8 under its percent-encoding") from error
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise RecordError(codes.GARBLED, "the record is not a URL")
    if scheme == "empty":
        return None
    if scheme not in rules.protocols:
        known = ", ".join(rules.protocols)
        raise RecordError(codes.UNKNOWN_SCHEME, f"scheme {scheme[:40]!r} is not one of {known}")
    authority, _, tail = rest.partition("/")
    address, port = _address(authority.rpartition("@")[2])
    parameters = _parameters(tail.partition("?")[2])
    return Provider(
        scheme,
        address,
        port,
        parameters.get("version") or parameters.get("default.version") or "",
        parameters.get("group") or parameters.get("default.group") or "",
        _weight(parameters),
        _labels(parameters, rules.labels) if rules.labels else (),
    )


def service_key(interface: str, version: str, group: str) -> str:
    """Return Dubbo's own name of a service: `group/interface:version`, without the parts that are not there.

    What holds one of the separators is percent-encoded, so that no two services share a name.
    """
    name = f"{_part(group)}/{_part(interface)}" if group else _part(interface)
    return f"{name}:{_part(version)}" if version else name


def _part(text: str) -> str:
    return quote(text, safe="$", errors="surrogatepass")


def dubbo_host(interface: str, version: str, group: str, suffix: str) -> str:
    """Return the host of a Dubbo service, the same from every registry: `interface[.version][.group].suffix`.

    A version starts with a digit and a group with a letter, so neither is taken for the other; what is different gets
    a hash.
    """
    labels = dns_labels(interface)
    if version:
        labels = (*labels, _version_label(version))
    if group:
        labels = (*labels, group if _PLAIN_GROUP.fullmatch(group) else hashed_label(group, "group"))
    return host_name(labels, suffix)


def _version_label(version: str) -> str:
    if len(version) < 64 and _NUMERIC_VERSION.fullmatch(version):
        return version.replace(".", "-")
    return hashed_label(version, "version")


def _address(authority: str) -> tuple[str, int]:
    # Dubbo writes IPv6 without brackets, so the port is what follows the last colon.
    host, _, port = authority.rpartition(":")
    # Bounded first: Python refuses to read a number of more than 4,300 digits.
    if not (len(port) <= _PORT_DIGITS and port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
        raise RecordError(codes.BAD_PORT, f"port {port[:40]!r} is not a number from 1 to 65535")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    return host, int(port)


def _parameters(query: str) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for part in query.split("&"):
        name, _, value = part.partition("=")
        parameters[name] = value
    if parameters.get("disabled") == "true" or parameters.get("enabled") == "false":
        raise RecordError(codes.DISABLED, "the provider is registered as disabled")
    return parameters


def _weight(parameters: Mapping[str, str]) -> int:
    text = parameters.get("weight", "")
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 12):
        return DEFAULT_WEIGHT
    weight = int(text)
    if weight <= 0:
        raise RecordError(codes.ZERO_WEIGHT, "weight 0 takes the provider out of traffic")
    return min(weight, MAX_WEIGHT)


def _labels(parameters: Mapping[str, str], wanted: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    found = {label: value for name, label in wanted.items() if (value := parameters.get(name))}
    return tuple(sorted(found.items()))


def _service(
    interface: str,
    scheme: str,
    version: str,
    group: str,
    members: list[tuple[str, Provider]],
    rules: DubboRules,
) -> Service:
    protocol = rules.protocols[scheme]
    port_name = f"{protocol.protocol.lower()}-{scheme}"
    weighted = any(provider.weight != DEFAULT_WEIGHT for _, provider in members)
    identity = f"{scheme}:{service_key(interface, version, group)}"
    return Service(
        key=identity,
        identity=identity,
        namespace=rules.namespace,
        host=dubbo_host(interface, version, group, protocol.suffix),
        ports=(Port(protocol.port, port_name, protocol.protocol),),
        endpoints=tuple(
            Endpoint(
                WorkloadEntry(
                    provider.address,
                    ((port_name, provider.port),),
                    provider.labels,
                    provider.weight if weighted else 0,
                ),
                record,
            )
            for record, provider in members
        ),
    )
