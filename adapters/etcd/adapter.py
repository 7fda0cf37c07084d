"""Reports the services of an etcd, one member after the other: whichever answers is kept until it does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from isthmus.adapters.etcd.client import connect
from isthmus.adapters.etcd.keys import Keys
from isthmus.adapters.etcd.records import format_of
from isthmus.adapters.etcd.watch import Memory, Watch
from isthmus.adapters.servers import LOGIN, Servers

if TYPE_CHECKING:
    from isthmus.adapters.base import Sink
    from isthmus.adapters.etcd.options import EtcdOptions


class EtcdAdapter:
    """Reports the services of one etcd, a single member or a cluster."""

    def __init__(self, options: EtcdOptions) -> None:
        self._options = options
        self._servers = Servers(options.address, LOGIN, paths=False)
        self._memory = Memory(
            [Keys(prefix, format_of(prefix, rules, options)) for prefix, rules in options.prefixes.items()]
        )

    async def run(self, sink: Sink) -> None:
        """Watch one member until it is lost. Raises SourceUnavailable: it is; SourceDenied: it refuses us; SourceError:
        the address or a file of certificates cannot be used.

        The next run asks the next member.
        """
        server = self._servers.current()
        self._servers.pass_on()
        async with connect(server, self._options) as client:
            await Watch(self._memory, client, sink, self._options).run()
