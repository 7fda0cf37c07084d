"""A certificate authority of the test's own, and certificates that it signed: a server's, a client's.

`MountedSecret` is how Kubernetes shows them to a process, and how it changes them.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from tests.rig.tools import run, tool

if TYPE_CHECKING:
    from pathlib import Path

KEYSTORE_PASSWORD = "changeit"
VALID_DAYS = "30"
NAMES = "DNS:localhost,IP:127.0.0.1"
# An EC key is made at once; an RSA key can take a second.
NO_PASSWORD = "-nodes"
_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", NO_PASSWORD)
_CONFIGURATION = """\
[req]
distinguished_name = name
prompt = no
[name]
[authority]
basicConstraints = critical,CA:true
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical,CA:false
keyUsage = critical,digitalSignature
# Servers show it to each other as clients, too: etcd's JSON gateway, for one, to etcd.
extendedKeyUsage = serverAuth,clientAuth
{names}
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[client]
basicConstraints = critical,CA:false
keyUsage = critical,digitalSignature
extendedKeyUsage = clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


class Certificates:
    """Certificate and key of a server, valid for `localhost` and 127.0.0.1, and the authority that vouches for it.

    ca_file, cert_file, key_file: PEM; the key is PKCS#8, without a password.
    keystore_file: certificate and key as PKCS#12 under KEYSTORE_PASSWORD, for servers that read nothing else.

    Raises `MissingToolError` or `BuildError`.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._ca_key = directory / "ca.key"
        self.ca_file = directory / "ca.pem"
        self.cert_file = directory / "server.pem"
        self.key_file = directory / "server.key"
        self.keystore_file = directory / "server.p12"
        self._make()

    def issue(self, name: str, *, names: str = NAMES, key: tuple[str, ...] = _NEW_KEY) -> tuple[Path, Path]:
        """Issue another certificate of a server, as NAME.pem and NAME.key, and return the two.

        names: its subjectAltNames as OpenSSL writes them; empty: it has none. key: OpenSSL's options for its key.
        """
        certificate, key_file = self._directory / f"{name}.pem", self._directory / f"{name}.key"
        self._configure(names)
        self._sign("server", name, certificate, key_file, key)
        return certificate, key_file

    def issue_by_itself(self, name: str) -> tuple[Path, Path]:
        """Issue a certificate of a server that no authority vouches for, as NAME.pem and NAME.key."""
        certificate, key_file = self._directory / f"{name}.pem", self._directory / f"{name}.key"
        self._issue("server", name, certificate, key_file)
        return certificate, key_file

    def _configure(self, names: str) -> None:
        line = f"subjectAltName = {names}" if names else ""
        (self._directory / "openssl.cnf").write_text(_CONFIGURATION.format(names=line))

    def _make(self) -> None:
        self._configure(NAMES)
        self._issue("authority", "rig authority", self.ca_file, self._ca_key)
        self._sign("server", "localhost", self.cert_file, self.key_file)
        pair = ("-in", self.cert_file, "-inkey", self.key_file, "-certfile", self.ca_file)
        self._openssl("pkcs12", "-export", *pair, "-out", self.keystore_file, "-passout", f"pass:{KEYSTORE_PASSWORD}")

    def _sign(self, section: str, name: str, certificate: Path, key: Path, new_key: tuple[str, ...] = _NEW_KEY) -> None:
        self._issue(section, name, certificate, key, new_key, "-CA", self.ca_file, "-CAkey", self._ca_key)

    def _issue(
        self,
        section: str,
        name: str,
        certificate: Path,
        key: Path,
        new_key: tuple[str, ...] = _NEW_KEY,
        *signed_by: str | Path,
    ) -> None:
        configuration = ("-config", "openssl.cnf", "-extensions", section, "-subj", f"/CN={name}")
        files = ("-keyout", key, "-out", certificate)
        self._openssl("req", "-x509", "-days", VALID_DAYS, *new_key, *configuration, *files, *signed_by)

    def _openssl(self, *arguments: str | Path) -> None:
        run("certificates", [tool("openssl", "openssl"), *map(str, arguments)], self._directory)


class ClientCertificates(Certificates):
    """Those of a server, and of a client: a certificate of the same authority, and its key, PEM as the others."""

    def __init__(self, directory: Path) -> None:
        self.client_cert_file = directory / "client.pem"
        self.client_key_file = directory / "client.key"
        super().__init__(directory)

    def _make(self) -> None:
        super()._make()
        self._sign("client", "rig client", self.client_cert_file, self.client_key_file)


class MountedSecret:
    """A directory as Kubernetes mounts a Secret: each file is a link through `..data`, which leads to all of one issue.

    certificate, key, client_ca: the paths that a process is given.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._numbers = itertools.count(1)
        self.certificate = directory / "tls.crt"
        self.key = directory / "tls.key"
        self.client_ca = directory / "ca.crt"
        for path in (self.certificate, self.key, self.client_ca):
            path.symlink_to(f"..data/{path.name}")

    def show(self, certificate: bytes, key: bytes, client_ca: bytes = b"") -> None:
        """Show this from now on: the link is swapped, so nobody sees a half of it at any one moment."""
        issue = self._directory / f"..issue-{next(self._numbers)}"
        issue.mkdir()
        for path, data in ((self.certificate, certificate), (self.key, key), (self.client_ca, client_ca)):
            (issue / path.name).write_bytes(data)
            (issue / path.name).chmod(0o600)
        new = self._directory / "..data_tmp"
        new.symlink_to(issue.name)
        new.replace(self._directory / "..data")
