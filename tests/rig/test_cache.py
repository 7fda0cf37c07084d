"""The rig's cache: whole things only, one version of each, built once."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from tests.rig.cache import cached, fingerprint, root

if TYPE_CHECKING:
    from pathlib import Path

OLD, NEW = "0" * 16, "1" * 16


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISTHMUS_CACHE", str(tmp_path))


def thing(workplace: Path) -> Path:
    product = workplace / "product"
    product.mkdir()
    (product / "content").write_text("built")
    return product


def broken(workplace: Path) -> Path:
    thing(workplace)
    raise OSError("the disk is full")


def never(workplace: Path) -> Path:
    raise AssertionError(f"built again in {workplace}")


def test_a_thing_is_built_once_and_its_older_version_goes() -> None:
    other = cached("thing-2", OLD, thing)
    old = cached("thing", OLD, thing)
    new = cached("thing", NEW, thing)
    assert cached("thing", NEW, never) == new
    assert (new / "content").read_text() == "built"
    assert not old.exists()
    assert other.exists()


def test_a_failed_build_leaves_nothing_that_looks_whole() -> None:
    with pytest.raises(OSError, match="disk"):
        cached("thing", OLD, broken)
    assert not (root() / f"thing-{OLD}").exists()
    assert (cached("thing", OLD, thing) / "content").read_text() == "built"


def test_two_runs_build_one_thing_once() -> None:
    building, may_end = threading.Event(), threading.Event()

    def slow(workplace: Path) -> Path:
        building.set()
        assert may_end.wait(120)
        return thing(workplace)

    first = threading.Thread(target=cached, args=("thing", OLD, slow))
    second = threading.Thread(target=cached, args=("thing", OLD, never))
    first.start()
    assert building.wait(120)
    second.start()
    may_end.set()
    first.join()
    second.join()
    assert cached("thing", OLD, never).is_dir()


def test_the_key_changes_with_every_input(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("a")
    two.write_text("b")
    keys = [
        fingerprint({"x": one}, ()),
        fingerprint({"y": one}, ()),
        fingerprint({"x": two}, ()),
        fingerprint({"x": one, "y": two}, ()),
        fingerprint({"x": one}, ("setting",)),
        fingerprint({"x": one}, ("set", "ting")),
    ]
    assert len(set(keys)) == len(keys)
    assert fingerprint({"x": one, "y": two}, ()) == fingerprint({"y": two, "x": one}, ())
