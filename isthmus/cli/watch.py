"""`isthmus watch ADDRESS`: what a subscriber is told, as it is told."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from isthmus.registry.errors import ConfigError

if TYPE_CHECKING:
    import argparse

    from isthmus.mcp.client import Batch, Event, Security
    from isthmus.protos.networking_pb2 import ServiceEntry


class WatchedEvent(msgspec.Struct, omit_defaults=True, rename="camel"):
    """One line of `-o json`; `op` is add, update, remove, or synced after the first response."""

    op: str
    name: str = ""
    version: str = ""
    addresses: list[str] = []
    ports: list[str] = []
    endpoints: list[str] = []
    count: int = 0


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("watch", help="subscribe as istiod does, and print what comes")
    parser.add_argument("address", nargs="?", default="127.0.0.1:16010", help="host:port (default: %(default)s)")
    parser.add_argument("--delta", action="store_true", help="speak delta xDS, which istiod does not")
    parser.add_argument("--revision", default="", help="the Istio revision to subscribe as")
    parser.add_argument(
        "--authority",
        default="",
        metavar="NAME",
        help="call the server so: shard-N-of-M, where one port has all shards",
    )
    parser.add_argument("--ca", metavar="FILE", help="speak TLS, to a server that these certificates vouch for")
    parser.add_argument("--server-name", default="", metavar="NAME", help="what the server's certificate must name")
    parser.add_argument("--certificate", metavar="FILE", help="show this certificate, for a server that asks for one")
    parser.add_argument("--key", metavar="FILE", help="the key of --certificate")
    parser.add_argument("--once", action="store_true", help="end after the first response")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print changes until the server ends the stream. Raises SourceUnavailable: it does not answer, or ended it."""
    return asyncio.run(_watch(arguments))


async def _watch(arguments: argparse.Namespace) -> int:
    from isthmus.mcp.client import ISTIOD_TYPES, SERVICE_ENTRY_URL, subscribe

    async with subscribe(
        arguments.address,
        ISTIOD_TYPES,
        delta=arguments.delta,
        revision=arguments.revision,
        security=_security(arguments),
        authority=arguments.authority,
    ) as client:
        print(f"subscribed to {arguments.address}", file=sys.stderr)
        async for batch in client.batches():
            if batch.type_url != SERVICE_ENTRY_URL:
                continue
            print_batch(batch, arguments.output)
            if arguments.once:
                return 0
    return 0


def _security(arguments: argparse.Namespace) -> Security | None:
    """Return how the flags want the connection secured. Raises ConfigError: they do not fit, or a file is not there."""
    from isthmus.mcp.client import Security

    if (arguments.certificate is None) != (arguments.key is None):
        raise ConfigError(["--certificate and --key go together"])
    if arguments.ca is None:
        if arguments.server_name or arguments.certificate:
            raise ConfigError(["--server-name, --certificate and --key need --ca: without it plaintext is spoken"])
        return None
    if arguments.authority:
        raise ConfigError(["--authority is for plaintext: over TLS, --server-name is what the server is called"])
    return Security(
        _content(arguments.ca), arguments.server_name, _content(arguments.certificate), _content(arguments.key)
    )


def _content(path: str | None) -> bytes:
    try:
        return Path(path).read_bytes() if path else b""
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from error


def print_batch(batch: Batch, output: str = "text") -> None:
    """Print what a response says on stdout, a line for each change."""
    show = _json_line if output == "json" else _text_line
    for event in watched(batch):
        print(show(event))
    sys.stdout.flush()


def watched(batch: Batch) -> list[WatchedEvent]:
    """Return what a response says, in the form that is printed."""
    events = [_watched_event(event) for event in batch.events]
    return [*events, WatchedEvent("synced", count=batch.count)] if batch.first else events


def _watched_event(event: Event) -> WatchedEvent:
    if event.held is None:
        return WatchedEvent(event.op, event.name)
    entry = event.held.service_entry()
    return WatchedEvent(
        event.op,
        event.name,
        event.held.version,
        list(entry.addresses),
        [f"{port.number}/{port.name}/{port.protocol}" for port in entry.ports],
        _endpoints(entry),
    )


def _endpoints(entry: ServiceEntry) -> list[str]:
    return [
        f"{f'[{one.address}]' if ':' in one.address else one.address}:{number}"
        for one in entry.endpoints
        for _, number in sorted(one.ports.items())
    ]


def _json_line(event: WatchedEvent) -> str:
    return msgspec.json.encode(event).decode()


def _text_line(event: WatchedEvent) -> str:
    if event.op == "synced":
        return f"synced   {event.count} services"
    if event.op == "remove":
        return f"remove   {event.name}"
    vip = " ".join(event.addresses) or "no address"
    endpoints = " ".join(event.endpoints) or "no endpoints"
    return f"{event.op:8} {event.name}  {' '.join(event.ports)}  {vip}  ->  {endpoints}"
