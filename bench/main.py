"""`./run bench`: prints figures as JSON on stdout, and what it is doing on stderr."""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from pathlib import Path

from bench import zookeeper


def main() -> None:
    """Run one bench."""
    parser = argparse.ArgumentParser(prog="run bench", description=__doc__)
    parser.add_argument("--interfaces", type=int, default=5_000)
    parser.add_argument("--providers", type=int, default=5)
    parser.add_argument("--changes", type=int, default=30, help="providers added and removed, one at a time")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="isthmus-bench-") as directory:
        figures = asyncio.run(
            zookeeper.measure(Path(directory), options.interfaces, options.providers, options.changes)
        )
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
