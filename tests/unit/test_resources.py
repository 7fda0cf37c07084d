"""A set of resources: random histories against a plain dict."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from isthmus.mcp.resources import ResourceSet
from tests.unit.xds_model import frame

if TYPE_CHECKING:
    from isthmus.mcp.encode import Frame

NAMES = st.sampled_from([f"reg/{letter}" for letter in "abcdefgh"])
CHANGES = st.lists(st.tuples(NAMES, st.none() | st.integers(0, 2)), max_size=5)


def frame_of(name: str, content: int | None) -> Frame | None:
    return None if content is None else frame(name, content)


class RandomHistory(RuleBasedStateMachine):
    """A set of resources, the dict that it should equal, and all that was ever published."""

    def __init__(self) -> None:
        super().__init__()
        self.set = ResourceSet()
        self.model: dict[str, int] = {}
        # Name -> revision of the last change, of names that are gone too.
        self.changed: dict[str, int] = {}
        self.bystanders = 0
        self.versions: dict[str, dict[str, int]] = {}

    @rule(changes=CHANGES)
    def update(self, changes: list[tuple[str, int | None]]) -> None:
        revision = self.set.revision + 1
        changed = False
        for name, content in changes:
            if self.model.get(name) == content:
                continue
            changed = True
            self.changed[name] = revision
            if content is None:
                del self.model[name]
            else:
                self.model[name] = content
        assert self.set.update((name, frame_of(name, content)) for name, content in changes) == changed
        assert self.set.revision == revision - (not changed)

    @rule(count=st.sampled_from([1, 600, 1100]))
    def come_and_go(self, count: int) -> None:
        """Publish and withdraw names that nobody heard of, to fill the log."""
        names = [f"reg/bystander-{self.bystanders + number}" for number in range(count)]
        self.bystanders += count
        self.set.update((name, frame("reg/bystander", 0)) for name in names)
        self.set.update((name, None) for name in names)
        self.changed |= dict.fromkeys(names, self.set.revision)

    @rule(ago=st.integers(0, 30))
    def ask_what_changed(self, ago: int) -> None:
        since = max(0, self.set.revision - ago)
        names = self.set.changed_since(since)
        later = {name for name, revision in self.changed.items() if revision > since}
        if names is None:
            # Only what is gone may be forgotten.
            assert later - self.model.keys()
        else:
            assert len(names) == len(set(names))
            assert set(names) == later

    @invariant()
    def what_is_joined_is_sorted_and_whole(self) -> None:
        names = sorted(self.model)
        assert self.set.names() == names == sorted(self.set.frames)
        assert self.set.joined() == b"".join(frame(name, self.model[name]).sotw for name in names)

    @invariant()
    def the_version_follows_from_the_content_alone(self) -> None:
        known = self.versions.setdefault(self.set.version, dict(self.model))
        assert known == self.model, "one version, two contents"
        assert len(self.versions) == len({tuple(sorted(content.items())) for content in self.versions.values()})
        again = ResourceSet()
        items = list(self.model.items())
        random.Random(len(items)).shuffle(items)
        for name, content in items:
            again.update([(name, frame(name, content + 1))])
            again.update([(name, frame(name, content))])
        assert again.version == self.set.version

    @invariant()
    def the_log_is_bounded(self) -> None:
        assert len(self.set._changed) <= 2 * len(self.model) + 1024
        assert self.set.changed_since(self.set.revision) == []


TestResourceSet = RandomHistory.TestCase
TestResourceSet.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_G9_names_that_come_and_go_do_not_fill_the_log() -> None:
    resources = ResourceSet()
    resources.update([("reg/a", frame("reg/a", 0))])
    before = resources.revision
    for number in range(5_000):
        resources.update([(f"reg/{number}", frame("reg/bystander", 0))])
        resources.update([(f"reg/{number}", None)])
        assert len(resources._changed) <= 2 * 2 + 1024
    assert resources.changed_since(before) is None
    assert resources.changed_since(resources.revision - 1) == ["reg/4999"]
