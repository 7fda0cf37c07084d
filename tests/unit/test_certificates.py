"""What is found wrong with certificates, on what OpenSSL made, and which names they are good for."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from isthmus.mcp.certificates import UnusableError, names_fit, read_certificate, read_material, tls_faults
from tests.rig.certificates import NO_PASSWORD, Certificates, ClientCertificates

if TYPE_CHECKING:
    from pathlib import Path

# The certificates are made after this module is read.
NOW = datetime.now(UTC) + timedelta(hours=1)
NOT_SERVED_WITH = "gRPC, or who calls, does not take"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> ClientCertificates:
    """Give certificates of one authority."""
    return ClientCertificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Give those of another authority, which has the same name."""
    return Certificates(tmp_path_factory.mktemp("others"))


def faults(certificate: bytes | Path, key: bytes | Path, ca: bytes = b"", now: datetime = NOW) -> list[str]:
    """Return what is wrong with a pair of files or of their contents."""
    read, of_it = (part if isinstance(part, bytes) else part.read_bytes() for part in (certificate, key))
    return tls_faults(read, of_it, ca, now)


def test_nothing_is_wrong_with_a_fresh_pair(certificates: ClientCertificates) -> None:
    assert faults(certificates.cert_file, certificates.key_file, certificates.ca_file.read_bytes()) == []


def test_a_chain_begins_with_the_certificate_of_the_server(
    certificates: ClientCertificates, others: Certificates
) -> None:
    server, authority = certificates.cert_file.read_bytes(), certificates.ca_file.read_bytes()

    assert faults(server + authority, certificates.key_file) == []
    (turned,) = faults(authority + server, certificates.key_file)
    assert "the server's own, number 2, must come first" in turned
    (torn,) = faults(server + certificates.issue("another")[0].read_bytes(), certificates.key_file)
    assert "number 2 of the file did not issue the one before it" in torn


def test_a_key_of_another_issue_does_not_belong(certificates: ClientCertificates, others: Certificates) -> None:
    (fault,) = faults(certificates.cert_file, others.key_file)

    assert fault.startswith("key does not belong to the certificate")


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (timedelta(hours=-2), "is the clock right here?"),
        (timedelta(days=24), "expires on"),
        (timedelta(days=31), "and clients refuse it: renew it"),
    ],
)
def test_the_time_tells(certificates: ClientCertificates, after: timedelta, said: str) -> None:
    (fault,) = faults(certificates.cert_file, certificates.key_file, now=NOW + after)

    assert said in fault


def test_names_that_no_client_compares_are_told(certificates: ClientCertificates) -> None:
    (none,) = faults(*certificates.issue("nameless", names=""))
    (addresses,) = faults(*certificates.issue("numbered", names="IP:10.0.0.1"))

    assert "has no subjectAltNames" in none
    assert "istiod compares its `subjectAltNames` with nothing else" in addresses


def test_a_certificate_of_a_client_is_not_for_servers(certificates: ClientCertificates) -> None:
    found = faults(certificates.client_cert_file, certificates.client_key_file)

    assert any("add serverAuth to extendedKeyUsage" in fault for fault in found)


@pytest.mark.parametrize(
    ("kind", "served"),
    [
        (("rsa:2048",), True),
        (("rsa:1024",), False),
        (("rsa-pss", "-pkeyopt", "rsa_keygen_bits:2048"), False),
        (("ec", "-pkeyopt", "ec_paramgen_curve:P-521"), True),
        (("ec", "-pkeyopt", "ec_paramgen_curve:secp256k1"), False),
        (("ed25519",), True),
        (("ed448",), False),
    ],
)
def test_kinds_of_keys_that_grpc_does_not_load_are_refused(
    certificates: ClientCertificates, kind: tuple[str, ...], served: bool
) -> None:
    found = faults(*certificates.issue("kind", key=("-newkey", *kind, NO_PASSWORD)))

    assert any(NOT_SERVED_WITH in fault for fault in found) is not served


