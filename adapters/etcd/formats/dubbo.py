"""Dubbo's records: by interface, `INTERFACE/providers/URL`, and by application, `APPLICATION/HOST:PORT`.

Both as in ZooKeeper, and so the services are the same ones. Java's dubbo-registry-etcd3 and dubbo-go write the URL,
percent-encoded, into the key; the value is a lease or nothing. They write keys for the folders too, and beside the
interfaces what else Dubbo keeps: none of that is an instance. An application is JSON: of Java `host`, of Go `Host`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from isthmus.adapters.dubbo import DubboName, DubboRules, dubbo_service, parse_provider, service_key
from isthmus.adapters.etcd.formats.base import (
    Item,
    Layout,
    Placed,
    Provided,
    mapping,
    named,
    number,
    record_of,
    require_length,
)
from isthmus.adapters.etcd.formats.instances import Instance, Said
from isthmus.adapters.instances import decode, place_of, texts
from isthmus.registry import codes
from isthmus.registry.errors import RecordError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from isthmus.adapters.etcd.formats.instances import Reader
    from isthmus.registry.model import Service

_PROVIDERS = "providers"
_NOT_PROVIDERS = frozenset({"consumers", "configurators", "routers"})
_NOT_INTERFACES = frozenset({"config", "mapping", "mapping-data", "metadata"})
_PARTS = 3


class DubboFormat:
    """Dubbo's interfaces; a service is a scheme, an interface, a version and a group."""

    def __init__(self, prefix: str, rules: DubboRules) -> None:
        self._prefix = prefix
        self._layout = Layout(prefix)
        self._rules = rules

    def read(self, key: str, value: bytes) -> tuple[Placed, ...]:
        """Return the provider that a key holds.

        Raises RecordError: the key is outside of the layout or too long, its URL garbled, or the provider takes no
        traffic.
        """
        require_length(key, value)
        url = _provider_url(self._layout.path(key))
        if url is None:
            return ()
        interface, record = url
        provider = parse_provider(record, self._rules)
        if provider is None:
            return ()
        place = f"{provider.scheme}:{service_key(interface, provider.version, provider.group)}"
        return (Placed(place, Provided(record_of(self._prefix + key, value), provider)),)

    def service(self, place: str, items: Mapping[str, Item]) -> Service:
        """Return the service at a place, of the providers that its keys hold."""
        members = [(one.record, one.provider) for _, one in sorted(items.items()) if isinstance(one, Provided)]
        return replace(dubbo_service(_name(place), members, self._rules), key=f"{self._prefix}{place}")


def _provider_url(path: str) -> tuple[str, str] | None:
    """Return the interface and the URL that a path holds; None where Dubbo writes it for something else."""
    interface, *rest = path.split("/", _PARTS - 1)
    category = rest[0] if rest else ""
    if interface in _NOT_INTERFACES or category in _NOT_PROVIDERS or not category:
        return None
    if category != _PROVIDERS or not interface:
        raise RecordError(codes.GARBLED, "the key is not `INTERFACE/providers/URL` below the prefix")
    return (unquote(interface), rest[1]) if len(rest) > 1 and rest[1] else None


def _name(place: str) -> DubboName:
    """Return what a place names: `scheme:group/interface:version`, its parts percent-encoded."""
    scheme, _, rest = place.partition(":")
    group, _, own = rest.rpartition("/")
    interface, _, version = own.partition(":")
    interface, version, group = (unquote(part, errors="surrogatepass") for part in (interface, version, group))
    return DubboName(scheme, interface, version, group)


# Applications.


class _Instance(Struct):
    host: str | None = None
    port: int | None = None
    enabled: bool | None = None
    healthy: bool | None = None
    metadata: Any = None
    go_host: str | None = msgspec.field(name="Host", default=None)
    go_port: int | None = msgspec.field(name="Port", default=None)
    go_enabled: bool | None = msgspec.field(name="Enable", default=None)
    go_healthy: bool | None = msgspec.field(name="Healthy", default=None)
    go_metadata: Any = msgspec.field(name="Metadata", default=None)
    go_weight: Any = msgspec.field(name="Weight", default=None)


_INSTANCE = msgspec.json.Decoder(_Instance)
# Dubbo's own, which dubbo-go takes for a weight that is not above 0.
_USUAL_WEIGHT = 100


def application_reader(rules: DubboRules) -> Reader:
    """Return the reader of applications; an instance without `dubbo.endpoints` is one of no scheme, as in ZooKeeper."""

    def read(path: str, value: bytes) -> tuple[Said, ...]:
        if "/" not in path.rstrip("/"):
            return ()
        name = named(path)
        if "/" in name:
            raise RecordError(codes.GARBLED, "the key is not `APPLICATION/HOST:PORT` below the prefix")
        said = decode(_INSTANCE, value, "the value")
        metadata = mapping(said.metadata) or mapping(said.go_metadata)
        scheme, port = place_of(texts(metadata), said.port or said.go_port or 0, rules)
        weight = number(said.go_weight) or 0.0
        weight = weight / _USUAL_WEIGHT if weight > 0 else 1.0
        return (
            Said(name, (Instance(said.host or said.go_host or "", port, weight, metadata, "", _off(said)),), scheme),
        )

    return read


def _off(said: _Instance) -> tuple[str, str] | None:
    if said.enabled is False or said.go_enabled is False:
        return codes.DISABLED, "the instance is disabled"
    if said.healthy is False or said.go_healthy is False:
        return codes.UNHEALTHY, "the record says that the instance is not healthy"
    return None
