"""What is wrong with the `tlsSettings` of a source for the listener that it leads to (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec import Struct

from isthmus.mcp.certificates import names_fit
from isthmus.meshconfig.certificates import pem_fault, vouched_for
from isthmus.meshconfig.sources import TLS_SINCE
from isthmus.meshconfig.stated import said

if TYPE_CHECKING:
    from collections.abc import Iterator

    from isthmus.config.listeners import Listener
    from isthmus.meshconfig.certificates import Shown
    from isthmus.meshconfig.ours import Ours

# By their numbers, which istiod takes as well.
_MODES: Final = ("DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL")
_PRINT: Final = "isthmus mesh-config prints what is right"


class Wrong(NamedTuple):
    """Something wrong: the path of it, and what is. harmless: it may be as it should, and is worth knowing."""

    path: str
    text: str
    harmless: bool = False


class TlsSaid(Struct, frozen=True, kw_only=True):
    """What a source says of TLS; a mode that is not said is DISABLE, as istiod takes it.

    place: the key that messages about all of it are for.
    """

    place: str
    mode: str
    sni: str
    names: tuple[str, ...]
    authorities: str
    credential: str
    unverified: bool


def read_tls(source: object) -> TlsSaid:
    """Read the `tlsSettings` of a source, whatever stands there."""
    settings = said(source, "tlsSettings") if isinstance(source, dict) else None
    place = "tlsSettings" if isinstance(settings, dict) else "address"
    settings = settings if isinstance(settings, dict) else {}
    mode, names = settings.get("mode", 0), said(settings, "subjectAltNames")
    if isinstance(mode, int) and 0 <= mode < len(_MODES):
        mode = _MODES[mode]
    return TlsSaid(
        place=f"{place}.mode" if "mode" in settings else place,
        mode=str(mode),
        sni=_text(settings.get("sni")),
        names=tuple(map(str, names)) if isinstance(names, list) else (),
        authorities=_text(said(settings, "caCertificates")),
        credential=_text(said(settings, "credentialName")),
        unverified=said(settings, "insecureSkipVerify") is True,
    )


def tls_findings(tls: TlsSaid, host: str, listener: Listener, shown: Shown | None, ours: Ours) -> Iterator[Wrong]:
    """Yield where in a source something is wrong with its TLS, and what.

    host: that of its address. shown: what the listener shows; None: it speaks plaintext.
    """
    if tls.mode not in _MODES:
        yield Wrong(tls.place, f"is no mode of istiod's: {', '.join(_MODES)}")
    elif shown is None:
        yield from _for_plaintext(tls, listener)
    elif tls.mode != "SIMPLE":
        yield Wrong(
            tls.place,
            f"istiod takes this for plaintext, without a word, and listener {listener.name} speaks TLS: `mode: SIMPLE` "
            f"is the only one that istiod knows; {_PRINT}",
        )
    else:
        yield from _for_tls(tls, host, listener, shown, ours)


def _for_plaintext(tls: TlsSaid, listener: Listener) -> Iterator[Wrong]:
    if tls.mode == "SIMPLE":
        yield Wrong(
            tls.place,
            f"istiod would speak TLS, and listener {listener.name} speaks plaintext: istiod exits as it starts (up to "
            "1.25 it speaks plaintext too). Give the listener `tls`, or leave `tlsSettings` out",
        )
    elif tls.mode != "DISABLE":
        yield Wrong(
            tls.place,
            "istiod takes this for plaintext, without a word: it can do `SIMPLE` only, and the listener has no `tls`",
        )


def _for_tls(tls: TlsSaid, host: str, listener: Listener, shown: Shown, ours: Ours) -> Iterator[Wrong]:
    if ours.version is not None and ours.version < TLS_SINCE:
        version = ".".join(map(str, ours.version))
        yield Wrong(
            tls.place, f"istiod {version} speaks plaintext, whatever stands here: 1.26 is the first that can do TLS"
        )
    if listener.tls.client_ca:
        yield Wrong(
            "address",
            f"listener {listener.name} asks for client certificates (`clientCa`), and istiod shows none: give istiod "
            "a listener without",
        )
    if tls.unverified:
        yield Wrong(
            "tlsSettings.insecureSkipVerify",
            "istiod would believe whoever answers, and take all of its configuration from there; " + _PRINT,
        )
        return
    yield from _trust(tls, shown, ours)
    yield from _names(tls, host, shown)


def _trust(tls: TlsSaid, shown: Shown, ours: Ours) -> Iterator[Wrong]:
    at = "tlsSettings.caCertificates"
    if tls.credential:
        if tls.authorities:
            yield Wrong(at, "istiod takes either this or `credentialName`, and exits as it starts")
        else:
            yield Wrong(
                "tlsSettings.credentialName",
                "istiod reads that Secret once, as it starts: another authority there needs a restart of istiod, and "
                "until then new connections fail",
                harmless=True,
            )
    elif not tls.authorities:
        yield Wrong(
            "tlsSettings",
            "without `caCertificates` istiod believes every authority that its system knows, and compares no "
            f"`subjectAltNames`; {_PRINT}",
        )
    elif "-----BEGIN" not in tls.authorities:
        yield Wrong(at, "must be the certificates themselves, in PEM, and not a path: istiod exits as it starts")
    elif fault := pem_fault(tls.authorities):
        yield Wrong(at, f"{fault}: istiod exits as it starts")
    elif not vouched_for(shown.chain, tls.authorities, ours.now):
        yield Wrong(at, f"nobody in it vouches for the certificate of the listener, so istiod refuses it; {_PRINT}")


def _names(tls: TlsSaid, host: str, shown: Shown) -> Iterator[Wrong]:
    certificate = shown.certificate
    named = ", ".join((*certificate.dns_names, *certificate.addresses)) or "nobody"
    if tls.sni and not names_fit(certificate, tls.sni):
        yield Wrong("tlsSettings.sni", f"is not in the certificate of the listener, which names {named}")
    elif not tls.sni and not names_fit(certificate, host):
        yield Wrong("address", f"{host} is not in the certificate of the listener, which names {named}: set `sni`")
    if tls.names and (tls.authorities or tls.credential) and not set(tls.names) & set(certificate.dns_names):
        yield Wrong(
            "tlsSettings.subjectAltNames",
            "istiod compares these, to the letter, with the DNS names of the certificate only, and there is none of "
            f"them among: {', '.join(certificate.dns_names) or 'none'}",
        )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
