"""What istiod makes of a listener's certificate: whom it has to trust for it, and whether somebody vouches for it.

By the rules of Go, whose client istiod is. Nothing here reads the clock; `shown_by` reads files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from isthmus.adapters.yamldoc import read_text
from isthmus.mcp.certificates import Certificate, UnusableError, read_certificate
from isthmus.registry.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from cryptography import x509

    from isthmus.config.listeners import Listener

_LONGEST_CHAIN = 10


class Shown(Struct, frozen=True):
    """What a listener shows of itself.

    chain: its certificate and those that lead to its authority, in PEM.
    authorities: who has to be known to believe it, in PEM; empty: somebody who is not in the chain.
    """

    certificate: Certificate
    chain: str
    authorities: str


def shown_by(listener: Listener) -> Shown | None:
    """Read what a listener shows; None: it speaks plaintext. Raises ConfigError: the file cannot be used."""
    path = listener.tls.certificate
    if not path:
        return None
    chain = _read(path)
    try:
        return Shown(read_certificate(chain.encode()), chain, _authority_in(chain))
    except UnusableError as error:
        raise ConfigError([f"{path} {finding.text}" for finding in error.findings]) from error


def read_authorities(path: str) -> str:
    """Return the certificates of a file, in PEM. Raises ConfigError: it holds none."""
    pem = _read(path)
    if fault := pem_fault(pem):
        raise ConfigError([f"{path} {fault}"])
    return pem


def trusting(shown: Shown | None, path: str, now: datetime) -> Shown:
    """Return what a listener shows with whom a file says has to be known.

    Raises ConfigError: it holds nobody who vouches for the listener's certificate.
    """
    if shown is None:
        raise ConfigError(["--ca: the listener has no certificate that anybody could vouch for"])
    authorities = read_authorities(path)
    if not vouched_for(shown.chain, authorities, now):
        raise ConfigError([f"--ca: nobody in {path} vouches for the certificate of the listener"])
    return replace(shown, authorities=authorities)


def pem_fault(pem: str) -> str:
    """Return why a text is no list of certificates in PEM, to go on after its name; empty: it is one."""
    try:
        read_certificate(pem.encode())
    except UnusableError as error:
        return "; ".join(finding.text for finding in error.findings)
    return ""


def vouched_for(chain: str, authorities: str, now: datetime) -> bool:
    """Tell whether who trusts these authorities, and no others, believes a chain at that time.

    Both are certificates in PEM that can be read; `now` is aware.
    """
    from cryptography import x509

    first, *others = x509.load_pem_x509_certificates(chain.encode())
    return _leads_to(x509.load_pem_x509_certificates(authorities.encode()), first, others, now)


def _leads_to(
    roots: Sequence[x509.Certificate], one: x509.Certificate, others: Sequence[x509.Certificate], now: datetime
) -> bool:
    if not one.not_valid_before_utc <= now <= one.not_valid_after_utc or len(others) > _LONGEST_CHAIN:
        return False
    if one in roots:
        return True
    for issuer in (*roots, *others):
        rest = [other for other in others if other != issuer]
        if _issued(one, issuer) and _leads_to(roots, issuer, rest, now):
            return True
    return False


def _issued(one: x509.Certificate, issuer: x509.Certificate) -> bool:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    try:
        one.verify_directly_issued_by(issuer)
        return issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return False


def _authority_in(chain: str) -> str:
    """Return the last of a chain if it can be trusted in the place of all others, else nothing."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    certificates = x509.load_pem_x509_certificates(chain.encode())
    last = certificates[-1]
    by_another = len(certificates) == 1 and last.issuer != last.subject
    return "" if by_another else last.public_bytes(Encoding.PEM).decode()


def _read(path: str) -> str:
    try:
        return read_text(path)
    except ConfigError as error:
        raise ConfigError([f"{path} {mistake}" for mistake in error.mistakes]) from error
