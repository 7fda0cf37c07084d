"""The debug pages as answers to xDS requests, in the form that istioctl reads.

`istio.io/debug/syncz` is what `istioctl proxy-status` asks for, `istio.io/debug` with the name of a page what `istioctl
x internal-debug` does. Who may ask is decided by the door; nothing is shown here that is not shown over HTTP.
"""

from __future__ import annotations

import platform
import time
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

import msgspec

from isthmus import __version__
from isthmus.debug.pages import PAGES, show, show_problem
from isthmus.debug.query import Problem
from isthmus.debug.syncz import client_configs
from isthmus.mcp.frames import any_message
from isthmus.mcp.session import DEBUG_TYPE, DebugAnswer
from isthmus.registry.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from isthmus.app import Bridge
    from isthmus.mcp.session import DebugPages

CLIENT_CONFIG: Final = "type.googleapis.com/envoy.service.status.v3.ClientConfig"
# istioctl looks for this text, and then lists what there is.
NOT_FOUND: Final = b"404 page not found\n"
MOST_BYTES: Final = 8 * 1024 * 1024
_LONGEST_NAME: Final = 8_192
_LIST: Final = "list"


def debug_pages(bridge: Bridge) -> DebugPages:
    """Return what answers a bridge's subscribers that ask for debug pages.

    It raises ProtocolError: what is asked for cannot be read, or would be too much for one answer.
    """
    about = {"Component": "isthmus", "ID": platform.node(), "Info": {"version": __version__}}
    control_plane = msgspec.json.encode(about).decode()

    def answer(type_url: str, names: Sequence[str]) -> DebugAnswer:
        return DebugAnswer(_bounded(_resources(bridge, type_url, names)), control_plane)

    return answer


def _resources(bridge: Bridge, type_url: str, names: Sequence[str]) -> Iterator[bytes]:
    if type_url == DEBUG_TYPE:
        if len(names) != 1:
            raise ProtocolError("INVALID_ARGUMENT", "exactly one debug page can be asked for at once; `list` names all")
        yield any_message(DEBUG_TYPE, _page(bridge, names[0]))
    elif type_url == f"{DEBUG_TYPE}/syncz":
        for config in client_configs(bridge.hub, time.monotonic()):
            yield any_message(CLIENT_CONFIG, config.SerializeToString())


def _bounded(resources: Iterable[bytes]) -> list[bytes]:
    taken, size = [], 0
    for resource in resources:
        size += len(resource)
        if size > MOST_BYTES:
            raise ProtocolError(
                "RESOURCE_EXHAUSTED",
                f"the answer has more than {MOST_BYTES >> 20} MiB: ask for less of a page, as in "
                "`x internal-debug subscribers?limit=100`",
            )
        taken.append(resource)
    return taken


def _page(bridge: Bridge, asked: str) -> bytes:
    """Return the text of a page, which is asked for as `sources` or `services?q=greeting`."""
    if asked == _LIST:
        return msgspec.json.encode(sorted(page.name for page in PAGES if page.name))
    name, _, query = asked.partition("?")
    for page in PAGES if 0 < len(asked) <= _LONGEST_NAME else ():
        if (path := page.parts(name)) is not None:
            try:
                return show(bridge, page, parse_qsl(query, keep_blank_values=True), path, time.monotonic())
            except Problem as problem:
                return show_problem(problem)
    return NOT_FOUND
