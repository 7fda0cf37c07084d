"""The flags that make a configuration, and what else several commands read of their command lines."""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING

from isthmus.config import Config, Flags, config_from_flags, load_config
from isthmus.config.listeners import MAIN
from isthmus.config.mistakes import choose_from
from isthmus.config.rules import DAY, DEFAULT_DEBUG, DEFAULT_LISTEN
from isthmus.registry.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from isthmus.config.listeners import Listener


def add_source_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that name a configuration file or stand in its place."""
    parser.add_argument("-c", "--config", metavar="FILE", help="configuration file (YAML or JSON)")
    parser.add_argument(
        "--source",
        action="append",
        default=[],
        metavar="URL",
        help="a source, besides those of the file: zookeeper://HOST:PORT[,HOST:PORT][/CHROOT][?KEY=VALUE&...], "
        "nacos://HOST:PORT[,HOST:PORT], eureka://HOST:PORT[,HOST:PORT][/PATH] (eurekas:// for TLS), "
        "consul://HOST:PORT[,HOST:PORT][/PATH] (consuls://), etcd://HOST:PORT[,HOST:PORT] (etcds://) "
        "?prefix=PREFIX&format=FORMAT or file:DIR, all with ?KEY=VALUE; may be given again and again",
    )
    parser.add_argument("--listen", metavar="HOST:PORT", help=f"where istiod finds xDS (default: {DEFAULT_LISTEN})")
    parser.add_argument(
        "--shards", type=int, metavar="N", help="on how many ports from there, each with a part of the services"
    )
    parser.add_argument("--tls-certificate", metavar="FILE", help="what istiod is shown there, in PEM; with --tls-key")
    parser.add_argument("--tls-key", metavar="FILE", help="its key, in PEM and without a password")
    parser.add_argument(
        "--debug",
        metavar="HOST:PORT",
        help=f'where debug pages and metrics are; "" for none (default: {DEFAULT_DEBUG})',
    )
    parser.add_argument(
        "--plaintext",
        metavar="WHERE",
        help="`anywhere` lets --listen lead beyond this machine without TLS (default: loopback)",
    )
    parser.add_argument(
        "--state", metavar="DIR", help="what must survive a restart: with it no start changes the shards unasked"
    )


def config_from_args(args: argparse.Namespace, environ: Mapping[str, str]) -> Config:
    """Return the configuration of a command line. Raises ConfigError: every mistake in it and in its file."""
    flags = Flags(
        sources=tuple(args.source),
        listen=args.listen,
        shards=args.shards,
        tls_certificate=args.tls_certificate,
        tls_key=args.tls_key,
        debug=args.debug,
        plaintext=args.plaintext,
        state=args.state,
    )
    if args.config is not None:
        return load_config(args.config, environ, flags)
    if not args.source:
        raise ConfigError(["there is no source: give -c FILE or --source URL"])
    return config_from_flags(flags, environ)


def source_flags_of(args: argparse.Namespace) -> str:
    """Return the flags that made a configuration, as a shell is given them."""
    settings = {key: getattr(args, key) for key in Flags.__struct_fields__ if key != "sources"}
    given = [] if args.config is None else [("-c", args.config)]
    given += [("--source", url) for url in args.source]
    given += [(f"--{key.replace('_', '-')}", str(said)) for key, said in settings.items() if said is not None]
    return " ".join(shlex.join(pair) for pair in given)


def listener_named(config: Config, name: str) -> Listener:
    """Return a listener; that of `listen` for no name. Raises ConfigError: there is none of that name."""
    listeners = {listener.name: listener for listener in config.all_listeners}
    if name and name not in listeners:
        raise ConfigError([f"--listener: {choose_from(name, listeners, 'the listeners are')}"])
    return listeners[name or MAIN]


def seconds_of(text: str) -> float:
    """Read a time-out of the command line. Raises ArgumentTypeError: it is none."""
    seconds = float(text)
    if not 0 < seconds <= DAY:
        raise argparse.ArgumentTypeError(f"not a number of seconds from 0 to {DAY}")
    return seconds
