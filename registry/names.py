"""Names that DNS and istiod take: legal, stable, and safe against collisions.

A name of a registry that is a DNS name already is only lower-cased. Anything else is rewritten and gets a short hash of
the original, so that two originals that would be rewritten alike stay apart. What the hash cannot tell apart, two names
that differ in case only, the catalog sees as a conflict of identities and refuses (registry/merge.py).
"""

from __future__ import annotations

import re
from hashlib import blake2b

LABEL_LENGTH = 63
HOST_LENGTH = 253
_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?", re.ASCII)
_FOREIGN = re.compile(r"[^a-z0-9]+", re.ASCII)
_UNPRINTABLE = re.compile(r"[^\x20-\x7e\u00a1-\u1fff\u2c00-\ud7ff\uf900-\ufefe\uff00-\uffef]")


def short_hash(text: str) -> str:
    """Return eight hexadecimal digits that stand for `text`; total for any string, lone surrogates included."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()


def is_label(text: str) -> bool:
    """Tell whether `text` is one lower-case DNS-1123 label of at most 63 characters."""
    return len(text) <= LABEL_LENGTH and _LABEL.fullmatch(text) is not None


def hashed_label(text: str, role: str = "") -> str:
    """Return a DNS label that ends with a hash of `text`, whatever that holds; other in another `role`."""
    stem = _FOREIGN.sub("-", text.lower()).strip("-")
    mark = short_hash(f"{role}\0{text}" if role else text)
    stem = stem[: LABEL_LENGTH - len(mark) - 1].rstrip("-")
    return f"{stem}-{mark}" if stem else f"x-{mark}"


def dns_labels(text: str) -> tuple[str, ...]:
    """Return the DNS labels of a dotted name such as a Java interface; a rewritten one carries a hash at its end."""
    labels = text.lower().split(".")
    if all(map(is_label, labels)):
        return tuple(labels)
    stems = [stem for label in labels if (stem := _FOREIGN.sub("-", label).strip("-")[:LABEL_LENGTH].strip("-"))]
    last = stems.pop() if stems else "x"
    mark = short_hash(text)
    return (*stems, f"{last[: LABEL_LENGTH - len(mark) - 1].rstrip('-')}-{mark}")


def host_name(labels: tuple[str, ...], suffix: str) -> str:
    """Join labels and a suffix to a host of at most 253 characters; a longer one is cut in front and hashed."""
    host = ".".join((*labels, suffix))
    if len(host) <= HOST_LENGTH:
        return host
    room = HOST_LENGTH - len(suffix) - 1 - LABEL_LENGTH - 1
    kept: list[str] = []
    for label in reversed(labels[:-1]):
        if room < len(label) + 1:
            break
        kept.insert(0, label)
        room -= len(label) + 1
    return ".".join((*kept, f"{labels[-1][: LABEL_LENGTH - 9].rstrip('-')}-{short_hash(host)}", suffix))


def printable(text: str) -> str:
    """Return `text` with control characters, bidirectional marks and lone surrogates escaped (T11)."""
    return _UNPRINTABLE.sub(lambda found: found.group().encode("unicode_escape", "backslashreplace").decode(), text)
