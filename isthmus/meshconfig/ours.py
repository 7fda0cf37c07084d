"""What mesh configurations are compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from isthmus.meshconfig.certificates import shown_by

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from isthmus.config import Config
    from isthmus.config.listeners import Listener
    from isthmus.meshconfig.certificates import Shown


class Ours(Struct, frozen=True):
    """Our side of it.

    shown: what each listener that speaks TLS shows, by its name.
    version: of istiod, as (1, 26); None: not known.
    now: an aware time.
    """

    listeners: tuple[Listener, ...]
    shown: Mapping[str, Shown]
    version: tuple[int, int] | None
    now: datetime


def read_ours(config: Config, version: tuple[int, int] | None, now: datetime) -> Ours:
    """Read the certificates of a configuration. Raises ConfigError: one cannot be used."""
    listeners = config.all_listeners
    shown = {listener.name: shown_by(listener) for listener in listeners}
    return Ours(listeners, {name: one for name, one in shown.items() if one is not None}, version, now)
