"""The number of shards is recorded, and changed by no start unasked (issue 6, point 2)."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from isthmus.config import Config, config_from_text
from isthmus.mcp.shards import shard_index
from isthmus.meshconfig.layout import (
    Layout,
    Move,
    Served,
    confirm_layout,
    layout_of,
    moves,
    read_layout,
    recorded,
    write_layout,
)
from isthmus.meshconfig.losses import Losses, losses
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
    assert read_layout(str(state)).listeners == {"xds": Served(8, 17000, "ports"), "b": Served(4, 18000, "authority")}


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
    assert read_layout(str(tmp_path)).listeners == {"xds": Served(8, 17000, "ports")}


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


@pytest.mark.parametrize(("before", "after"), [("authority", "ports"), ("ports", "authority")])
def test_another_routing_is_refused(before: str, after: str, tmp_path: Path) -> None:
    confirm_layout(config(tmp_path, listeners=[listener("b", 18000, 4, routing=before)]))
    for port in (18000, 19000):
        text = refusal(config(tmp_path, listeners=[listener("b", port, 4, routing=after)]))
        assert "listener b served 4 shards on" in text
        assert f"the configuration says 4 shards on {'one port' if after == 'authority' else 'a port'}" in text
        assert f"(`routing: {after}`)" in text
    # Under another name it is the port that is known.
    assert "listener c, as b, on the same ports" in refusal(
        config(tmp_path, listeners=[listener("c", 18000, 4, routing=after)])
    )
    confirm_layout(config(tmp_path, listeners=[listener("c", 19000, 4, routing=after)]))


def test_another_number_behind_the_one_port_is_refused_whatever_the_name(tmp_path: Path) -> None:
    confirm_layout(config(tmp_path, listeners=[listener("b", 18000, 4, routing="authority")]))
    assert "listener c, as b, on the same ports served 4 shards" in refusal(
        config(tmp_path, listeners=[listener("c", 18000, 8, routing="authority")])
    )
    assert "listener c, as b, on the same ports" in refusal(config(tmp_path, listeners=[listener("c", 17999, 2)]))
    # The ports on its either side were never of anybody.
    confirm_layout(config(tmp_path, listeners=[listener("c", 18001, 8, routing="authority")]))
    confirm_layout(config(tmp_path, listeners=[listener("d", 17998, 2)]))


def test_ports_stay_known_when_a_listener_has_moved_away(tmp_path: Path) -> None:
    confirm_layout(config(tmp_path, shards=4))
    confirm_layout(config(tmp_path, shards=4, listen="127.0.0.1:18000"))
    confirm_layout(config(tmp_path, shards=4, listen="127.0.0.1:19000"))
    for port in (17000, 18002):
        assert "listener c, as xds, on the same ports served 4 shards" in refusal(
            config(tmp_path, shards=4, listen="127.0.0.1:19000", listeners=[listener("c", port, 2)])
        )
    # Back again, it is what it was.
    confirm_layout(config(tmp_path, shards=4))


def test_what_is_recorded_by_the_explicit_step_forgets_nothing_else(tmp_path: Path) -> None:
    state = str(tmp_path)
    confirm_layout(config(tmp_path, shards=4, listeners=[listener("b", 18000, 4), listener("c", 20000, 2)]))
    now = config(tmp_path, shards=8, listeners=[listener("d", 18002, 8)])
    assert len(moves(read_layout(state), now.all_listeners)) == 2
    write_layout(state, recorded(read_layout(state), now.all_listeners))

    confirm_layout(now)
    assert read_layout(state).listeners == {
        "xds": Served(8, 17000, "ports"),
        # Its ports are of another now, with leave; its number is what an istiod may have been told.
        "b": Served(4, 0, "ports"),
        "c": Served(2, 20000, "ports"),
        "d": Served(8, 18002, "ports"),
    }
    assert "listener c served 2 shards" in refusal(config(tmp_path, shards=8, listeners=[listener("c", 21000, 4)]))
    assert "listener b served 4 shards" in refusal(config(tmp_path, shards=8, listeners=[listener("b", 21000, 8)]))
    assert "listener e, as c, on the same" in refusal(config(tmp_path, shards=8, listeners=[listener("e", 20001, 4)]))


def test_two_addresses_of_this_machine_can_have_one_port(tmp_path: Path) -> None:
    both = config(tmp_path, listeners=[{"name": "b", "address": "127.0.0.2:17000", "shards": 4}])
    confirm_layout(both)
    confirm_layout(both)


def test_what_is_gone_is_remembered(tmp_path: Path) -> None:
    confirm_layout(config(tmp_path, listeners=[listener("b", 18000, 4)]))
    confirm_layout(config(tmp_path))
    assert "listener b served 4 shards" in refusal(config(tmp_path, listeners=[listener("b", 19000, 8)]))


def test_without_a_directory_nothing_is_guarded_and_each_start_says_so(caplog: pytest.LogCaptureFixture) -> None:
    confirm_layout(config("", shards=1))
    assert caplog.records == []
    confirm_layout(config("", shards=8))
    confirm_layout(config("", shards=4))
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "nothing guards the number of shards (xds 4)" in caplog.messages[1]


def test_with_a_directory_there_is_nothing_to_say(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    confirm_layout(config(tmp_path, shards=8))
    assert caplog.records == []


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


def test_what_an_istiod_would_lose_by_another_routing_is_counted() -> None:
    by_port, by_name = Served(4, 17000, "ports"), Served(4, 17000, "authority")
    beyond = sum(shard_index(name, 4) > 0 for name in NAMES)
    one_port = losses(move(by_name, by_port), NAMES)
    # All four sources lead to the first port, which gives the first shard whatever it is called by.
    assert one_port == Losses(moved=beyond, deleted=beyond, unheard=0)
    assert losses(move(by_port, by_name), NAMES) == Losses(moved=len(NAMES), deleted=0, unheard=len(NAMES))


def test_nothing_moves_without_a_change() -> None:
    listeners = config("", shards=8).all_listeners
    assert moves(Layout("layout-1", layout_of(listeners)), listeners) == []