def test_what_is_no_pem_is_told_of_the_file_that_it_is_in(certificates: ClientCertificates) -> None:
    server, key = certificates.cert_file.read_bytes(), certificates.key_file.read_bytes()
    broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"

    assert faults(b"", key) == ["certificate holds no certificate in PEM form"]
    assert faults(server[:200], key) == ["certificate holds a certificate that cannot be read"]
    assert faults(broken, key) == ["certificate holds a certificate that cannot be read"]
    assert faults(server + server[:200], key) == ["certificate ends within a certificate"]
    assert faults(server, key[:90]) == ["key holds no private key in PEM form"]
    assert faults(server, server) == ["key holds no private key in PEM form"]
    assert faults(server, key, ca=b"none") == ["clientCa holds no certificate in PEM form"]


def test_a_key_with_a_password_is_told(certificates: ClientCertificates) -> None:
    command = ["openssl", "pkcs8", "-topk8", "-in", str(certificates.key_file), "-passout", "pass:secret"]
    encrypted = subprocess.run(command, capture_output=True, check=True).stdout

    assert faults(certificates.cert_file, encrypted) == ["key is encrypted: write it without a password"]


def test_grpc_is_given_what_was_checked_and_nothing_else(certificates: ClientCertificates) -> None:
    server, key = certificates.cert_file.read_bytes(), certificates.key_file.read_bytes()

    material = read_material(b"a note\n" + key + server, server + key, b"", NOW)

    assert material.chain == server
    assert material.key == key
    assert material.client_ca == b""


def test_an_authority_is_known_by_its_key(certificates: ClientCertificates, others: Certificates) -> None:
    server, root = certificates.cert_file.read_bytes(), certificates.ca_file.read_bytes()
    authority = read_certificate(server).authority

    assert read_certificate(server + root).authority == authority
    assert read_certificate(certificates.issue("renewed")[0].read_bytes()).authority == authority
    assert read_certificate(others.cert_file.read_bytes()).authority != authority


def test_a_certificate_that_only_itself_vouches_for_is_its_own_authority(certificates: ClientCertificates) -> None:
    first, second = (read_certificate(certificates.issue_by_itself(name)[0].read_bytes()) for name in ("one", "two"))

    assert first.subject == second.subject.replace("two", "one")
    assert first.authority != second.authority


@pytest.mark.parametrize(
    ("host", "fits"),
    [
        ("isthmus.example", True),
        ("ISTHMUS.example.", True),
        ("other.example", False),
        ("a.isthmus.example", False),
        ("a.wild.example", True),
        ("a.b.wild.example", False),
        ("wild.example", False),
        ("example", False),
        ("", False),
        ("10.0.0.1", True),
        ("10.0.0.2", False),
        ("[fd00::1]", True),
        ("fd00:0::1", True),
        ("fd00::2", False),
    ],
)
def test_names_fit_as_go_compares_them(certificates: ClientCertificates, host: str, fits: bool) -> None:
    certificate = replace(
        read_certificate(certificates.cert_file.read_bytes()),
        dns_names=("isthmus.Example", "*.wild.example"),
        addresses=("10.0.0.1", "fd00::1"),
    )

    assert names_fit(certificate, host) is fits


def test_names_are_those_of_the_certificate(certificates: ClientCertificates) -> None:
    names = "DNS:isthmus.example,DNS:*.wild.example,IP:fd00::1,URI:spiffe://mesh/isthmus"
    certificate = read_certificate(certificates.issue("named", names=names)[0].read_bytes())

    assert certificate.dns_names == ("isthmus.example", "*.wild.example")
    assert certificate.addresses == ("fd00::1",)
    assert certificate.subject == "CN=named"


def test_no_text_holds_the_key(certificates: ClientCertificates, others: Certificates) -> None:
    with pytest.raises(UnusableError) as caught:
        read_material(certificates.cert_file.read_bytes(), others.key_file.read_bytes(), b"", NOW)

    secret = others.key_file.read_text().splitlines()[1]
    assert secret not in str(caught.value)
