"""`./run bench`: prints figures as JSON on stdout, and what it is doing on stderr."""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bench import consul, etcd, eureka, nacos, xds, zookeeper

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


class Scenario(NamedTuple):
    """One registry, or none (`xds`), and how much of what it is filled with unless told otherwise.

    measure: takes a folder, the services, the instances of each, and the changes; returns the figures.
    """

    measure: Callable[[Path, int, int, int], Coroutine[Any, Any, dict[str, object]]]
    services: int
    instances: int
    changes: int


SCENARIOS = {
    "consul": Scenario(consul.measure, services=2_000, instances=5, changes=20),
    "etcd": Scenario(etcd.measure, services=10_000, instances=5, changes=30),
    "eureka": Scenario(eureka.measure, services=2_000, instances=5, changes=15),
    "nacos": Scenario(nacos.measure, services=2_000, instances=5, changes=20),
    "xds": Scenario(xds.measure, services=10_000, instances=10, changes=40),
    "zookeeper": Scenario(zookeeper.measure, services=5_000, instances=5, changes=30),
}


def main() -> None:
    """Run one bench."""
    parser = argparse.ArgumentParser(prog="run bench", description=__doc__)
    parser.add_argument("--registry", choices=SCENARIOS, default="zookeeper")
    parser.add_argument("--services", "--interfaces", type=int, help="interfaces, or applications")
    parser.add_argument("--instances", "--providers", type=int, help="of each service")
    parser.add_argument("--changes", type=int, help="instances added and removed, one at a time")
    options = parser.parse_args()
    scenario = SCENARIOS[options.registry]
    with tempfile.TemporaryDirectory(prefix="isthmus-bench-") as directory:
        figures = asyncio.run(
            scenario.measure(
                Path(directory),
                scenario.services if options.services is None else options.services,
                scenario.instances if options.instances is None else options.instances,
                scenario.changes if options.changes is None else options.changes,
            )
        )
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
