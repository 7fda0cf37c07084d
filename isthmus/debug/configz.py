"""The page of all that is published, in the form of istiod's own `configz` (pure)."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from msgspec import UNSET, UnsetType

from isthmus.debug.query import DEFAULT_LIMIT, LARGEST_LIMIT, Limit, Problem, Query
from isthmus.registry.kubeform import document_from_entry

if TYPE_CHECKING:
    from isthmus.app import Bridge
    from isthmus.registry.model import ServiceEntry


class ConfigzQuery(Query, frozen=True, kw_only=True):
    """Which resources: all filters must hold. There are no pages, since istiod's form has no place to say so."""

    namespace: str | UnsetType = UNSET
    host: str | UnsetType = UNSET
    limit: Limit = DEFAULT_LIMIT


def list_configz(bridge: Bridge, query: ConfigzQuery, _now: float) -> list[dict[str, Any]]:
    """All that is published, by name. Raises Problem 400: it is more than the limit."""
    publication = bridge.hub.publication
    names = [name for name in publication.names() if _passes(name, query)]
    if len(names) > query.limit:
        detail = (
            f"these are {len(names)} resources, and at most {query.limit} are shown at once: give a `namespace` or a "
            f"`host`, raise `limit` up to {LARGEST_LIMIT}, or read the pages of `services`"
        )
        raise Problem(HTTPStatus.BAD_REQUEST, detail)
    published = [publication.resources[name] for name in names]
    return [_document(one.change.entry, one.frame.version) for one in published if one.change.entry]


def _passes(name: str, query: ConfigzQuery) -> bool:
    namespace, _, host = name.partition("/")
    return query.namespace in (UNSET, namespace) and query.host in (UNSET, host)


def _document(entry: ServiceEntry, version: str) -> dict[str, Any]:
    document = document_from_entry(entry)
    document["metadata"]["resourceVersion"] = version
    return document
