"""`isthmus mesh-config`: the `configSources` of istiod's mesh configuration that go with a configuration.

Exit code 0: they are on stdout; 2: an istiod with them would not be served, or the configuration cannot be used.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from isthmus.cli.options import add_source_flags, config_from_args, listener_named

if TYPE_CHECKING:
    import argparse


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command to the command line."""
    parser = subparsers.add_parser(
        "mesh-config",
        help="print what istiod's mesh configuration has to say of it",
        description="Print the configSources of istiod's mesh configuration that go with a configuration. "
        "Exit code 0: done, 2: an istiod with them would not be served.",
    )
    add_source_flags(parser)
    parser.add_argument(
        "--host", required=True, metavar="NAME", help="name or address by which istiod finds this machine or Service"
    )
    parser.add_argument("--namespace", default="", metavar="NS", help="--host is the name of a Service there")
    parser.add_argument("--listener", default="", metavar="NAME", help="which listener (default: that of `listen`)")
    parser.add_argument(
        "--ca",
        default="",
        metavar="FILE",
        help="who vouches for the certificate, in PEM (default: the last of its file)",
    )
    parser.add_argument("--istio-version", default="", metavar="X.Y", help="of istiod: whether it can do this is told")
    parser.add_argument("-o", "--output", choices=("yaml", "json"), default="yaml", help="form of the answer")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the sources. Raises ConfigError: an istiod with them would not be served."""
    # Only now: the other commands do without these.
    from isthmus.mcp.transport import utc_now
    from isthmus.meshconfig.certificates import shown_by, trusting
    from isthmus.meshconfig.printed import as_json, as_yaml, notes_on
    from isthmus.meshconfig.sources import Reach, config_sources, read_version

    config = config_from_args(args, os.environ)
    listener = listener_named(config, args.listener)
    version = read_version(args.istio_version) if args.istio_version else None
    reach = Reach(host=args.host, namespace=args.namespace, version=version)
    shown = shown_by(listener)
    if args.ca:
        shown = trusting(shown, args.ca, utc_now())
    sources = config_sources(listener, reach, shown)
    notes = notes_on(listener, reach, shown)
    if args.output == "yaml":
        print(as_yaml(sources, notes), end="")
    else:
        print(*notes, sep="\n", file=sys.stderr)
        print(as_json(sources), end="")
    return 0
