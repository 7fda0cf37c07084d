"""Who is of a revision gets what is for it and for all, and nothing of another's (X60, X61)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from isthmus.registry.policy import Policy
from tests.protocol.sources import Sources, on
from tests.protocol.stream import DELTA, SERVICE_ENTRIES, SOTW, Answer, DeltaStream, RawStream, node

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from tests.protocol.served import Served

DEFAULT, CANARY, NONE = node(ISTIO_REVISION="default"), node(ISTIO_REVISION="canary"), node()
A, NEW, OLD = "legacy/a.reg", "legacy/new.reg", "legacy/old.reg"


class Readers:
    """One stream for each revision, and one of a client without any."""

    def __init__(self, server: Served, default: RawStream, canary: RawStream, none: RawStream) -> None:
        self.server = server
        self.default = default
        self.canary = canary
        self.none = none

    async def begin(self) -> tuple[Answer, Answer, Answer]:
        """Subscribe all to everything."""
        return (
            await self.default.exchange(SERVICE_ENTRIES, node=DEFAULT),
            await self.canary.exchange(SERVICE_ENTRIES, node=CANARY),
            await self.none.exchange(SERVICE_ENTRIES, node=NONE),
        )

    async def assert_silent(self, *streams: RawStream) -> None:
        """Prove that nothing is due on these."""
        for stream in streams:
            await self.server.assert_silent(stream)


@pytest.fixture
async def readers(server: Served, form: str, stack: AsyncExitStack) -> Readers:
    """Give three streams of each form in turn."""
    return Readers(server, *[await stack.enter_async_context(server.stream(form)) for _ in range(3)])


async def test_X60_each_revision_gets_its_own_and_what_is_for_all(server: Served, readers: Readers) -> None:
    Sources(server).say(on("a.reg"), on("new.reg", "canary"), on("old.reg", "default"), on("two.reg", "canary", "next"))
    default, canary, none = await readers.begin()
    assert default.names == (A, OLD)
    assert canary.names == (A, NEW, "legacy/two.reg")
    assert none.names == (A,)
    # istiod looks at the label once more, and would drop what is labelled for another than its own.
    assert dict(canary.resources[NEW].metadata.labels)["istio.io/rev"] == "canary"
    assert not [name for name in (A, "legacy/two.reg") if "istio.io/rev" in canary.resources[name].metadata.labels]


async def test_X60_a_change_for_one_revision_is_none_for_another(server: Served, readers: Readers) -> None:
    sources = Sources(server)
    sources.say(on("a.reg"), on("new.reg", "canary"), on("old.reg", "default"))
    await readers.begin()
    sources.say(on("new.reg", "canary", address="10.0.0.2"), on("newer.reg", "canary"))
    assert (await readers.canary.read()).addresses(NEW) == ["10.0.0.2"]
    await readers.assert_silent(readers.default, readers.none)


async def test_X60_a_filtered_list_is_the_whole_list_of_who_gets_it(server: Served, stack: AsyncExitStack) -> None:
    streams = [await stack.enter_async_context(server.stream(SOTW)) for _ in range(3)]
    readers = Readers(server, *streams)
    sources = Sources(server)
    sources.say(on("a.reg"), on("b.reg"), on("new.reg", "canary"), on("old.reg", "default"))
    for answer, stream in zip(await readers.begin(), streams, strict=True):
        sources.say(on("a.reg", address=f"10.0.1.{streams.index(stream)}"))
        for one in streams:
            changed = await one.read()
            await one.ack(changed)
            if one is stream:
                assert changed.names == answer.names
    sources.drop("a.reg")
    assert [(await stream.read()).names for stream in streams] == [
        ("legacy/b.reg", OLD),
        ("legacy/b.reg", NEW),
        ("legacy/b.reg",),
    ]


async def test_X60_the_revisions_of_a_source_hold_for_all_that_it_has(server: Served, readers: Readers) -> None:
    sources = Sources(server, Policy("zk", revisions=("canary",)), Policy("eureka"))
    sources.say(on("new.reg"))
    sources.say(on("a.reg"), source="eureka")
    assert [answer.names for answer in await readers.begin()] == [(A,), (A, NEW), (A,)]


async def test_X60_of_a_host_of_two_sources_each_revision_gets_its_part(server: Served, readers: Readers) -> None:
    sources = Sources(server, Policy("zk", revisions=("canary",)), Policy("eureka"))
    sources.say(on("a.reg", address="10.0.0.1"))
    sources.say(on("a.reg", address="10.0.0.2"), source="eureka")
    default, canary, none = await readers.begin()
    assert default.addresses(A) == none.addresses(A) == ["10.0.0.2"]
    assert canary.addresses(A) == ["10.0.0.1", "10.0.0.2"]
    sources.say(on("a.reg", address="10.0.0.3"))
    assert (await readers.canary.read()).addresses(A) == ["10.0.0.2", "10.0.0.3"]
    await readers.assert_silent(readers.default, readers.none)


async def test_X60_who_comes_back_as_another_revision_loses_what_was_the_first_ones(
    server: Served, stack: AsyncExitStack
) -> None:
    Sources(server).say(on("a.reg"), on("new.reg", "canary"), on("old.reg", "default"))
    before = await stack.enter_async_context(server.stream(DELTA))
    has = await before.exchange(SERVICE_ENTRIES, node=CANARY)
    after = await stack.enter_async_context(server.stream(DELTA))
    assert isinstance(after, DeltaStream)
    versions = {name: has.version_of(name) for name in has.names}
    await after.change(SERVICE_ENTRIES, initial=versions, node=DEFAULT)
    answer = await after.read()
    assert (answer.names, answer.removed) == ((OLD,), (NEW,))


async def test_X61_a_moved_resource_leaves_one_list_and_joins_the_other_in_one_push_each(
    server: Served, readers: Readers, form: str
) -> None:
    sources = Sources(server)
    sources.say(on("a.reg"), on("moved.reg", "canary"))
    moved = "legacy/moved.reg"
    default, canary, _ = await readers.begin()
    assert (default.names, canary.names) == ((A,), (A, moved))
    sources.say(on("moved.reg", "default"))
    left, joined = await readers.canary.read(), await readers.default.read()
    if form == SOTW:
        assert (left.names, joined.names) == ((A,), (A, moved))
    else:
        assert (left.names, left.removed) == ((), (moved,))
        assert (joined.names, joined.removed) == ((moved,), ())
    await readers.canary.ack(left)
    await readers.default.ack(joined)
    await readers.assert_silent(readers.default, readers.canary, readers.none)
    # Three answers, and one push for each of the two.
    assert len(await server.pushes(SERVICE_ENTRIES, 5)) == 5


async def test_X61_a_resource_that_becomes_one_for_all_joins_all(server: Served, readers: Readers) -> None:
    sources = Sources(server)
    sources.say(on("moved.reg", "canary"))
    await readers.begin()
    sources.say(on("moved.reg"))
    for stream in (readers.default, readers.none, readers.canary):
        assert "legacy/moved.reg" in (await stream.read()).names
    assert len(await server.pushes(SERVICE_ENTRIES, 6)) == 6


async def test_X61_a_resource_of_several_revisions_that_stays_the_same_as_a_whole(
    server: Served, readers: Readers, form: str
) -> None:
    # There is no label for more than one revision: but for who sees it, nothing of it is other than before.
    sources = Sources(server)
    sources.say(on("moved.reg", "canary", "next"))
    assert [answer.names for answer in await readers.begin()] == [(), ("legacy/moved.reg",), ()]
    assert sources.say(on("moved.reg", "default", "next"))
    left, joined = await readers.canary.read(), await readers.default.read()
    assert (left.names, left.removed) == ((), () if form == SOTW else ("legacy/moved.reg",))
    assert joined.names == ("legacy/moved.reg",)
    await readers.assert_silent(readers.none)
