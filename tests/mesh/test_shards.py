"""Real istiods on shards, on one of two revisions, and over TLS, by the configSources that Isthmus prints."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import ssl
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from isthmus.mcp.shards import shard_index
from tests.rig.bridge import CHECKOUT, Bridge
from tests.rig.certificates import Certificates, MountedSecret
from tests.rig.process import ProcessError, free_port
from tests.rig.tunnels import tunnels_to
from tests.rig.wait import wait_for, wait_for_async

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.rig.istiod import Istiod, Version

TIMEOUT = 120.0
SERVICE_ENTRY = "networking.istio.io/v1/ServiceEntry"
KUBERNETES = "k8s://"
SHARDS = 4
HOSTS = [f"service-{number}.legacy" for number in range(40)]
# Between what `free_port` gives and what the kernel takes for outgoing connections.
ROWS = range(32_000, 32_700, SHARDS)


class Files:
    """A directory of services, a file each."""

    def __init__(self, directory: Path, name: str = "files", *revisions: str) -> None:
        self._directory = directory / name
        self._directory.mkdir()
        self.source = {"name": name, "kind": "files", "directory": str(self._directory), "revisions": list(revisions)}

    def say(self, host: str, address: str = "10.0.0.1", *revisions: str) -> None:
        """Say that a service has an endpoint, for some revisions or for all."""
        port = {"number": 80, "name": "http", "protocol": "HTTP"}
        endpoints = [{"address": address}]
        service = {"host": host, "ports": [port], "endpoints": endpoints, "revisions": list(revisions)}
        new = self._directory / f"{host}.new"
        new.write_text(json.dumps({"services": [service]}))
        new.rename(self._directory / f"{host}.json")


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Give an empty directory of services."""
    return Files(tmp_path)


def free_row() -> int:
    """Return the first of as many free ports in a row as there are shards."""
    return next(first for first in random.sample(ROWS, len(ROWS)) if all(map(is_free, range(first, first + SHARDS))))


def is_free(port: int) -> bool:
    """Tell whether nobody listens."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def printed_sources(bridge: Bridge, *options: str) -> list[dict[str, Any]]:
    """Return the configSources that `isthmus mesh-config` prints for a bridge."""
    configuration = ["-c", str(bridge.directory / "isthmus.yaml"), "--host", "localhost", "-o", "json"]
    command = [sys.executable, "-m", "isthmus", "mesh-config", *configuration, *options]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=TIMEOUT, check=True)
    sources: list[dict[str, Any]] = json.loads(done.stdout)["configSources"]
    assert [source["address"] for source in sources].index(KUBERNETES) == len(sources) - 1
    return sources


def pushes(bridge: Bridge) -> list[Any]:
    """Return all pushes of ServiceEntry, in their order."""
    page = bridge.debug("pushes?limit=200")["items"]
    return [push for push in reversed(page) if push["type"] == SERVICE_ENTRY]


def pushes_after(bridge: Bridge, before: int, count: int) -> list[Any] | None:
    """Return the pushes after those before, in their order, once there are so many; istiod may have one before."""
    made = pushes(bridge)[before:]
    return made if len(made) >= count else None


def in_step(bridge: Bridge, count: int) -> list[Any] | None:
    """Return the streams, the oldest first, once there are so many and all have acknowledged all."""
    streams: list[Any] = bridge.debug("subscribers")["items"]
    states = [one["types"].get(SERVICE_ENTRY, {}).get("state") for one in streams]
    return streams if states == ["SYNCED"] * count else None


def moved(istiod: Istiod, host: str) -> Callable[[], bool]:
    """Return what tells whether istiod's store has a service at 10.0.0.2."""

    def there() -> bool:
        endpoints = istiod.service_entries()[f"default/{host}"]["spec"]["endpoints"]
        return [endpoint["address"] for endpoint in endpoints] == ["10.0.0.2"]

    return there


def hosts_of(istiod: Istiod) -> set[str]:
    """Return the hosts in istiod's store."""
    return {host for held in istiod.service_entries().values() for host in held["spec"]["hosts"]}


