"""What the keys of a Consul source may hold.

A rule yields what is wrong with a value; none of its texts holds the value, which may be a secret. The rules of whole
sources see values of any type.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from isthmus.adapters.consul.options import CONSISTENCY, HEALTH, ConsulOptions
from isthmus.adapters.servers import ACL
from isthmus.config import source_values as values
from isthmus.config.mistakes import Fault, Rules
from isthmus.config.rules import DAY, seconds

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_MOST_REQUESTS = 10_000
_LONGEST_WAIT = 600
_SCOPE = re.compile("[A-Za-z0-9_-]*")


def _token(value: str) -> Iterator[Fault]:
    if not (value.isascii() and value.isprintable()) or value != value.strip():
        yield Fault("must be one line of printable ASCII, without a blank at its ends", quoting=False)


def _scope(value: str) -> Iterator[Fault]:
    if not _SCOPE.fullmatch(value):
        yield Fault("is not one name of letters, digits, '-' and '_'")


def _share(value: float) -> Iterator[Fault]:
    if not 0 <= value <= 1:
        yield Fault("is not a share, 0 to 1")


def _requests(value: float) -> Iterator[Fault]:
    if not 1 <= value <= _MOST_REQUESTS:
        yield Fault(f"is not 1 to {_MOST_REQUESTS} requests a second")


def _whole_consul(value: Mapping[str, object]) -> Iterator[Fault]:
    yield from values.together(value, "cert", "key")
    yield from values.only_over_https(value)


RULES: Rules = {
    ConsulOptions: {
        "": _whole_consul,
        "address": values.urls("http(s)://host:port", ACL),
        "token": _token,
        "datacenter": _scope,
        "consulNamespace": _scope,
        "partition": _scope,
        "suffix": values.suffix,
        "port": values.port,
        "protocol": values.protocol,
        "services": values.keyed_in_any_case,
        "health": values.one_of(*HEALTH),
        "panicThreshold": _share,
        "taggedAddress": values.word_or_nothing,
        "kubernetesTag": values.word_or_nothing,
        "consistency": values.one_of(*CONSISTENCY),
        "maxStale": seconds(0, DAY),
        "wait": seconds(1, _LONGEST_WAIT),
        "requests": _requests,
        "reconcile": seconds(0.1, DAY),
    },
}
