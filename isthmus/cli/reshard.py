"""`isthmus reshard`: what another number of shards would do, and the explicit step that allows it.

Exit code 0: nothing is other than recorded, or it is recorded now (`--yes`); 1: something is, and was not recorded;
2: the configuration cannot be used.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from isthmus.cli.options import add_source_flags, config_from_args, seconds_of
from isthmus.registry.errors import ConfigError
from isthmus.telemetry import configure_logging

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from isthmus.config import Config
    from isthmus.meshconfig.layout import Move

_WAIT = 10.0
_ORDER = """\
The order that loses nothing:
  1. Leave {name} as it was, and add a listener beside it; restart the bridge.
       listeners:
       - {{name: {new}, address: "{address}", shards: {shards}}}
  2. In istiod's mesh configuration put what this prints in the place of the old sources; restart every istiod.
       isthmus mesh-config {source} --listener {new} --host HOST
  3. When /debug/subscribers shows nobody on {name} any more, take it away, or give it the new number and say so.
       isthmus reshard {source} --yes"""


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
    from isthmus.meshconfig.layout import layout_of, moves, read_layout, write_layout

    config = config_from_args(args, os.environ)
    if not config.state:
        raise ConfigError(["`state` is not set: nothing is recorded of the number of shards, and nothing guards it"])
    moved = moves(read_layout(config.state), config.all_listeners)
    if args.yes:
        write_layout(config.state, layout_of(config.all_listeners))
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
        print(_order(move, args.config))
    return 1


def _read(config: Config, seconds: float) -> tuple[list[str], list[str]]:
    configure_logging("error", "text")
    # Only now: with --yes there is nothing to read.
    from isthmus.cli.connect import read_names

    return asyncio.run(read_names(config, seconds))


def _counted(move: Move, names: Sequence[str], unread: Sequence[str]) -> list[str]:
    from isthmus.meshconfig.layout import losses

    lost = losses(move, names)
    lines = [
        f"  {lost.moved} of {len(names)} services would be in another shard. An istiod that lists the sources of",
        f"  before would delete {lost.deleted} of them, and hear nothing more of {lost.unheard}.",
    ]
    if unread:
        lines.append(f"  Not read, and so not counted: {', '.join(unread)}.")
    return lines


def _order(move: Move, config: str | None) -> str:
    port = move.after.port + 100
    return _ORDER.format(
        name=move.listener,
        new=f"{move.listener}-{move.after.shards}",
        address=f"HOST:{port if 100 < port < 65_000 else 'PORT'}",
        shards=move.after.shards,
        source=f"-c {config}" if config else "...",
    )
