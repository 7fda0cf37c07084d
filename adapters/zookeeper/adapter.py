"""Watches registrations in ZooKeeper: Dubbo's by interface, and Dubbo's and Spring Cloud's by application (ZK10).

An event is only a hint to read its node again (G6); what is read is compared with what was known, and the difference
is reported. After every reconnect, within the session or not, all is read again and compared before anything is
withdrawn (ZK2 to ZK4).
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING

from isthmus.adapters.dubbo import DubboRules
from isthmus.adapters.zookeeper.applications import Applications
from isthmus.adapters.zookeeper.branch import Branch, Contact, denied
from isthmus.adapters.zookeeper.client import Disconnected, ZookeeperClient, connect
from isthmus.adapters.zookeeper.instances import rules_of
from isthmus.adapters.zookeeper.interfaces import Interfaces
from isthmus.adapters.zookeeper.nodes import Nodes, batches
from isthmus.registry.errors import SourceDenied

if TYPE_CHECKING:
    from collections.abc import Mapping

    from isthmus.adapters.base import Sink
    from isthmus.adapters.zookeeper.options import ZookeeperOptions
    from isthmus.registry.model import Service

    Known = dict[str, Mapping[str, Service]]

_log = logging.getLogger("isthmus.zookeeper")


class ZookeeperAdapter:
    """Reports the services of one ZooKeeper ensemble."""

    def __init__(self, options: ZookeeperOptions) -> None:
        self._options = options
        nodes = Nodes()
        self._branches: list[Branch] = []
        root, applications = options.root.rstrip("/"), options.applications.rstrip("/")
        if root:
            rules = DubboRules(options.namespace, options.protocols, options.labels)
            self._branches.append(Interfaces(root, nodes, applications, rules))
        if applications:
            self._branches.append(Applications(applications, nodes, root, rules_of(options)))
        # The root that has to be there: it shows that these are the right servers, with their data (G1).
        self._home = self._branches[0]
        self._reconcile_at = 0.0

    async def run(self, sink: Sink) -> None:
        """Watch until cancelled. Raises SourceDenied: the credentials or the rights on the first root do not do."""
        async with connect(self._options) as client:
            while True:
                await self._until_connected(client, sink)
                contact = Contact(client, sink, sink.connected())
                try:
                    while True:
                        await self._read_all(contact)
                        await self._follow(contact)
                except Disconnected as lost:
                    sink.stale(contact.generation, str(lost))

    async def _until_connected(self, client: ZookeeperClient, sink: Sink) -> None:
        while not await client.until_connected(self._options.session_timeout):
            sink.stale(sink.connected(), f"no session with {self._options.address}")

    async def _read_all(self, contact: Contact) -> None:
        """Read everything and report it as complete; wait while the first root is not there."""
        while (wanted := await self._list_all(contact)) is None:
            # Dubbo never deletes its root: these are other servers, or they lost their data, or the chroot is wrong
            # (G1). That of applications may go when it is empty: then there is nothing to withdraw either.
            contact.sink.stale(contact.generation, self._root_is_missing())
            await contact.client.changes(self._options.reconcile)
        total = sum(map(len, wanted))
        done = 0
        for branch, places in zip(self._branches, wanted, strict=True):
            for batch in batches(places):
                await branch.read(contact, batch, None)
                done += len(batch)
                contact.sink.progress(done, total)
        self._report_all(contact)

    async def _list_all(self, contact: Contact) -> list[set[str]] | None:
        """Return the places of each branch that are to be read; None where the first root is not there."""
        wanted: list[set[str]] = []
        for branch in self._branches:
            listed = await self._list(branch, contact)
            if listed is None:
                return None
            branch.forget_gone(contact, listed)
            wanted.append(listed | branch.kept.places)
        return wanted

    async def _list(self, branch: Branch, contact: Contact) -> set[str] | None:
        """Return the places of a branch; None where its root is not there and has to be."""
        if branch is self._home:
            return await branch.list_places(contact)
        try:
            listed = await branch.list_places(contact)
        except SourceDenied:
            # Rights that did for the first root still do: what is known of the second stays, and it is said.
            branch.refuse(contact, branch.root, (denied(branch.root),))
            return set(branch.kept.places)
        branch.refuse(contact, branch.root, ())
        return listed or set()

    def _report_all(self, contact: Contact) -> None:
        """Report everything as complete, and note when it has to be read again: what the guard holds waits for that."""
        everything = [one for each in self._branches for one in each.kept.everything()]
        settled_in = contact.sink.sync(contact.generation, everything)
        pause = self._until_reconcile()
        self._reconcile_at = asyncio.get_running_loop().time() + (pause if settled_in is None else settled_in)

    def _root_is_missing(self) -> str:
        root = self._home.root
        if self._home.kept.places:
            return f"{root} is gone; the last state is kept until it is back"
        return f"{root} is not there: is the chroot right? Create it if nothing was ever registered"

    async def _follow(self, contact: Contact) -> None:
        """Read again what a watch tells, and everything now and then, until the first root is gone."""
        loop = asyncio.get_running_loop()
        while True:
            changed = await contact.client.changes(max(0.0, self._reconcile_at - loop.time()))
            if changed and not await self._read_changed(contact, changed):
                return
            if loop.time() >= self._reconcile_at and not await self._reconcile(contact):
                return

    def _until_reconcile(self) -> float:
        return self._options.reconcile * random.uniform(0.9, 1.1)  # noqa: S311 (jitter)

    async def _read_changed(self, contact: Contact, changed: set[str]) -> bool:
        """Read what changed and report it; return False, having read nothing else, where the first root is gone."""
        for branch in self._branches:
            places = branch.places_of(changed) & branch.kept.places
            if branch.root in changed:
                other = await self._read_root(branch, contact)
                if other is None:
                    # Whatever else is missing went with the root.
                    return False
                places = (places & branch.kept.places) | other
            for batch in batches(places):
                for service in await branch.read(contact, batch, changed):
                    contact.sink.put(contact.generation, service)
        return True

    async def _read_root(self, branch: Branch, contact: Contact) -> set[str] | None:
        """Read the list of places and report those that are gone; return those to be read, which are new or missing.

        None: the first root is gone.
        """
        listed = await self._list(branch, contact)
        if listed is None:
            return None
        for key in branch.forget_gone(contact, listed):
            contact.sink.drop(contact.generation, key)
        return listed ^ branch.kept.places

    async def _reconcile(self, contact: Contact) -> bool:
        """Read everything again behind the watches, and count what they had not told (G6); False: no first root."""
        before = [_known(branch) for branch in self._branches]
        everything = {branch.root for branch in self._branches}
        for branch in self._branches:
            everything.update(path for place in branch.kept.places for path in branch.watched(place))
        if not await self._read_changed(contact, everything):
            return False
        await contact.client.settle()
        told = contact.client.take_changes()
        found = [
            place
            for branch, known in zip(self._branches, before, strict=True)
            for place in _mended(branch, known, told)
        ]
        if found:
            _log.warning("reconcile mended %d places that no watch had told of: %s", len(found), found[:5])
            contact.sink.mended(len(found))
        if not await self._read_changed(contact, told):
            return False
        self._drop_long_empty(contact)
        self._report_all(contact)
        return True

    def _drop_long_empty(self, contact: Contact) -> None:
        now = asyncio.get_running_loop().time()
        for branch in self._branches:
            for key in branch.kept.drop_long_empty(now):
                contact.sink.drop(contact.generation, key)


def _known(branch: Branch) -> Known:
    return {place: branch.kept.services(place) for place in branch.kept.places}


def _mended(branch: Branch, before: Known, told: set[str]) -> list[str]:
    """Return the nodes of the places that are other than before without a word from a watch."""
    now = _known(branch)
    in_both = now.keys() & before.keys()
    changed = {place for place in in_both if now[place] != before[place]} - branch.places_of(told)
    # One that was forgotten after its last service was is no news.
    came_or_went = {place for place in now.keys() ^ before.keys() if place in now or before[place]}
    return [branch.node(place) for place in changed | (set() if branch.root in told else came_or_went)]
