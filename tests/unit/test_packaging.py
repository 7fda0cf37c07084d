"""What is installed is what is in the tree (docs/decisions/0001-packaging.md)."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from isthmus.adapters import KINDS, open_adapter, options_types
from isthmus.adapters.base import SourceOptions

CHECKOUT = Path(__file__).parent.parent.parent
LAYERS = ("registry", "adapters", "mcp", "protos")
SUFFIXES = {".py", ".pyi", ".proto", ".typed"}


def tree() -> set[str]:
    """Return every file that belongs into the package, by its place in it."""
    layers = {
        f"isthmus/{layer}/{path.relative_to(CHECKOUT / layer)}"
        for layer in LAYERS
        for path in (CHECKOUT / layer).rglob("*")
        if path.suffix in SUFFIXES
    }
    own = {
        str(path.relative_to(CHECKOUT))
        for folder in (".", "cli", "config", "debug", "meshconfig", "readback")
        for path in (CHECKOUT / "isthmus" / folder).glob("*")
        if path.suffix in SUFFIXES
    }
    return layers | own


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the sdist, and the wheel from the sdist, with the installed setuptools."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(CHECKOUT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return out


def test_the_wheel_holds_the_tree_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()

    assert {name for name in names if ".dist-info/" not in name} == tree()


def test_the_sdist_holds_what_the_wheel_is_built_from(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    assert {"pyproject.toml", "README.md", "LICENSE", "registry/model.py", "mcp/server.py"} <= names


def test_the_wheel_runs_where_there_is_no_checkout(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    adapters = ", ".join(adapter.partition(":")[0] for _, adapter in KINDS.values())
    code = f"import isthmus.app, isthmus.cli.main, isthmus.debug.server, {adapters}; print('ok')"
    command = [sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); {code}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)

    assert done.stdout.strip() == "ok", done.stderr[-2000:]


def test_every_kind_of_source_can_be_opened() -> None:
    for kind, options_type in zip(KINDS, options_types(), strict=True):
        assert issubclass(options_type, SourceOptions)
        assert options_type.__struct_config__.tag == kind
    from isthmus.adapters.consul.options import ConsulOptions
    from isthmus.adapters.etcd.options import EtcdOptions
    from isthmus.adapters.eureka.options import EurekaOptions
    from isthmus.adapters.files import FilesOptions
    from isthmus.adapters.nacos.options import NacosOptions
    from isthmus.adapters.zookeeper.options import ZookeeperOptions

    opened = [
        open_adapter(ConsulOptions(address="http://127.0.0.1:8500")),
        open_adapter(EtcdOptions(address="http://127.0.0.1:2379")),
        open_adapter(EurekaOptions(address="http://127.0.0.1:8761/eureka")),
        open_adapter(FilesOptions(directory=".")),
        open_adapter(NacosOptions(address="127.0.0.1:8848")),
        open_adapter(ZookeeperOptions(address="127.0.0.1:2181")),
    ]
    names = [type(adapter).__name__ for adapter in opened]
    assert names == [
        "ConsulAdapter",
        "EtcdAdapter",
        "EurekaAdapter",
        "FilesAdapter",
        "NacosAdapter",
        "ZookeeperAdapter",
    ]
