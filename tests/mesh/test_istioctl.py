"""istioctl, as a person runs it, against a bridge that a real istiod subscribes to (isthmus/debug/over_xds.py)."""

from __future__ import annotations

import json
import platform
import shutil
from typing import TYPE_CHECKING, Any

import pytest

import isthmus
from isthmus.mcp.client import ISTIOD_TYPES
from tests.rig.bridge import Bridge
from tests.rig.certificates import ClientCertificates
from tests.rig.istiod import Istiod
from tests.rig.missing import leave_out
from tests.rig.process import free_port, own_address
from tests.rig.tools import MissingToolError
from tests.rig.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from subprocess import CompletedProcess

    from tests.conftest import Parts

    Run = Callable[..., CompletedProcess[str]]

TIMEOUT = 120.0
SERVICE = """\
services:
- {host: a.b, ports: [{number: 80, name: http, protocol: HTTP}], endpoints: [{address: 10.0.0.1}]}
"""


class Place:
    """A bridge with an istiod on it. closed, secured: further listeners, without debug pages and for certificates."""

    def __init__(self, bridge: Bridge, closed: str, secured: str, certificates: Path) -> None:
        self.bridge = bridge
        self.closed = closed
        self.secured = secured
        self.certificates = certificates


@pytest.fixture(scope="module")
def place(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Give a bridge with an istiod on it, which the tests only look at."""
    parts.need("istiod-1.31", "istioctl")
    directory = tmp_path_factory.mktemp("istioctl")
    services, shown = directory / "services", directory / "shown"
    services.mkdir()
    (services / "a.yaml").write_text(SERVICE)
    certificates = _certificates(directory / "tls", shown)
    closed, secured = f"127.0.0.1:{free_port()}", f"{_address()}:{free_port()}"
    listeners = [
        {"name": "closed", "address": closed, "debug": "never"},
        {"name": "secured", "address": secured, "tls": certificates},
    ]
    source = {"kind": "files", "name": "files", "directory": str(services)}
    with (
        Bridge(directory / "isthmus", [source], settings={"listeners": listeners}) as bridge,
        Istiod(directory / "istiod", [bridge.address]),
    ):
        yield Place(bridge, closed, secured, shown)


def _address() -> str:
    try:
        return own_address()
    except MissingToolError as error:
        leave_out(error)


def _certificates(directory: Path, shown: Path) -> dict[str, str]:
    """Return the TLS settings of a listener, and put what istioctl shows and trusts into a folder."""
    made = ClientCertificates(directory)
    shown.mkdir()
    names = {"root-cert": made.ca_file, "cert-chain": made.client_cert_file, "key": made.client_key_file}
    for name, file in names.items():
        shutil.copyfile(file, shown / f"{name}.pem")
    return {"certificate": str(made.cert_file), "key": str(made.key_file), "clientCa": str(made.ca_file)}


def plainly(address: str) -> tuple[str, str]:
    return f"--xds-address={address}", "--plaintext"


def proxy_status(istioctl: Run, place: Place) -> Any:
    done = istioctl("proxy-status", *plainly(place.bridge.address), "-o", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def internal_debug(istioctl: Run, place: Place, name: str) -> str:
    done = istioctl("experimental", "internal-debug", name, *plainly(place.bridge.address))
    assert done.returncode == 0, done.stderr
    return done.stdout


def states(answer: Any) -> list[dict[str, str]]:
    """Return the state of each type of each subscriber."""
    configs = [json.loads(one) if isinstance(one, str) else one for one in answer["resources"]]
    return [{one["typeUrl"]: one["configStatus"] for one in config["genericXdsConfigs"]} for config in configs]


def test_proxy_status_shows_istiod_with_all_that_it_was_sent(istioctl: Run, place: Place) -> None:
    expected = [dict.fromkeys(ISTIOD_TYPES, "SYNCED")]
    wait_for(lambda: states(proxy_status(istioctl, place)) == expected, TIMEOUT, "istiod in sync on all types")
    table = istioctl("proxy-status", *plainly(place.bridge.address), "-v", "1")
    versions = istioctl("x", "version", *plainly(place.bridge.address))

    header, row = table.stdout.splitlines()
    assert {"NAME", "CLUSTER", "ISTIOD", "VERSION", *ISTIOD_TYPES} <= set(header.split())
    (subscriber,) = place.bridge.debug("subscribers")["items"]
    assert row.split()[0] == subscriber["nodeId"]
    assert platform.node() in row
    assert row.count("SYNCED") == len(ISTIOD_TYPES)
    assert f"control plane version: {isthmus.__version__}" in versions.stdout


def test_internal_debug_shows_the_pages(istioctl: Run, place: Place) -> None:
    (source,) = json.loads(internal_debug(istioctl, place, "sources"))["items"]
    found = json.loads(internal_debug(istioctl, place, "services?q=a.b&limit=1"))["items"]
    (published,) = json.loads(internal_debug(istioctl, place, "configz"))
    (stream,) = json.loads(internal_debug(istioctl, place, "syncz"))
    listed = json.loads(istioctl("x", "internal-debug", "--list", *plainly(place.bridge.address)).stdout)

    assert (source["name"], source["phase"]) == ("files", "READY")
    assert [one["host"] for one in found] == ["a.b"]
    assert (published["kind"], published["spec"]["hosts"]) == ("ServiceEntry", ["a.b"])
    assert stream["resources"].keys() == set(ISTIOD_TYPES)
    assert {"sources", "services", "subscribers", "configz", "syncz"} <= set(listed)


def test_a_page_that_is_not_there_is_answered_with_those_that_are(istioctl: Run, place: Place) -> None:
    done = istioctl("x", "internal-debug", "edsz", *plainly(place.bridge.address))

    assert done.returncode == 0
    assert "please check all supported internal debug commands" in done.stdout
    assert '"subscribers"' in done.stdout


@pytest.mark.parametrize("command", [("proxy-status",), ("x", "internal-debug", "sources")])
def test_where_no_debug_pages_are_given_istioctl_is_told_so(
    command: tuple[str, ...], istioctl: Run, place: Place
) -> None:
    done = istioctl(*command, *plainly(place.closed))

    assert done.returncode == 1
    assert "PermissionDenied" in done.stderr
    assert "the debug pages are not given on this port" in done.stderr
    assert 'isthmus_streams_refused_total{status="PERMISSION_DENIED"}' in place.bridge.metrics()


def test_who_shows_a_certificate_may_ask_from_elsewhere(istioctl: Run, place: Place) -> None:
    name = ("--authority=localhost", f"--cert-dir={place.certificates}")
    done = istioctl("x", "internal-debug", "listeners", f"--xds-address={place.secured}", *name)

    assert done.returncode == 0, done.stderr
    names = [(one["name"], one["debug"]) for one in json.loads(done.stdout)["items"]]
    assert names == [("xds", True), ("closed", False), ("secured", True)]
