"""What a watch of etcd tells (isthmus.adapters.etcd.told)."""

from __future__ import annotations

import pytest

from isthmus.adapters.etcd.told import Origin, Record, told_by
from isthmus.protos import etcd_pb2 as pb
from isthmus.registry.policy import RECORD_LENGTH

HEADER = pb.ResponseHeader(cluster_id=7, revision=40, raft_term=2)


def event(key: bytes, revision: int, value: bytes | None = b"v") -> pb.Event:
    kv = pb.KeyValue(key=key, mod_revision=revision, value=value or b"")
    return pb.Event(type=pb.Event.PUT if value is not None else pb.Event.DELETE, kv=kv)


def test_a_message_tells_what_was_put_and_deleted() -> None:
    told = told_by(pb.WatchResponse(header=HEADER, events=[event(b"a", 39), event(b"b", 40, None)]))
    assert told.origin == Origin(7, 2, 40)
    assert told.records == (Record(b"a", b"v", 39), Record(b"b", None, 40))


def test_of_a_value_that_no_record_may_have_only_the_beginning_is_kept() -> None:
    (record,) = told_by(pb.WatchResponse(header=HEADER, events=[event(b"a", 39, b"x" * 1_500_000)])).records
    assert record.value == b"x" * (RECORD_LENGTH + 1)


def test_ET4_a_sign_of_life_that_was_asked_for_is_told_apart() -> None:
    assert told_by(pb.WatchResponse(header=HEADER, watch_id=-1)).asked
    assert not told_by(pb.WatchResponse(header=HEADER)).asked


def test_ET3_a_watch_that_ended_by_compaction_says_so() -> None:
    told = told_by(pb.WatchResponse(header=HEADER, canceled=True, compact_revision=38))
    assert (told.compacted, told.cancelled) == (True, None)


def test_a_watch_that_could_not_be_made_says_why() -> None:
    refused = pb.WatchResponse(header=HEADER, watch_id=-1, created=True, canceled=True, cancel_reason="no")
    told = told_by(refused)
    assert (told.compacted, told.cancelled) == (False, "no")


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
