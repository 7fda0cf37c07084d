"""What the pages answer, as types: keys in lowerCamel, ages as floats of seconds, null for what has not happened yet.

Fields are only ever added, so that scripts which read the pages go on working.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from msgspec import UNSET, Struct, UnsetType, field

if TYPE_CHECKING:
    from datetime import datetime

T = TypeVar("T")

WatchState = Literal["SYNCED", "NOT_SENT", "STALE", "HELD"]
StoreState = Literal["RIGHT", "WRONG", "SETTLING", "NOT_READ"]


class Shape(Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of everything below."""


class Listing(Shape, Generic[T], frozen=True, kw_only=True):
    """One page of a list. total: items on all pages; after: the token of the next page, absent on the last one."""

    items: list[T]
    total: int
    after: str | UnsetType = field(default=UNSET, name="continue")


class ProblemShape(Shape, frozen=True, kw_only=True):
    """Why there is no page (RFC 9457). nearest: valid names that look like what was asked for."""

    title: str
    status: int
    detail: str
    nearest: tuple[str, ...] = ()


class LinkShape(Shape, frozen=True, kw_only=True):
    """A page and what is on it."""

    path: str
    about: str


class VersionShape(Shape, frozen=True, kw_only=True):
    """What runs here, and for how long."""

    version: str
    python: str
    running_seconds: float


class ProgressShape(Shape, frozen=True, kw_only=True):
    """How far a first read has come, in the registry's own units."""

    done: int
    total: int


class RefusalShape(Shape, frozen=True, kw_only=True):
    """What is not served, and why.

    key: the source's own name of the service or node, or, of what merging refused, the resource's name.
    record: as the registry has it, without credentials.
    """

    code: str
    meaning: str
    reason: str
    source: str
    key: str
    record: str


class SourceShape(Shape, frozen=True, kw_only=True):
    """One source. refused: how many are refused now, by code; refusedTotal: how many records ever were.

    phase: READY, STALE (out of contact, what was last known is served), READING (for the first time) or CONNECTING.
    servedSeconds: since the first complete read; contactSeconds: since it last reported anything.
    refusals: the first of them; all are at `/debug/sources/{name}/refusals`.
    held: endpoints that are served though the last read lacked them, since the source is coming back;
    settlingSeconds: how long that still lasts.
    notes: what is worth knowing of it and is no failure, such as how old a registry's own cache is.
    mended: what only a reconcile found; lateAnswers: what came of an older connection and was dropped.
    """

    name: str
    kind: str
    required: bool
    phase: str
    address: str
    generation: int
    services: int
    endpoints: int
    added_seconds: float
    served_seconds: float | None
    contact_seconds: float | None
    stale_seconds: float | None
    last_error: str | None
    notes: list[str]
    reading: ProgressShape | None
    refused: dict[str, int]
    refusals: list[RefusalShape]
    refused_total: dict[str, int]
    held: int
    settling_seconds: float
    mended: int
    late_answers: int


class PortShape(Shape, frozen=True, kw_only=True):
    """A port as clients see it."""

    number: int
    name: str
    protocol: str


class ServiceShape(Shape, frozen=True, kw_only=True):
    """One resource in short. name: `namespace/host`; service: the registry's own name of it.

    published: false where istiod is told nothing, since the whole of it is refused; then `version` is null.
    """

    name: str
    namespace: str
    host: str
    service: str
    published: bool
    addresses: tuple[str, ...]
    ports: list[PortShape]
    endpoints: int
    sources: tuple[str, ...]
    version: str | None
    refused: int


class EndpointShape(Shape, frozen=True, kw_only=True):
    """One endpoint and the record that it was read from. weight: 0 is "not said", which istiod reads as 1."""

    address: str
    ports: dict[str, int]
    weight: int
    labels: dict[str, str]
    locality: str
    network: str
    source: str
    record: str


class DeliveryShape(Shape, frozen=True, kw_only=True):
    """Whether a subscriber was sent a resource as it is now, and acknowledged it, which is not that it stored it."""

    subscriber: int
    node_id: str
    type: str
    sent: bool
    acknowledged: bool


class ResourceShape(Shape, frozen=True, kw_only=True):
    """All that is known of one resource.

    shards: which it is in, `3 of 16` from 0, for each number of shards that a listener has.
    revisions: the Istio revisions that it, or a part of it, is for alone; empty: all of it is for everybody.
    serviceEntry: what istiod is told, as `kubectl apply` takes it; null where the whole is refused.
    endpoints, refused: at most `limit` of each; refused holds records and labels, conflicts what merging refused.
    """

    name: str
    namespace: str
    published: bool
    version: str | None
    shards: list[str]
    revisions: list[str]
    service_entry: dict[str, Any] | None
    endpoints: list[EndpointShape]
    endpoints_total: int
    refused: list[RefusalShape]
    refused_total: int
    conflicts: list[RefusalShape]
    subscribers: list[DeliveryShape]


