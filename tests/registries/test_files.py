"""The files adapter on a real directory."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from isthmus.adapters.files import FilesAdapter, FilesOptions, read_file
from isthmus.registry import codes
from isthmus.registry.errors import RecordError, SourceUnavailable
from tests.registries.recorder import Recorder
from tests.rig.wait import wait_for_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

TIMEOUT = 60.0
SERVICE = """\
services:
- host: {host}
  ports: [{{number: 8080, name: http, protocol: HTTP}}]
  endpoints: [{{address: {address}, ports: {{http: 18080}}}}]
"""
KEY = "default/a.b"


def write(directory: Path, file: str, host: str = "a.b", address: str = "10.0.0.1") -> None:
    (directory / file).write_text(SERVICE.format(host=host, address=address))


@asynccontextmanager
async def watching(directory: Path, reconcile: float = 3600.0) -> AsyncIterator[Recorder]:
    recorder = Recorder()
    adapter = FilesAdapter(FilesOptions(name="files", directory=str(directory), reconcile=reconcile))
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(adapter.run(recorder))
        try:
            await wait_for_async(lambda: recorder.syncs, TIMEOUT, "first read")
            yield recorder
        finally:
            running.cancel()


def reason(recorder: Recorder, file: str) -> str:
    """Return why a file is refused, nothing where it is not."""
    return " ".join(refusal.reason for refusal in recorder.refused.get(file, ()))


async def until(recorder: Recorder, key: str, *expected: str) -> None:
    await wait_for_async(lambda: recorder.addresses(key) == sorted(expected), TIMEOUT, f"{key} at {expected}")


async def test_files_that_come_change_and_go(tmp_path: Path) -> None:
    write(tmp_path, "one.yaml")
    async with watching(tmp_path) as seen:
        await until(seen, KEY, "10.0.0.1:18080")
        write(tmp_path, "two.yml", "c.d", "10.0.0.2")
        await until(seen, "default/c.d", "10.0.0.2:18080")
        write(tmp_path, "one.yaml", "a.b", "10.0.0.9")
        await until(seen, KEY, "10.0.0.9:18080")
        (tmp_path / "two.yml").unlink()
        await wait_for_async(lambda: "default/c.d" not in seen.services, TIMEOUT, "the service to go with its file")
        assert seen.addresses(KEY) == ["10.0.0.9:18080"]


async def test_an_editor_that_replaces_the_file_is_followed(tmp_path: Path) -> None:
    write(tmp_path, "one.yaml")
    async with watching(tmp_path) as seen:
        for round_ in range(2, 5):
            write(tmp_path, ".one.yaml.swp", address=f"10.0.0.{round_}")
            (tmp_path / ".one.yaml.swp").rename(tmp_path / "one.yaml")
            await until(seen, KEY, f"10.0.0.{round_}:18080")


async def test_G1_a_file_that_cannot_be_read_keeps_what_it_said(tmp_path: Path) -> None:
    write(tmp_path, "one.yaml")
    write(tmp_path, "two.yaml", "c.d", "10.0.0.2")
    async with watching(tmp_path) as seen:
        (tmp_path / "one.yaml").write_text("services:\n- host: a.b\n  prots: []\n")
        # It may be read while it is still empty, and is refused for that first.
        await wait_for_async(lambda: "prots" in reason(seen, "one.yaml"), TIMEOUT, "the refusal")
        assert seen.refused["one.yaml"][0].code == codes.GARBLED
        assert seen.addresses(KEY) == ["10.0.0.1:18080"]
        write(tmp_path, "two.yaml", "c.d", "10.0.0.3")
        await until(seen, "default/c.d", "10.0.0.3:18080")
        write(tmp_path, "one.yaml", address="10.0.0.5")
        await until(seen, KEY, "10.0.0.5:18080")
        assert seen.refused["one.yaml"] == ()


async def test_G1_a_directory_that_is_gone_is_a_lost_source_and_not_an_empty_one(tmp_path: Path) -> None:
    directory = tmp_path / "services"
    directory.mkdir()
    write(directory, "one.yaml")
    recorder = Recorder()
    adapter = FilesAdapter(FilesOptions(name="files", directory=str(directory), reconcile=0.2))
    running = asyncio.create_task(adapter.run(recorder))
    await wait_for_async(lambda: recorder.syncs, TIMEOUT, "first read")
    shutil.move(directory, tmp_path / "moved")
    with pytest.raises(SourceUnavailable):
        await running
    assert recorder.addresses(KEY) == ["10.0.0.1:18080"]


async def test_G1_a_file_that_is_suddenly_empty_is_one_that_is_being_written(tmp_path: Path) -> None:
    write(tmp_path, "one.yaml")
    async with watching(tmp_path) as seen:
        seen.watch_fewest()
        (tmp_path / "one.yaml").write_text("")
        await wait_for_async(lambda: seen.refused.get("one.yaml"), TIMEOUT, "the refusal")
        write(tmp_path, "one.yaml", address="10.0.0.5")
        await until(seen, KEY, "10.0.0.5:18080")
        assert seen.fewest[KEY] == 1
        (tmp_path / "one.yaml").write_text("services: []\n")
        await wait_for_async(lambda: KEY not in seen.services, TIMEOUT, "an empty list to be taken at its word")


async def test_a_volume_of_Kubernetes_is_followed(tmp_path: Path) -> None:
    # What the files are links through is what changes there: `..data` is replaced by a rename.
    for version, address in (("1", "10.0.0.1"), ("2", "10.0.0.2")):
        (tmp_path / f"..{version}").mkdir()
        write(tmp_path / f"..{version}", "one.yaml", address=address)
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "one.yaml").symlink_to("..data/one.yaml")
    async with watching(tmp_path) as seen:
        await until(seen, KEY, "10.0.0.1:18080")
        (tmp_path / "..next").symlink_to("..2")
        (tmp_path / "..next").rename(tmp_path / "..data")
        await until(seen, KEY, "10.0.0.2:18080")
        assert seen.mended_count == 0


async def test_a_directory_that_is_replaced_is_read_anew(tmp_path: Path) -> None:
    directory, other = tmp_path / "services", tmp_path / "other"
    directory.mkdir()
    write(directory, "one.yaml")
    # Made beside it: a reconcile in between would find it there with nothing in it.
    other.mkdir()
    (other / "one.yaml").write_text("broken: [")
    recorder = Recorder()
    adapter = FilesAdapter(FilesOptions(name="files", directory=str(directory), reconcile=0.2))
    running = asyncio.create_task(adapter.run(recorder))
    await wait_for_async(lambda: recorder.syncs, TIMEOUT, "first read")
    directory.rename(tmp_path / "old")
    other.rename(directory)
    with pytest.raises(SourceUnavailable):
        await running
    # The supervisor runs the same adapter again, which still knows what the file said.
    running = asyncio.create_task(adapter.run(recorder))
    await wait_for_async(lambda: recorder.refused.get("one.yaml"), TIMEOUT, "the refusal")
    assert recorder.addresses(KEY) == ["10.0.0.1:18080"]
    write(directory, "one.yaml", address="10.0.0.7")
    await until(recorder, KEY, "10.0.0.7:18080")
    running.cancel()
    await asyncio.wait([running])


async def test_of_two_files_with_one_service_the_first_has_its_say_and_the_other_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "b.yaml", address="10.0.0.2")
    write(tmp_path, "a.yaml", address="10.0.0.1")
    async with watching(tmp_path) as seen:
        await until(seen, KEY, "10.0.0.1:18080")
        assert [one.code for one in seen.refused["b.yaml"]] == [codes.HOST_CONFLICT]
        (tmp_path / "a.yaml").unlink()
        await until(seen, KEY, "10.0.0.2:18080")
        assert seen.refused["b.yaml"] == ()


async def test_a_directory_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable, match="nowhere"):
        await FilesAdapter(FilesOptions(name="files", directory=str(tmp_path / "nowhere"))).run(Recorder())


async def test_G6_a_reconcile_has_nothing_to_mend(tmp_path: Path) -> None:
    write(tmp_path, "one.yaml")
    async with watching(tmp_path, reconcile=0.05) as seen:
        await wait_for_async(lambda: seen.syncs > 3, TIMEOUT, "some reconciles")
        assert seen.mended_count == 0


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("services: [", "line"),
        ("- a\n- b", "object"),
        ("services: {}", "array"),
        ("services: [{host: a.b, ports: [{number: x, name: http}]}]", "number"),
        ("services: [{host: a.b}]", "ports"),
        ("services: [{host: a.b, ports: [], endpoints: [{address: 10.0.0.1, wieght: 3}]}]", "wieght"),
        ("a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n", "alias"),
        ("!!python/object/apply:os.system [ls]", ""),
        ("[" * 10_000, ""),
        ("@ not yaml", ""),
    ],
)
def test_T27_a_file_that_is_no_list_of_services_is_refused_with_its_reason(text: str, word: str) -> None:
    with pytest.raises(RecordError) as error:
        read_file(text, "default")
    assert word in error.value.reason.lower()


def test_an_empty_file_is_no_service_and_no_fault() -> None:
    assert read_file("", "default") == ()
    assert read_file("services: []\n", "default") == ()


def test_what_a_file_can_say() -> None:
    (service,) = read_file(
        """
services:
- host: a.b
  namespace: shop
  exportTo: [web]
  ports: [{number: 8080, name: http, protocol: HTTP, targetPort: 9090}, {number: 443, name: https, protocol: HTTPS}]
  endpoints:
  - {address: 10.0.0.1, labels: {version: v1}, weight: 3, locality: dc1/r1, network: vm}
  - {address: 10.0.0.2, ports: {http: 18080}}
""",
        "default",
    )

    assert (service.namespace, service.host, service.export_to) == ("shop", "a.b", ("web",))
    first, second = (endpoint.workload for endpoint in service.endpoints)
    assert first.ports == (("http", 9090), ("https", 443))
    assert second.ports == (("http", 18080), ("https", 443))
    assert (first.labels, first.weight, first.locality, first.network) == ((("version", "v1"),), 3, "dc1/r1", "vm")
