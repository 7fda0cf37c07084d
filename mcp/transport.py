"""What a port is secured with: certificates of files, taken anew when the files change.

gRPC asks for a certificate at every connection, in a thread of its own. All that reads, checks and reports is done on
the loop; the other side only takes what lies ready, which is one immutable object. Beside gRPC, the front of a listener
with one port for all of its shards speaks TLS (mcp/front.py), by the standard library.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from isthmus.mcp.certificates import Finding, Material, UnusableError, read_material, time_findings
from isthmus.registry.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    import grpc

    from isthmus.mcp.certificates import Where

_log = logging.getLogger("isthmus.mcp")

LOOK_SECONDS = 5.0


class TlsOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """The certificate of a port, as files in PEM.

    certificate, key: what subscribers are shown, the certificate first, then those that lead to its authority; both
        empty: plaintext.
    client_ca: whoever connects must show a certificate that one of these vouches for; empty: nobody is asked for one.
        istiod never shows one.
    """

    certificate: str = ""
    key: str = ""
    client_ca: str = ""


PLAINTEXT = TlsOptions()


class TlsState(Struct, frozen=True):
    """What a port is secured with now, for the pages that show it; times are aware, in UTC.

    subject, dns_names, not_after: of the certificate in use.
    authority: fingerprint of the authority that clients must know (`Certificate.authority`).
    loaded_at: when it was taken into use. reloads: how often that was since the start.
    last_error: why the files, as they are now, are not used; empty: they are.
    warnings: what is worth knowing of what is in use.
    """

    subject: str
    dns_names: tuple[str, ...]
    not_after: datetime
    authority: str
    loaded_at: datetime
    reloads: int
    last_error: str
    warnings: tuple[str, ...]


def utc_now() -> datetime:
    """Return the time of day, by which certificates are valid or not."""
    return datetime.now(UTC)


class Tls:
    """The certificate of a listener, or of several with the same files, of one loop; `watch` keeps it up to date.

    A change that cannot be used (of two files one is not written yet, a certificate has expired) is reported once and
    tried again; until it can be, what was in use stays so.
    """

    def __init__(
        self, options: TlsOptions, now: Callable[[], datetime] = utc_now, listeners: Sequence[str] = ()
    ) -> None:
        """Read the files. listeners: whose they are, for people. Raises ConfigError: they cannot be used."""
        self._options = options
        self._whose = f"{', '.join(listeners)}: " if listeners else ""
        self._lost_names: set[str] = set()
        self._now = now
        self._stamp = self._look()
        self._last_error = ""
        self._reloads = 0
        self._loaded_at = now()
        try:
            self._material = self._read()
        except UnusableError as error:
            raise self._unusable(error) from error
        self._contexts: _Contexts | None = None
        self._warned: set[str] = set()
        self._warn()

    @property
    def context(self) -> ssl.SSLContext:
        """What a server without gRPC speaks TLS with: one object, in which each new connection finds what is in use.

        Raises ConfigError: OpenSSL does not take what gRPC would.
        """
        if self._contexts is None:
            try:
                self._contexts = _Contexts(self._material)
            except UnusableError as error:
                raise self._unusable(error) from error
        return self._contexts.for_all

    def credentials(self) -> grpc.ServerCredentials:
        """Make the credentials of one port; each port needs its own, which know what it was given last."""
        import grpc

        given = self._material

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            nonlocal given
            latest = self._material
            if latest is given:
                return None
            given = latest
            return _configuration(latest)

        # None, for no change, is left out of the stubs.
        asked: Any = fetch
        return grpc.dynamic_ssl_server_credentials(
            _configuration(given), asked, require_client_authentication=bool(self._options.client_ca)
        )

    async def watch(self, interval: float = LOOK_SECONDS) -> None:
        """Look at the files every `interval` seconds, until cancelled."""
        while True:
            await asyncio.sleep(interval)
            self.refresh()

    def refresh(self) -> None:
        """Look at the files now, and take what they hold into use where that is something new that can be used."""
        stamp = self._look()
        # What could not be used may be usable by now without a change: a certificate that is not valid yet.
        if stamp != self._stamp or self._last_error:
            self._stamp = stamp
            self._reload()
        self._warn()

    def state(self) -> TlsState:
        """Return what there is to see."""
        certificate = self._material.certificate
        return TlsState(
            subject=certificate.subject,
            dns_names=certificate.dns_names,
            not_after=certificate.not_after,
            authority=certificate.authority,
            loaded_at=self._loaded_at,
            reloads=self._reloads,
            last_error=self._last_error,
            warnings=tuple(self._warnings()),
        )

    def _reload(self) -> None:
        try:
            material = self._read()
            if self._contexts is not None and material != self._material:
                self._contexts.renew(material)
        except UnusableError as error:
            self._report("; ".join(self._say(finding) for finding in error.findings))
            return
        self._last_error = ""
        if material == self._material:
            return
        former, self._material = self._material.certificate, material
        self._lost_names = self._lost_names.union(former.dns_names).difference(material.certificate.dns_names)
        self._reloads += 1
        self._loaded_at = self._now()
        self._tell(former.authority)

    def _report(self, error: str) -> None:
        if error != self._last_error:
            self._last_error = error
            _log.warning("%sthe certificate in use stays so, as the new one cannot be used: %s", self._whose, error)

    def _tell(self, former_authority: str) -> None:
        certificate = self._material.certificate
        _log.info(
            "%sa new certificate is in use: %s, valid until %s",
            *(self._whose, certificate.subject, certificate.not_after.isoformat()),
        )
        if certificate.authority != former_authority:
            _log.warning(
                "%sthe certificate in %s is of another authority (%s) than before (%s): istiod reads caCertificates "
                "and credentialName only at its start, so give it the new one there and restart it",
                *(self._whose, self._options.certificate, certificate.authority, former_authority),
            )

    def _warn(self) -> None:
        """Log what is worth knowing once, until it has passed."""
        warnings = set(self._warnings())
        for warning in sorted(warnings - self._warned):
            _log.warning("%s%s", self._whose, warning)
        self._warned = warnings

    def _warnings(self) -> Iterator[str]:
        for finding in (*time_findings(self._material.certificate, self._now()), *self._material.notes):
            yield self._say(finding)
        yield from map(self._say, _without_names(self._lost_names))
        yield from map(self._say, _readable_by_all(self._options.key))

    def _unusable(self, error: UnusableError) -> ConfigError:
        return ConfigError([f"{self._whose}{self._say(finding)}" for finding in error.findings])

    def _say(self, finding: Finding) -> str:
        return f"tls.{finding.where} ({self._path(finding.where)}) {finding.text}"

    def _path(self, where: Where) -> str:
        options = self._options
        return {"certificate": options.certificate, "key": options.key, "clientCa": options.client_ca}[where]

    def _read(self) -> Material:
        client_ca = self._contents("clientCa") if self._options.client_ca else b""
        return read_material(self._contents("certificate"), self._contents("key"), client_ca, self._now())

    def _contents(self, where: Where) -> bytes:
        path = self._path(where)
        if not path:
            raise UnusableError([Finding(where, "is not given: a certificate and its key go together")])
        try:
            return Path(path).read_bytes()
        except OSError as error:
            raise UnusableError([Finding(where, f"cannot be read: {error.strerror}")]) from error

    def _look(self) -> tuple[object, ...]:
        """Return what differs once a file is another one, also where a link on its way leads elsewhere."""
        return tuple(_stamp(path) for path in (self._options.certificate, self._options.key, self._options.client_ca))


class _Contexts:
    """A context for all connections, and behind it the newest, which each of them is moved to as it begins."""

    def __init__(self, material: Material) -> None:
        self._newest = _server_context(material)
        self.for_all = _server_context(material)
        # OpenSSL calls this for clients too that name no server.
        self.for_all.sni_callback = self._move

    def renew(self, material: Material) -> None:
        """Take other material for new connections. Raises UnusableError."""
        self._newest = _server_context(material)

    def _move(self, connection: ssl.SSLObject, _: str | None, __: ssl.SSLContext) -> None:
        connection.context = self._newest


def _server_context(material: Material) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    # Who resumes a session shows no certificate: an authority of clients that was replaced would go on vouching.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    try:
        _present(context, material)
        if material.client_ca:
            _require(context, material.client_ca)
    except OSError as error:
        reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
        raise UnusableError([Finding("certificate", f"is not taken by OpenSSL: {reason}")]) from error
    return context


def _present(context: ssl.SSLContext, material: Material) -> None:
    """Load certificate and key; the standard library takes files alone, so one is made that is only in memory."""
    descriptor = os.memfd_create("certificate")
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(material.chain + material.key)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _require(context: ssl.SSLContext, client_ca: bytes) -> None:
    context.verify_mode = ssl.CERT_REQUIRED
    # As gRPC has it: who vouches may be vouched for by somebody who is not named.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=client_ca.decode())


def _stamp(path: str) -> object:
    try:
        seen = Path(path).stat()
    except OSError as error:
        return error.errno
    return seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns


def _without_names(lost: Collection[str]) -> Iterator[Finding]:
    """Tell of names that a renewal left out: nobody hears of it before a client connects anew."""
    if lost:
        yield Finding(
            "certificate",
            f"no longer names {', '.join(sorted(lost))}, as a former one did since the start: an istiod that compares "
            "that, as the host it dials or in subjectAltNames, will refuse it the next time that it connects",
        )


def _readable_by_all(path: str) -> Iterator[Finding]:
    try:
        mode = Path(path).stat().st_mode
    except OSError:
        return
    if mode & stat.S_IROTH:
        yield Finding("key", "can be read by everybody on this machine: take that right away (chmod o-r, defaultMode)")


def _configuration(material: Material) -> grpc.ServerCertificateConfiguration:
    import grpc

    return grpc.ssl_server_certificate_configuration([(material.key, material.chain)], material.client_ca or None)
