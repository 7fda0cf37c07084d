"""Instances of applications to services: what registries of instances (Nacos, Curator in ZooKeeper) share (pure).

An instance that tells its `dubbo.endpoints` is one of a Dubbo application (Dubbo 3's application-level registration),
any other one of an application: Spring Cloud, gRPC, or whoever registers. A name can be both at once, each a service
of its own. Host, identity and ports are the same from every registry, so that the two merge while people move.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import msgspec
from msgspec import Struct

from isthmus.adapters.applications import (
    DEFAULT_PORT,
    DEFAULT_SUFFIX,
    ApplicationPort,
    application_host,
    application_identity,
    port_of,
)
from isthmus.adapters.dubbo import DubboRules, chosen_labels, dubbo_port, require_known, shown
from isthmus.adapters.weights import USUAL_WEIGHT, scale_weights
from isthmus.registry import codes
from isthmus.registry.errors import RecordError
from isthmus.registry.model import Endpoint, Refusal, Service, WorkloadEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

_ENDPOINTS = "dubbo.endpoints"
_SEPARATORS = str.maketrans({char: f"%{ord(char):02X}" for char in "%/#"})


class ApplicationRules(Struct, frozen=True):
    """What the operator says of the applications of one source.

    dubbo: how those of Dubbo's are published; its namespace is that of all.
    suffix, port: of all others; `services` holds the ports of those that have another, by name.
    labels: metadata key -> label key, for applications as `dubbo.labels` is for interfaces. Nothing else goes out.
    """

    dubbo: DubboRules
    suffix: str = DEFAULT_SUFFIX
    port: ApplicationPort = DEFAULT_PORT
    services: dict[str, ApplicationPort] = {}
    labels: dict[str, str] = {}


class Member(Struct, frozen=True, gc=False):
    """One instance that serves, at the port where it does; `weight` is 1.0 unless another number is said."""

    address: str
    port: int
    weight: float
    metadata: Mapping[str, str]
    locality: str
    record: str


# JSON of strangers.


class _Exposed(Struct):
    port: int
    protocol: str


_EXPOSED = msgspec.json.Decoder(tuple[_Exposed, ...], strict=False)
_Decoded = TypeVar("_Decoded")


def decode(decoder: msgspec.json.Decoder[_Decoded], text: bytes | str, what: str) -> _Decoded:
    """Read a JSON text. Raises RecordError: it is garbled, or nested too deep."""
    try:
        return decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise RecordError(codes.GARBLED, f"{what} cannot be read: {error!s:.200}") from error
    except RecursionError as error:
        raise RecordError(codes.GARBLED, f"{what} is nested too deep") from error


def texts(metadata: Mapping[str, object] | None) -> dict[str, str]:
    """Return metadata as texts, without what is none."""
    return {key: text for key, value in (metadata or {}).items() if (text := _text(value)) is not None}


def _text(value: object) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int | float) else None


def bare_address(address: str) -> str:
    """Return an address without the brackets of IPv6."""
    return address[1:-1] if address.startswith("[") and address.endswith("]") else address


def require_port(port: int) -> None:
    """Raise RecordError where a number is no port."""
    if not 0 < port < 65_536:
        raise RecordError(codes.BAD_PORT, f"port {port!s:.40} is not a number from 1 to 65535")


# From instances to services.


class HasRecord(Protocol):
    """An instance of any registry, with what it was read from."""

    @property
    def record(self) -> str: ...


Item = TypeVar("Item", bound=HasRecord)
Key = TypeVar("Key")
Taken = TypeVar("Taken")


class Group(Generic[Taken]):
    """The instances that make one service, and what was refused of them."""

    def __init__(self) -> None:
        self.taken: list[Taken] = []
        self.refused: list[Refusal] = []


def gather(
    instances: Iterable[Item],
    place: Callable[[Item], tuple[Key, int]],
    take: Callable[[Item, Key, int], Taken],
) -> tuple[dict[Key, Group[Taken]], list[Refusal]]:
    """Sort instances into services; return these, and the refusals of those that belong to none.

    `place` tells an instance's service and port, `take` what is needed of it; either may raise RecordError.
    """
    groups: dict[Key, Group[Taken]] = defaultdict(Group)
    unplaced: list[Refusal] = []
    for instance in instances:
        refused = unplaced
        try:
            key, port = place(instance)
            refused = groups[key].refused
            groups[key].taken.append(take(instance, key, port))
        except RecordError as error:
            refused.append(Refusal(error.code, error.reason, shown(instance.record)))
    return groups, unplaced


def place_of(metadata: Mapping[str, str], port: int, dubbo: DubboRules) -> tuple[str, int]:
    """Return the scheme that an instance speaks and the port where it does: `""` and its own where it is not Dubbo's.

    Of several endpoints of Dubbo's it is the one that has the instance's port, or else the first one known.

    Raises RecordError: its endpoints are garbled, or speak nothing that the source is configured for.
    """
    text = metadata.get(_ENDPOINTS)
    endpoints = decode(_EXPOSED, text, _ENDPOINTS) if text else ()
    if not endpoints:
        return "", port
    own = [one for one in endpoints if one.port == port] or endpoints
    found = next((one for one in own if one.protocol in dubbo.protocols), own[0])
    require_known(found.protocol, dubbo)
    return found.protocol, found.port


def application(
    name: str, scheme: str, members: Sequence[Member], rules: ApplicationRules, qualifiers: tuple[str, ...] = ()
) -> Service:
    """Return the service of an application's members that speak one scheme of Dubbo's, or of all others for `""`.

    Its key is its identity, and so not yet unique where the members speak several schemes.
    """
    identity = application_identity(name, qualifiers)
    if scheme:
        port, suffix = dubbo_port(scheme, rules.dubbo), rules.dubbo.protocols[scheme].suffix
        identity = f"dubbo-{identity}"
    else:
        port, suffix = port_of(rules.services.get(name, rules.port)), rules.suffix
    weights = scale_weights([member.weight for member in members])
    return Service(
        key=identity,
        identity=identity,
        namespace=rules.dubbo.namespace,
        host=application_host(name, suffix, qualifiers),
        ports=(port,),
        endpoints=tuple(
            Endpoint(
                WorkloadEntry(
                    member.address,
                    ((port.name, member.port),),
                    chosen_labels(member.metadata, rules.labels),
                    weight,
                    member.locality,
                ),
                member.record,
            )
            for member, weight in zip(members, weights, strict=True)
        ),
        usual_weight=USUAL_WEIGHT,
    )


def key_of(*parts: str, mark: str = "") -> str:
    """Return the parts joined by `/`, and `#mark`; a separator within a part is percent-encoded."""
    return "/".join(part.translate(_SEPARATORS) for part in parts) + (f"#{mark}" if mark else "")
