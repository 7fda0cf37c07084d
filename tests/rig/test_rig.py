"""The rig itself: each real part starts, answers, and ends."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest
from kazoo.retry import KazooRetry

from tests.rig import envoy as envoy_module
from tests.rig.adsprobe import AdsProbe
from tests.rig.dubbo import GREETING, ORDER
from tests.rig.istiod import mesh_config
from tests.rig.process import Process, ProcessError, free_port
from tests.rig.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from subprocess import CompletedProcess

    from kazoo.client import KazooClient

    from tests.conftest import Parts
    from tests.rig.adsprobe import Version as ProbeVersion
    from tests.rig.dubbo import Dubbo, DubboConsumer, DubboProvider
    from tests.rig.envoy import Envoy
    from tests.rig.istiod import Istiod, Version
    from tests.rig.zookeeper import ZooKeeper


TIMEOUT = 120.0


def providers(registry: KazooClient, interface: str) -> list[str]:
    path = f"/dubbo/{interface}/providers"
    names: list[str] = registry.get_children(path) if registry.exists(path) else []
    return [unquote(name) for name in names]


def test_ZooKeeper_keeps_its_data_over_a_restart(zookeeper: ZooKeeper, registry: KazooClient) -> None:
    registry.create("/kept", b"value")
    zookeeper.stop()
    zookeeper.start()
    # The connection to a server that has just started may be lost once more.
    assert KazooRetry(max_tries=-1, deadline=TIMEOUT)(registry.get, "/kept")[0] == b"value"


@pytest.mark.parametrize("version", ["3", "2.7"])
def test_a_provider_registers_answers_and_takes_its_registration_back(
    version: Dubbo,
    zookeeper: ZooKeeper,
    registry: KazooClient,
    dubbo: Callable[..., DubboProvider],
    consumer: DubboConsumer,
) -> None:
    services = [GREETING, f"{GREETING}:2.0.0:gray", f"{ORDER}:1.0.0"]
    provider = dubbo(f"zookeeper://{zookeeper.address}", services, dubbo=version)
    greetings = providers(registry, GREETING)
    assert [url.split("?")[0] for url in greetings] == [f"dubbo://{provider.address}/{GREETING}"] * 2
    assert ["group=gray" in url and "version=2.0.0" in url for url in sorted(greetings)].count(True) == 1
    assert len(providers(registry, ORDER)) == 1

    assert consumer.greet(provider.address, "anna") == provider.greeting("anna")
    provider.stop()
    assert not providers(registry, GREETING)
    assert consumer.greet(provider.address, "anna").startswith("ERROR ")


def test_a_killed_provider_is_registered_until_its_session_expires(
    zookeeper: ZooKeeper, registry: KazooClient, dubbo: Callable[..., DubboProvider]
) -> None:
    provider = dubbo(f"zookeeper://{zookeeper.address}")
    provider.kill()
    assert providers(registry, GREETING)
    wait_for(lambda: not providers(registry, GREETING), TIMEOUT, "expiry of the provider's session")


@pytest.mark.parametrize("version", ["1.31", "1.29", "1.26", "1.24", "1.21"])
def test_istiod_serves_Envoy_without_Kubernetes(
    version: Version, istiod: Callable[..., Istiod], envoy: Callable[..., Envoy]
) -> None:
    control_plane = istiod(version=version)
    assert control_plane.service_entries() == {}
    proxy = envoy(control_plane.xds_port)
    assert proxy.endpoints("no.such.host") == set()
    assert control_plane.debug("syncz")
    assert control_plane.cpu_seconds() > 0


def test_a_source_of_istiod_may_have_TLS_settings_of_its_own() -> None:
    tls = {"mode": "SIMPLE", "caCertificates": "PEM"}
    whole = {"address": "k8s://"}
    sources = mesh_config(["127.0.0.1:1", whole], "127.0.0.1:2", tls)["configSources"]
    assert sources == [{"address": "xds://127.0.0.1:1", "tlsSettings": tls}, whole]
    assert mesh_config(["127.0.0.1:1"], "127.0.0.1:2")["configSources"] == [{"address": "xds://127.0.0.1:1"}]


def test_istioctl_asks_a_control_plane_without_Kubernetes(
    istiod: Callable[..., Istiod], istioctl: Callable[..., CompletedProcess[str]]
) -> None:
    control_plane = istiod(settings={"ENABLE_DEBUG_ENDPOINT_AUTH": "false"})
    asked = istioctl("proxy-status", f"--xds-address={control_plane.xds_address}", "--plaintext")
    assert asked.returncode == 0, asked.stderr
    assert asked.stdout.split() == ["NAME", "CLUSTER", "ISTIOD", "VERSION", "SUBSCRIBED", "TYPES"]
    nobody = istioctl("proxy-status", f"--xds-address=127.0.0.1:{free_port()}", "--plaintext")
    assert nobody.returncode == 1
    assert "connection refused" in nobody.stderr


def test_a_manifest_is_checked_as_strictly_as_Kubernetes_would(
    manifest_faults: Callable[..., list[str]], tmp_path: Path
) -> None:
    budget: dict[str, Any] = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "isthmus"},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "isthmus"}}},
    }
    good, misspelt, unknown = (tmp_path / name for name in ("good.json", "misspelt.json", "unknown.json"))
    good.write_text(json.dumps(budget))
    misspelt.write_text(json.dumps({**budget, "spec": {"maxUnavailible": 1}}))
    unknown.write_text(json.dumps({**budget, "apiVersion": "policy/v9"}))
    assert manifest_faults(good) == []
    (fault,) = manifest_faults(good, misspelt)
    assert fault.startswith(f"{misspelt} PodDisruptionBudget isthmus: ")
    assert "maxUnavailible" in fault
    assert "could not find schema" in manifest_faults(unknown)[0]


def test_istiod_without_its_source_ends_with_its_log_in_the_failure(
    istiod: Callable[..., Istiod],
) -> None:
    with pytest.raises(ProcessError, match=r"(?s)istiod-1\.31 ended with 1:.*connection refused"):
        istiod([f"127.0.0.1:{free_port()}"])


@pytest.mark.parametrize("version", ["1.31", "1.21"])
def test_the_client_of_istiod_ends_when_nobody_serves(version: ProbeVersion, parts: Parts, tmp_path: Path) -> None:
    parts.need(f"adsprobe-{version}")
    with pytest.raises(ProcessError, match="connection refused"):
        AdsProbe(tmp_path, f"127.0.0.1:{free_port()}", version=version).start()


def test_Envoy_is_a_release(parts: Parts) -> None:
    parts.need("envoy")
    version = subprocess.run([envoy_module.binary(), "--version"], check=True, capture_output=True, text=True)
    assert "/RELEASE/" in version.stdout


def test_a_frozen_process_is_ended_all_the_same(tmp_path: Path) -> None:
    with Process("sleeper", ["sleep", "1000"], tmp_path) as process:
        process.pause()
        assert process.running()
    assert not process.running()
