"""Reports the services of one datacenter of Consul, by one agent or server after the other."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Final

from isthmus.adapters.consul.client import TOKEN_HEADER, ConsulClient
from isthmus.adapters.consul.records import rules_of
from isthmus.adapters.consul.view import View
from isthmus.adapters.consul.watch import Restored, Watch
from isthmus.adapters.servers import ACL, Servers
from isthmus.adapters.web import web_session
from isthmus.registry.errors import SourceError

if TYPE_CHECKING:
    import aiohttp

    from isthmus.adapters.base import Sink
    from isthmus.adapters.consul.options import ConsulOptions

_log = logging.getLogger("isthmus.consul")

# Sooner than after so many seconds an index that goes back is not of one restored server, but of two that take turns
# behind one address: to read them in turns without a rest would be no use.
_LIKELY_ONE_SERVER: Final = 5.0


class ConsulAdapter:
    """Reports the services of one datacenter, namespace and partition; what it knows outlives its runs."""

    def __init__(self, options: ConsulOptions) -> None:
        self._options = options
        self._rules = rules_of(options)
        self._view = View(self._rules)
        self._servers = Servers(options.address, ACL)

    async def run(self, sink: Sink) -> None:
        """Watch one server until it fails; the next run begins with the next one.

        Raises SourceDenied: the token is refused, or sees nothing. SourceUnavailable: no server answers and knows a
        leader, or the one that did does not any more. SourceError: the address or a file of certificates cannot be
        used.
        """
        options = self._options
        headers = {TOKEN_HEADER: options.token} if options.token else None
        async with web_session(options.ca, headers=headers, cert_file=options.cert, key_file=options.key) as session:
            client = await self._servers.first_good(partial(self._connect, session))
            try:
                while True:
                    await self._watch(client, sink)
            except SourceError:
                self._servers.pass_on()
                raise

    async def _watch(self, client: ConsulClient, sink: Sink) -> None:
        """Watch until the server fails, or returns to another past (CO1), which is read anew at once."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            await Watch(client, sink, self._view, self._rules, self._options).run()
        except Restored as error:
            if loop.time() - began < _LIKELY_ONE_SERVER:
                raise
            _log.warning("%s: %s", self._options.name, error)

    async def _connect(self, session: aiohttp.ClientSession, url: str) -> ConsulClient:
        """Return the client of a server that answers and knows a leader. Raises SourceError: it does not."""
        client = ConsulClient(session, url, self._options)
        await client.check_leader()
        return client
