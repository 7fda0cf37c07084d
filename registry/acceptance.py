"""Would istiod take a resource? Its own acceptance rules, as a pure checker that says why not.

istiod checks what it receives over MCP as its webhook would, tells nobody the verdict, and keeps the old
version of what it refuses; so one bad label freezes a whole service (T07). The rules are those of Istio
1.29: what passes them passes in newer versions too. tests/golden/istio_acceptance.json holds verdicts of
Istio's own validators on 208 resources.

Functions named `…_fault` look at one value and return why it is refused, or None. They are called for every
label and endpoint at start, so each of them costs about a microsecond.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from isthmus.registry.model import Pairs, Port, Resolution, ServiceEntry, WorkloadEntry

# Protocols that name the host a request is for, so that several hosts can share a port.
_HOST_AWARE = frozenset(("grpc", "grpc-web", "http", "http_proxy", "http2", "https", "tls"))
PROTOCOLS: Final = _HOST_AWARE | frozenset(("tcp", "udp", "mongo", "redis", "mysql"))
FORBIDDEN_ANNOTATIONS: Final = (
    "istio.io/dry-run",
    "internal.istio.io/webhook-always-reject",
    "internal.istio.io/parents",
    "internal.istio.io/parent-namespace",
)

_DYNAMIC_DNS_PROTOCOLS = frozenset(("http", "tls"))
_UNIX = "unix://"
_MAX_HOST = 255
_MAX_LABEL = 63
_MAX_KEY_PREFIX = 253
_MAX_PORT = 65535
_MAX_UINT32 = 2**32 - 1
_MAX_INT64 = 2**63 - 1
_SHOWN = 80

_LABEL = "[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?"
_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_DNS_LABEL = re.compile(_LABEL)
_FIRST_LABEL = re.compile(rf"\*|(?:\*-?)?{_LABEL}")
_KEY_PREFIX = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_QUALIFIED = re.compile("(?:[A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_IPV4 = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}")
_PREFIX_LENGTH = re.compile("0|[1-9][0-9]{0,2}")

_LABEL_RULE = "1 to 63 letters, digits and '-', with a letter or digit first and last"
_QUALIFIED_RULE = "letters, digits, '-', '_' and '.', with a letter or digit first and last"


def service_entry_reasons(entry: ServiceEntry) -> tuple[str, ...]:
    """Return every reason why istiod refuses a ServiceEntry; empty: it takes it (G8)."""
    return (
        *resource_reasons(entry.namespace, entry.name, entry.annotations),
        *_selector_reasons(entry),
        *_host_reasons(entry),
        *_address_reasons(entry),
        *_port_reasons(entry.ports),
        *_resolution_reasons(entry),
        *_export_reasons(entry),
    )


def workload_entry_reasons(entry: WorkloadEntry) -> tuple[str, ...]:
    """Return every reason why istiod refuses a WorkloadEntry of its own; empty: it takes it (G8)."""
    return tuple(_workload_reasons(entry, None, None))


def endpoint_reasons(endpoint: WorkloadEntry, port_names: Collection[str], resolution: Resolution) -> tuple[str, ...]:
    """Return every reason why an endpoint makes istiod refuse its service; empty: it may stay (G8, T07).

    `port_names` are the names of the service's ports, `resolution` is the service's.
    """
    return tuple(_workload_reasons(endpoint, port_names, resolution))


def resource_reasons(namespace: str, name: str, annotations: Pairs) -> tuple[str, ...]:
    """Return every reason why istiod refuses a resource of any kind for its name or annotations.

    istiod is told `namespace/name`, and deletes the resource where that holds not exactly one slash.
    """
    names = tuple(
        f"metadata.{field}: {quoted(value)} holds a '/', which parts namespace and name"
        for field, value in (("namespace", namespace), ("name", name))
        if "/" in value
    )
    return names + tuple(
        f"metadata.annotations: {quoted(key)} is Istio's own and may not be set here"
        for key, _ in annotations
        if key in FORBIDDEN_ANNOTATIONS
    )


def host_fault(host: str) -> str | None:
    """Say why a host is refused: it is no DNS name, with or without a wildcard at its beginning."""
    if host == "*":
        return "'*' would be every host there is"
    if fault := _length_fault(host):
        return fault
    first, dot, rest = host.partition(".")
    if len(first) > _MAX_LABEL or not _FIRST_LABEL.fullmatch(first):
        return f"{quoted(host)}: the part {quoted(first)} is not {_LABEL_RULE}"
    return _dns_fault(host, rest) if dot else None


def domain_fault(name: str) -> str | None:
    """Say why a name is no full domain name: like a host, but without wildcard and never only digits."""
    return _length_fault(name) or _dns_fault(name, name)


def label_key_fault(key: str) -> str | None:
    """Say why the key of an endpoint's label is refused: `[DNS prefix/]name`."""
    prefix, slash, name = key.rpartition("/")
    if not _QUALIFIED.fullmatch(name):
        return f"label key {quoted(key)}: the name {quoted(name)} is not {_QUALIFIED_RULE}"
    if len(name) > _MAX_LABEL:
        return f"label key {quoted(key)}: the name is longer than {_MAX_LABEL} characters"
    if slash and not _KEY_PREFIX.fullmatch(prefix):
        return f"label key {quoted(key)}: the prefix {quoted(prefix)} is not a DNS name"
    if len(prefix) > _MAX_KEY_PREFIX:
        return f"label key {quoted(key)}: the prefix is longer than {_MAX_KEY_PREFIX} characters"
    return None


