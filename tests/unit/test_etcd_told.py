"""Joining what a watch of etcd tells (isthmus.adapters.etcd.told)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.adapters.etcd import told as told_module
from isthmus.adapters.etcd.told import Joiner, Origin, Record
from isthmus.protos import etcd_pb2 as pb
from isthmus.registry.errors import SourceUnavailable

HEADER = pb.ResponseHeader(cluster_id=7, revision=40, raft_term=2)


def event(key: bytes, revision: int, value: bytes | None = b"v") -> pb.Event:
    kv = pb.KeyValue(key=key, mod_revision=revision, value=value or b"")
    return pb.Event(type=pb.Event.PUT if value is not None else pb.Event.DELETE, kv=kv)


def response(*events: pb.Event, watch_id: int = 1, fragment: bool = False) -> pb.WatchResponse:
    return pb.WatchResponse(header=HEADER, watch_id=watch_id, events=events, fragment=fragment)


def test_a_message_tells_what_was_put_and_deleted() -> None:
    told = Joiner().take(response(event(b"a", 39), event(b"b", 40, None)))
    assert told is not None
    assert told.watch == 1
    assert told.origin == Origin(7, 2, 40)
    assert told.records == (Record(b"a", b"v", 39), Record(b"b", None, 40))


def test_ET5_pieces_of_one_message_are_joined_before_anything_is_told() -> None:
    joiner = Joiner()
    assert joiner.take(response(event(b"a", 40), fragment=True)) is None
    assert joiner.take(response(event(b"b", 40), fragment=True)) is None
    told = joiner.take(response(event(b"c", 40)))
    assert told is not None
    assert [one.key for one in told.records] == [b"a", b"b", b"c"]


def test_ET5_pieces_of_two_watches_are_kept_apart() -> None:
    joiner = Joiner()
    assert joiner.take(response(event(b"a", 40), fragment=True)) is None
    other = joiner.take(response(event(b"x", 40), watch_id=2))
    first = joiner.take(response(event(b"b", 40)))
    assert other is not None
    assert first is not None
    assert [one.key for one in other.records] == [b"x"]
    assert [one.key for one in first.records] == [b"a", b"b"]


@given(st.lists(st.lists(st.integers(1, 9), max_size=4), min_size=1, max_size=6))
def test_ET5_however_a_message_is_parted_it_tells_the_same(pieces: list[list[int]]) -> None:
    joiner = Joiner()
    everything = [key for piece in pieces for key in piece]
    last = len(pieces) - 1
    parted = [
        joiner.take(response(*(event(bytes([key]), 40) for key in piece), fragment=index < last))
        for index, piece in enumerate(pieces)
    ]
    assert parted[:-1] == [None] * last
    whole = Joiner().take(response(*(event(bytes([key]), 40) for key in everything)))
    assert parted[-1] == whole


def test_what_is_joined_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(told_module, "LARGEST_JOINED", 100)
    joiner = Joiner()
    assert joiner.take(response(event(b"a", 40, b"x" * 80), fragment=True)) is None
    with pytest.raises(SourceUnavailable, match="larger than 100 bytes"):
        joiner.take(response(event(b"b", 40, b"x" * 80), fragment=True))


def test_the_bound_is_of_one_message_not_of_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(told_module, "LARGEST_JOINED", 100)
    joiner = Joiner()
    for _ in range(5):
        assert joiner.take(response(event(b"a", 40, b"x" * 80), fragment=True)) is None
        assert joiner.take(response()) is not None


def test_ET3_a_watch_that_ended_by_compaction_says_so() -> None:
    told = Joiner().take(pb.WatchResponse(header=HEADER, watch_id=2, canceled=True, compact_revision=38))
    assert told is not None
    assert (told.watch, told.compacted, told.cancelled) == (2, True, None)


def test_a_watch_that_could_not_be_made_says_why() -> None:
    refused = pb.WatchResponse(header=HEADER, watch_id=-1, created=True, canceled=True, cancel_reason="no")
    told = Joiner().take(refused)
    assert told is not None
    assert (told.watch, told.compacted, told.cancelled) == (None, False, "no")


@pytest.mark.parametrize(
    "later",
    [Origin(8, 2, 50), Origin(7, 1, 50), Origin(7, 2, 39)],
    ids=["another cluster", "an older term", "an older revision"],
)
def test_ET6_what_cannot_follow_is_known(later: Origin) -> None:
    assert not later.continues(Origin(7, 2, 40))


def test_ET6_the_same_or_a_newer_state_follows() -> None:
    assert Origin(7, 2, 40).continues(Origin(7, 2, 40))
    assert Origin(7, 3, 41).continues(Origin(7, 2, 40))
