"""What a request may ask for: query keys, one page of a list, and the problem that is answered instead (pure).

A key that a page does not know is an error and never ignored: a mistyped filter must not return everything.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from bisect import bisect_right
from difflib import get_close_matches
from heapq import nlargest
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, field

from isthmus.registry.errors import IsthmusError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

DEFAULT_LIMIT: Final = 500
LARGEST_LIMIT: Final = 5_000
_SHOWN: Final = 100
# Comparing texts closely costs some 100 us each, so only the most promising ones are.
_COMPARED: Final = 40
_PIECES: Final = 8
_SHORTEST_PIECE: Final = 3

Limit = Annotated[int, Meta(ge=1, le=LARGEST_LIMIT)]


class Problem(IsthmusError):
    """A request that gets no page; answered as RFC 9457 says, with the valid names that come nearest."""

    def __init__(self, status: HTTPStatus, detail: str, nearest: Sequence[str] = ()) -> None:
        super().__init__(detail)
        self.status = status
        self.nearest = tuple(nearest)


class Query(Struct, frozen=True, kw_only=True):
    """The keys that every page takes."""

    pretty: bool = False


class ListQuery(Query, frozen=True, kw_only=True):
    """The keys of a list: how many items, and after which one (the `continue` of the page before)."""

    limit: Limit = DEFAULT_LIMIT
    after: str | UnsetType = field(default=UNSET, name="continue")


class RefusalsQuery(ListQuery, frozen=True, kw_only=True):
    """The refusals of one source; `name` stands in the path."""

    name: str


class ServicesQuery(ListQuery, frozen=True, kw_only=True):
    """Which services: all filters must hold. `q` is a part of the host or of the registry's own name."""

    source: str | UnsetType = UNSET
    namespace: str | UnsetType = UNSET
    host: str | UnsetType = UNSET
    q: str | UnsetType = UNSET
    problems: bool = False


class HostQuery(Query, frozen=True, kw_only=True):
    """One host, which stands in the path; `limit` bounds the endpoints and refusals that are shown of each resource."""

    host: str
    namespace: str | UnsetType = UNSET
    limit: Limit = DEFAULT_LIMIT


Q = TypeVar("Q", bound=Query)
K = TypeVar("K", str, int, tuple[Any, ...])


def read_query(kind: type[Q], given: Iterable[tuple[str, str]], path: Mapping[str, str]) -> Q:
    """Return the query that `given` (the pairs of a query string) and the parts of the path make.

    A bare key (`?pretty`) means true. Raises Problem 400: an unknown key, one given twice, a value out of range.
    """
    types = {one.encode_name: one.type for one in msgspec.structs.fields(kind) if one.encode_name not in path}
    values: dict[str, str] = {}
    for key, value in given:
        if key not in types:
            detail = f"there is no query key {key[:_SHOWN]!r} here; valid are {', '.join(sorted(types))}"
            raise Problem(HTTPStatus.BAD_REQUEST, detail, nearest(key, types))
        if key in values:
            raise Problem(HTTPStatus.BAD_REQUEST, f"the query key {key!r} is given twice")
        values[key] = "true" if types[key] is bool and not value else value
    try:
        return msgspec.convert(values | dict(path), kind, strict=False)
    except msgspec.ValidationError as error:
        what, _, place = str(error).partition(" - at `$.")
        raise Problem(HTTPStatus.BAD_REQUEST, f"the query key {place.rstrip('`')!r}: {what}") from error


def nearest(text: str, names: Collection[str], count: int = 3) -> list[str]:
    """Return the names that look most like `text`, best first; none where nothing comes near.

    What is compared closely is chosen by how many pieces of the text a name holds: a mistake spoils one piece or two.
    """
    text = text[:_SHOWN]
    if len(names) > _COMPARED:
        length = max(_SHORTEST_PIECE, -(-len(text) // _PIECES))
        pieces = [text[start : start + length] for start in range(0, len(text), length)]
        names = nlargest(_COMPARED, names, key=lambda name: sum([piece in name for piece in pieces]))
    return get_close_matches(text, names, n=count)


def paginate(keys: Sequence[K], after: K | None, limit: int) -> tuple[Sequence[K], K | None]:
    """Return the first `limit` of the ordered `keys` that come after `after`, and the last of them if more follow.

    What is added or removed between two pages moves nothing else from one page to another.
    """
    start = 0 if after is None else bisect_right(keys, after)
    page = keys[start : start + limit]
    return page, page[-1] if start + limit < len(keys) else None


def token_of(key: str | int | tuple[Any, ...] | None) -> str | UnsetType:
    """Return the opaque form of the last key of a page; unset where no page follows."""
    return UNSET if key is None else urlsafe_b64encode(msgspec.json.encode(key)).decode().rstrip("=")


def read_token(token: str | UnsetType, kind: type[K]) -> K | None:
    """Return the key that a token stands for. Raises Problem 400: it is none of this list."""
    if token is UNSET:
        return None
    try:
        data = urlsafe_b64decode(token + "=" * (-len(token) % 4))
        key: K = msgspec.json.decode(data, type=kind)
    except (ValueError, msgspec.DecodeError) as error:
        raise Problem(HTTPStatus.BAD_REQUEST, "the query key 'continue' is no token of this list") from error
    return key
