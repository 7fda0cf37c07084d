"""One source of truth each: the foreign world in, `registry.model` out.

The table below is the whole registration: a kind of source, the type of its options, and its adapter. Modules are
imported when a source of their kind is opened, so a client library costs only who uses it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from isthmus.adapters.base import Adapter, Sink, SourceOptions

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["KINDS", "Adapter", "Sink", "SourceOptions", "open_adapter", "options_types"]

# kind -> (module and class of the options, module and class of the adapter)
KINDS: dict[str, tuple[str, str]] = {
    "consul": ("isthmus.adapters.consul.options:ConsulOptions", "isthmus.adapters.consul.adapter:ConsulAdapter"),
    "etcd": ("isthmus.adapters.etcd.options:EtcdOptions", "isthmus.adapters.etcd.adapter:EtcdAdapter"),
    "eureka": ("isthmus.adapters.eureka.options:EurekaOptions", "isthmus.adapters.eureka.adapter:EurekaAdapter"),
    "files": ("isthmus.adapters.files:FilesOptions", "isthmus.adapters.files:FilesAdapter"),
    "nacos": ("isthmus.adapters.nacos.options:NacosOptions", "isthmus.adapters.nacos.adapter:NacosAdapter"),
    "zookeeper": (
        "isthmus.adapters.zookeeper.options:ZookeeperOptions",
        "isthmus.adapters.zookeeper.adapter:ZookeeperAdapter",
    ),
}


def options_types() -> tuple[type[SourceOptions], ...]:
    """Return the options type of every kind, a union tagged by `kind`."""
    return tuple(_load(options) for options, _ in KINDS.values())


def open_adapter(options: SourceOptions) -> Adapter:
    """Make an adapter from its options; it connects when it is run."""
    kind = str(options.__struct_config__.tag)
    make: Callable[[SourceOptions], Adapter] = _load(KINDS[kind][1])
    return make(options)


def _load(place: str):  # type: ignore[no-untyped-def]  # noqa: ANN202 (what the table names, of any type)
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)
