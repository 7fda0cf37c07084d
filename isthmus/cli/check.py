"""`isthmus check`: every mistake in a configuration, without starting anything.

With `--connect` each source is read once, too; with `--mesh-config` it is compared with what istiod is told. Exit code
0: all is well; 1: istiod would be served otherwise than it seems, or a certificate wants attention; 2: there are
mistakes, `serve` would be refused, or a file cannot be read; 3: a source was not read.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import TYPE_CHECKING

from msgspec import to_builtins
from msgspec.structs import replace

from isthmus.cli.judged import judge_certificates, judge_mesh_config, judge_state, notes_on
from isthmus.cli.options import add_source_flags, config_from_args, seconds_of
from isthmus.config.mistakes import Mistake, MistakesFound
from isthmus.mcp.transport import utc_now
from isthmus.registry.errors import ConfigError
from isthmus.telemetry import configure_logging

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from isthmus.cli.connect import Contact
    from isthmus.cli.judged import Judged
    from isthmus.config import Config

_WAIT = 10.0


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command to the command line."""
    parser = subparsers.add_parser(
        "check",
        help="find every mistake in a configuration",
        description="Find every mistake in a configuration, without starting anything. "
        "Exit code 0: there is none, 1: a certificate or a mesh configuration wants mending, 2: there are some, "
        "3: a source was not read (--connect).",
    )
    add_source_flags(parser)
    parser.add_argument("--connect", action="store_true", help="read each source once, too; nothing is served")
    parser.add_argument(
        "--wait", type=seconds_of, metavar="SECONDS", help=f"how long the sources are given (default: {_WAIT:g})"
    )
    parser.add_argument(
        "--mesh-config",
        metavar="FILE",
        help="istiod's mesh configuration, its ConfigMap, or the values it is made of: does it go with ours?",
    )
    parser.add_argument("--istio-version", metavar="X.Y", help="of istiod, for --mesh-config")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="form of the answer")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Check a configuration, print what was found, return the exit code."""
    try:
        config = _config(args)
        judged = _judged(args, config)
    except ConfigError as error:
        _print_mistakes(error, args.output)
        return 2
    if args.output == "text":
        _print_judged(judged, config)
    contacts = _contacts(config, args.wait or _WAIT) if args.connect else None
    if args.output == "json":
        _print_json((), judged, _notes(judged, config), contacts)
    else:
        for contact in contacts or ():
            print(f"source {contact.name}: {_said(contact)}")
    if any(one.found for one in judged):
        return 1
    return 0 if all(contact.ok for contact in contacts or ()) else 3


def _config(args: argparse.Namespace) -> Config:
    if args.wait is not None and not args.connect:
        raise ConfigError(["--wait is for --connect"])
    if args.istio_version and not args.mesh_config:
        raise ConfigError(["--istio-version is for --mesh-config"])
    return config_from_args(args, os.environ)


def _judged(args: argparse.Namespace, config: Config) -> list[Judged]:
    now = utc_now()
    file = args.config or "flags"
    own = judge_certificates(config, file, now)
    judged = [replace(own, notes=judge_state(config, file).notes)]
    if args.mesh_config:
        judged.append(judge_mesh_config(args.mesh_config, config, args.istio_version or "", now))
    return judged


def _print_judged(judged: Sequence[Judged], config: Config) -> None:
    own, *others = judged
    print(*own.lines or [f"{own.file}: ok, {_counted(len(config.sources), 'source')}"], sep="\n")
    for other in others:
        print(*other.lines or [f"{other.file}: ok"], sep="\n")
    for note in _notes(judged, config):
        print(f"note: {note}")
    sys.stdout.flush()


def _notes(judged: Sequence[Judged], config: Config) -> list[str]:
    return [*notes_on(config), *(line for one in judged for line in MistakesFound(one.notes, one.file).mistakes)]


def _contacts(config: Config, seconds: float) -> list[Contact]:
    # What is wrong with a source is told once, below; a bug in its adapter is told as in `serve`.
    configure_logging("error", "text")
    # Only now: a mistake in the configuration is told without waiting for these imports.
    from isthmus.cli.connect import contact_sources

    return asyncio.run(contact_sources(config, seconds))


def _said(contact: Contact) -> str:
    if contact.reason is not None:
        return contact.reason
    held = f"ok, {_counted(contact.services, 'service')}, {_counted(contact.endpoints, 'endpoint')}"
    refused = ", ".join(f"{code} {count}" for code, count in contact.refused.items())
    return "; ".join((held, *([f"refused: {refused}"] if refused else ()), *contact.notes))


def _counted(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def _print_mistakes(error: ConfigError, output: str) -> None:
    if output == "text":
        print(*error.mistakes, sep="\n")
    elif isinstance(error, MistakesFound):
        _print_json(error.found)
    else:
        _print_json(tuple(Mistake("", None, mistake) for mistake in error.mistakes))


def _print_json(
    found: Sequence[Mistake],
    judged: Sequence[Judged] = (),
    notes: Sequence[str] = (),
    contacts: Sequence[Contact] | None = None,
) -> None:
    findings = [{"file": one.file, **to_builtins(mistake)} for one in judged for mistake in one.found]
    ok = not found and not findings and all(contact.ok for contact in contacts or ())
    answer = {"ok": ok, "mistakes": to_builtins(found), "findings": findings, "notes": notes}
    print(json.dumps(answer if contacts is None else {**answer, "sources": to_builtins(contacts)}, indent=2))
