"""`isthmus check`: every mistake in a configuration, without starting anything.

With `--connect` each source is read once, too. Exit code 0: there is no mistake, and every source was read; 2: there
are some, or the file cannot be read; 3: a source was not read.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from typing import TYPE_CHECKING

from msgspec import to_builtins

from isthmus.cli.options import add_source_flags, config_from_args
from isthmus.config.mistakes import Mistake, MistakesFound
from isthmus.config.rules import DAY
from isthmus.registry.errors import ConfigError
from isthmus.telemetry import configure_logging

if TYPE_CHECKING:
    from collections.abc import Sequence

    from isthmus.cli.connect import Contact
    from isthmus.config import Config

_WAIT = 10.0


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command to the command line."""
    parser = subparsers.add_parser(
        "check",
        help="find every mistake in a configuration",
        description="Find every mistake in a configuration, without starting anything. "
        "Exit code 0: there is none, 2: there are some, 3: a source was not read (--connect).",
    )
    add_source_flags(parser)
    parser.add_argument("--connect", action="store_true", help="read each source once, too; nothing is served")
    parser.add_argument(
        "--wait", type=_seconds, metavar="SECONDS", help=f"how long the sources are given (default: {_WAIT:g})"
    )
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="form of the answer")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Check a configuration, print what was found, return the exit code."""
    try:
        config = _config(args)
    except ConfigError as error:
        _print_mistakes(error, args.output)
        return 2
    if args.output == "text":
        print(f"{args.config or 'flags'}: ok, {_counted(len(config.sources), 'source')}", flush=True)
    contacts = _contacts(config, args.wait or _WAIT) if args.connect else None
    if args.output == "json":
        _print_json((), contacts)
    else:
        for contact in contacts or ():
            print(f"source {contact.name}: {_said(contact)}")
    return 0 if all(contact.ok for contact in contacts or ()) else 3


def _config(args: argparse.Namespace) -> Config:
    if args.wait is not None and not args.connect:
        raise ConfigError(["--wait is for --connect"])
    return config_from_args(args, os.environ)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= DAY:
        raise argparse.ArgumentTypeError(f"not a number of seconds from 0 to {DAY}")
    return seconds


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


def _print_json(found: Sequence[Mistake], contacts: Sequence[Contact] | None = None) -> None:
    ok = not found and all(contact.ok for contact in contacts or ())
    answer = {"ok": ok, "mistakes": to_builtins(found)}
    print(json.dumps(answer if contacts is None else {**answer, "sources": to_builtins(contacts)}, indent=2))
