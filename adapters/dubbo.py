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
from isthmus.registry.model import Endpoint, Pairs, Port, Refusal, Service, WorkloadEntry, pairs
from isthmus.registry.names import dns_labels, hashed_label, host_name
from isthmus.registry.policy import RECORD_LENGTH

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

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


class DubboName(Struct, frozen=True):
    """What tells Dubbo services apart; `qualifiers` are the scopes of a registry that has them, () in its home."""

    scheme: str
    interface: str
    version: str
    group: str
    qualifiers: tuple[str, ...] = ()


class Provider(Struct, frozen=True, gc=False):
    """One provider as its URL says it, or as the parameters of that URL do where a registry keeps them apart."""

    scheme: str
    address: str
    port: int
    version: str
    group: str
    weight: int
    labels: Pairs
    locality: str = ""


class Reading(Struct, frozen=True):
    """The services of one interface or one name, by key, and the records that belong to none."""

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
            refused.append(Refusal(error.code, error.reason, shown(record)))
        else:
            if provider is not None:
                providers[provider.scheme, provider.version, provider.group].append((record, provider))
    services = (
        dubbo_service(DubboName(scheme, interface, version, group), members, rules)
        for (scheme, version, group), members in providers.items()
    )
    return Reading({service.key: service for service in services}, tuple(refused))


def shown(record: str) -> str:
    """Return a record as a refusal shows it."""
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
    require_known(scheme, rules)
    authority, _, tail = rest.partition("/")
    address, port = _address(authority.rpartition("@")[2])
    return provider_of(scheme, address, port, _parameters(tail.partition("?")[2]), rules)


def require_known(scheme: str, rules: DubboRules) -> None:
    """Raise RecordError where the source is not configured for a scheme."""
    if scheme not in rules.protocols:
        known = ", ".join(rules.protocols)
        raise RecordError(codes.UNKNOWN_SCHEME, f"scheme {scheme[:40]!r} is not one of {known}")


def provider_of(
    scheme: str, address: str, port: int, parameters: Mapping[str, str], rules: DubboRules, locality: str = ""
) -> Provider:
    """Return the provider at a place that registers with these parameters, those of its URL in any registry.

    Raises RecordError: it is disabled or has weight 0.
    """
    if parameters.get("disabled") == "true" or parameters.get("enabled") == "false":
        raise RecordError(codes.DISABLED, "the provider is registered as disabled")
    return Provider(
        scheme,
        address,
        port,
        parameters.get("version") or parameters.get("default.version") or "",
        parameters.get("group") or parameters.get("default.group") or "",
        _weight(parameters),
        chosen_labels(parameters, rules.labels),
        locality,
    )


def dubbo_service(name: DubboName, members: Sequence[tuple[str, Provider]], rules: DubboRules) -> Service:
    """Return the service of these providers, each with the record it was read from.

    Its key is its identity: `scheme:group/interface:version[@qualifier…]`, the same from every registry.
    """
    port = dubbo_port(name.scheme, rules)
    weighted = any(provider.weight != DEFAULT_WEIGHT for _, provider in members)
    own = f"{name.scheme}:{service_key(name.interface, name.version, name.group)}"
    identity = "@".join((own, *map(_part, name.qualifiers)))
    suffix = rules.protocols[name.scheme].suffix
    return Service(
        key=identity,
        identity=identity,
        namespace=rules.namespace,
        host=dubbo_host(name.interface, name.version, name.group, suffix, name.qualifiers),
        ports=(port,),
        endpoints=tuple(
            Endpoint(
                WorkloadEntry(
                    provider.address,
                    ((port.name, provider.port),),
                    provider.labels,
                    provider.weight if weighted else 0,
                    provider.locality,
                ),
                record,
            )
            for record, provider in members
        ),
        usual_weight=DEFAULT_WEIGHT,
    )


def dubbo_port(scheme: str, rules: DubboRules) -> Port:
    """Return the service port of a scheme that the source is configured for."""
    protocol = rules.protocols[scheme]
    return Port(protocol.port, f"{protocol.protocol.lower()}-{scheme}", protocol.protocol)


def chosen_labels(parameters: Mapping[str, str], wanted: Mapping[str, str]) -> Pairs:
    """Return the parameters that may go out, as labels: those that the operator names, and no others (T09)."""
    if not wanted:
        return ()
    return pairs({label: value for name, label in wanted.items() if (value := parameters.get(name))})


def service_key(interface: str, version: str, group: str) -> str:
    """Return Dubbo's own name of a service: `group/interface:version`, without the parts that are not there.

    What holds one of the separators is percent-encoded, so that no two services share a name.
    """
    name = f"{_part(group)}/{_part(interface)}" if group else _part(interface)
    return f"{name}:{_part(version)}" if version else name


def _part(text: str) -> str:
    return quote(text, safe="$", errors="surrogatepass")


def dubbo_host(interface: str, version: str, group: str, suffix: str, qualifiers: tuple[str, ...] = ()) -> str:
    """Return a Dubbo service's host, the same from every registry: `interface[.version][.group][.qualifier…].suffix`.

    A version starts with a digit and a group with a letter, so neither is taken for the other; what is different gets
    a hash. So does every qualifier: a plain one would be taken for a group.
    """
    labels = dns_labels(interface)
    if version:
        labels = (*labels, _version_label(version))
    if group:
        labels = (*labels, group if _PLAIN_GROUP.fullmatch(group) else hashed_label(group, "group"))
    return host_name((*labels, *(hashed_label(one, "qualifier") for one in qualifiers)), suffix)


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
