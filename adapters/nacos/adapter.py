"""Reports the services of a Nacos, one server after the other: whichever answers is kept until it does not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from isthmus.adapters.nacos.access import Access
from isthmus.adapters.nacos.connection import connect
from isthmus.adapters.nacos.naming import NamingClient
from isthmus.adapters.nacos.pages import NacosPages
from isthmus.adapters.nacos.scopes import Directory, rules_of
from isthmus.adapters.nacos.watch import Intervals, Memory, Watch
from isthmus.adapters.tasks import first_error
from isthmus.adapters.tls import read_authorities
from isthmus.adapters.web import web_session

if TYPE_CHECKING:
    from isthmus.adapters.base import Sink
    from isthmus.adapters.nacos.options import NacosOptions


class NacosAdapter:
    """Reports the services of one Nacos, alone or a cluster."""

    def __init__(self, options: NacosOptions) -> None:
        self._options = options
        self._rules = rules_of(options)
        self._servers = tuple(_host_port(server) for server in options.address.split(","))
        self._turn = 0
        self._memory = Memory()

    async def run(self, sink: Sink) -> None:
        """Watch one server until it is lost. Raises SourceUnavailable: it is; SourceDenied: it refuses us.

        The next run asks the next server.
        """
        options = self._options
        host, port = self._servers[self._turn % len(self._servers)]
        self._turn += 1
        base = f"{'https' if options.tls else 'http'}://{host}:{port}{options.context_path}"
        roots = await asyncio.to_thread(read_authorities, options.ca) if options.tls else None
        target = f"{host}:{port + options.grpc_port_offset}"
        async with web_session(options.ca) as session, connect(target, roots, options.timeout) as connection:
            pages = NacosPages(session, base, options.timeout)
            access = Access(
                (lambda: pages.log_in(options.username, options.password)) if options.username else None,
                options.access_key,
                options.secret_key,
            )
            pages.access = access
            naming = NamingClient(connection, access)
            directory = Directory(options, naming, pages, self._memory.tenants)
            async with first_error(), asyncio.TaskGroup() as tasks:
                tasks.create_task(connection.receive())
                await directory.refresh()
                intervals = Intervals(options.listing, options.reconcile)
                await Watch(self._memory, naming, directory, self._rules, sink, intervals).run()


def _host_port(server: str) -> tuple[str, int]:
    host, _, port = server.rpartition(":")
    return host, int(port)
