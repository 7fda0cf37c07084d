"""The number of shards is recorded, and changed by no start unasked (issue 6, point 2)."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from isthmus.config import Config, config_from_text
from isthmus.mcp.shards import shard_index
from isthmus.meshconfig.layout import Losses, Move, Served, confirm_layout, layout_of, losses, moves, read_layout
from isthmus.registry.errors import ConfigError

NAMES = [f"shop/svc-{number}.legacy" for number in range(200)]


def config(state: Path | str, **settings: Any) -> Config:
    listed = {"listen": "127.0.0.1:17000", "state": str(state), **settings}
    return config_from_text(json.dumps({"sources": [{"kind": "files", "directory": "d"}], **listed}), {})


def listener(name: str, port: int, shards: int, **options: str) -> dict[str, Any]:
    return {"name": name, "address": f"127.0.0.1:{port}", "shards": shards, **options}


def refusal(configuration: Config) -> str:
    with pytest.raises(ConfigError) as caught:
        confirm_layout(configuration)
    return "\n".join(caught.value.mistakes)


def test_the_first_start_records_it_for_its_owner_alone(tmp_path: Path) -> None:
    state = tmp_path / "state"
    confirm_layout(config(state, shards=8, listeners=[listener("b", 18000, 4, routing="authority")]))

    (file,) = state.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert read_layout(str(state)) == {"xds": Served(8, 17000, "ports"), "b": Served(4, 18000, "authority")}


def test_a_start_with_the_same_number_changes_nothing(tmp_path: Path) -> None:
    confirm_layout(config(tmp_path, shards=8))
    (file,) = tmp_path.iterdir()
    before = file.stat()
    confirm_layout(config(tmp_path, shards=8))
    assert file.stat() == before


@pytest.mark.parametrize("shards", [1, 4, 16])
def test_a_start_with_another_number_is_refused(shards: int, tmp_path: Path) -> None:
    confirm_layout(config(tmp_path, shards=8))
    text = refusal(config(tmp_path, shards=shards))

    assert f"listener xds served 8 shards until now, and the configuration says {shards}" in text
    assert "an istiod that still lists the sources of before would delete what moved away" in text
    assert "isthmus reshard" in text
    assert read_layout(str(tmp_path)) == {"xds": Served(8, 17000, "ports")}


def test_the_ports_know_it_whatever_the_listener_is_called(tmp_path: Path) -> None:
    confirm_layout(config(tmp_path, listeners=[listener("b", 18000, 4)]))

    assert "listener c, as b, on the same ports served 4 shards" in refusal(
        config(tmp_path, listeners=[listener("c", 18002, 8)])
    )
    # The same under another name, or elsewhere, moves nothing.
    confirm_layout(config(tmp_path, listeners=[listener("c", 18000, 4)]))
    confirm_layout(config(tmp_path, listeners=[listener("c", 19000, 4)]))


def test_a_range_that_is_shifted_is_refused(tmp_path: Path) -> None:
    confirm_layout(config(tmp_path, shards=8))
    assert "from port 17000 on until now, and the configuration says 17002" in refusal(
        config(tmp_path, shards=8, listen="127.0.0.1:17002")
    )
    confirm_layout(config(tmp_path, shards=8, listen="127.0.0.1:18000"))


def test_two_addresses_of_this_machine_can_have_one_port(tmp_path: Path) -> None:
    both = config(tmp_path, listeners=[{"name": "b", "address": "127.0.0.2:17000", "shards": 4}])
    confirm_layout(both)
    confirm_layout(both)


def test_what_is_gone_is_remembered(tmp_path: Path) -> None:
    confirm_layout(config(tmp_path, listeners=[listener("b", 18000, 4)]))
    confirm_layout(config(tmp_path))
    assert "listener b served 4 shards" in refusal(config(tmp_path, listeners=[listener("b", 19000, 8)]))


def test_without_a_directory_nothing_is_guarded() -> None:
    confirm_layout(config("", shards=8))
    confirm_layout(config("", shards=4))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b"{}",
        b'{"listeners": {}}',
        b'{"isthmus": "layout-2", "listeners": {}}',
        b'{"isthmus": "layout-1", "listeners": {"xds": {"shards": "8", "port": 1, "routing": "ports"}}}',
        b'{"isthmus": "layout-1", "listeners": {}, "other": 1}',
    ],
)
def test_a_file_that_is_not_ours_is_never_ignored(content: bytes, tmp_path: Path) -> None:
    confirm_layout(config(tmp_path, shards=8))
    (file,) = tmp_path.iterdir()
    file.write_bytes(content)

    text = refusal(config(tmp_path, shards=8))
    assert str(file) in text
    assert "does not hold the number of shards that Isthmus wrote there" in text
    assert file.read_bytes() == content


def test_a_directory_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "cannot be read: Not a directory" in refusal(config(tmp_path / "file"))
    assert "cannot be written: No such file or directory" in refusal(config(tmp_path / "gone" / "state"))


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault is made up: no test can count on a disk that is full."""

    def full(path: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    assert "cannot be written: No space left on device" in refusal(config(tmp_path))
    assert list(tmp_path.iterdir()) == []


def move(before: Served, after: Served) -> Move:
    return Move("xds", "xds", before, after)


def test_what_an_istiod_would_lose_is_counted() -> None:
    more = losses(move(Served(4, 17000, "ports"), Served(8, 17000, "ports")), NAMES)
    beyond = sum(shard_index(name, 8) >= 4 for name in NAMES)
    assert more == Losses(moved=beyond, deleted=beyond, unheard=0), "by the remainder of a hash, what moves goes beyond"

    fewer = losses(move(Served(8, 17000, "ports"), Served(4, 17000, "ports")), NAMES)
    assert fewer == Losses(moved=beyond, deleted=0, unheard=0), "all of them are on ports that are listed"

    elsewhere = losses(move(Served(8, 17000, "ports"), Served(4, 18000, "ports")), NAMES)
    assert elsewhere == Losses(moved=len(NAMES), deleted=0, unheard=len(NAMES)), "no port that is listed is open"

    named = losses(move(Served(2, 17000, "authority"), Served(3, 17000, "authority")), NAMES)
    assert named == Losses(moved=len(NAMES), deleted=0, unheard=len(NAMES)), "nobody has the old names any more"

    shifted = losses(move(Served(2, 17000, "ports"), Served(2, 17001, "ports")), NAMES)
    last = sum(shard_index(name, 2) == 1 for name in NAMES)
    assert shifted == Losses(moved=len(NAMES), deleted=last, unheard=0)


def test_nothing_moves_without_a_change() -> None:
    listeners = config("", shards=8).all_listeners
    assert moves(layout_of(listeners), listeners) == []