def label_value_fault(value: str) -> str | None:
    """Say why the value of a label is refused; istiod takes any length, Kubernetes at most 63."""
    if not value or _QUALIFIED.fullmatch(value):
        return None
    return f"label value {quoted(value)} is not {_QUALIFIED_RULE}"


def port_name_fault(name: str) -> str | None:
    """Say why the name of a port is refused."""
    if len(name) <= _MAX_LABEL and _DNS_LABEL.fullmatch(name):
        return None
    return f"port name {quoted(name)} is not {_LABEL_RULE}"


def port_number_fault(number: int) -> str | None:
    """Say why the number of a port is refused."""
    return None if 1 <= number <= _MAX_PORT else f"port number {number} is not between 1 and {_MAX_PORT}"


def protocol_fault(protocol: str) -> str | None:
    """Say why the protocol of a port is refused; an empty one lets the proxy find out for itself."""
    if not protocol or protocol.lower() in PROTOCOLS:
        return None
    return f"protocol {quoted(protocol)} is none that Istio knows: {', '.join(sorted(PROTOCOLS))}"


def address_fault(address: str, resolution: Resolution | None) -> str | None:
    """Say why the address of an endpoint is refused under its service's resolution.

    With STATIC it is an IP address or `unix://` and a path, with the DNS kinds an IP address or a domain
    name; None stands for a WorkloadEntry of its own, which may have any of these.
    """
    if is_ip_address(address):
        return None
    if not address:
        return "an address is needed"
    if resolution in (None, "STATIC") and address.startswith(_UNIX):
        return _unix_fault(address)
    if resolution == "STATIC":
        return f"address {quoted(address)} is not an IP address, which resolution STATIC needs"
    if domain_fault(address):
        return f"address {quoted(address)} is neither an IP address nor a domain name"
    return None


def is_ip_address(text: str) -> bool:
    """Whether istiod reads a text as one IP address: no zeros in front, no brackets, IPv6 zone or not."""
    if _IPV4.fullmatch(text):
        return True
    digits, percent, zone = text.partition("%")
    if ":" not in digits or (percent and not zone):
        return False
    try:
        ipaddress.IPv6Address(digits)
    except ValueError:
        return False
    return True


def quoted(value: str) -> str:
    """Return a value for people: in quotes, cut where it is long, unprintable characters escaped (T11)."""
    return repr(value) if len(value) <= _SHOWN else f"{value[:_SHOWN]!r}..."


def _length_fault(name: str) -> str | None:
    if not name:
        return "the name is empty"
    return f"{quoted(name)} is longer than {_MAX_HOST} characters" if len(name) > _MAX_HOST else None


