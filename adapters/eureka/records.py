"""Eureka's records: from an instance as a server writes it to what it is for the mesh (pure).

An instance is data from strangers: what cannot be read costs that instance, with a reason, and its neighbours live on.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from isthmus.adapters.applications import DEFAULT_PORT, DEFAULT_SUFFIX, ApplicationPort, port_of
from isthmus.adapters.eureka.options import METADATA, TLS_PROTOCOLS
from isthmus.adapters.eureka.wire import (
    INSTANCE_LIMIT,
    Core,
    Instance,
    Number,
    RawObject,
    open_application,
    read_as,
)
from isthmus.registry import codes
from isthmus.registry.errors import RecordError
from isthmus.registry.model import Endpoint, Pairs, Refusal, WorkloadEntry, pairs
from isthmus.registry.policy import RECORD_LENGTH

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from isthmus.adapters.eureka.options import EurekaOptions

_LONGEST_SHOWN = 4_096
_LONGEST_WORD = 40
_LONGEST_ADDRESS = 64
_PORT_DIGITS = 5
_MOST_NAMES = 16
_UNKNOWN = "UNKNOWN"
_DELETED = "DELETED"
# What an instance says of itself and no override undoes: no client of Eureka calls it then.
_NOT_READY = ("DOWN", "STARTING")
# The first of them show what is wrong; millions of them would be kept as long as they are there.
_MOST_REFUSED = 100
# So many instances are read in a few milliseconds.
_AT_ONCE = 200
# Seconds that pass at most from the end of a lease to an answer without it: a round of eviction, and two caches.
_EVICTED_WITHIN = 150.0
_PLAIN_IS_DISABLED = (
    "its plain port is disabled; the secure one is called where the service's protocol is HTTPS or TLS (`services`), "
    "or with `securePort: always`"
)
_SECURE_IS_DISABLED = "its secure port, which this service calls, is disabled"
# No slash, which would shift a zone into the place of a subzone, and nothing that needs escaping.
_ZONE = re.compile(r"[A-Za-z0-9][-A-Za-z0-9._]{0,62}", re.ASCII)


class Lease(Struct, frozen=True, gc=False, rename="camel"):
    """How long a registration holds without a renewal; seconds, and milliseconds since 1970."""

    duration_in_secs: Number = 0
    last_renewal_timestamp: Number = 0
    eviction_timestamp: Number = 0

    @property
    def ends(self) -> float:
        """When it is over, in seconds since 1970; 0: not said."""
        return self.last_renewal_timestamp / 1000 + self.duration_in_secs if self.last_renewal_timestamp else 0.0

    @property
    def was_ended(self) -> bool:
        """Whether the instance went because it was over; one that leaves by itself has renewed it lately."""
        lasted = self.eviction_timestamp - self.last_renewal_timestamp
        return self.last_renewal_timestamp > 0 and 0 < self.duration_in_secs * 1000 <= lasted


class EurekaRules(Struct, frozen=True):
    """What the operator says of the instances of one source; see EurekaOptions."""

    namespace: str = "default"
    suffix: str = DEFAULT_SUFFIX
    name_from: str = "app"
    default: ApplicationPort = DEFAULT_PORT
    services: dict[str, ApplicationPort] = {}
    secure_port: str = "auto"
    statuses: frozenset[str] = frozenset({"UP"})
    region: str = ""
    zones: dict[str, str] = {}
    labels: dict[str, str] = {}

    def port_of(self, service: str) -> ApplicationPort:
        return self.services.get(service, self.default)

    def calls_secure_port(self, service: str) -> bool:
        if self.secure_port == "auto":
            return self.port_of(service).protocol.upper() in TLS_PROTOCOLS
        return self.secure_port == "always"


class Member(Struct, frozen=True, gc=False):
    """One instance, read.

    status: as the server counts it in its hash. version: later states of the instance on one server have greater ones.
    placed: service name -> the endpoint there, or why it is none. refused: why it belongs to no service.
    lease_ends: when an instance that serves is overdue, in seconds since 1970; 0: not said.
    evicted: whether it was deleted because its lease was over, and not by its own word.
    """

    key: str
    status: str
    version: tuple[int, int]
    deleted: bool = False
    placed: tuple[tuple[str, Endpoint | Refusal], ...] = ()
    refused: Refusal | None = None
    lease_ends: float = 0.0
    evicted: bool = False

    @property
    def serves(self) -> bool:
        """Whether it is an endpoint of any service."""
        return any(isinstance(one, Endpoint) for _, one in self.placed)

    def says_the_same(self, other: Member) -> bool:
        """Tell whether both mean the same for what is published."""
        return (self.placed, self.refused) == (other.placed, other.refused)


class Reading(Struct, frozen=True):
    """The instances of one application, and what is in it that is none.

    whole: whether all was read; else nothing follows from what it lacks.
    """

    name: str
    members: tuple[Member, ...]
    refused: tuple[Refusal, ...] = ()
    whole: bool = True


def rules_of(options: EurekaOptions) -> EurekaRules:
    """Return the rules that a source's options stand for."""
    return EurekaRules(
        namespace=options.namespace,
        suffix=options.suffix,
        name_from=options.name_from,
        default=ApplicationPort(options.port, options.protocol),
        services={name.lower(): port for name, port in options.services.items()},
        secure_port=options.secure_port,
        statuses=frozenset(status.upper() for status in options.statuses),
        region=options.region,
        zones=options.zones,
        labels=options.labels,
    )


