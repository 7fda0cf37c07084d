"""From the records of etcd to services: which format reads what is below a prefix (pure).

Host, identity and ports of a service are the same as from any other registry, so that it merges with itself while
people move.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from isthmus.adapters.applications import DEFAULT_PORT, DEFAULT_SUFFIX, ApplicationPort
from isthmus.adapters.dubbo import PROTOCOLS, DubboProtocol, DubboRules
from isthmus.adapters.etcd.formats import generic, go_micro, go_zero, grpc_naming, kitex, kratos
from isthmus.adapters.etcd.formats.base import Format, Item, Placed, record_of
from isthmus.adapters.etcd.formats.dubbo import DubboFormat, application_reader
from isthmus.adapters.etcd.formats.instances import InstanceFormat, Kind
from isthmus.adapters.etcd.options import EtcdScheme
from isthmus.adapters.instances import ApplicationRules

if TYPE_CHECKING:
    from collections.abc import Callable

    from isthmus.adapters.etcd.formats.instances import Reader
    from isthmus.adapters.etcd.options import EtcdOptions, EtcdPrefix

__all__ = ["Format", "Item", "Placed", "format_of", "record_of"]

_Opener: TypeAlias = "Callable[[str, EtcdPrefix, EtcdOptions], Format]"
_GRPC: Final = ApplicationPort(50051, "GRPC")
# Of formats whose records have one endpoint each. Who writes JSON of his own is taken for a web application, as in
# every other registry.
_PORTS: Final[dict[str, ApplicationPort]] = {
    "dubbo-applications": DEFAULT_PORT,
    "go-micro": _GRPC,
    "go-zero": _GRPC,
    "grpc": _GRPC,
    "json": DEFAULT_PORT,
    "kitex": ApplicationPort(8888, "TCP"),
}
# The web face of an application is what other registries know it by; both have its identity, and a host of their own.
_KRATOS: Final[dict[str, EtcdScheme]] = {
    "http": EtcdScheme(DEFAULT_PORT.port, DEFAULT_PORT.protocol, DEFAULT_SUFFIX),
    "grpc": EtcdScheme(_GRPC.port, _GRPC.protocol, "grpc"),
}


def format_of(prefix: str, rules: EtcdPrefix, source: EtcdOptions) -> Format:
    """Return what reads the keys below a prefix."""
    return _FORMATS[rules.format](prefix, rules, source)


def _dubbo(prefix: str, rules: EtcdPrefix, source: EtcdOptions) -> Format:
    return DubboFormat(prefix, _dubbo_rules(rules, source))


def _dubbo_applications(prefix: str, rules: EtcdPrefix, source: EtcdOptions) -> Format:
    own = _application_rules(rules, source)
    kinds = {scheme: Kind(own, scheme) for scheme in ("", *own.dubbo.protocols)}
    return InstanceFormat(prefix, kinds, application_reader(own.dubbo))


def _kratos(prefix: str, rules: EtcdPrefix, source: EtcdOptions) -> Format:
    dubbo = DubboRules(source.namespace)
    kinds = {
        scheme: Kind(ApplicationRules(dubbo, one.suffix, ApplicationPort(one.port, one.protocol), labels=source.labels))
        for scheme, one in (rules.schemes or _KRATOS).items()
    }
    return InstanceFormat(prefix, kinds, kratos.reader(tuple(kinds)))


def _json(prefix: str, rules: EtcdPrefix, source: EtcdOptions) -> Format:
    kinds = {"": Kind(_application_rules(rules, source))}
    return InstanceFormat(prefix, kinds, generic.reader(rules.fields), may_be_service=True)


def _one_kind(reader: Reader, *, may_be_service: bool = False) -> _Opener:
    def open_format(prefix: str, rules: EtcdPrefix, source: EtcdOptions) -> Format:
        kinds = {"": Kind(_application_rules(rules, source))}
        return InstanceFormat(prefix, kinds, reader, may_be_service=may_be_service)

    return open_format


_FORMATS: Final[dict[str, _Opener]] = {
    "dubbo": _dubbo,
    "dubbo-applications": _dubbo_applications,
    "go-micro": _one_kind(go_micro.read),
    "go-zero": _one_kind(go_zero.read, may_be_service=True),
    "grpc": _one_kind(grpc_naming.read, may_be_service=True),
    "json": _json,
    "kitex": _one_kind(kitex.read),
    "kratos": _kratos,
}


def _application_rules(rules: EtcdPrefix, source: EtcdOptions) -> ApplicationRules:
    usual = _PORTS[rules.format]
    port = ApplicationPort(rules.port or usual.port, rules.protocol or usual.protocol)
    return ApplicationRules(_dubbo_rules(rules, source), rules.suffix, port, rules.services, source.labels)


def _dubbo_rules(rules: EtcdPrefix, source: EtcdOptions) -> DubboRules:
    own = {scheme: DubboProtocol(one.port, one.protocol, one.suffix) for scheme, one in rules.schemes.items()}
    return DubboRules(source.namespace, own or PROTOCOLS, source.labels)
