"""What the operator says of a Nacos source."""

from __future__ import annotations

from msgspec import field

from isthmus.adapters.applications import DEFAULT_PORT, DEFAULT_SUFFIX, ApplicationPort
from isthmus.adapters.base import SourceOptions
from isthmus.adapters.dubbo import PROTOCOLS, DubboProtocol

DEFAULT_LABELS = {"dubbo.tag": "isthmus.io/tag"}


class NacosOptions(SourceOptions, frozen=True, kw_only=True, tag_field="kind", tag="nacos"):
    """Spring Cloud's, Dubbo's and everybody's services in Nacos 2.x and 3.x.

    address: `host:port[,host:port…]` of the servers' HTTP; gRPC is on that port plus `grpcPortOffset`.
    grpc_port_offset: Nacos's own is 1000.
    context_path: what the paths of Nacos's HTTP begin with.
    namespaces: ids or names; `"*"` stands for all. The first one is the source's home: its services get plain hosts,
        those of the others carry the namespace in the host. `public` is the home of `"*"`.
    groups: `"*"` stands for all. The first one is the home, `DEFAULT_GROUP` that of `"*"`.
    kubernetes_namespaces: Nacos namespace (as in `namespaces`) -> namespace its services are published in; the others
        go into `namespace`.
    clusters: only instances of these Nacos clusters; empty: of all.
    localities: Nacos cluster -> `region/zone/subzone` of its instances.
    health: `healthy` takes the instances that Nacos calls healthy, `any` all that are enabled.
    suffix: the last part of the host of everything that is not Dubbo.
    port, protocol: the service's port for its clients, whatever port each instance listens on.
    services: service name -> its own `port` and `protocol`.
    dubbo: how Dubbo's providers of each URL scheme are published; a scheme that is not here is refused visibly.
    username, password: for Nacos's own login; write `${NAME}` to take them from the environment.
    access_key, secret_key: for servers that sign with keys (Alibaba Cloud); not together with a password.
    tls: whether HTTP and gRPC are encrypted.
    ca: PEM file of the authorities to trust; empty: the system's.
    listing: seconds between two lists of all services, which is how long a new service waits to be seen.
    reconcile: seconds in which every service is read again behind the pushes, which get lost (NA3).
    timeout: seconds that an answer may take.
    """

    address: str
    grpc_port_offset: int = 1000
    context_path: str = "/nacos"
    namespaces: tuple[str, ...] = ("public",)
    groups: tuple[str, ...] = ("DEFAULT_GROUP",)
    kubernetes_namespaces: dict[str, str] = field(default_factory=dict)
    clusters: tuple[str, ...] = ()
    localities: dict[str, str] = field(default_factory=dict)
    health: str = "healthy"
    suffix: str = DEFAULT_SUFFIX
    port: int = DEFAULT_PORT.port
    protocol: str = DEFAULT_PORT.protocol
    services: dict[str, ApplicationPort] = field(default_factory=dict)
    dubbo: dict[str, DubboProtocol] = field(default_factory=PROTOCOLS.copy)
    labels: dict[str, str] = field(default_factory=DEFAULT_LABELS.copy)
    username: str = ""
    password: str = ""
    access_key: str = ""
    secret_key: str = ""
    tls: bool = False
    ca: str = ""
    listing: float = 1.0
    reconcile: float = 60.0
    timeout: float = 5.0
