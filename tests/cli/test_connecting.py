"""The commands that connect istiod and change the number of shards, as a user gives them."""

from __future__ import annotations

import json
import re
import shlex
import textwrap
from pathlib import Path

import pytest
import yaml
from msgspec.structs import replace

from isthmus.cli.main import main
from isthmus.config import load_config
from isthmus.config.listeners import Listener
from isthmus.mcp.transport import TlsOptions
from isthmus.meshconfig.layout import confirm_layout
from isthmus.registry.errors import ConfigError
from tests.cli.test_commands import SERVICES, isthmus
from tests.rig.certificates import Certificates

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

    beside = tmp_path / "beside.yaml"
    beside.write_text(f"{Path(configured(tmp_path, 1)).read_text()}{advised(told.stdout)}")
    confirm_layout(load_config(str(beside), {}))
    assert load_config(str(beside), {}).listeners == (Listener(name="xds-4", address="127.0.0.1:16200", shards=4),)
    assert main(["mesh-config", "-c", str(beside), "--listener", "xds-4", "--host", "127.0.0.1"]) == 0

    configured(tmp_path, 4)
    done = isthmus("reshard", "-c", file, "--yes")
    assert done.returncode == 0, done.stderr
    assert "the configuration says 4: recorded" in done.stdout
    confirm_layout(load_config(file, {}))


def advised(told: str) -> str:
    """Return the YAML of the listener that `reshard` says to add."""
    block = re.search(r"^ +listeners:\n(?: +[- ] .*\n)+", told, re.MULTILINE)
    assert block is not None, told
    return textwrap.dedent(block[0])


def test_the_listener_that_is_advised_can_be_added_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates = Certificates(tmp_path / "tls")
    before = {
        "name": "shop",
        "address": "127.0.0.1:16200",
        "shards": 2,
        "form": "slime",
        "tls": {"certificate": f"tls/{certificates.cert_file.name}", "key": f"tls/{certificates.key_file.name}"},
        "types": ["ServiceEntry"],
        "namespaces": ["shop"],
        "sources": ["files"],
        "debug": "never",
    }
    taken = {"name": "shop-8", "address": "127.0.0.1:16300"}
    (tmp_path / "services").mkdir()
    file = tmp_path / "isthmus.yaml"

    def configure(listeners: list[object]) -> None:
        sources = [{"kind": "files", "directory": "services"}]
        debug = "127.0.0.1:16400"
        file.write_text(
            json.dumps({"state": "state", "debug": debug, "sources": sources, "listeners": [*listeners, taken]})
        )

    # A name that is gone has a number all the same.
    configure([before, {"name": "shop-8-2", "address": "127.0.0.1:17000"}])
    confirm_layout(load_config(str(file), {}))
    configure([before])
    after = {**before, "shards": 8, "routing": "authority"}
    configure([after])
    monkeypatch.chdir(tmp_path)
    assert main(["reshard", "-c", file.name]) == 1
    (listener,) = yaml.safe_load(advised(capsys.readouterr().out))["listeners"]

    configure([before, listener])
    applied = load_config(file.name, {})
    old, new, _ = applied.listeners
    same = replace(
        old,
        name=new.name,
        address=new.address,
        shards=8,
        routing="authority",
        tls=TlsOptions(certificate=str(certificates.cert_file), key=str(certificates.key_file)),
    )
    assert new == same
    assert (new.name, new.address) == ("shop-8-3", "127.0.0.1:16500")
    # The start that it is for is not refused.
    confirm_layout(applied)
    assert main(["check", "-c", file.name]) == 0


def test_what_was_not_counted_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--source", f"file:{tmp_path / 'gone'}", "--listen", "127.0.0.1:16100", "--state", str(tmp_path / "state")]
    assert main(["reshard", *flags, "--shards", "2", "--yes"]) == 0
    assert main(["reshard", *flags, "--shards", "4", "--wait", "0.2"]) == 1
    told = capsys.readouterr().out
    assert "was not counted, since no service was read: files" in told
    assert "would delete" not in told
    # The commands go on with what was said, and a file for the listener.
    said = f"-c FILE {shlex.join(flags[:4])} --shards 4 {shlex.join(flags[4:])}"
    assert f"isthmus mesh-config {said} --listener xds-4 --host HOST\n" in told
    assert f"isthmus reshard {said} --yes\n" in told
    assert "in a configuration file, which takes -c FILE" in told


def test_there_is_nothing_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = configured(tmp_path, 4)
    confirm_layout(load_config(file, {}))
    assert main(["reshard", "-c", file]) == 0
    assert capsys.readouterr().out == "the number of shards is what it was\n"


def test_without_state_there_is_no_step(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reshard", *SOURCE]) == 2
    assert "`state` is not set" in capsys.readouterr().err
