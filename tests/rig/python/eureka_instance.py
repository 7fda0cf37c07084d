"""Registers an instance with py-eureka-client and keeps it alive; `tests/rig/py_eureka.py` starts it.

Its argument is a JSON object of EurekaClient's own arguments. It says one line when it has registered, takes one to
stop, and says one when it has deregistered: each time a JSON list of what failed. It ends when its input ends, too.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading
from typing import Any

from py_eureka_client import logger  # type: ignore[import-not-found]
from py_eureka_client.eureka_client import EurekaClient  # type: ignore[import-not-found]


class Client(EurekaClient):  # type: ignore[misc]
    """A client that stays deregistered: the thread of its heartbeat outlives `stop`, and would register it again."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._may_send = threading.Lock()

    async def send_heartbeat(self, overridden_status: str = "") -> None:
        with self._may_send:
            await super().send_heartbeat(overridden_status)

    async def stop(self) -> None:
        await asyncio.to_thread(self._may_send.acquire)  # for good
        await super().stop()


async def main(options: dict[str, Any]) -> None:
    failures: list[str] = []
    # It raises nothing: what fails is only told to this callback.
    client = Client(**options, on_error=lambda kind, error: failures.append(f"{kind}: {error!r}"))
    await client.start()
    print(json.dumps(failures), flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    failures.clear()
    await client.stop()
    print(json.dumps(failures), flush=True)


# To stderr; it would log between the lines that are said here.
logger.set_handler(logging.StreamHandler())
asyncio.run(main(json.loads(sys.argv[1])))
