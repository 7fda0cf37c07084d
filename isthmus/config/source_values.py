"""What values may be that sources of several kinds have: names, labels, places, ports, lists of words, servers.

A rule yields what is wrong with a value; none of its texts holds the value, which may be a secret.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from isthmus.adapters.servers import service_urls
from isthmus.config.mistakes import Fault, Rule, choose_from
from isthmus.config.rules import cidr, host_port
from isthmus.registry.acceptance import PROTOCOLS, label_value_fault, port_number_fault, protocol_fault
from isthmus.registry.names import LABEL_LENGTH, is_label
from isthmus.registry.policy import forbidden_host, label_fault

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# A host is labels of the registry's and the suffix: a suffix of more than half of it would leave no room for them.
_SUFFIX_LENGTH = 126
_SCHEME = re.compile("[a-z][a-z0-9+.-]*")
_NO_WORD = "is empty, or begins or ends with a blank"


def one_of(*words: str) -> Rule:
    """Return the rule for one of a few words."""

    def rule(value: str) -> Iterator[Fault]:
        if value not in words:
            yield Fault(f"is unknown here; {choose_from(value, words, 'choose from')}")

    return rule


def name(value: str) -> Iterator[Fault]:
    """The name of a source, which metrics and logs have."""
    if _no_label_value(value):
        yield Fault(f"is not a name of at most {LABEL_LENGTH} letters, digits, '-', '_' and '.'")


def namespace(value: str) -> Iterator[Fault]:
    """A namespace of Kubernetes."""
    if not is_label(value):
        yield Fault(
            f"is not a namespace: 1 to {LABEL_LENGTH} small letters, digits and '-', "
            "with a letter or digit first and last"
        )


def revision(value: str) -> Iterator[Fault]:
    """A revision of Istio; istiod compares it to the letter."""
    if not is_label(value):
        yield Fault(
            f"is not one revision: 1 to {LABEL_LENGTH} small letters, digits and '-', "
            "with a letter or digit first and last"
        )


def revisions(value: list[str]) -> Iterator[Fault]:
    """Revisions of Istio, each of them once."""
    for index, item in enumerate(value):
        for text, _, _ in revision(item):
            yield Fault(text, (index,))
        if item in value[:index]:
            yield Fault("is said before", (index,))


def labels(value: dict[str, str]) -> Iterator[Fault]:
    """Metadata keys, and the label keys they become."""
    counts = Counter(value.values())
    for key, label in value.items():
        if not key:
            yield Fault("a key of the registry's metadata cannot be empty", quoting=False)
        if label_fault(label, ""):
            yield Fault(_why_no_label(label), (key,))
        elif counts[label] > 1:
            yield Fault("is the label of more than one key", (key,))


def locality(value: str) -> Iterator[Fault]:
    """A locality, or nothing."""
    parts = value.split("/")
    if value and (len(parts) > 3 or not all(part.strip() for part in parts)):
        yield Fault("is not `region/zone/subzone`, `region/zone` or `region`")


def network(value: str) -> Iterator[Fault]:
    """A network, or nothing."""
    if _no_label_value(value):
        yield Fault(f"is not a network: at most {LABEL_LENGTH} letters, digits, '-', '_' and '.'")


def export_to(value: list[str]) -> Iterator[Fault]:
    """Namespaces that see the services."""
    for index, target in enumerate(value):
        if target not in (".", "*", "~") and not is_label(target):
            yield Fault("is not a namespace, '.', '*' or '~'", (index,))
        elif target in value[:index]:
            yield Fault("is said before", (index,))
        elif target in ("*", "~") and len(value) > 1:
            yield Fault("must stand alone", (index,))


def allow(value: list[str]) -> Iterator[Fault]:
    """Ranges of addresses."""
    for index, item in enumerate(value):
        for text, _, quoting in cidr(item):
            yield Fault(text, (index,), quoting)


def port(value: int) -> Iterator[Fault]:
    """The port of a service."""
    if port_number_fault(value):
        yield Fault("is not a port, 1 to 65535")


def protocol(value: str) -> Iterator[Fault]:
    """What is spoken at a port, in Istio's words."""
    # istiod takes a port without one; here it makes the port's name.
    if not value or protocol_fault(value):
        known = sorted(protocol.upper() for protocol in PROTOCOLS)
        yield Fault(f"is no protocol that Istio knows; {choose_from(value, known, 'it knows')}")


def suffix(value: str) -> Iterator[Fault]:
    """The end of a host."""
    labels = value.split(".")
    if not all(map(is_label, labels)) or len(value) > _SUFFIX_LENGTH:
        yield Fault(
            f"is not the end of a DNS name: parts of small letters, digits and '-', {_SUFFIX_LENGTH} characters in all"
        )
    elif forbidden_host(f"host.{value}"):
        yield Fault("cannot end a host: it is only digits, or belongs to the cluster")


def schemes(value: dict[str, object]) -> Iterator[Fault]:
    """The URL schemes that a table of protocols has."""
    for scheme in value:
        if not _SCHEME.fullmatch(scheme):
            yield Fault("the key is no URL scheme: small letters, digits, '+', '.' and '-'", (scheme,), quoting=False)


