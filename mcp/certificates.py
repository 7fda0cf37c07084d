"""What certificates say, and what is wrong with them: no file is read here, and no clock.

cryptography takes 55 ms to import and 13 MiB of memory, so only who has a certificate to read imports it
(docs/decisions/0012-certificates.md).
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING, Literal, TypeAlias

from msgspec import Struct

from isthmus.registry.errors import IsthmusError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

Where: TypeAlias = Literal["certificate", "key", "clientCa"]

SOON = timedelta(days=7)
_SMALLEST_RSA = 2048
_CURVES = ("secp256r1", "secp384r1", "secp521r1")
# An RSA key that signs by PSS alone: BoringSSL, and so gRPC, does not load it.
_RSA_PSS = "1.2.840.113549.1.1.10"
_BEGIN = b"-----BEGIN CERTIFICATE-----"


class Finding(Struct, frozen=True):
    """Something about one of the files of a port, named by its key in the configuration; `text` goes on after it."""

    where: Where
    text: str

    def __str__(self) -> str:
        return f"{self.where} {self.text}"


class UnusableError(IsthmusError):
    """No server can be run with this; `findings` say why."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("; ".join(map(str, findings)))
        self.findings = tuple(findings)


class Certificate(Struct, frozen=True):
    """What clients compare of a server's certificate.

    subject: for people; clients look at the names.
    dns_names, addresses: its subjectAltNames of these two kinds, as they stand there.
    not_before, not_after: aware times, in UTC.
    authority: fingerprint, in hex, of the authority that a client must know to believe it: the identifier of its key,
        and where there is none, or nobody but itself vouches for the certificate, a SHA-256.
    """

    subject: str
    dns_names: tuple[str, ...]
    addresses: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    authority: str


class Material(Struct, frozen=True):
    """What one port is secured with, checked, and written anew so that gRPC gets what was checked and nothing else.

    chain, key, client_ca: PEM; the last is empty where nobody is asked for a certificate.
    notes: what is worth knowing, whatever the time is.
    """

    certificate: Certificate
    chain: bytes
    key: bytes
    client_ca: bytes
    notes: tuple[Finding, ...]


def read_material(certificate_pem: bytes, key_pem: bytes, ca_pem: bytes, now: datetime) -> Material:
    """Read the certificate of a server with those that lead to its authority, its key, and the clients' authorities.

    ca_pem: empty: nobody is asked for a certificate.
    now: an aware time.
    Raises UnusableError: it cannot be read, does not belong together, has expired or is not valid yet.
    """
    chain = _certificates("certificate", certificate_pem)
    key = _private_key(key_pem)
    clients = _certificates("clientCa", ca_pem) if ca_pem else []
    with _readable("certificate"):
        certificate = _describe(chain)
        findings = [*_of_another_key(chain, key), *_not_served_with(chain[0]), *_out_of_time(certificate, now)]
        notes = (*_names(certificate), *_uses(chain[0]), *_links(chain))
    if findings:
        raise UnusableError(findings)
    return Material(certificate, _certificates_pem(chain), _key_pem(key), _certificates_pem(clients), notes)


def read_certificate(certificate_pem: bytes) -> Certificate:
    """Read the first certificate of a file, and who must be known to believe it.

    Raises UnusableError: it cannot be read.
    """
    chain = _certificates("certificate", certificate_pem)
    with _readable("certificate"):
        return _describe(chain)


def time_findings(certificate: Certificate, now: datetime) -> tuple[Finding, ...]:
    """Return what the time has done, or soon will do, to a certificate that may be in use."""
    if findings := tuple(_out_of_time(certificate, now)):
        return findings
    if certificate.not_after - now < SOON:
        return (Finding("certificate", f"expires on {_day(certificate.not_after)}, within {SOON.days} days: renew it"),)
    return ()


def tls_faults(certificate_pem: bytes, key_pem: bytes, ca_pem: bytes, now: datetime) -> list[str]:
    """Return everything that is wrong with what a port is to be secured with, or soon will be; `now` is aware."""
    try:
        material = read_material(certificate_pem, key_pem, ca_pem, now)
    except UnusableError as error:
        return list(map(str, error.findings))
    return [str(finding) for finding in (*time_findings(material.certificate, now), *material.notes)]


def names_fit(certificate: Certificate, host: str) -> bool:
    """Say whether a client that dials `host` finds it in the certificate, by the rules of istiod's Go.

    host: a name, or an address, where IPv6 may stand in brackets. `*` stands for the whole first label and no other.
    """
    try:
        address = ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        name = host.lower().removesuffix(".")
        _, _, rest = name.partition(".")
        wanted = {name, f"*.{rest}"} if rest else {name}
        return bool(name) and not wanted.isdisjoint(pattern.lower() for pattern in certificate.dns_names)
    return any(address == ip_address(one) for one in certificate.addresses)


