"""Blocking HTTP for tests: a status and a body, whatever the status is."""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT_S = 30.0


def get(url: str, headers: Mapping[str, str] | None = None, timeout: float = TIMEOUT_S) -> tuple[int, str]:
    """Return status and body of one GET over a connection of its own; raise OSError when nobody answers."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=timeout)
    try:
        target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        connection.request("GET", target, headers=dict(headers or {}))
        response = connection.getresponse()
        return response.status, response.read().decode()
    except http.client.HTTPException as error:
        raise ConnectionError(f"{url}: {error!r}") from error
    finally:
        connection.close()


def get_json(url: str) -> Any:
    """Return the JSON that is at the address; raise OSError when nobody answers or the status is not 200."""
    status, body = get(url)
    if status != http.client.OK:
        raise ConnectionError(f"{url}: status {status}: {body[:200]}")
    return json.loads(body)
