"""What `check` finds beyond the configuration's own text: in certificates, in `state`, and in what istiod is told."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from isthmus.adapters.yamldoc import read_text
from isthmus.config.listener_rules import PUBLISHED
from isthmus.config.mistakes import Mistake, MistakesFound
from isthmus.mcp.certificates import Finding, UnusableError, read_material, time_findings
from isthmus.registry.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from isthmus.config import Config
    from isthmus.config.listeners import Listener
    from isthmus.mcp.certificates import Where


class Judged(Struct, frozen=True):
    """A file and what is wrong with it. notes: what is worth knowing of it and may be as it should."""

    file: str
    found: tuple[Mistake, ...]
    notes: tuple[Mistake, ...] = ()

    @property
    def lines(self) -> list[str]:
        """What is wrong, safe to print (T11)."""
        return MistakesFound(self.found, self.file).mistakes


def judge_certificates(config: Config, file: str, now: datetime) -> Judged:
    """Return what wants attention in certificates that can be used; `now` is aware.

    Raises MistakesFound: one cannot be used.
    """
    unusable: list[Mistake] = []
    warnings: list[Mistake] = []
    for above, listener in _secured(config):
        tls = listener.tls
        try:
            certificate, key = _contents("certificate", tls.certificate), _contents("key", tls.key)
            client_ca = _contents("clientCa", tls.client_ca) if tls.client_ca else b""
            material = read_material(certificate, key, client_ca, now)
        except UnusableError as error:
            unusable += _mistakes(above, error.findings)
        else:
            warnings += _mistakes(above, (*time_findings(material.certificate, now), *material.notes))
    if unusable:
        raise MistakesFound(unusable, file)
    return Judged(file, tuple(warnings))


def judge_mesh_config(path: str, config: Config, version: str, now: datetime) -> Judged:
    """Return where a mesh configuration does not go with ours. Raises ConfigError: it cannot be read."""
    # Only now: most checks do without these.
    from isthmus.meshconfig.findings import findings, remarks
    from isthmus.meshconfig.ours import read_ours
    from isthmus.meshconfig.sources import read_version
    from isthmus.meshconfig.stated import mesh_configs

    ours = read_ours(config, read_version(version) if version else None, now)
    try:
        stated = mesh_configs(read_text(path))
    except ConfigError as error:
        raise MistakesFound([Mistake("", None, text) for text in error.mistakes], path) from error
    return Judged(
        path,
        tuple(one for mesh_config in stated for one in findings(mesh_config, ours)),
        tuple(one for mesh_config in stated for one in remarks(mesh_config, ours)),
    )


def judge_state(config: Config, file: str) -> Judged:
    """Return what is worth knowing of the `state` directory of a configuration.

    Raises MistakesFound: a start would be refused, since services would move, or since what is there is not ours.
    """
    if not config.state:
        return Judged(file, ())
    # Only now: most configurations have none.
    from isthmus.meshconfig.layout import read_layout, refusals

    try:
        refused = refusals(read_layout(config.state), config.all_listeners)
    except ConfigError as error:
        found = tuple(Mistake("state", None, text.removeprefix("state: ")) for text in error.mistakes)
        # What is there is for the user that serves, who need not be the one that checks.
        if isinstance(error.__cause__, PermissionError):
            return Judged(file, (), found)
        raise MistakesFound(found, file) from error
    if refused:
        places = {
            one.name: f"listeners[{index - 1}]" if index else "" for index, one in enumerate(config.all_listeners)
        }
        raise MistakesFound([Mistake(places[name], None, text) for name, text in refused], file)
    return Judged(file, ())


def notes_on(config: Config) -> list[str]:
    """Return what is worth knowing of a configuration and is no mistake."""
    from isthmus.meshconfig.layout import unguarded

    empty = [(one.name, kind) for one in config.all_listeners for kind in one.types if kind not in PUBLISHED]
    return [
        *unguarded(config),
        *(f"listener {name} serves {kind}, and nothing of that kind is published today" for name, kind in empty),
    ]


def _secured(config: Config) -> Iterator[tuple[str, Listener]]:
    """Yield the listeners that speak TLS, and where in the file they stand."""
    for index, listener in enumerate(config.all_listeners):
        if listener.tls.certificate:
            yield f"listeners[{index - 1}].tls" if index else "tls", listener


def _contents(where: Where, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UnusableError([Finding(where, f"{path} cannot be read: {error.strerror}")]) from error


def _mistakes(above: str, findings: Iterable[Finding]) -> list[Mistake]:
    return [Mistake(f"{above}.{finding.where}", None, finding.text) for finding in findings]
