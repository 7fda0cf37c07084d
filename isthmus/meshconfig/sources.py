"""The `configSources` by which an istiod reads a listener (pure).

istiod reads host and port of an address and nothing else, in one way for all versions; TLS only where `mode` is SIMPLE,
and only since 1.26. Whatever else stands there it takes for plaintext, without a word.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from isthmus.config.rules import astray, host_port, is_host
from isthmus.mcp.certificates import names_fit
from isthmus.registry.errors import ConfigError
from isthmus.registry.names import LABEL_LENGTH, is_label

if TYPE_CHECKING:
    from collections.abc import Iterator

    from isthmus.config.listeners import Listener
    from isthmus.mcp.certificates import Certificate
    from isthmus.meshconfig.certificates import Shown

KUBERNETES: Final = "k8s://"
TLS_SINCE: Final = (1, 26)
_VERSION = re.compile(r"([0-9]{1,4})\.([0-9]{1,4})(?:[.-].*)?", re.ASCII)


class TlsSettings(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """What istiod needs to trust a listener. subject_alt_names: DNS names, which it compares to the letter."""

    mode: str
    sni: str = ""
    subject_alt_names: tuple[str, ...] = ()
    ca_certificates: str = ""


class ConfigSource(Struct, frozen=True, omit_defaults=True, rename="camel"):
    """One source of istiod's."""

    address: str
    tls_settings: TlsSettings | None = None


class Reach(Struct, frozen=True, kw_only=True):
    """How an istiod gets to a listener.

    host: a name or address; with `namespace` the name of a Service of Kubernetes there.
    version: of istiod, as (1, 26); None: not known.
    """

    host: str
    namespace: str = ""
    version: tuple[int, int] | None = None


def read_version(text: str) -> tuple[int, int]:
    """Read `1.26`, or more of a version than that. Raises ConfigError: it is none."""
    match = _VERSION.fullmatch(text)
    if match is None:
        raise ConfigError([f"--istio-version: {text!r} is not a version such as 1.26"])
    return int(match[1]), int(match[2])


def config_sources(listener: Listener, reach: Reach, shown: Shown | None) -> tuple[ConfigSource, ...]:
    """Return the sources that an istiod lists to be served by a listener, one for each shard in order, and Kubernetes.

    shown: the certificate of the listener; None: it has none. Raises ConfigError: an istiod that listed them would not
    be served, or not as it seems; every reason why.
    """
    if reasons := [*_unreachable(listener, reach), *_unusable(listener, reach, shown)]:
        raise ConfigError([f"listener {listener.name}: {reason}" for reason in reasons])
    return (
        *(
            ConfigSource(
                f"xds://{_address(_host(reach) if by_sni(listener, reach, shown) else name, port)}",
                _tls_settings(name, shown) if shown else None,
            )
            for name, port in _places(listener, reach)
        ),
        ConfigSource(KUBERNETES),
    )


def by_sni(listener: Listener, reach: Reach, shown: Shown | None) -> bool:
    """Tell whether all shards have one address, and only `sni` says which of them istiod wants.

    That is enough for it, so no name of a shard has to lead anywhere. Where the certificate does not know the host
    itself, it may be no more than the end of other names.
    """
    return listener.routing == "authority" and shown is not None and names_fit(shown.certificate, _host(reach))


def san_for(host: str, certificate: Certificate) -> str | None:
    """Return the DNS name in a certificate that stands for a host, to the letter; None: there is none."""
    name = host.lower()
    wild = f"*.{name.partition('.')[2]}"
    return next((san for wanted in (name, wild) for san in certificate.dns_names if san.lower() == wanted), None)


def _places(listener: Listener, reach: Reach) -> Iterator[tuple[str, int]]:
    """Yield for each shard the name by which it is asked for, and its port."""
    port = host_port(listener.address)[1]
    for index in range(listener.shards):
        if listener.routing == "authority":
            yield _shard_host(reach, f"shard-{index}-of-{listener.shards}"), port
        else:
            yield _host(reach), port + index


def _host(reach: Reach) -> str:
    return f"{reach.host}.{reach.namespace}.svc" if reach.namespace else reach.host


def _shard_host(reach: Reach, label: str) -> str:
    """Return the name by which a shard is asked for: its first label ends with that of the shard."""
    return f"{reach.host}-{label}.{reach.namespace}.svc" if reach.namespace else f"{label}.{reach.host}"


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _tls_settings(host: str, shown: Shown) -> TlsSettings:
    san = san_for(host, shown.certificate)
    if san is None:
        # An address: it is looked for among those of the certificate, unless something is said of names.
        return TlsSettings(mode="SIMPLE", ca_certificates=shown.authorities)
    return TlsSettings(mode="SIMPLE", sni=host, subject_alt_names=(san,), ca_certificates=shown.authorities)


def _unreachable(listener: Listener, reach: Reach) -> Iterator[str]:
    bound, port = host_port(listener.address)
    if reach.namespace:
        yield from _no_service(listener, reach)
    elif not is_host(reach.host):
        yield f"--host: {reach.host!r} is no name or address; the ports come from the configuration"
    elif listener.routing == "authority" and (":" in reach.host or reach.host.rpartition(".")[2].isdecimal()):
        yield "with `routing: authority` a shard is asked for by a name below --host, so that cannot be an address"
    if only := astray(_host(reach), bound):
        yield f"it listens on {only} only, where {_host(reach)!r} does not lead: let it listen on another address"
    if not port:
        yield "its port is another at every start (port 0): give it one"


def _no_service(listener: Listener, reach: Reach) -> Iterator[str]:
    if not is_label(reach.namespace):
        yield f"--namespace: {reach.namespace!r} is no namespace"
    if not is_label(reach.host):
        yield f"--host: {reach.host!r} is no name of a Service, which --namespace asks for"
    elif listener.routing == "authority":
        longest = _shard_host(reach, f"shard-{listener.shards - 1}-of-{listener.shards}").partition(".")[0]
        if len(longest) > LABEL_LENGTH:
            yield f"--host: {longest!r} would be too long for the name of a Service"


def _unusable(listener: Listener, reach: Reach, shown: Shown | None) -> Iterator[str]:
    if listener.tls.client_ca:
        yield (
            "it asks for client certificates (`clientCa`), and istiod shows none: "
            "give istiod a listener without, and name it with --listener"
        )
    if shown is None:
        return
    if reach.version is not None and reach.version < TLS_SINCE:
        yield (
            f"it speaks TLS, and istiod {'.'.join(map(str, reach.version))} does not, whatever its configuration says "
            f"(1.26 is the first that does): give it a listener on loopback beside it, or a network of its own"
        )
    certificate = shown.certificate
    named = ", ".join((*certificate.dns_names, *certificate.addresses)) or "nobody"
    for host in dict.fromkeys(host for host, _ in _places(listener, reach)):
        if not names_fit(certificate, host):
            yield f"its certificate is not one of {host}, so istiod would refuse it; it names {named}"
    if not shown.authorities:
        yield "its certificate was issued by somebody who is not in its file: give the authority's with --ca FILE"
