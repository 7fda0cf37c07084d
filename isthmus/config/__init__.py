"""The configuration: what the operator's file and flags say, checked as a whole and typed.

File and flags are brought into one plain document first, so that the environment, the types and the rules look at both
in the same way; the flags win, and add their sources to the file's.
"""

from __future__ import annotations

from functools import reduce
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from isthmus.adapters import SourceOptions, options_types
from isthmus.adapters.files import FilesOptions
from isthmus.adapters.yamldoc import Document, read_documents, read_text
from isthmus.config import rules
from isthmus.config.environment import Expansion
from isthmus.config.listener_rules import LISTENER_RULES, file_path, shard_count, source_names, whole_listeners
from isthmus.config.listeners import MAIN, IstiodOptions, Listener
from isthmus.config.mistakes import Found, Mistake, MistakesFound, Rules, find_mistakes, locate
from isthmus.config.port_rules import whole_ports
from isthmus.config.source_rules import SOURCE_RULES
from isthmus.config.source_urls import source_from_url
from isthmus.mcp.pacing import DEFAULT_GAP
from isthmus.mcp.transport import PLAINTEXT, TlsOptions
from isthmus.registry.errors import ConfigError
from isthmus.registry.vips import DEFAULT_RANGE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from isthmus.config.mistakes import Fault, Steps

    Source: TypeAlias = SourceOptions
else:
    Source = reduce(or_, options_types())


class PushOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """How changes go out. gap: seconds from one round to the next, for all streams of a subscriber (docs/xds.md)."""

    gap: float = DEFAULT_GAP


class VipOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """The addresses of hosts. range: an IPv4 CIDR that nothing else in the mesh uses."""

    range: str = DEFAULT_RANGE


class LogOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """What is logged. format: `auto` is text on a terminal and JSON elsewhere."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "text", "json"] = "auto"


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """The whole configuration.

    sources: the registries; of two that say the same, the first has its say.
    listen, shards, tls: address of the first listener, on how many shards, and its certificate (config/listeners.py).
    listeners: more of them, each with what it needs.
    debug: `host:port` of the debug pages and metrics, loopback only; empty: none.
    plaintext: `anywhere` lets listeners without TLS be reached from other machines.
    state: directory for what must survive a restart; empty: nothing does.
    startup_grace: seconds that sources which are not `required` are waited for (G2).
    istiods: those whose store is read back.
    """

    sources: tuple[Source, ...]
    listen: str = rules.DEFAULT_LISTEN
    shards: int = 1
    tls: TlsOptions = PLAINTEXT
    listeners: tuple[Listener, ...] = ()
    debug: str = rules.DEFAULT_DEBUG
    plaintext: Literal["loopback", "anywhere"] = "loopback"
    state: str = ""
    startup_grace: float = 30.0
    istiods: tuple[IstiodOptions, ...] = ()
    push: PushOptions = PushOptions()
    vips: VipOptions = VipOptions()
    log: LogOptions = LogOptions()

    @property
    def all_listeners(self) -> tuple[Listener, ...]:
        """Every listener, the one that `listen` makes first."""
        return (Listener(name=MAIN, address=self.listen, shards=self.shards, tls=self.tls), *self.listeners)


class Flags(Struct, frozen=True, kw_only=True):
    """What the command line says; None: nothing. `sources` are source URLs."""

    sources: tuple[str, ...] = ()
    listen: str | None = None
    shards: int | None = None
    tls_certificate: str | None = None
    tls_key: str | None = None
    debug: str | None = None
    plaintext: str | None = None
    state: str | None = None


NO_FLAGS = Flags()

# Where in the file what a flag says stands.
_SETTINGS: dict[str, tuple[str, ...]] = {
    "listen": ("listen",),
    "shards": ("shards",),
    "tls_certificate": ("tls", "certificate"),
    "tls_key": ("tls", "key"),
    "debug": ("debug",),
    "plaintext": ("plaintext",),
    "state": ("state",),
}


def _whole_config(value: Mapping[str, object]) -> Iterator[Fault]:
    yield from rules.whole_sources(value)
    yield from whole_listeners(value)
    yield from whole_ports(value)


RULES: Rules = {
    **SOURCE_RULES,
    **LISTENER_RULES,
    Config: {
        "": _whole_config,
        "listen": rules.listen_address,
        "shards": shard_count,
        "debug": rules.debug_address,
        "state": file_path,
        "startupGrace": rules.seconds(0, rules.DAY),
    },
    PushOptions: {"gap": rules.seconds(0.001, 60)},
    VipOptions: {"range": rules.vip_range},
}


def load_config(path: str, environ: Mapping[str, str], flags: Flags = NO_FLAGS) -> Config:
    """Read a configuration file; relative paths in it are meant from where the file is, but for the
    certificates of sources, which are meant from where the process was started.

    Raises ConfigError with every mistake; the file cannot be read.
    """
    return config_from_text(_read(path), environ, flags, file=path, base=Path(path).parent)


def config_from_flags(flags: Flags, environ: Mapping[str, str]) -> Config:
    """Return the configuration that flags make without a file. Raises ConfigError with every mistake."""
    return _config(Document({}, {}), environ, flags, "", None)


def config_from_text(
    text: str,
    environ: Mapping[str, str],
    flags: Flags = NO_FLAGS,
    *,
    file: str = "",
    base: Path | None = None,
) -> Config:
    """Return the configuration that a text makes (pure).

    file: how messages call the text. base: what relative paths in it are relative to; None: they stay as they are.
    Raises ConfigError: every mistake in it, each as `FILE:LINE: path: what is wrong`.
    """
    try:
        documents = read_documents(text)
    except ConfigError as error:
        raise MistakesFound([Mistake("", None, mistake) for mistake in error.mistakes], file) from error
    if len(documents) > 1:
        line = documents[1].lines.get("")
        raise MistakesFound([Mistake("", line, "a second document; a configuration is one")], file)
    return _config(documents[0] if documents else Document({}, {}), environ, flags, file, base)


def _config(document: Document, environ: Mapping[str, str], flags: Flags, file: str, base: Path | None) -> Config:
    merged = _Merged(document.value, flags)
    expansion = Expansion(environ)
    value = expansion.expand(merged.value)
    found = [*merged.found, *expansion.found]
    # What is known to be wrong is not judged once more, and a wrong flag is no lack of sources.
    known: set[Steps] = {one.place for one in found} | ({("sources",)} if merged.found else set())
    found += [one for one in find_mistakes(value, Config, RULES, expansion.said) if one.place not in known]
    if found:
        raise MistakesFound(locate(found, document.lines, merged.flags), file)
    config = msgspec.convert(value, Config)
    if base is not None:
        config = _placed(config, base, merged.flags)
    return replace(config, sources=tuple(_named(config.sources)))


class _Merged:
    """A file's value with the flags put in; `flags` says for each of their places which flag it came from."""

    def __init__(self, value: object, flags: Flags) -> None:
        self.value = value
        self.found: list[Found] = []
        self.flags: dict[Steps, str] = {}
        if isinstance(value, dict):
            self.value = merged = dict(value)
            self._put_settings(merged, flags)
            self._add_sources(merged, flags.sources)

    def _put_settings(self, merged: dict[str, object], flags: Flags) -> None:
        for name, place in _SETTINGS.items():
            said = getattr(flags, name)
            if said is None:
                continue
            *above, key = place
            inner = merged
            for step in above:
                held = inner.get(step, {})
                if not isinstance(held, dict):
                    break
                inner[step] = inner = dict(held)
            else:
                inner[key] = said
                self.flags[place] = f"--{name.replace('_', '-')}"

    def _add_sources(self, merged: dict[str, object], urls: Iterable[str]) -> None:
        sources = merged.get("sources", [])
        if not urls or not isinstance(sources, list):
            return
        merged["sources"] = sources = list(sources)
        for index, url in enumerate(urls):
            place: Steps = ("sources", len(sources))
            try:
                sources.append(source_from_url(url))
            except ConfigError as error:
                place = ("--source", index)
                self.found += [Found(place, mistake) for mistake in error.mistakes]
            self.flags[place] = f"--source[{index}]"


def _placed(config: Config, base: Path, flags: Mapping[Steps, str]) -> Config:
    """Return a configuration whose relative paths lead from `base`, but for those that came from flags."""

    def path(text: str, *place: str | int) -> str:
        return str(base / text) if text and place not in flags else text

    def tls(options: TlsOptions, *place: str | int) -> TlsOptions:
        return replace(
            options,
            certificate=path(options.certificate, *place, "certificate"),
            key=path(options.key, *place, "key"),
            client_ca=path(options.client_ca, *place, "clientCa"),
        )

    return replace(
        config,
        sources=tuple(
            replace(source, directory=path(source.directory, "sources", index))
            if isinstance(source, FilesOptions)
            else source
            for index, source in enumerate(config.sources)
        ),
        tls=tls(config.tls, "tls"),
        listeners=tuple(replace(listener, tls=tls(listener.tls)) for listener in config.listeners),
        state=path(config.state, "state"),
        istiods=tuple(
            replace(istiod, token_file=path(istiod.token_file), ca=path(istiod.ca)) for istiod in config.istiods
        ),
    )


def _named(sources: Sequence[SourceOptions]) -> Iterator[SourceOptions]:
    names = source_names([(source.name, source.__struct_config__.tag) for source in sources])
    for source, name in zip(sources, names, strict=True):
        yield replace(source, name=name)


def _read(path: str) -> str:
    try:
        return read_text(path)
    except ConfigError as error:
        raise _unreadable(path, str(error)) from error


def _unreadable(path: str, reason: str) -> MistakesFound:
    return MistakesFound([Mistake("", None, reason)], path)
