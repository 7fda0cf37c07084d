"""What writes to an etcd for tests: its v3 API over its own JSON gateway, so that no generated code is needed."""

from __future__ import annotations

import http.client
import json
from base64 import b64decode, b64encode
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

ANSWER_TIMEOUT_S = 30.0
MOST_IN_A_TRANSACTION = 128  # etcd's own default
WRITERS = 4


class EtcdError(AssertionError):
    """An etcd refused what a test asked of it; `reason` is its own words."""

    def __init__(self, request: str, status: int, reason: str) -> None:
        super().__init__(f"{request}: status {status}: {reason}")
        self.status = status
        self.reason = reason


class Pair(NamedTuple):
    """One key as it is stored. lease: 0 is none. revision: of its last change."""

    value: bytes
    lease: int
    revision: int


class Gateway:
    """The JSON gateway of one member, at `host:port` without TLS.

    user: name and password; each request logs in for itself, so no token is ever too old.

    Every change returns the revision that it made. Methods raise OSError when nobody answers, and `EtcdError`.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.user: tuple[str, str] | None = None

    def put(self, key: str, value: str | bytes, *, lease: int = 0) -> int:
        """Set a key; with a lease it ends when the lease does."""
        return _revision(self._ask("kv/put", _put(key, value, lease)))

    def delete(self, key: str) -> int:
        """Delete a key; one that is not there makes no revision, and the present one is returned."""
        return _revision(self._ask("kv/deleterange", {"key": _text(key)}))

    def delete_prefix(self, prefix: str) -> int:
        """Delete all keys under a prefix in one revision."""
        return _revision(self._ask("kv/deleterange", _range(prefix)))

    def transaction(self, puts: Mapping[str, str | bytes], deletes: Iterable[str] = (), *, lease: int = 0) -> int:
        """Put and delete up to 128 keys in one revision."""
        operations = [
            *({"requestPut": _put(key, value, lease)} for key, value in puts.items()),
            *({"requestDeleteRange": {"key": _text(key)}} for key in deletes),
        ]
        return _revision(self._ask("kv/txn", {"success": operations}))

    def fill(self, pairs: Mapping[str, str | bytes], *, lease: int = 0) -> int:
        """Put very many keys, 128 in a revision, in no order that is kept; 50,000 take some seconds."""
        keys = list(pairs)
        starts = range(0, len(keys), MOST_IN_A_TRANSACTION)
        shares = [{key: pairs[key] for key in keys[start : start + MOST_IN_A_TRANSACTION]} for start in starts]
        with ThreadPoolExecutor(WRITERS) as writers:
            return max(writers.map(lambda share: self.transaction(share, lease=lease), shares))

    def lease(self, ttl_s: int) -> int:
        """Return the id of a new lease; etcd makes no TTL below 2 s."""
        return int(self._ask("lease/grant", {"TTL": ttl_s})["ID"])

    def keep_alive(self, lease: int) -> int:
        """Renew a lease; return the seconds that it lives now, 0: it has ended."""
        return int(self._ask("lease/keepalive", {"ID": lease})["result"].get("TTL", 0))

    def revoke(self, lease: int) -> int:
        """End a lease and with it, in one revision, its keys."""
        return _revision(self._ask("lease/revoke", {"ID": lease}))

    def pairs(self, prefix: str) -> dict[str, Pair]:
        """Return all keys under a prefix."""
        found = self._ask("kv/range", _range(prefix)).get("kvs", [])
        return {b64decode(one["key"]).decode(): _pair(one) for one in found}

    def revision(self) -> int:
        """Return the present revision."""
        return _revision(self._ask("kv/range", {"key": _text("/"), "countOnly": True}))

    def compact(self, revision: int | None = None) -> int:
        """Forget what was before a revision, by default the present one; return it."""
        compacted = self.revision() if revision is None else revision
        self._ask("kv/compaction", {"revision": compacted, "physical": True})
        return compacted

    def kept(self, revision: int) -> bool:
        """Tell whether the state at a revision can still be read."""
        try:
            self._ask("kv/range", {"key": _text("/"), "countOnly": True, "revision": revision})
        except EtcdError as error:
            if "has been compacted" in error.reason:
                return False
            raise
        return True

    def status(self) -> dict[str, Any]:
        """Return what the member says of itself: `version`, `leader` (left out when it has none), `header`, ..."""
        return self._ask("maintenance/status", {})

    def snapshot(self, file: Path) -> None:
        """Write a backup of everything to a file."""
        request = json.dumps({})
        with closing(self._connection()) as connection, file.open("wb") as backup:
            connection.request("POST", "/v3/maintenance/snapshot", request, self._headers())
            response = connection.getresponse()
            for line in response:
                part = json.loads(line)
                if "result" not in part:
                    raise EtcdError("maintenance/snapshot", response.status, json.dumps(part))
                backup.write(b64decode(part["result"].get("blob", "")))

    def add_role(self, role: str) -> None:
        """Create a role without rights."""
        self._ask("auth/role/add", {"name": role})

    def grant_read(self, role: str, prefix: str) -> None:
        """Let a role read what is under a prefix."""
        permission = {"permType": "READ", "key": _text(prefix), "range_end": _range(prefix)["range_end"]}
        self._ask("auth/role/grant", {"name": role, "perm": permission})

    def revoke_read(self, role: str, prefix: str) -> None:
        """Take back what `grant_read` granted."""
        self._ask("auth/role/revoke", {"role": role, **_range(prefix)})

    def add_user(self, user: str, password: str, role: str) -> None:
        """Create a user who has a role."""
        self._ask("auth/user/add", {"name": user, "password": password})
        self._ask("auth/user/grant", {"user": user, "role": role})

    def change_password(self, user: str, password: str) -> None:
        """Give a user another password."""
        self._ask("auth/user/changepw", {"name": user, "password": password})

    def enable_auth(self) -> None:
        """From now on demand a user's token with every request; there must be a user `root` of the role `root`."""
        self._ask("auth/enable", {})

    def can_log_in(self, user: str, password: str) -> bool:
        """Tell whether auth is enabled and the password right."""
        try:
            self._token(user, password)
        except EtcdError:
            return False
        return True

    def _token(self, user: str, password: str) -> str:
        return str(self._exchange("auth/authenticate", {"name": user, "password": password}, {})["token"])

    def _headers(self) -> dict[str, str]:
        return {"Authorization": self._token(*self.user)} if self.user else {}

    def _ask(self, page: str, request: Mapping[str, Any]) -> dict[str, Any]:
        return self._exchange(page, request, self._headers())

    def _exchange(self, page: str, request: Mapping[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
        with closing(self._connection()) as connection:
            try:
                connection.request("POST", f"/v3/{page}", json.dumps(request), dict(headers))
                response = connection.getresponse()
                body = response.read().decode()
            except http.client.HTTPException as error:
                raise ConnectionError(f"{page}: {error!r}") from error
        if response.status != http.client.OK:
            raise EtcdError(page, response.status, body)
        answer: dict[str, Any] = json.loads(body)
        return answer

    def _connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.address, timeout=ANSWER_TIMEOUT_S)


def _text(data: str | bytes) -> str:
    return b64encode(data.encode() if isinstance(data, str) else data).decode()


def _put(key: str, value: str | bytes, lease: int) -> dict[str, Any]:
    return {"key": _text(key), "value": _text(value), "lease": lease}


def _range(prefix: str) -> dict[str, str]:
    """Return the range of all keys under a prefix, which ends in no 0xff; without one: of all keys."""
    if not prefix:
        return {"key": _text(b"\0"), "range_end": _text(b"\0")}
    start = prefix.encode()
    return {"key": _text(start), "range_end": _text(start[:-1] + bytes([start[-1] + 1]))}


def _revision(answer: Mapping[str, Any]) -> int:
    return int(answer["header"]["revision"])


def _pair(found: Mapping[str, str]) -> Pair:
    return Pair(b64decode(found.get("value", "")), int(found.get("lease", 0)), int(found["mod_revision"]))
