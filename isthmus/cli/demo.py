"""`isthmus demo`: the whole line with nothing at hand, on a directory of example services."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from isthmus.telemetry import configure_logging

if TYPE_CHECKING:
    import argparse

    from isthmus.app import Bridge
    from isthmus.config import Config
    from isthmus.mcp.client import Batch

SERVICES = {
    "shop.yaml": """\
services:
- host: orders.shop.legacy
  ports: [{number: 8080, name: http, protocol: HTTP}]
  endpoints:
  - {address: 10.20.0.11, ports: {http: 18080}, labels: {version: v1}, locality: dc1/rack1}
  - {address: 10.20.0.12, ports: {http: 18080}, labels: {version: v2}, locality: dc1/rack2}
- host: stock.shop.legacy
  ports: [{number: 20880, name: tcp-dubbo, protocol: TCP}]
  endpoints:
  - {address: 10.20.0.21, ports: {tcp-dubbo: 20881}}
  - {address: 10.20.0.22, ports: {tcp-dubbo: 20882}, weight: 2}
""",
    "billing.yaml": """\
services:
- host: invoices.billing.legacy
  ports: [{number: 50051, name: grpc, protocol: GRPC}]
  endpoints:
  - {address: 10.20.0.31}
  # Refused on purpose, and shown as refused: it would lead every sidecar to itself.
  - {address: 127.0.0.1}
""",
}
_SERVED = ("default/invoices.billing.legacy", "default/orders.shop.legacy", "default/stock.shop.legacy")
_PROOF_SECONDS = 30.0


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("demo", help="try it: example services, the server, the debug endpoint")
    parser.add_argument("--once", action="store_true", help="prove that the services are served, and end")
    parser.add_argument("--listen", help="xDS address (default: 127.0.0.1:16010; with --once a free port)")
    parser.add_argument("--debug", help="HTTP address (default: 127.0.0.1:16014; with --once a free port)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the demo until a signal, or with `--once` until the proof. Raises ConfigError: a port is in use."""
    configure_logging("info" if not arguments.once else "warning", "text")
    with tempfile.TemporaryDirectory(prefix="isthmus-demo-") as name:
        directory = Path(name)
        for file, text in SERVICES.items():
            (directory / file).write_text(text)
        return asyncio.run(_run(_config(arguments, directory), directory, once=arguments.once))


def _config(arguments: argparse.Namespace, directory: Path) -> Config:
    from isthmus.config import Flags, config_from_flags

    free = "127.0.0.1:0" if arguments.once else None
    flags = Flags(
        sources=(f"file:{directory}?name=demo",), listen=arguments.listen or free, debug=arguments.debug or free
    )
    return config_from_flags(flags, {})


async def _run(config: Config, directory: Path, *, once: bool) -> int:
    from isthmus.app import Bridge, run_until_signal

    if not once:
        await run_until_signal(config, lambda bridge: print(_next_steps(bridge, directory), file=sys.stderr))
        return 0
    async with Bridge(config).running() as bridge:
        try:
            async with asyncio.timeout(_PROOF_SECONDS):
                return await _prove(bridge)
        except TimeoutError:
            print(f"not proved: ServiceEntry was not served within {_PROOF_SECONDS:.0f} s", file=sys.stderr)
            return 1


async def _prove(bridge: Bridge) -> int:
    """Subscribe as istiod does, print what was served, and return 0 if it is what the files say."""
    from isthmus.mcp.client import ISTIOD_TYPES, SERVICE_ENTRY_URL, subscribe

    served: Batch | None = None
    async with subscribe(bridge.xds_address) as client:
        async for batch in client.batches():
            if batch.type_url == SERVICE_ENTRY_URL:
                served = batch
            if served and len(client.answered) == len(ISTIOD_TYPES):
                break
        names = tuple(sorted(client.store[SERVICE_ENTRY_URL]))
        answered = len(client.answered)
    proved = served is not None and names == _SERVED
    if served is not None:
        _print_proof(bridge, served, answered)
    print("proved: the example services are served" if proved else f"not proved: expected {_SERVED}, got {names}")
    return 0 if proved else 1


def _print_proof(bridge: Bridge, served: Batch, answered: int) -> None:
    from isthmus.cli.watch import print_batch

    print(f"{answered} types asked for as istiod does, all answered; ServiceEntry: {served.count} resources")
    print_batch(served)
    for source in bridge.catalog.sources:
        for key, refusal in source.refusals():
            print(f"refused  {key}  {refusal.code} {refusal.reason}")


def _next_steps(bridge: Bridge, directory: Path) -> str:
    return f"""\
Isthmus serves the example services of {directory}. From another terminal, with ./run where isthmus is not on the PATH:

  isthmus watch {bridge.xds_address}                    what istiod is told, as it is told
  curl -s http://{bridge.debug_address}/debug/services     the same over HTTP; /debug lists all pages
  $EDITOR {directory}/shop.yaml                    change an endpoint and see it in both

In a mesh, list it beside Kubernetes in istiod's mesh configuration:

  configSources:
  - address: xds://{bridge.xds_address}
  - address: k8s://

Ctrl-C ends it.
"""
