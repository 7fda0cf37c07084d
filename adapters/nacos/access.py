"""Who we are to Nacos: a token that is renewed before it ends (NA9), or a signature with a secret key."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import time
from typing import TYPE_CHECKING

from isthmus.registry.errors import SourceDenied, SourceUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from isthmus.adapters.nacos.wire import Login

# A token is renewed when this share of its life is over; where that fails, it is tried again after some seconds.
_RENEWED_AFTER = 0.8
_TRIED_AGAIN_AFTER = 5.0
# A token this new was refused for what it may not do, and another one may not either.
_YOUNG = 10.0
# What Nacos calls the header.
_TOKEN_NAME = "accessToken"  # noqa: S105


def signature(access_key: str, secret_key: str, resource: str, now_ms: int) -> dict[str, str]:
    """Return the headers that sign a question about a resource (`group@@service`), as Nacos's Java client does."""
    data = f"{now_ms}@@{resource}" if resource else str(now_ms)
    digest = hmac.new(secret_key.encode(), data.encode(), hashlib.sha1).digest()
    return {"ak": access_key, "data": data, "signature": base64.b64encode(digest).decode()}


class Access:
    """The headers that go with each question. Times are the loop's seconds."""

    def __init__(
        self, login: Callable[[], Awaitable[Login]] | None = None, access_key: str = "", secret_key: str = ""
    ) -> None:
        """login: gets a token, where there is a password."""
        self._login = login
        self._keys = (access_key, secret_key)
        self._token = ""
        self._renew_at = float("-inf")
        self._ends_at = float("-inf")
        self._got_at = float("-inf")
        self._renewing = asyncio.Lock()

    async def headers(self, resource: str = "") -> dict[str, str]:
        """Return the headers for a question about a resource. Raises SourceDenied and SourceUnavailable: no login."""
        if self._login is not None:
            async with self._renewing:
                if asyncio.get_running_loop().time() >= self._renew_at:
                    await self._log_in(self._login)
            return {_TOKEN_NAME: self._token}
        if self._keys[0]:
            # Servers compare it with their wall clock.
            return signature(*self._keys, resource, int(time.time() * 1000))
        return {}

    async def renew(self, used: dict[str, str]) -> bool:
        """Get a token other than the one that was refused; tell whether there is one now. Raises as `headers`."""
        if self._login is None:
            return False
        async with self._renewing:
            if used.get(_TOKEN_NAME) != self._token:
                return True
            if asyncio.get_running_loop().time() - self._got_at < _YOUNG:
                return False
            await self._log_in(self._login)
        return used.get(_TOKEN_NAME) != self._token

    async def _log_in(self, login: Callable[[], Awaitable[Login]]) -> None:
        now = asyncio.get_running_loop().time()
        try:
            answer = await login()
        except (SourceUnavailable, SourceDenied):
            if now >= self._ends_at:
                raise
            self._renew_at = now + _TRIED_AGAIN_AFTER
        else:
            self._token, self._got_at = answer.access_token, now
            self._renew_at = now + answer.token_ttl * _RENEWED_AFTER
            self._ends_at = now + answer.token_ttl
