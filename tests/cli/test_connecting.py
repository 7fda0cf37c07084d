"""The commands that connect istiod and change the number of shards, as a user gives them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import yaml

from isthmus.cli.main import main
from isthmus.config import load_config
from isthmus.meshconfig.layout import confirm_layout
from isthmus.registry.errors import ConfigError
from tests.cli.test_commands import SERVICES, isthmus
from tests.rig.certificates import Certificates

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = ("--source", "file:d", "--listen", "127.0.0.1:16100")


def test_what_is_printed_goes_with_the_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    certificates = Certificates(tmp_path / "tls")
    tls = ("--tls-certificate", str(certificates.cert_file), "--tls-key", str(certificates.key_file))
    sharded = [*SOURCE, "--shards", "4", *tls]
    assert main(["mesh-config", *sharded, "--host", "localhost", "--ca", str(certificates.ca_file)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    sources = yaml.safe_load(out)["configSources"]
    assert [one["address"] for one in sources] == [f"xds://localhost:{port}" for port in range(16100, 16104)] + [
        "k8s://"
    ]
    assert all(one["tlsSettings"]["mode"] == "SIMPLE" for one in sources[:-1])

    mesh = tmp_path / "mesh.yaml"
    mesh.write_text(out)
    assert main(["check", *sharded, "--mesh-config", str(mesh), "--istio-version", "1.26"]) == 0
    assert f"{mesh}: ok" in capsys.readouterr().out


def test_JSON_is_alone_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mesh-config", *SOURCE, "--host", "localhost", "-o", "json"]) == 0
    out, err = capsys.readouterr()
    assert [one["address"] for one in json.loads(out)["configSources"]] == ["xds://localhost:16100", "k8s://"]
    assert "restart it after every change" in err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--host", "bridge"), "listens on loopback only"),
        (("--host", "localhost", "--listener", "xsd"), 'did you mean "xds"?'),
        (("--host", "localhost", "--ca", "ca.pem"), "has no certificate"),
        (("--host", "localhost", "--istio-version", "new"), "is not a version"),
    ],
)
def test_nothing_is_printed_that_would_not_do(
    arguments: tuple[str, ...], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["mesh-config", *SOURCE, *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert word in err


def configured(directory: Path, shards: int) -> str:
    """Write a configuration, with services; return its file."""
    services = directory / "services"
    services.mkdir(exist_ok=True)
    (services / "shop.yaml").write_text(SERVICES)
    file = directory / "isthmus.yaml"
    file.write_text(
        f"listen: 127.0.0.1:16100\nshards: {shards}\nstate: state\nsources: [{{kind: files, directory: services}}]\n"
    )
    return str(file)


def test_changing_the_number_of_shards_takes_the_explicit_step(tmp_path: Path) -> None:
    file = configured(tmp_path, 1)
    confirm_layout(load_config(file, {}))
    configured(tmp_path, 4)
    with pytest.raises(ConfigError, match="served 1 shard until now"):
        confirm_layout(load_config(file, {}))

    told = isthmus("reshard", "-c", file)
    assert told.returncode == 1, told.stderr
    assert "listener xds served 1 shard until now, and the configuration says 4." in told.stdout
    # The host of the only service has its place by a hash, the same for ever.
    assert "1 of 1 services would be in another shard" in told.stdout
    assert "would delete 1 of them, and hear nothing more of 0" in told.stdout
    assert f"isthmus mesh-config -c {file} --listener xds-4 --host HOST" in told.stdout
    assert f"isthmus reshard -c {file} --yes" in told.stdout
    with pytest.raises(ConfigError):
        confirm_layout(load_config(file, {}))

    done = isthmus("reshard", "-c", file, "--yes")
    assert done.returncode == 0, done.stderr
    assert "the configuration says 4: recorded" in done.stdout
    confirm_layout(load_config(file, {}))


def test_there_is_nothing_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = configured(tmp_path, 4)
    confirm_layout(load_config(file, {}))
    assert main(["reshard", "-c", file]) == 0
    assert capsys.readouterr().out == "the number of shards is what it was\n"


def test_without_state_there_is_no_step(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reshard", *SOURCE]) == 2
    assert "`state` is not set" in capsys.readouterr().err
