"""`isthmus serve`: the bridge itself, until a signal."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os

from isthmus.cli.options import add_source_flags, config_from_args
from isthmus.telemetry import configure_logging

_log = logging.getLogger("isthmus")

_EXAMPLES = """examples:
  isthmus serve -c isthmus.yaml
  isthmus serve --source zookeeper://127.0.0.1:2181 --source file:services/
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "serve",
        help="watch the sources and serve them to istiod",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_source_flags(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT. Raises ConfigError: the configuration cannot be used; nothing was started."""
    config = config_from_args(arguments, os.environ)
    configure_logging(config.log.level, config.log.format)
    # Only now: a mistake in the configuration is told without waiting for these imports.
    from isthmus.app import run_until_signal

    stopped = asyncio.run(run_until_signal(config))
    _log.info("stopped by %s", stopped.signal)
    return 0