async def test_each_service_comes_over_one_port_of_four(
    files: Files, bridge: Callable[..., Bridge], istiod: Callable[..., Istiod]
) -> None:
    for host in HOSTS:
        files.say(host)
    started = bridge([files.source], settings={"listen": f"127.0.0.1:{free_row()}", "shards": SHARDS})
    control = istiod(printed_sources(started))
    await assert_each_comes_once(files, started, control)


async def test_each_service_comes_over_one_port_by_the_name_of_its_shard(
    files: Files, bridge: Callable[..., Bridge], istiod: Callable[..., Istiod]
) -> None:
    for host in HOSTS:
        files.say(host)
    address = f"127.0.0.1:{free_port()}"
    listener = {"name": "named", "address": address, "shards": SHARDS, "routing": "authority"}
    started = bridge([files.source], settings={"listeners": [listener]})
    sources = printed_sources(started, "--listener", "named")
    async with tunnels_to(address) as tunnels:
        # gRPC-Go gives a proxy the name that it dials, and looks nothing up: no name has to lead here.
        settings = {"HTTPS_PROXY": f"http://{tunnels.address}"}
        control = await asyncio.to_thread(istiod, sources, settings=settings)
        await assert_each_comes_once(files, started, control)
    port = address.rpartition(":")[2]
    assert tunnels.dialled == {f"shard-{index}-of-{SHARDS}.localhost:{port}" for index in range(SHARDS)}


async def test_each_service_comes_over_one_address_by_the_sni_of_its_shard(
    files: Files, authority: Certificates, bridge: Callable[..., Bridge], istiod: Callable[..., Istiod]
) -> None:
    for host in HOSTS:
        files.say(host)
    certificate, key = authority.issue("named", names="DNS:localhost,DNS:*.localhost")
    address = f"127.0.0.1:{free_port()}"
    tls = {"certificate": str(certificate), "key": str(key)}
    listener = {"name": "named", "address": address, "shards": SHARDS, "routing": "authority", "tls": tls}
    started = bridge([files.source], settings={"listeners": [listener]})
    sources = without_kubernetes(printed_sources(started, "--listener", "named", "--ca", str(authority.ca_file)))
    assert {source["address"] for source in sources} == {f"xds://localhost:{address.rpartition(':')[2]}"}
    await assert_each_comes_once(files, started, await asyncio.to_thread(istiod, sources))


async def assert_each_comes_once(files: Files, started: Bridge, control: Istiod) -> None:
    """Check what istiod holds, on which stream it came, and that a change comes on one of them."""
    assert hosts_of(control) == set(HOSTS)
    streams = await wait_for_async(lambda: in_step(started, SHARDS), TIMEOUT, "all shards acknowledged")
    dealt = Counter(f"{shard_index(host, SHARDS)} of {SHARDS}" for host in HOSTS)
    assert {one["shard"]: one["types"][SERVICE_ENTRY]["resources"] for one in streams} == dealt
    assert not [one["problems"] for one in streams if one["problems"]]

    before = len(pushes(started))
    # One of each shard: what comes of a change has come before that of the next.
    changed = [next(host for host in HOSTS if shard_index(host, SHARDS) == index) for index in range(SHARDS)]
    for host in changed:
        files.say(host, "10.0.0.2")
        await wait_for_async(moved(control, host), TIMEOUT, "the change in istiod")
    made = await wait_for_async(lambda: pushes_after(started, before, SHARDS), TIMEOUT, "the pushes")
    ids = {one["shard"]: one["id"] for one in streams}
    expected = [(ids[shard], dealt[shard]) for shard in sorted(ids)]
    assert [(push["subscriber"], push["resources"]) for push in made] == expected