def _dns_fault(name: str, domain: str) -> str | None:
    """Say what is wrong with `domain`, the whole or the end of `name`; a dot may end it."""
    labels = domain.split(".")
    last = labels[-1]
    # Go's number parser decides what is "all digits" for istiod, and it stops at 64 bits.
    if last.isascii() and last.isdigit() and int(last) <= _MAX_INT64:
        return f"{quoted(name)}: the last part {quoted(last)} is only digits"
    if not last:
        labels.pop()
    for label in labels:
        if len(label) > _MAX_LABEL or not _DNS_LABEL.fullmatch(label):
            return f"{quoted(name)}: the part {quoted(label)} is not {_LABEL_RULE}"
    return None


def _unix_fault(address: str) -> str | None:
    path = address.removeprefix(_UNIX)
    if path.startswith("@") or (path.startswith("/") and not path.endswith("/")):
        return None
    return f"address {quoted(address)} needs the absolute path of a socket after {_UNIX}"


def _selector_reasons(entry: ServiceEntry) -> Iterator[str]:
    if entry.workload_selector is None:
        return
    if entry.endpoints:
        yield "workloadSelector and endpoints exclude each other"
    for key, value in entry.workload_selector:
        if not key:
            yield f"workloadSelector.labels: the key of the value {quoted(value)} is empty"
        if "*" in key or "*" in value:
            yield f"workloadSelector.labels: {quoted(f'{key}={value}')} holds a '*', which matches nothing"


def _host_reasons(entry: ServiceEntry) -> Iterator[str]:
    if not entry.hosts:
        yield "hosts: at least one is needed"
    for index, host in enumerate(entry.hosts):
        if fault := host_fault(host):
            yield f"hosts[{index}]: {fault}"
    if len(entry.hosts) > 1 and entry.resolution != "NONE":
        mixed = [port.protocol for port in entry.ports if port.protocol.lower() not in _HOST_AWARE]
        if mixed:
            yield (
                f"hosts: {len(entry.hosts)} hosts cannot share a port with protocol {quoted(mixed[0])}: "
                "only HTTP and TLS say which host is meant"
            )


def _address_reasons(entry: ServiceEntry) -> Iterator[str]:
    for index, address in enumerate(entry.addresses):
        if not _is_address_or_cidr(address):
            yield f"addresses[{index}]: {quoted(address)} is neither an IP address nor a CIDR block"
        elif "/" in address and entry.resolution not in ("NONE", "STATIC"):
            yield f"addresses[{index}]: the CIDR block {quoted(address)} needs resolution NONE or STATIC"


def _is_address_or_cidr(text: str) -> bool:
    if text.count("/") != 1:
        return is_ip_address(text)
    address, _, length = text.partition("/")
    if "%" in address or not is_ip_address(address) or not _PREFIX_LENGTH.fullmatch(length):
        return False
    return int(length) <= (128 if ":" in address else 32)


def _port_reasons(ports: tuple[Port, ...]) -> Iterator[str]:
    for index, port in enumerate(ports):
        place = f"ports[{index}]"
        if fault := port_name_fault(port.name):
            yield f"{place}: {fault}"
        if fault := port_number_fault(port.number):
            yield f"{place}: {fault}"
        if fault := protocol_fault(port.protocol):
            yield f"{place}: {fault}"
        if port.target_port and (fault := port_number_fault(port.target_port)):
            yield f"{place}.targetPort: {fault}"
    yield from _repeated_port_reasons(ports)


def _repeated_port_reasons(ports: tuple[Port, ...]) -> Iterator[str]:
    names: set[str] = set()
    numbers: set[int] = set()
    for index, port in enumerate(ports):
        if port.name in names:
            yield f"ports[{index}]: the name {quoted(port.name)} is taken by a port before it"
        if port.number in numbers:
            yield f"ports[{index}]: the number {port.number} is taken by a port before it"
        names.add(port.name)
        numbers.add(port.number)


def _resolution_reasons(entry: ServiceEntry) -> Iterator[str]:
    match entry.resolution:
        case "STATIC":
            yield from _endpoints_reasons(entry)
        case "DNS" | "DNS_ROUND_ROBIN":
            yield from _endpoints_reasons(entry)
            yield from _dns_reasons(entry)
        case "DYNAMIC_DNS":
            yield from _dynamic_dns_reasons(entry)
        case "NONE":
            if entry.endpoints:
                yield "endpoints: resolution NONE has none"


