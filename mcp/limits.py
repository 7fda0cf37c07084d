"""What one process takes from its clients, and for how long it waits for them: no stream may hurt the others."""

from __future__ import annotations

from msgspec import Struct


class Limits(Struct, frozen=True):
    """The bounds of one server. All are far beyond what istiod needs; times are seconds.

    `ack` is how long a response may stay unacknowledged before the next one goes out all the same.
    `keepalive` is how long a connection may be quiet before it is pinged, `keepalive_answer` how long the peer may take
    to answer that.
    `requests_at_once` may come on a stream at any speed, what is more only at `requests_per_second`.
    """

    streams: int = 1_000  # X53
    views: int = 64  # different ones, of all streams together: each costs memory for the names of its resources
    types: int = 64  # X54; on one stream, istiod asks for 16
    views_of_address: int = 16  # of those, for all streams from one address
    names: int = 200_000  # X55; asked for by name, of one type on one stream: istiod names none
    request_bytes: int = 32 * 1024 * 1024  # X48
    requests_at_once: int = 1_000  # X51
    requests_per_second: float = 200.0  # X51; istiod acknowledges 16 types at most four times a second
    first_request: float = 10.0  # X52
    write: float = 60.0  # X49
    hurried_write: float = 5.0  # the same while more than `unread_bytes` are unread, of all streams together
    unread_bytes: int = 256 * 1024 * 1024
    ack: float = 30.0  # X50
    keepalive: float = 20.0  # X45
    keepalive_answer: float = 10.0  # X45
