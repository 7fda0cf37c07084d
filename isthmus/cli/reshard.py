"""`isthmus reshard`: what another number of shards would do, and the explicit step that allows it.

Exit code 0: nothing is other than recorded, or it is recorded now (`--yes`); 1: something is, and was not recorded;
2: the configuration cannot be used.
"""

from __future__ import annotations

import asyncio
import os
import textwrap
from typing import TYPE_CHECKING

from isthmus.cli.options import add_source_flags, config_from_args, seconds_of, source_flags_of
from isthmus.registry.errors import ConfigError
from isthmus.telemetry import configure_logging

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from isthmus.config import Config
    from isthmus.meshconfig.layout import Layout, Move

_WAIT = 10.0
_ORDER = """\
The order that loses nothing:
  1. Leave {known} as it was, and add a listener beside it{where}; restart the bridge.
{listener}
  2. In istiod's mesh configuration put what this prints in the place of the old sources; restart every istiod.
       isthmus mesh-config {flags} --listener {new} --host HOST
  3. When /debug/subscribers shows nobody on {known} any more, take it away, or change it then, and say so.
       isthmus reshard {flags} --yes"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command to the command line."""
    parser = subparsers.add_parser(
        "reshard",
        help="say what another number of shards does, and allow it",
        description="Say what the number of shards that a configuration has now would do to istiods that were told "
        "another, and with --yes allow it. Needs `state`, where `serve` records the number.",
    )
    add_source_flags(parser)
    parser.add_argument("--yes", action="store_true", help="record it: the next start serves so")
    parser.add_argument(
        "--wait", type=seconds_of, default=_WAIT, metavar="SECONDS", help="how long to read sources (default: 10)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Tell, and record where asked to. Raises ConfigError: there is no `state`, or it cannot be used."""
    from isthmus.meshconfig.layout import moves, read_layout, recorded, write_layout

    config = config_from_args(args, os.environ)
    if not config.state:
        raise ConfigError(["`state` is not set: nothing is recorded of the number of shards, and nothing guards it"])
    known = read_layout(config.state)
    moved = moves(known, config.all_listeners)
    if args.yes:
        write_layout(config.state, recorded(known, config.all_listeners))
        for move in moved:
            print(f"{move}: recorded, and served so from the next start on")
        if not moved:
            print("the number of shards is what it was; recorded")
        return 0
    if not moved:
        print("the number of shards is what it was")
        return 0
    names, unread = _read(config, args.wait)
    for move in moved:
        print(f"{move}.")
        print(*_counted(move, names, unread), sep="\n")
        print(_order(move, config, known, args))
    return 1


def _read(config: Config, seconds: float) -> tuple[list[str], list[str]]:
    configure_logging("error", "text")
    # Only now: with --yes there is nothing to read.
    from isthmus.cli.connect import read_names

    return asyncio.run(read_names(config, seconds))


def _counted(move: Move, names: Sequence[str], unread: Sequence[str]) -> list[str]:
    from isthmus.meshconfig.losses import losses

    if unread and not names:
        return [f"  What an istiod would lose was not counted, since no service was read: {', '.join(unread)}."]
    lost = losses(move, names)
    lines = [
        f"  {lost.moved} of {len(names)} services would be in another shard. An istiod that lists the sources of",
        f"  before would delete {lost.deleted} of them, and hear nothing more of {lost.unheard}.",
    ]
    if unread:
        lines.append(f"  Not read, and so not counted: {', '.join(unread)}.")
    return lines


def _order(move: Move, config: Config, known: Layout, args: argparse.Namespace) -> str:
    from isthmus.meshconfig.beside import as_yaml, listener_beside

    beside = listener_beside(move, config, known)
    flags = source_flags_of(args)
    return _ORDER.format(
        known=move.known,
        where="" if args.config else ", in a configuration file, which takes -c FILE",
        listener=textwrap.indent(as_yaml(beside), " " * 7).rstrip(),
        new=beside.name,
        flags=flags if args.config else f"-c FILE {flags}",
    )
