"""How `configSources` are printed: YAML with what is to be known of them, or JSON (pure)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import yaml
from msgspec import to_builtins

from isthmus.config.rules import is_below_localhost
from isthmus.meshconfig.sources import by_sni

if TYPE_CHECKING:
    from collections.abc import Sequence

    from isthmus.config.listeners import Listener
    from isthmus.meshconfig.certificates import Shown
    from isthmus.meshconfig.sources import ConfigSource, Reach

_ALWAYS = (
    "istiod reads this once, as it starts: restart it after every change here.",
    "Start the bridge before istiod: an istiod that cannot reach a source as it starts exits.",
    "The order counts: of two resources with one kind, namespace and name the first source's is used.",
    "Sidecars answer for the hosts' names only with DNS capture: defaultConfig (docs/operations.md#names).",
)
_KUBERNETES = "k8s://, to the letter: without it istiod stops reading its own custom resources."
_SHARDS = "Each source is one of {count} shards: list all of them, each once, or istiod deletes what is missing."
_AUTHORITY = "Every one of these names has to lead to the bridge: istiod says by the name which shard it wants."
_LOCALHOST = (
    "Few resolvers know names below localhost: give istiod's machine these in its /etc/hosts, or it exits as it starts."
)
_SNI = "All shards have one address: `sni` is how istiod says which it wants, so each of them has to stay."
_TLS = (
    "TLS needs istiod 1.26 or newer: an older one speaks plaintext, whatever stands here, and then cannot start.",
    "A new certificate of the same authority needs nothing here; another authority does, and a restart of istiod.",
)
_SLIME = "For Slime's istiod ONLY: this listener sends increments, by which any other istiod deletes all the rest."


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as such."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)


def notes_on(listener: Listener, reach: Reach, shown: Shown | None) -> tuple[str, ...]:
    """Return what is to be known of the sources of a listener, a line each; `shown` as for `config_sources`."""
    return (
        *((_SLIME,) if listener.form == "slime" else ()),
        *_ALWAYS,
        *((_SHARDS.format(count=listener.shards),) if listener.shards > 1 else ()),
        *(_routing(listener, reach, shown) if listener.routing == "authority" else ()),
        *((_TLS if reach.version is None else _TLS[1:]) if listener.tls.certificate else ()),
        _KUBERNETES,
    )


def _routing(listener: Listener, reach: Reach, shown: Shown | None) -> tuple[str, ...]:
    if by_sni(listener, reach, shown):
        return (_SNI,)
    below = not reach.namespace and is_below_localhost(f".{reach.host}")
    return (_AUTHORITY, _LOCALHOST) if below else (_AUTHORITY,)


def as_yaml(sources: Sequence[ConfigSource], notes: Sequence[str]) -> str:
    """Return a piece of a mesh configuration, with comments at its head."""
    head = "".join(f"# {note}\n" for note in ("Of istiod's mesh configuration, by isthmus mesh-config.", *notes))
    return head + yaml.dump(_map(sources), Dumper=_Dumper, sort_keys=False, width=1000)


def as_json(sources: Sequence[ConfigSource]) -> str:
    """Return a piece of a mesh configuration."""
    return json.dumps(_map(sources), indent=2) + "\n"


def _map(sources: Sequence[ConfigSource]) -> dict[str, object]:
    return {"configSources": [to_builtins(source) for source in sources]}