def read_application(value: RawObject, rules: EurekaRules) -> Reading:
    """Read one application with all of its instances. Raises SourceUnavailable: it has no name, so all is in doubt."""
    reading = Reading("", ())
    for piece in read_in_pieces(value, rules):
        reading = piece or reading
    return reading


def read_in_pieces(value: RawObject, rules: EurekaRules) -> Iterator[Reading | None]:
    """Yield None between some instances and the next, so that others can run, and the whole at the end.

    Raises SourceUnavailable: the application has no name, so all is in doubt.
    """
    application, instances = open_application(value)
    if instances is None:
        reason = f"the application has more than {INSTANCE_LIMIT} instances; what was known of it is kept"
        yield Reading(application, (), (Refusal(codes.TOO_MANY, reason, application),), whole=False)
        return
    members: dict[str, Member] = {}
    refused: list[Refusal] = []
    for count, one in enumerate(instances, start=1):
        match read_instance(one, application, rules):
            case Refusal() as refusal:
                refused.append(refusal)
            case member:
                # Of two with one key a server counts the later one only.
                members[member.key] = member
        if count % _AT_ONCE == 0:
            yield None
    yield Reading(application, tuple(members.values()), bounded(refused))


def bounded(refused: Sequence[Refusal]) -> tuple[Refusal, ...]:
    """Return the first of the refusals, and one that counts the others."""
    more = len(refused) - _MOST_REFUSED
    if more <= 0:
        return tuple(refused)
    return (*refused[:_MOST_REFUSED], Refusal(codes.TOO_MANY, f"{more} more are refused and not shown"))


def overdue(readings: Iterable[Reading], at: float) -> int:
    """Return how many instances that serve should have lost their leases, at a server's time in seconds since 1970."""
    members = (member for one in readings for member in one.members)
    return sum(0 < member.lease_ends < at - _EVICTED_WITHIN for member in members)


def read_instance(value: RawObject, application: str, rules: EurekaRules) -> Member | Refusal:
    """Read one instance; a Refusal is what cannot even be told from others."""
    try:
        _check_length(value)
        instance = read_as(Instance, value)
    except RecordError as error:
        return _hardly_read(value, error)
    key = _key(instance)
    if not key:
        return Refusal(codes.GARBLED, "it has no instanceId", _shown(value))
    placed, refused = _placed(instance, application, rules)
    deleted, lease = instance.action_type == _DELETED, _lease(instance)
    return Member(
        key,
        instance.status or "",
        (instance.last_updated_timestamp or 0, instance.last_dirty_timestamp or 0),
        deleted,
        placed,
        refused,
        lease.ends if any(isinstance(one, Endpoint) for _, one in placed) else 0.0,
        deleted and lease.was_ended,
    )


def _check_length(value: RawObject) -> None:
    length = len(value) if isinstance(value, Raw) else len(msgspec.json.encode(value))
    if length > RECORD_LENGTH:
        raise RecordError(codes.TOO_LONG, f"the record has {length} bytes; {RECORD_LENGTH} are read")


def _hardly_read(value: RawObject, fault: RecordError) -> Member | Refusal:
    refusal = Refusal(fault.code, fault.reason, _shown(value))
    try:
        core = read_as(Core, value)
    except RecordError:
        return refusal
    version = (_number(core.last_updated_timestamp), 0)
    return Member(core.instance_id, core.status or "", version, core.action_type == _DELETED, refused=refusal)


def _number(said: object) -> int:
    try:
        return msgspec.convert(said, Number, strict=False)
    except msgspec.ValidationError:
        return 0


def _shown(value: RawObject) -> str:
    # Whole or not at all: a page masks the credentials in a record, and cannot in one that was cut within them (T17).
    text = bytes(value) if isinstance(value, Raw) else msgspec.json.encode(value)
    return text.decode("utf-8", "replace") if len(text) <= _LONGEST_SHOWN else f"({len(text)} bytes)"


def _key(instance: Instance) -> str:
    """Return what tells an instance from the others of its application, as Eureka's own clients do."""
    return instance.instance_id or _amazon(instance, "instance-id") or instance.host_name or ""


