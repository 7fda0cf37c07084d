"""What cert-manager would put into a Secret: a certificate for given names, its key, and the authority it is from."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_AUTHORITY = "isthmus-authority"
_VALID = timedelta(days=30)


def issue(names: Sequence[str], folder: Path) -> None:
    """Write tls.crt, tls.key and ca.crt."""
    folder.mkdir(parents=True)
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    constraints = x509.BasicConstraints(ca=True, path_length=None)
    authority = _begun(_AUTHORITY, authority_key).add_extension(constraints, critical=True)
    own = _begun(names[0], key).add_extension(
        x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False
    )
    _write(folder / "ca.crt", authority.sign(authority_key, SHA256()).public_bytes(Encoding.PEM))
    _write(folder / "tls.crt", own.sign(authority_key, SHA256()).public_bytes(Encoding.PEM))
    _write(folder / "tls.key", key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def _begun(subject: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(_AUTHORITY))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + _VALID)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def _write(path: Path, pem: bytes) -> None:
    path.write_bytes(pem)
    path.chmod(0o600)
