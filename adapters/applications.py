"""Names and ports of application services: what registries of them have in common (pure).

An application is a name and the instances that answer for it; its version and its interfaces are its own affair. The
same application in two registries gets the same host and the same identity, and so becomes one service of the mesh
(registry/merge.py). A registry that parts its names into scopes, such as groups or namespaces, passes those outside of
the source's home scope as qualifiers.
"""

from __future__ import annotations

from urllib.parse import quote

from msgspec import Struct

from isthmus.registry.model import Port
from isthmus.registry.names import dns_labels, hashed_label, host_name, is_label

DEFAULT_SUFFIX = "mesh"


class ApplicationPort(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """The one port of an application's service, whatever port each instance listens on.

    port: the number for its clients.
    protocol: Istio's name of what is spoken there: `HTTP`, `HTTP2`, `GRPC`, `TCP` and so on.
    """

    port: int
    protocol: str


DEFAULT_PORT = ApplicationPort(80, "HTTP")


def port_of(rule: ApplicationPort) -> Port:
    """Return the service port that an operator's rule stands for; its name is the protocol's."""
    # `HTTP_PROXY` is a protocol of Istio's, and `_` is not for the name of a port.
    return Port(rule.port, rule.protocol.lower().replace("_", "-"), rule.protocol)


def application_host(name: str, suffix: str, qualifiers: tuple[str, ...] = ()) -> str:
    """Return the host of an application: `name[.qualifier…].suffix`.

    The suffix keeps it from being a bare name, which would take the short name of a Kubernetes service (F7). What is
    no DNS label gets a hash, so that `PAY_GROUP` and `pay-group` stay apart. A dotted name can meet a name in another
    scope (`user.pay` and `user` in `pay`): their identities differ, so that is a conflict and never merged (T01).

    Raises ValueError: there is no suffix.
    """
    if not suffix:
        raise ValueError("the host of an application needs a suffix")
    return host_name((*dns_labels(name), *map(_qualifier_label, qualifiers)), suffix)


def application_identity(name: str, qualifiers: tuple[str, ...] = ()) -> str:
    """Return what makes an application the same in two registries: `app:name[@qualifier…]`, percent-encoded parts.

    It keeps capitals, as Nacos tells names apart by them; Eureka, which does not, has its names lower-cased before.
    """
    return "app:" + "@".join(quote(part, safe="", errors="surrogatepass") for part in (name, *qualifiers))


def _qualifier_label(qualifier: str) -> str:
    return qualifier if is_label(qualifier) else hashed_label(qualifier, "qualifier")