@contextmanager
def _readable(where: Where) -> Iterator[None]:
    """Turn what cryptography raises, often only when a part of a certificate is looked at, into an UnusableError."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    broken = (x509.DuplicateExtension, x509.InvalidVersion, x509.UnsupportedGeneralNameType)
    try:
        yield
    except (ValueError, UnsupportedAlgorithm, *broken) as error:
        raise UnusableError([Finding(where, "holds a certificate that cannot be read")]) from error


def _certificates(where: Where, pem: bytes) -> list[x509.Certificate]:
    from cryptography import x509

    if _BEGIN not in pem:
        raise UnusableError([Finding(where, "holds no certificate in PEM form")])
    with _readable(where):
        read = x509.load_pem_x509_certificates(pem)
    # What is cut off within the last one would else pass for a shorter list.
    if len(read) != pem.count(_BEGIN):
        raise UnusableError([Finding(where, "ends within a certificate")])
    return read


def _private_key(pem: bytes) -> PrivateKeyTypes:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        return load_pem_private_key(pem, None)
    except TypeError as error:
        raise UnusableError([Finding("key", "is encrypted: write it without a password")]) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UnusableError([Finding("key", "holds no private key in PEM form")]) from error


def _certificates_pem(certificates: Sequence[x509.Certificate]) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return b"".join(one.public_bytes(Encoding.PEM) for one in certificates)


def _key_pem(key: PrivateKeyTypes) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _describe(chain: Sequence[x509.Certificate]) -> Certificate:
    from cryptography import x509

    first = chain[0]
    try:
        names = first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        dns_names = tuple(names.get_values_for_type(x509.DNSName))
        addresses = tuple(map(str, names.get_values_for_type(x509.IPAddress)))
    except x509.ExtensionNotFound:
        dns_names = addresses = ()
    return Certificate(
        first.subject.rfc4514_string(),
        dns_names,
        addresses,
        first.not_valid_before_utc,
        first.not_valid_after_utc,
        _authority(chain[-1]),
    )


def _authority(last: x509.Certificate) -> str:
    """Return the fingerprint of who issued the last certificate of a chain."""
    from cryptography.hazmat.primitives.hashes import SHA256, Hash

    if last.issuer == last.subject and not _may_issue(last):
        return last.fingerprint(SHA256()).hex()
    if identifier := _own_identifier(last) if last.issuer == last.subject else _authority_identifier(last):
        return identifier.hex()
    digest = Hash(SHA256())
    digest.update(last.issuer.public_bytes())
    return digest.finalize().hex()


def _own_identifier(certificate: x509.Certificate) -> bytes | None:
    from cryptography import x509

    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.key_identifier
    except x509.ExtensionNotFound:
        return None


def _authority_identifier(certificate: x509.Certificate) -> bytes | None:
    from cryptography import x509

    try:
        return certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except x509.ExtensionNotFound:
        return None


def _may_issue(certificate: x509.Certificate) -> bool:
    from cryptography import x509

    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _of_another_key(chain: Sequence[x509.Certificate], key: PrivateKeyTypes) -> Iterator[Finding]:
    own = key.public_key()
    fitting = [number for number, one in enumerate(chain, 1) if one.public_key() == own]
    if not fitting:
        yield Finding("key", "does not belong to the certificate: both must be of one issue")
    elif fitting[0] != 1:
        yield Finding("certificate", f"begins with another's: the server's own, number {fitting[0]}, must come first")


def _not_served_with(certificate: x509.Certificate) -> Iterator[Finding]:
    """Tell of the keys that cryptography reads and gRPC does not: it would go on silently with what it had."""
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    key = certificate.public_key()
    if isinstance(key, RSAPublicKey):
        served = key.key_size >= _SMALLEST_RSA and certificate.public_key_algorithm_oid.dotted_string != _RSA_PSS
    elif isinstance(key, EllipticCurvePublicKey):
        served = key.curve.name in _CURVES
    else:
        served = isinstance(key, Ed25519PublicKey)
    if not served:
        wanted = f"RSA of {_SMALLEST_RSA} bits or more, or EC over P-256"
        yield Finding(
            "certificate", f"has a kind of key that gRPC, or who calls, does not take: make one with {wanted}"
        )


def _out_of_time(certificate: Certificate, now: datetime) -> Iterator[Finding]:
    if now > certificate.not_after:
        yield Finding("certificate", f"expired on {_day(certificate.not_after)}, and clients refuse it: renew it")
    if now < certificate.not_before:
        begins = _day(certificate.not_before)
        yield Finding("certificate", f"is valid from {begins} on, and clients refuse it: is the clock right here?")


def _names(certificate: Certificate) -> Iterator[Finding]:
    if not certificate.dns_names and not certificate.addresses:
        yield Finding("certificate", "has no subjectAltNames, and clients look at nothing else: name the host there")
    elif not certificate.dns_names:
        yield Finding("certificate", "has no DNS name: istiod compares its `subjectAltNames` with nothing else")


def _uses(certificate: x509.Certificate) -> Iterator[Finding]:
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    try:
        uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    if ExtendedKeyUsageOID.SERVER_AUTH not in uses and ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE not in uses:
        yield Finding("certificate", "is not for servers, and clients refuse it: add serverAuth to extendedKeyUsage")


def _links(chain: Sequence[x509.Certificate]) -> Iterator[Finding]:
    for number in range(1, len(chain)):
        if chain[number - 1].issuer != chain[number].subject:
            yield Finding(
                "certificate", f"number {number + 1} of the file did not issue the one before it: is it whole?"
            )
            return


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
