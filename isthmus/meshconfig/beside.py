"""The listener to put beside one whose services are to be dealt out otherwise, for istiods to move to."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final

import yaml
from msgspec import to_builtins
from msgspec.structs import replace

from isthmus.config.rules import host_port
from isthmus.registry.names import LABEL_LENGTH

if TYPE_CHECKING:
    from collections.abc import Iterator

    from isthmus.config import Config
    from isthmus.config.listeners import Listener
    from isthmus.mcp.transport import TlsOptions
    from isthmus.meshconfig.layout import Layout, Move

_PORTS: Final = range(1024, 65_536)
_STEP: Final = 100


def listener_beside(move: Move, config: Config, known: Layout) -> Listener:
    """Return a listener that is as the configuration says now, under a name and on ports that nothing has or had."""
    (wanted,) = (one for one in config.all_listeners if one.name == move.listener)
    taken = {one.name for one in config.all_listeners} | set(known.listeners)
    host, port = host_port(wanted.address)
    first = _free_ports(port, wanted.ports, set(_taken_ports(config, known)))
    return replace(
        wanted,
        name=_free_name(f"{move.listener[: LABEL_LENGTH - 8]}-{wanted.shards}", taken),
        address=f"{f'[{host}]' if ':' in host else host}:{first}",
        tls=_placed(wanted.tls),
    )


def as_yaml(listener: Listener) -> str:
    """Return the part of a configuration that makes a listener."""
    plain = type(listener)(name="", address="")
    said: dict[str, object] = to_builtins(listener)
    usual = to_builtins(plain)
    differing = {key: value for key, value in said.items() if value != usual[key]}
    if "tls" in differing:
        differing["tls"] = {key: value for key, value in to_builtins(listener.tls).items() if value}
    return yaml.safe_dump({"listeners": [differing]}, sort_keys=False, width=1000)


def _free_name(wanted: str, taken: set[str]) -> str:
    return next(name for number in count(1) if (name := _numbered(wanted, number)) not in taken)


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name}-{number}"


def _free_ports(port: int, ports: int, taken: set[int]) -> int:
    """Return where so many ports in a row begin that nobody has, a round step from those of now where there are."""
    steps = [*range(port + _STEP, _PORTS.stop, _STEP), *_PORTS] if port else [*_PORTS]
    rows = (range(first, first + ports) for first in steps if first + ports <= _PORTS.stop)
    return next(row.start for row in rows if taken.isdisjoint(row))


def _taken_ports(config: Config, known: Layout) -> Iterator[int]:
    for listener in config.all_listeners:
        port = host_port(listener.address)[1]
        yield from range(port, port + listener.ports)
    for served in (*known.listeners.values(), *(served for _, served in known.former)):
        yield from served.ports
    if config.debug:
        yield host_port(config.debug)[1]


def _placed(tls: TlsOptions) -> TlsOptions:
    """Return the files by whole paths, which lead to them from wherever the configuration is."""
    paths = {"certificate": tls.certificate, "key": tls.key, "client_ca": tls.client_ca}
    return replace(tls, **{key: str(Path(path).absolute()) for key, path in paths.items() if path})
