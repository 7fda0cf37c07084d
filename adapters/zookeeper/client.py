"""ZooKeeper's connection, on kazoo: the one place where kazoo's threads hand over to the event loop.

Kazoo's own ChildrenWatch stops for ever on a missing node and starts a thread per watch at every reconnect, so the
watches here are ZooKeeper's plain one-shot ones, set by the read itself (ZK1, ZK7; docs/decisions/0005-kazoo.md).
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from kazoo.client import KazooClient
from kazoo.exceptions import (
    AuthFailedError,
    ConnectionClosedError,
    ConnectionLoss,
    KazooException,
    NoAuthError,
    NoNodeError,
    OperationTimeoutError,
    SessionExpiredError,
)
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.protocol.states import Callback, KazooState, KeeperState, WatchedEvent
from msgspec import Struct

from isthmus.registry.errors import SourceDenied, SourceUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from isthmus.adapters.zookeeper.options import ZookeeperOptions

_LOST = (ConnectionLoss, ConnectionClosedError, SessionExpiredError, OperationTimeoutError, KazooTimeoutError)


class Disconnected(SourceUnavailable):
    """The connection that a read or a watch belonged to is gone; what it would have said is not to be used (G5)."""


class Children(Struct, frozen=True):
    """The children of a node and the transaction that last changed them."""

    names: tuple[str, ...]
    zxid: int


class Content(Struct, frozen=True):
    """The data of a node and the transaction that last changed it."""

    data: bytes
    zxid: int


class ZookeeperClient:
    """Reads with watches over one kazoo client; all methods belong to the event loop."""

    def __init__(self, options: ZookeeperOptions) -> None:
        self._loop = asyncio.get_running_loop()
        self._kazoo = KazooClient(
            hosts=options.address,
            timeout=options.session_timeout,
            connection_retry={"max_tries": -1, "delay": 0.1, "max_delay": 2},
            auth_data=[("digest", options.digest)] if options.digest else None,
            logger=logging.getLogger("isthmus.kazoo"),
        )
        self._address = options.address
        self._waiting: set[asyncio.Future[Any]] = set()
        self._changed: set[str] = set()
        self._wake = asyncio.Event()
        self._state: str = KazooState.LOST
        self._denied = False
        self._epoch = 0
        self._epoch_in_use = 0
        self.session_id: int | None = None

    @property
    def connected(self) -> bool:
        return bool(self._state == KazooState.CONNECTED)

    async def until_connected(self, seconds: float) -> bool:
        """Wait for a session; False when there is none after `seconds`. Raises SourceDenied: ZooKeeper refuses us."""
        try:
            async with asyncio.timeout(seconds):
                while not self.connected:
                    if self._denied:
                        raise SourceDenied(f"{self._address} refuses the digest credentials")
                    self._wake.clear()
                    await self._wake.wait()
        except TimeoutError as error:
            if self._kazoo.client_state in (KeeperState.CLOSED, KeeperState.AUTH_FAILED):
                # Its thread has ended: only another client will connect.
                raise SourceUnavailable(f"the client for {self._address} has closed") from error
            return False
        self._changed.clear()
        self._epoch_in_use = self._epoch
        return True

    async def children(self, path: str) -> Children | None:
        """Read the children of a node and watch them; None where the node is not there, and then watch for it (ZK7).

        Raises Disconnected: the connection changed meanwhile. SourceDenied: no right to read this node (ZK8).
        """
        while True:
            try:
                names, stat = await self._call(
                    self._kazoo.get_children_async, path, watch=self._on_watch, include_data=True
                )
            except NoNodeError:
                if await self._call(self._kazoo.exists_async, path, watch=self._on_watch) is None:
                    return None
            else:
                return Children(tuple(names), stat.pzxid)

    async def content(self, path: str) -> Content | None:
        """Read the data of a node and watch it; None where the node is not there, and then it is not watched.

        Raises as `children` does.
        """
        try:
            data, stat = await self._call(self._kazoo.get_async, path, watch=self._on_watch)
        except NoNodeError:
            return None
        return Content(data, stat.mzxid)

    async def catch_up(self, path: str) -> None:
        """Have the server that we are connected to catch up with its leader before the next read of `path` (ZK6)."""
        await self._call(self._kazoo.sync_async, path)

    async def changes(self, seconds: float) -> set[str]:
        """Return the watched paths that changed, at once when there are some, an empty set after `seconds`.

        Raises Disconnected: the connection is gone, and with it every watch.
        """
        try:
            async with asyncio.timeout(seconds):
                while self._still_connected and not self._changed:
                    self._wake.clear()
                    await self._wake.wait()
        except TimeoutError:
            pass
        self._check()
        return self.take_changes()

    def take_changes(self) -> set[str]:
        """Return the watched paths that changed so far."""
        taken, self._changed = self._changed, set()
        return taken

    async def settle(self) -> None:
        """Return when every watch event that reached kazoo before this call has reached the loop."""
        passed = asyncio.Event()
        mark = Callback("watch", lambda _: self._hand_over(passed.set), (None,))
        self._kazoo.handler.dispatch_callback(mark)
        await passed.wait()

    # Kazoo's threads call these.

    def _on_watch(self, event: WatchedEvent) -> None:
        self._hand_over(lambda: self._note_change(event))

    def _on_state(self, state: str) -> None:
        # Asked here, in kazoo's thread: a moment later its client is closed, and says no more why.
        denied = self._kazoo.client_state == KeeperState.AUTH_FAILED
        self._hand_over(lambda: self._note_state(state, denied=denied))

    def _hand_over(self, work: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(work)
        except RuntimeError:
            # The loop is closed: nobody is left to be told.
            return

    # The loop runs these.

    def _note_change(self, event: WatchedEvent) -> None:
        if event.path:
            self._changed.add(event.path)
            self._wake.set()

    def _note_state(self, state: str, *, denied: bool) -> None:
        self._state = state
        self._denied = self._denied or denied
        self._epoch += 1
        self.session_id = (self._kazoo.client_id or (None,))[0]
        for future in self._waiting:
            if not future.done():
                future.set_exception(self._gone())
        self._waiting.clear()
        self._wake.set()

    async def _call(self, method: Callable[..., Any], path: str, **options: Any) -> Any:
        self._check()
        future: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.add(future)
        reply = method(path, **options)
        reply.rawlink(lambda done: self._hand_over(lambda: _resolve(future, done)))
        try:
            return await future
        except NoNodeError:
            raise
        except NoAuthError as error:
            raise SourceDenied(f"no right to read {path}: check `digest` and the node's ACL") from error
        except _LOST as error:
            raise self._gone() from error
        except KazooException as error:
            raise SourceUnavailable(f"reading {path}: {type(error).__name__}") from error
        finally:
            self._waiting.discard(future)

    @property
    def _still_connected(self) -> bool:
        # A connection that was lost and made again meanwhile is another one: its watches are gone (ZK3).
        return self.connected and self._epoch == self._epoch_in_use

    def _check(self) -> None:
        if not self._still_connected:
            raise self._gone()

    def _gone(self) -> Disconnected:
        what = "session expired" if self._state == KazooState.LOST else "connection lost"
        return Disconnected(f"{self._address}: {what}")

    def start(self) -> None:
        """Begin to connect, and keep trying for ever."""
        self._kazoo.add_listener(self._on_state)
        self._kazoo.start_async()

    async def close(self) -> None:
        """End the session and kazoo's threads."""
        self._kazoo.remove_listener(self._on_state)
        await asyncio.to_thread(self._stop)

    def _stop(self) -> None:
        self._kazoo.stop()
        self._kazoo.close()


def _resolve(future: asyncio.Future[Any], reply: Any) -> None:
    if future.done():
        return
    if reply.exception is not None:
        error = reply.exception
        future.set_exception(error if isinstance(error, Exception) else AuthFailedError(str(error)))
    else:
        future.set_result(reply.value)


@asynccontextmanager
async def connect(options: ZookeeperOptions) -> AsyncIterator[ZookeeperClient]:
    """Open a client that connects in the background; its threads end with the context."""
    client = ZookeeperClient(options)
    client.start()
    try:
        yield client
    finally:
        await client.close()