def _placed(
    instance: Instance, application: str, rules: EurekaRules
) -> tuple[tuple[tuple[str, Endpoint | Refusal], ...], Refusal | None]:
    # Without the times, which change with every renewal and registration: the record is part of what is compared.
    lasting = replace(
        instance, lease_info=None, last_updated_timestamp=None, last_dirty_timestamp=None, action_type=None
    )
    record = msgspec.json.encode(lasting).decode()
    try:
        names = _names(instance, application, rules)
    except RecordError as error:
        return (), Refusal(error.code, error.reason, record)
    return tuple((name, _endpoint(instance, name, record, rules)) for name in names), None


def _names(instance: Instance, application: str, rules: EurekaRules) -> tuple[str, ...]:
    """Return the services that an instance belongs to."""
    if rules.name_from == "app":
        said = [instance.app or application]
    elif rules.name_from == "vip":
        said = (instance.vip_address or instance.secure_vip_address or "").split(",")
    else:
        said = [_text(instance.metadata, rules.name_from.removeprefix(METADATA))]
    names = tuple(dict.fromkeys(name.strip().lower() for name in said if name.strip()))
    if not names:
        raise RecordError(codes.GARBLED, f"it has no {rules.name_from}, which `nameFrom` names services by")
    if len(names) > _MOST_NAMES:
        raise RecordError(codes.TOO_MANY, f"it has {len(names)} VIP addresses; {_MOST_NAMES} are the most")
    return names


def _endpoint(instance: Instance, name: str, record: str, rules: EurekaRules) -> Endpoint | Refusal:
    try:
        _check_status(instance, rules)
        ports = ((port_of(rules.port_of(name)).name, _port(instance, name, rules)),)
    except RecordError as error:
        return Refusal(error.code, error.reason, record)
    return Endpoint(
        WorkloadEntry(_address(instance), ports, _labels(instance, rules), locality=_locality(instance, rules)), record
    )


def _check_status(instance: Instance, rules: EurekaRules) -> None:
    status = (instance.status or _UNKNOWN).upper()
    overridden = (instance.overridden_status or instance.overriddenstatus or _UNKNOWN).upper()
    if status not in _NOT_READY and overridden != _UNKNOWN:
        status = overridden
    if status not in rules.statuses:
        raise RecordError(codes.DISABLED, f"status {status[:_LONGEST_WORD]}")


def _port(instance: Instance, name: str, rules: EurekaRules) -> int:
    secure = rules.calls_secure_port(name)
    said = instance.secure_port if secure else instance.port
    number = said.get("$") if isinstance(said, dict) else said
    # Eureka's own defaults: a plain port is enabled unless it says no, a secure one only if it says yes.
    enabled = said.get("@enabled", not secure) if isinstance(said, dict) else not secure
    if str(enabled).lower() != "true":
        raise RecordError(codes.BAD_PORT, _SECURE_IS_DISABLED if secure else _PLAIN_IS_DISABLED)
    text = str(number)
    # Bounded first: Python refuses to read a number of more than 4,300 digits.
    if not (len(text) <= _PORT_DIGITS and text.isascii() and text.isdigit() and 0 < int(text) < 65_536):
        raise RecordError(codes.BAD_PORT, f"port {text[:_LONGEST_WORD]!r} is not a number from 1 to 65535")
    return int(text)


def _address(instance: Instance) -> str:
    """Return the IP address of an instance, or what stands in its place, which the house rules refuse."""
    said = [text for text in (instance.ip_addr, instance.host_name) if text]
    # Bounded first: what is longer is none, and would fill the cache.
    return next((text for text in said if len(text) <= _LONGEST_ADDRESS and _is_address(text)), said[0] if said else "")


@lru_cache(maxsize=65_536)
def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _labels(instance: Instance, rules: EurekaRules) -> Pairs:
    if not rules.labels:
        return ()
    return pairs({label: value for key, label in rules.labels.items() if (value := _text(instance.metadata, key))})


def _locality(instance: Instance, rules: EurekaRules) -> str:
    zone = _text(instance.metadata, "zone") or _amazon(instance, "availability-zone")
    if (locality := rules.zones.get(zone)) is not None:
        return locality
    if rules.region and _ZONE.fullmatch(zone):
        return f"{rules.region}/{zone}"
    return rules.region


def _amazon(instance: Instance, key: str) -> str:
    info = instance.data_center_info
    return _text(info.get("metadata"), key) if isinstance(info, dict) else ""


def _text(mapping: object, key: str) -> str:
    value = mapping.get(key) if isinstance(mapping, dict) else None
    return value if isinstance(value, str) else ""


def _lease(instance: Instance) -> Lease:
    try:
        return msgspec.convert(instance.lease_info, Lease, strict=False)
    except msgspec.ValidationError:
        return Lease()
