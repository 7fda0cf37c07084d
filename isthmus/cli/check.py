"""`isthmus check`: every mistake in a configuration, without starting anything.

Exit code 0: there is none; 2: there are some, or the file cannot be read.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from msgspec import to_builtins

from isthmus.cli.options import add_source_flags, config_from_args
from isthmus.config.mistakes import Mistake, MistakesFound
from isthmus.registry.errors import ConfigError

if TYPE_CHECKING:
    import argparse


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command to the command line."""
    parser = subparsers.add_parser(
        "check",
        help="find every mistake in a configuration",
        description="Find every mistake in a configuration, without starting anything. "
        "Exit code 0: there is none, 2: there are some.",
    )
    add_source_flags(parser)
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="form of the answer")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Check a configuration, print what was found, return the exit code."""
    try:
        config = config_from_args(args, os.environ)
    except ConfigError as error:
        _print_mistakes(error, args.output)
        return 2
    if args.output == "json":
        _print_json(())
    else:
        count = len(config.sources)
        print(f"{args.config or 'flags'}: ok, {count} source{'' if count == 1 else 's'}")
    return 0


def _print_mistakes(error: ConfigError, output: str) -> None:
    if output == "text":
        print(*error.mistakes, sep="\n")
    elif isinstance(error, MistakesFound):
        _print_json(error.found)
    else:
        _print_json(tuple(Mistake("", None, mistake) for mistake in error.mistakes))


def _print_json(found: tuple[Mistake, ...]) -> None:
    print(json.dumps({"ok": not found, "mistakes": to_builtins(found)}, indent=2))
