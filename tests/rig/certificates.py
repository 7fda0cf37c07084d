"""A certificate authority of the test's own, and certificates that it signed: a server's, a client's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.rig.tools import run, tool

if TYPE_CHECKING:
    from pathlib import Path

KEYSTORE_PASSWORD = "changeit"
VALID_DAYS = "30"
# An EC key is made at once; an RSA key can take a second.
_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
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
subjectAltName = DNS:localhost,IP:127.0.0.1
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

    def _make(self) -> None:
        (self._directory / "openssl.cnf").write_text(_CONFIGURATION)
        self._issue("authority", "rig authority", self.ca_file, self._ca_key)
        self._sign("server", "localhost", self.cert_file, self.key_file)
        pair = ("-in", self.cert_file, "-inkey", self.key_file, "-certfile", self.ca_file)
        self._openssl("pkcs12", "-export", *pair, "-out", self.keystore_file, "-passout", f"pass:{KEYSTORE_PASSWORD}")

    def _sign(self, section: str, name: str, certificate: Path, key: Path) -> None:
        self._issue(section, name, certificate, key, "-CA", self.ca_file, "-CAkey", self._ca_key)

    def _issue(self, section: str, name: str, certificate: Path, key: Path, *signed_by: str | Path) -> None:
        configuration = ("-config", "openssl.cnf", "-extensions", section, "-subj", f"/CN={name}")
        files = ("-keyout", key, "-out", certificate)
        self._openssl("req", "-x509", "-days", VALID_DAYS, *_NEW_KEY, *configuration, *files, *signed_by)

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
