"""What the operator says of an etcd source."""

from __future__ import annotations

from typing import Final

from msgspec import Struct, field

from isthmus.adapters.applications import ApplicationPort  # noqa: TC001 (msgspec reads it)
from isthmus.adapters.base import SourceOptions

FORMATS: Final = ("dubbo", "dubbo-applications", "grpc", "kitex", "kratos", "go-micro", "go-zero", "json")
DEFAULT_LABELS: Final = {"dubbo.tag": "isthmus.io/tag"}


class EtcdScheme(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """How the endpoints of one URL scheme are published, in formats whose records hold several (Dubbo, Kratos).

    port: the service's port for its clients, the same whatever port each instance listens on.
    protocol: Istio's name of what is spoken there.
    suffix: the last part of the host.
    """

    port: int
    protocol: str
    suffix: str


class EtcdFields(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Where a JSON record keeps what; a dot leads into an object, a number into a list: `spec.hosts.0`.

    service: the service's name; empty: it is in the key, as all of it after the prefix but its last part.
    address: the IP address, `address:port`, or a URL that begins with them. Of `http` and `https` it need not say the
        port.
    port: a number, which goes before one in the address.
    weight: a number above 0, of which 1 is the usual one; 0 is an instance that is not to be called.
    enabled: an instance where this is false, 0, "no" or "off" is not to be called.
    locality: `region/zone/subzone`; anything else counts as not said.
    metadata: an object of texts, of which `labels` of the source chooses.
    """

    service: str = ""
    address: str = "address"
    port: str = "port"
    weight: str = "weight"
    enabled: str = ""
    locality: str = ""
    metadata: str = "metadata"


class EtcdPrefix(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """The keys under one prefix: who wrote them, and how their services are published.

    A prefix that ends with a slash, or is followed by one, is a folder. For `grpc`, `go-zero` and `json` it may be one
    service, whose name its last part is; and it may end within names: `shop.` is the beginning of `shop.user/1`.

    format: `dubbo` (interfaces, below `/dubbo/`), `dubbo-applications` (below `/services/`), `grpc` (etcd's own
        naming), `kitex` (`kitex/registry-etcd/`), `kratos` (`/microservices/`), `go-micro` (`/micro/registry/`),
        `go-zero` (and whatever else holds a bare `host:port` or URL), or `json`.
    suffix: the last part of the host; not for what has `schemes`.
    port, protocol: the service's port for its clients; 0 and empty: the format's own, which is 50051 and GRPC for
        `grpc`, `go-zero` and `go-micro`, 8888 and TCP for `kitex`, and 80 and HTTP for `json`.
    services: service name -> port and protocol of that service; not for what has `schemes`.
    schemes: URL scheme -> how its endpoints are published, for Dubbo's and `kratos`; empty: the format's own, which is
        for Dubbo's that of ZooKeeper, and for `kratos` `http` (80, HTTP, `mesh`) and `grpc` (50051, GRPC, `grpc`). A
        secure endpoint has a scheme of its own, `https` or `grpcs`.
    fields: where a record of `json` keeps what.
    """

    format: str
    suffix: str = "mesh"
    port: int = 0
    protocol: str = ""
    services: dict[str, ApplicationPort] = {}
    schemes: dict[str, EtcdScheme] = {}
    fields: EtcdFields = EtcdFields()


class EtcdOptions(SourceOptions, frozen=True, kw_only=True, tag_field="kind", tag="etcd"):
    """Services that were registered in one etcd, 3.4 or newer.

    address: `http(s)://host:port[,http(s)://host:port…]`, the members of one cluster. One is watched; the next one
        when it fails.
    prefixes: prefix of keys -> who wrote them. No prefix begins with another one.
    username, password: for etcd's own login; write `${NAME}` to take the password from the environment.
    ca: PEM file of the authorities that may vouch for etcd; empty: those of the system.
    cert, key: PEM files of the client certificate that etcd asks for, and of its key; empty: none.
    settle: seconds, as for every source: a lease, and the time in which a client that lost it registers anew.
    reconcile: seconds, give or take a tenth, after which all is listed again behind the watch (G6).
    timeout: seconds that an answer may take, and half of the silence after which a watch counts as dead (ET4).
    """

    address: str
    prefixes: dict[str, EtcdPrefix] = field(default_factory=lambda: {"/dubbo/": EtcdPrefix("dubbo")})
    labels: dict[str, str] = field(default_factory=DEFAULT_LABELS.copy)
    username: str = ""
    password: str = ""
    ca: str = ""
    cert: str = ""
    key: str = ""
    reconcile: float = 300.0
    timeout: float = 5.0