class HostShape(Shape, frozen=True, kw_only=True):
    """One host, in every namespace that knows it."""

    host: str
    resources: list[ResourceShape]


class WatchShape(Shape, frozen=True, kw_only=True):
    """One type on one stream.

    state: SYNCED (the present state is sent and acknowledged), NOT_SENT, STALE (the last response is not
    acknowledged, or refused, or the present state waits for its turn), HELD (the sources are not read yet).
    staleSeconds: since the response that is not acknowledged; null where nothing waits for that.
    resources: how many the client was sent; ackSeconds: from the last response to its acknowledgement.
    """

    state: WatchState
    sent_version: str | None
    acked_version: str | None
    resources: int
    last_sent_seconds: float | None
    ack_seconds: float | None
    stale_seconds: float | None
    refused_responses: int
    last_error: str | None


class ViewShape(Shape, frozen=True, kw_only=True):
    """What a subscriber is shown; null: all."""

    types: list[str] | None
    namespaces: list[str] | None
    sources: list[str] | None


class SubscriberShape(Shape, frozen=True, kw_only=True):
    """One open stream; `types` are those that can hold something, the others are only counted.

    shard: the part of the services that its port serves, `3 of 16` from 0. view: null where that is shown whole.
    problems: what is wrong with how the subscriber is connected.
    """

    id: int
    node_id: str
    peer: str
    listener: str
    shard: str
    form: Literal["sotw", "delta", "slime"]
    view: ViewShape | None
    revision: str
    delta: bool
    opened_seconds: float
    sent_bytes: int
    sent_responses: int
    types: dict[str, WatchShape]
    types_watched: int
    types_answered_empty: int
    problems: list[str]


class TlsShape(Shape, frozen=True, kw_only=True):
    """The certificate in use; times are RFC 3339. clientCertificates: whether clients must show one.

    lastError: why the files, as they are now, are not used; null: they are.
    """

    subject: str
    dns_names: list[str]
    not_after: datetime
    loaded_at: datetime
    reloads: int
    client_certificates: bool
    last_error: str | None
    warnings: list[str]


class ListenerShape(Shape, frozen=True, kw_only=True):
    """One way to xDS. tls: null where it is plaintext; types, namespaces, sources: all that is served; empty: all.

    debug: whether the debug pages are given over xDS. streams: open ones; streamsOfShards: the same for each shard.
    """

    name: str
    addresses: list[str]
    shards: int
    routing: str
    form: str
    tls: TlsShape | None
    types: list[str]
    namespaces: list[str]
    sources: list[str]
    debug: bool
    streams: int
    streams_of_shards: list[int]


class ListenersShape(Listing[ListenerShape], frozen=True, kw_only=True):
    """All listeners. refused: streams that were refused on any of them since the start, by gRPC status."""

    refused: dict[str, int]


class TurnedAwayShape(Shape, frozen=True, kw_only=True):
    """A stream or a connection that was refused, or ended for a fault of its client's.

    listener: null where all of them share what refused it. status: gRPC's, or BROKEN: it broke off by itself.
    """

    ago_seconds: float
    listener: str | None
    peer: str
    status: str
    reason: str


class PushShape(Shape, frozen=True, kw_only=True):
    """One response that went out. writeSeconds: until the client's side had taken it."""

    ago_seconds: float
    subscriber: int
    type: str
    version: str
    resources: int
    removed: int
    bytes: int
    write_seconds: float


class DifferenceShape(Shape, frozen=True, kw_only=True):
    """A resource of which istiod has not what is published. published, stored: versions; null where there is none."""

    name: str
    published: str | None
    stored: str | None


class DifferencesShape(Shape, frozen=True, kw_only=True):
    """Resources with one fault. total: all of them; items: the first in the order of their names."""

    total: int
    items: list[DifferenceShape]


class IstiodShape(Shape, frozen=True, kw_only=True):
    """What one istiod stored of what is published for it, by its own debug page.

    state: RIGHT (all is stored as it is published), WRONG (something is not, for certain), SETTLING (something is not,
    and that is too new to count), NOT_READ (nothing could be compared yet).
    readSeconds: since it was last read; errors: readings that failed; lastError: why the last one did.
    published: resources that it should hold; stored: those of them that it holds in the version that is published.
    missing: it does not have them: most often it refused them, and says why in its own log.
    differing: it has another version. hidden: it has one of that name from another source, which comes first.
    leftOver: it has them, and they are no longer published.
    others: resources of Isthmus that this process never published: another's, or from before it started.
    """

    name: str
    address: str
    revision: str
    state: StoreState
    read_seconds: float | None
    errors: int
    last_error: str | None
    published: int | None
    stored: int | None
    settling: int
    missing: DifferencesShape
    differing: DifferencesShape
    hidden: DifferencesShape
    left_over: DifferencesShape
    others: int
