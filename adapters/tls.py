"""TLS of the adapters: whom we trust, who we are, and what a server says of it over HTTP."""

from __future__ import annotations

import errno
import re
import ssl
from pathlib import Path

from isthmus.registry.errors import SourceError

_OF_ANOTHER_CERTIFICATE = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")
_NO_PEM = (None, "PEM_LIB")
_KEYS = "`cert` and `key`, where this kind of source has them"
_CERTIFICATE_ALERT = re.compile(
    r"alert ((?:no |bad |unsupported )?certificate(?: revoked| expired| unknown)?|unknown ca|access denied)\b"
)


def tls_context(ca_file: str = "", cert_file: str = "", key_file: str = "") -> ssl.SSLContext:
    """Make the context of a client; it reads files.

    ca_file: PEM file of the authorities that may vouch for servers, and no others; empty: those of the system.
    cert_file, key_file: PEM files of the certificate to show, and of its key, without a password; empty: none.

    Raises SourceError, which says of a file what is wrong with it.
    """
    context = _trusting(ca_file)
    if cert_file:
        # By themselves first: of two files `load_cert_chain` does not say which one is wrong.
        _trusting(cert_file)
        _present(context, cert_file, key_file)
    return context


def _trusting(ca_file: str) -> ssl.SSLContext:
    try:
        # With a file of its own it trusts no other authority.
        return ssl.create_default_context(cafile=ca_file or None)
    except ssl.SSLError as error:
        raise SourceError(f"{ca_file} holds no certificates in PEM form") from error
    except OSError as error:
        raise SourceError(f"{ca_file} cannot be read: {error.strerror}") from error


def _present(context: ssl.SSLContext, cert_file: str, key_file: str) -> None:
    def ask_password() -> str:
        # Without this, OpenSSL would ask at the terminal.
        raise SourceError(f"{key_file} is encrypted: write the key there without a password")

    try:
        context.load_cert_chain(cert_file, key_file, ask_password)
    except ssl.SSLError as error:
        if error.reason in _OF_ANOTHER_CERTIFICATE:
            raise SourceError(f"the key in {key_file} does not belong to the certificate in {cert_file}") from error
        if error.reason in _NO_PEM:
            raise SourceError(f"{key_file} holds no private key in PEM form") from error
        raise SourceError(f"{cert_file} cannot be used: {_words(error.reason)}") from error
    except OSError as error:
        raise SourceError(f"{key_file} cannot be read: {error.strerror}") from error


def read_authorities(ca_file: str = "") -> bytes:
    """Return the PEM text of a file, of the system's where there is none: gRPC brings others of its own.

    Raises SourceError: it cannot be read.
    """
    path = ca_file or ssl.get_default_verify_paths().cafile or ""
    try:
        return Path(path).read_bytes() if path else b""
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error


def tls_fault(error: Exception) -> str | None:
    """Return what became of the client certificate of a connection that failed; None: it is not about that."""
    text = _words(str(error))
    if "alert certificate required" in text:
        return f"it asks for a client certificate: {_KEYS}"
    if alert := _CERTIFICATE_ALERT.search(text):
        return f"it refuses the client certificate, or the lack of one ({alert[1]}): {_KEYS}"
    if "alert handshake failure" in text:
        return f"no TLS connection: it takes no way of it that we do, or asks for a client certificate: {_KEYS}"
    # A server that closes the connection right after its alert can cut that off.
    if isinstance(error, OSError) and error.errno in (errno.ECONNRESET, errno.EPIPE):
        return f"the connection was reset; it may ask for a client certificate: {_KEYS}"
    return None


def _words(reason: str) -> str:
    return reason.lower().replace("_", " ")
