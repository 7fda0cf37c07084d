"""The command `isthmus`: data on stdout, everything else on stderr.

Exit codes: 0 ok, 1 findings, 2 usage or invalid configuration, 3 the other side does not answer, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from isthmus import __version__
from isthmus.cli import check, demo, lint, mesh_config, reshard, serve, watch
from isthmus.registry.errors import ConfigError, SourceError

if TYPE_CHECKING:
    from collections.abc import Sequence

EXIT_USAGE = 2
EXIT_UNREACHABLE = 3
EXIT_INTERRUPTED = 130


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    root = argparse.ArgumentParser(prog="isthmus", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    root.add_argument("--version", action="version", version=f"isthmus {__version__}")
    commands = root.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in (serve, check, mesh_config, reshard, demo, watch, lint):
        command.add_parser(commands)
    return root


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    # gRPC's core writes lines of its own to stderr, in its own form, unless it is told before it is loaded.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    options = parser().parse_args(arguments)
    try:
        code: int = options.run(options)
        sys.stdout.flush()
    except ConfigError as error:
        print(error, file=sys.stderr)
        return EXIT_USAGE
    except SourceError as error:
        print(error, file=sys.stderr)
        return EXIT_UNREACHABLE
    except BrokenPipeError:
        # The reader of our output has gone (`| head`); a second error at exit would be noise.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return code


if __name__ == "__main__":
    sys.exit(main())
