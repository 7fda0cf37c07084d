"""What the keys of a Eureka source may hold.

A rule yields what is wrong with a value; none of its texts holds the value, which may be a secret. The rules of whole
sources see values of any type.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from isthmus.adapters.eureka.options import METADATA, NAMES_FROM, SECURE_PORTS, EurekaOptions
from isthmus.adapters.servers import LOGIN
from isthmus.config import source_values as values
from isthmus.config.mistakes import Fault, Rules, choose_from
from isthmus.config.rules import seconds

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_MOST_POLLS = 1_000
_STATUSES = ("UP", "DOWN", "STARTING", "OUT_OF_SERVICE", "UNKNOWN")


def _basic_username(value: str) -> Iterator[Fault]:
    if ":" in value:
        yield Fault("there is a ':' in it, which basic authentication cannot send", quoting=False)


def _name_from(value: str) -> Iterator[Fault]:
    names_a_key = value.startswith(METADATA) and value != METADATA
    if value == METADATA or not (value in NAMES_FROM or names_a_key):
        yield Fault(f"is not `app`, `vip` or `{METADATA}KEY`")


def _statuses(value: list[str]) -> Iterator[Fault]:
    if not value:
        yield Fault("there is none, so no instance would serve", quoting=False)
    for index, status in enumerate(value):
        if status.upper() not in _STATUSES:
            yield Fault(f"is no status of Eureka's; {choose_from(status, _STATUSES, 'choose from')}", (index,))


def _region(value: str) -> Iterator[Fault]:
    if value and ("/" in value or not value.strip()):
        yield Fault("is not a region, the first part of a locality")


def _full_every(value: int) -> Iterator[Fault]:
    if not 1 <= value <= _MOST_POLLS:
        yield Fault(f"is not 1 to {_MOST_POLLS} polls")


def _whole_eureka(value: Mapping[str, object]) -> Iterator[Fault]:
    yield from values.together(value, "username", "password")
    yield from values.only_over_https(value)


RULES: Rules = {
    EurekaOptions: {
        "": _whole_eureka,
        "address": values.urls("http(s)://host:port/eureka", LOGIN),
        "username": _basic_username,
        "nameFrom": _name_from,
        "suffix": values.suffix,
        "port": values.port,
        "protocol": values.protocol,
        "services": values.keyed_in_any_case,
        "securePort": values.one_of(*SECURE_PORTS),
        "statuses": _statuses,
        "region": _region,
        "zones": values.each(values.locality),
        "poll": seconds(1, 300),
        "fullEvery": _full_every,
    },
}