def _endpoints_reasons(entry: ServiceEntry) -> Iterator[str]:
    port_names = frozenset(port.name for port in entry.ports)
    for index, endpoint in enumerate(entry.endpoints):
        for reason in _workload_reasons(endpoint, port_names, entry.resolution):
            yield f"endpoints[{index}]: {reason}"


def _workload_reasons(
    workload: WorkloadEntry, port_names: Collection[str] | None, resolution: Resolution | None
) -> Iterator[str]:
    elsewhere = not workload.address and bool(workload.network) and resolution in (None, "STATIC")
    if not elsewhere and (fault := address_fault(workload.address, resolution)):
        yield fault
    if workload.address.startswith(_UNIX) and resolution in (None, "STATIC"):
        yield from _socket_reasons(workload, port_names)
    for name, number in workload.ports:
        if port_names is not None and name not in port_names:
            yield f"ports: the service has no port {quoted(name)}"
        if fault := port_name_fault(name):
            yield f"ports: {fault}"
        if fault := port_number_fault(number):
            yield f"ports: {quoted(name)}: {fault}"
    yield from _label_reasons(workload.labels)
    if not 0 <= workload.weight <= _MAX_UINT32:
        yield f"weight: {workload.weight} is not between 0 and {_MAX_UINT32}"


def _label_reasons(labels: Pairs) -> Iterator[str]:
    for key, value in labels:
        if fault := label_key_fault(key):
            yield f"labels: {fault}"
        if fault := label_value_fault(value):
            yield f"labels: {quoted(key)}: {fault}"


def _socket_reasons(workload: WorkloadEntry, port_names: Collection[str] | None) -> Iterator[str]:
    if workload.ports:
        yield f"ports: the socket {quoted(workload.address)} has no ports"
    if port_names is not None and len(port_names) != 1:
        yield f"address {quoted(workload.address)} is a socket, which needs exactly 1 port of the service"


def _dns_reasons(entry: ServiceEntry) -> Iterator[str]:
    if entry.resolution == "DNS_ROUND_ROBIN" and len(entry.endpoints) > 1:
        yield f"endpoints: resolution DNS_ROUND_ROBIN has at most 1, not {len(entry.endpoints)}"
    if entry.endpoints:
        return
    for index, host in enumerate(entry.hosts):
        if fault := domain_fault(host):
            yield f"hosts[{index}]: without endpoints this name is looked up in DNS: {fault}"


def _dynamic_dns_reasons(entry: ServiceEntry) -> Iterator[str]:
    for index, host in enumerate(entry.hosts):
        if not host.startswith("*"):
            yield f"hosts[{index}]: {quoted(host)} has no wildcard, which resolution DYNAMIC_DNS needs"
    if entry.addresses:
        yield "addresses: resolution DYNAMIC_DNS has none"
    if entry.endpoints:
        yield "endpoints: resolution DYNAMIC_DNS has none"
    for index, port in enumerate(entry.ports):
        if port.protocol.lower() not in _DYNAMIC_DNS_PROTOCOLS:
            yield f"ports[{index}]: resolution DYNAMIC_DNS takes HTTP and TLS, not {quoted(port.protocol)}"
    if entry.location != "MESH_EXTERNAL":
        yield f"location: resolution DYNAMIC_DNS needs MESH_EXTERNAL, not {entry.location}"


def _export_reasons(entry: ServiceEntry) -> Iterator[str]:
    seen: set[str] = set()
    for index, target in enumerate(entry.export_to):
        namespace = entry.namespace if target == "." else target
        if namespace in seen:
            yield f"exportTo[{index}]: {quoted(target)} is said before"
        elif target != "~" and namespace not in (".", "*") and port_name_fault(namespace):
            yield f"exportTo[{index}]: {quoted(namespace)} is not a namespace, '.', '*' or '~'"
        seen.add(namespace)
    if len(entry.export_to) > 1:
        for alone, meaning in (("*", "everybody"), ("~", "nobody")):
            if alone in seen:
                yield f"exportTo: '{alone}' means {meaning} and stands alone"