def keyed(value: Mapping[str, object]) -> Iterator[Fault]:
    """A map whose keys are names of a registry."""
    for key in value:
        if not _is_word(key):
            yield Fault(f"a key {_NO_WORD}", (key,) if key else (), quoting=False)


def keyed_in_any_case(value: Mapping[str, object]) -> Iterator[Fault]:
    """A map whose keys are names of a registry that does not tell capitals from small letters."""
    yield from keyed(value)
    counts = Counter(map(str.lower, value))
    for key in value:
        if counts[key.lower()] > 1:
            yield Fault("the key differs from another in its capitals only", (key,), quoting=False)


def each(rule: Rule) -> Rule:
    """Return the rule for a map from names of a registry to values that keep to `rule`."""

    def of_map(value: Mapping[str, object]) -> Iterator[Fault]:
        yield from keyed(value)
        for key, part in value.items():
            for text, _, quoting in rule(part):
                yield Fault(text, (key,), quoting)

    return of_map


def word_or_nothing(value: str) -> Iterator[Fault]:
    """A name of a registry, or nothing."""
    if value and not _is_word(value):
        yield Fault("begins or ends with a blank")


def words(value: list[str]) -> Iterator[Fault]:
    """Names of a registry, each of them once."""
    for index, word in enumerate(value):
        if not _is_word(word):
            yield Fault(_NO_WORD, (index,))
        elif word in value[:index]:
            yield Fault("is said before", (index,))


def servers(text: str) -> Iterator[tuple[str, int]]:
    """Part `host:port[,host:port...]`; yield for each server what is wrong with it, or "", and its port."""
    for number, server in enumerate(text.split(","), start=1):
        try:
            port = host_port(server)[1]
        except ValueError as error:
            yield f"server {number} {error}", 0
        else:
            yield "" if port else f"server {number} has port 0", port


def urls(form: str, credentials: str, *, paths: bool = True) -> Rule:
    """Return the rule for servers listed as URLs of a form; `credentials` and `paths` as for `service_urls`."""
    return _urls(f"{form}[,{form}...]", credentials, paths=paths)


def url(form: str, credentials: str) -> Rule:
    """Return the rule for one server, as a URL of a form without a path; `credentials` as for `service_urls`."""
    listed = _urls(form, credentials, paths=False)

    def rule(value: str) -> Iterator[Fault]:
        if "," in value:
            yield Fault("is more than one URL: each is an item of its own", quoting=False)
            return
        for fault in listed(value):
            yield fault._replace(text=fault.text.replace(": server 1 ", ": it "))

    return rule


def _urls(form: str, credentials: str, *, paths: bool) -> Rule:

    def rule(value: str) -> Iterator[Fault]:
        if "@" in value:
            yield Fault(f"there are credentials in it: say them under {credentials}", quoting=False)
        elif "?" in value or "#" in value:
            yield Fault("there is something after a path in it, where a service URL ends", quoting=False)
        elif fault := _url_fault(value, credentials, paths=paths):
            yield Fault(f"is not `{form}`: {fault}")

    return rule


def only_over_https(value: Mapping[str, object]) -> Iterator[Fault]:
    """A whole source: what TLS needs, where no server is reached over it."""
    address = value.get("address")
    if not isinstance(address, str) or "https:" in address.lower():
        return
    for key, meaning in (("ca", "whom to trust"), ("cert", "who we are")):
        if value.get(key):
            yield Fault(f"says {meaning}, but no address begins with `https:`", (key,))


def together(value: Mapping[str, object], one: str, other: str) -> Iterator[Fault]:
    """Two keys of which neither is said without the other; "" is not said. Their values may be of any type."""
    for said, lacking in ((one, other), (other, one)):
        if value.get(said) and value.get(lacking, "") == "":
            # Where the lacking one is written down, its line is the one to mend.
            place = lacking if lacking in value else said
            yield Fault(f"`{said}` and `{lacking}` go together", (place,), quoting=False)


def _url_fault(address: str, credentials: str, *, paths: bool) -> str | None:
    try:
        listed = service_urls(address, credentials, paths=paths)
    except ValueError as error:
        return str(error)
    for number, url in enumerate(listed, start=1):
        host = urlsplit(url).hostname or ""
        try:
            host_port(f"[{host}]:1" if ":" in host else f"{host}:1")
        except ValueError as error:
            return f"server {number} {error}"
    return None


def _no_label_value(value: str) -> bool:
    return len(value) > LABEL_LENGTH or label_value_fault(value) is not None


def _why_no_label(label: str) -> str:
    fault = label_fault(label, "") or ""
    if fault.endswith("belongs to Istio or Kubernetes"):
        return "belongs to Istio or Kubernetes, and no registrant may set it"
    return "is not a label key: `[DNS prefix/]name` of letters, digits, '-', '_' and '.'"


def _is_word(text: str) -> bool:
    return bool(text) and text == text.strip()