def test_X60_each_revision_of_istiod_holds_its_own_services_and_those_of_all(
    tmp_path: Path, bridge: Callable[..., Bridge], istiod: Callable[..., Istiod]
) -> None:
    everybody = Files(tmp_path, "everybody")
    canaries = Files(tmp_path, "canaries", "canary")
    # With two of them there is no label by which istiod itself could tell.
    several = Files(tmp_path, "several", "canary", "blue")
    everybody.say("for.all")
    everybody.say("moving.along", "10.0.0.1", "default")
    canaries.say("for.canaries")
    several.say("for.several")
    started = bridge([one.source for one in (everybody, canaries, several)])
    default = istiod([started.address], revision="default")
    canary = istiod([started.address], revision="canary")
    assert hosts_of(default) == {"for.all", "moving.along"}
    assert hosts_of(canary) == {"for.all", "for.canaries", "for.several"}
    of_default, of_canary = wait_for(lambda: in_step(started, 2), TIMEOUT, "both to have acknowledged all")
    assert (of_default["revision"], of_default["types"][SERVICE_ENTRY]["resources"]) == ("default", 2)
    assert (of_canary["revision"], of_canary["types"][SERVICE_ENTRY]["resources"]) == ("canary", 3)

    before = len(pushes(started))
    everybody.say("moving.along", "10.0.0.1", "canary")
    wait_for(lambda: hosts_of(default) == {"for.all"}, TIMEOUT, "the service gone from the one")
    wait_for(lambda: "moving.along" in hosts_of(canary), TIMEOUT, "the service in the other")
    everybody.say("for.all", "10.0.0.2")
    for control in (default, canary):
        wait_for(moved(control, "for.all"), TIMEOUT, "the change after it")
    made = wait_for(lambda: pushes_after(started, before, 4), TIMEOUT, "the pushes")
    # One for the move and one for what came after it.
    expected = sorted([(of_default["id"], 1), (of_canary["id"], 4)] * 2)
    assert sorted((push["subscriber"], push["resources"]) for push in made) == expected


@pytest.fixture
def authority(tmp_path: Path) -> Certificates:
    """Give an authority and a first certificate."""
    return Certificates(tmp_path / "authority")


@pytest.fixture
def secret(tmp_path: Path, authority: Certificates) -> MountedSecret:
    """Give the files of a bridge with that certificate."""
    mounted = MountedSecret(tmp_path / "secret")
    mounted.show(authority.cert_file.read_bytes(), authority.key_file.read_bytes())
    return mounted


@pytest.fixture
def secured(files: Files, secret: MountedSecret, bridge: Callable[..., Bridge]) -> Bridge:
    """Give a bridge that speaks TLS."""
    files.say("a.b")
    tls = {"certificate": str(secret.certificate), "key": str(secret.key)}
    return bridge([files.source], settings={"tls": tls})


def test_a_certificate_is_renewed_while_one_istiod_stays_and_before_another_comes(
    files: Files, authority: Certificates, secret: MountedSecret, secured: Bridge, istiod: Callable[..., Istiod]
) -> None:
    sources = printed_sources(secured, "--ca", str(authority.ca_file))
    first = istiod(sources)
    (stream_of_first,) = wait_for(lambda: in_step(secured, 1), TIMEOUT, "the first one to have acknowledged all")

    certificate, key = authority.issue("renewed")
    secret.show(certificate.read_bytes(), key.read_bytes())
    host, port = secured.address.split(":")
    wait_for(
        lambda: ssl.get_server_certificate((host, int(port))).split() == certificate.read_text().split(),
        TIMEOUT,
        "the renewed certificate",
    )
    # The oldest that speaks TLS.
    second = istiod(without_kubernetes(sources), version="1.26")
    files.say("a.b", "10.0.0.2")
    for control in (first, second):
        wait_for(moved(control, "a.b"), TIMEOUT, f"the change in {control.version}")
    assert secured.debug("subscribers")["items"][0]["id"] == stream_of_first["id"]
    (listener,) = secured.debug("listeners")["items"]
    assert (listener["streams"], listener["tls"]["reloads"]) == (2, 1)


@pytest.mark.parametrize(("version", "mode"), [("1.31", "MUTUAL"), ("1.24", "SIMPLE")])
def test_an_istiod_that_falls_back_to_plaintext_finds_a_closed_door(
    version: Version, mode: str, authority: Certificates, secured: Bridge, istiod: Callable[..., Istiod]
) -> None:
    sources = without_kubernetes(printed_sources(secured, "--ca", str(authority.ca_file)))
    sources[0]["tlsSettings"]["mode"] = mode
    with pytest.raises(ProcessError, match="error reading server preface"):
        istiod(sources, version=version)
    (listener,) = secured.debug("listeners")["items"]
    assert listener["streams"] == 0


def without_kubernetes(sources: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return sources for an istiod of the rig that has no client of Kubernetes to read that one with."""
    return [source for source in sources if source["address"] != KUBERNETES]
