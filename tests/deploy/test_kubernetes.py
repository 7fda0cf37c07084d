"""The manifests: by Kubernetes' schemas, and by what no schema knows: that they fit each other and the bridge."""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from isthmus.adapters.nacos.options import NacosOptions
from isthmus.adapters.zookeeper.options import ZookeeperOptions
from isthmus.cli.main import main
from isthmus.config import Config, config_from_text
from isthmus.config.rules import host_port
from tests.deploy import manifests
from tests.deploy.containerfile import read_steps
from tests.deploy.issued import issue
from tests.deploy.manifests import DEPLOY, PLAIN, TLS, Manifests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from isthmus.adapters.base import SourceOptions

SECRETS = {"NACOS_PASSWORD": "a secret"}
# istiod pushes after so much quiet (PILOT_DEBOUNCE_AFTER), or after 10 s without it.
ISTIOD_DEBOUNCE_S = 0.1


@pytest.fixture(params=[PLAIN, TLS], ids=["plain", "tls"])
def directory(request: pytest.FixtureRequest) -> Path:
    """Give the folder of a kustomization."""
    given: Path = request.param
    return given


@pytest.fixture
def shipped(directory: Path) -> Manifests:
    return manifests.read(directory)


@pytest.fixture
def file(shipped: Manifests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the configuration as a file, with the secrets and certificates that it speaks of."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "tls"
    issue(certificate_names(), folder)
    path = tmp_path / "isthmus.yaml"
    path.write_text(shipped.configuration.replace("/etc/isthmus-tls", str(folder)))
    return path


def config_of(shipped: Manifests) -> Config:
    return config_from_text(shipped.configuration, SECRETS)


def xds_ports(shipped: Manifests) -> list[int]:
    """Return the ports of all shards, as the bridge will open them."""
    listeners = config_of(shipped).all_listeners
    return [host_port(one.port_address(index))[1] for one in listeners for index in range(one.ports)]


def certificate_names() -> list[str]:
    names: list[str] = manifests.read(TLS).named("Certificate", "isthmus")["spec"]["dnsNames"]
    return names


# By the schemas


def written(shipped: Manifests, folder: Path) -> list[Path]:
    """Write what Kubernetes itself has to know, a file for each object; the rest is cert-manager's."""
    folder.mkdir()
    files = []
    for one in shipped.objects:
        if not one["apiVersion"].startswith("cert-manager.io/"):
            files.append(folder / f"{one['kind']}.yaml")
            files[-1].write_text(yaml.safe_dump(one))
    return files


def test_Kubernetes_takes_the_manifests(
    shipped: Manifests, manifest_faults: Callable[..., list[str]], tmp_path: Path
) -> None:
    files = written(shipped, tmp_path / "manifests")
    assert len(files) == 7
    assert manifest_faults(*files) == []


def test_Kubernetes_takes_the_files_as_they_are(manifest_faults: Callable[..., list[str]]) -> None:
    """What is written twice in a file is seen only here."""
    resources = yaml.safe_load((PLAIN / "kustomization.yaml").read_text())["resources"]
    assert sorted([*resources, "istio-mesh-config.yaml", "kustomization.yaml"]) == sorted(
        path.name for path in PLAIN.iterdir()
    )
    assert manifest_faults(*(PLAIN / name for name in resources)) == []


def spoil_probe(shipped: Manifests) -> None:
    shipped.container["readinessProbe"]["grpc"]["prot"] = 1


def spoil_spread(shipped: Manifests) -> None:
    shipped.pod["spec"]["topologySpreadConstraints"][0]["maxSkew"] = "one"


def spoil_policy(shipped: Manifests) -> None:
    del shipped.one("NetworkPolicy")["spec"]["podSelector"]
    shipped.one("NetworkPolicy")["spec"]["ingres"] = []


@pytest.mark.parametrize("spoil", [spoil_probe, spoil_spread, spoil_policy])
def test_Kubernetes_does_not_take_manifests_that_are_wrong(
    spoil: Callable[[Manifests], None], manifest_faults: Callable[..., list[str]], tmp_path: Path
) -> None:
    shipped = manifests.read(PLAIN)
    spoil(shipped)
    assert manifest_faults(*written(shipped, tmp_path / "manifests"))


# That they fit each other


def test_all_is_in_one_namespace_without_a_sidecar(shipped: Manifests) -> None:
    namespace = shipped.one("Namespace")["metadata"]
    places = {one["metadata"].get("namespace") for one in shipped.objects if one["kind"] != "Namespace"}
    assert places == {namespace["name"]}
    assert namespace["labels"]["istio-injection"] == "disabled"
    assert shipped.pod["metadata"]["labels"]["sidecar.istio.io/inject"] == "false"


def selectors(shipped: Manifests) -> Iterator[Mapping[str, str]]:
    spec = shipped.pod["spec"]
    yield shipped.one("Deployment")["spec"]["selector"]["matchLabels"]
    yield shipped.one("Service")["spec"]["selector"]
    yield shipped.one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"]
    yield shipped.one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"]
    for constraint in spec["topologySpreadConstraints"]:
        yield constraint["labelSelector"]["matchLabels"]


def test_every_selector_means_the_pods(shipped: Manifests) -> None:
    labels = shipped.pod["metadata"]["labels"].items()
    assert all(selector and selector.items() <= labels for selector in selectors(shipped))


def test_every_shard_has_its_port_at_the_container_the_Service_and_the_NetworkPolicy(shipped: Manifests) -> None:
    wanted = xds_ports(shipped)
    assert len(wanted) == config_of(shipped).shards > 1
    named = {port["name"]: port["containerPort"] for port in shipped.container["ports"]}
    assert list(named.values()) == wanted
    services = shipped.one("Service")["spec"]["ports"]
    assert [port["port"] for port in services] == wanted
    assert [named[port["targetPort"]] for port in services] == wanted
    (rule,) = shipped.one("NetworkPolicy")["spec"]["ingress"]
    (let_in,) = rule["ports"]
    assert list(range(let_in["port"], let_in["endPort"] + 1)) == wanted
    (caller,) = rule["from"]
    assert caller["podSelector"]["matchLabels"] == {"app": "istiod"}
    assert caller["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "istio-system"}


def source_ports(source: SourceOptions) -> Iterator[int]:
    """Return how far above the port of its address a source connects, for each of its connections."""
    yield 0
    if isinstance(source, NacosOptions):
        yield source.grpc_port_offset


def test_the_NetworkPolicy_lets_the_bridge_reach_every_source(shipped: Manifests) -> None:
    let_out = [
        (ip_network(to["ipBlock"]["cidr"]), {port["port"] for port in rule["ports"]})
        for rule in shipped.one("NetworkPolicy")["spec"]["egress"]
        for to in rule["to"]
        if "ipBlock" in to
    ]
    for source in config_of(shipped).sources:
        assert isinstance(source, NacosOptions | ZookeeperOptions)
        for host, port in map(host_port, source.address.split(",")):
            for offset in source_ports(source):
                assert any(ip_address(host) in net and port + offset in ports for net, ports in let_out)


def test_what_is_mounted_is_there_and_where_it_is_looked_for(shipped: Manifests) -> None:
    volumes = {volume["name"]: volume for volume in shipped.pod["spec"]["volumes"]}
    mounts = {mount["mountPath"]: volumes.pop(mount["name"]) for mount in shipped.container["volumeMounts"]}
    assert volumes == {}
    config_map = shipped.one("ConfigMap")
    assert mounts["/etc/isthmus"]["configMap"]["name"] == config_map["metadata"]["name"]
    steps = read_steps((DEPLOY / "container" / "Containerfile").read_text())
    (flag,) = [step.command[1] for step in steps if step.word == "CMD"]
    assert flag.removeprefix("--config=/etc/isthmus/") in config_map["data"]
    tls = config_of(shipped).tls
    if tls.certificate:
        secret = mounts["/etc/isthmus-tls"]["secret"]["secretName"]
        assert secret == shipped.named("Certificate", "isthmus")["spec"]["secretName"]
        assert {tls.certificate, tls.key} == {"/etc/isthmus-tls/tls.crt", "/etc/isthmus-tls/tls.key"}


def test_the_probes_ask_where_the_bridge_answers(shipped: Manifests) -> None:
    config, container = config_of(shipped), shipped.container
    named = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert named[container["startupProbe"]["tcpSocket"]["port"]] in xds_ports(shipped)
    executed = {name: probe["exec"] for name, probe in container.items() if "exec" in probe}
    if config.tls.certificate:
        assert set(executed) == {"livenessProbe", "readinessProbe"}
    else:
        # The kubelet's own is no burden and asks what istiod asks; it speaks no TLS.
        assert set(executed) == {"livenessProbe"}
        assert container["readinessProbe"]["grpc"]["port"] in xds_ports(shipped)
    for name, probe in executed.items():
        page = {"livenessProbe": "live", "readinessProbe": "ready"}[name]
        assert f'"http://{config.debug}/healthz/{page}", timeout=' in probe["command"][-1]


def test_a_pod_has_no_rights(shipped: Manifests) -> None:
    spec, own = shipped.pod["spec"], shipped.container["securityContext"]
    assert spec["securityContext"]["runAsNonRoot"] is own["readOnlyRootFilesystem"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert own["allowPrivilegeEscalation"] is False
    assert own["capabilities"] == {"drop": ["ALL"]}
    assert spec["automountServiceAccountToken"] is False
    assert spec["serviceAccountName"] == shipped.one("ServiceAccount")["metadata"]["name"]
    assert shipped.one("ServiceAccount")["automountServiceAccountToken"] is False
    user = read_steps((DEPLOY / "container" / "Containerfile").read_text())
    ids = [step.rest for step in user if step.word == "USER"]
    assert ids == [f"{spec['securityContext']['runAsUser']}:{spec['securityContext']['runAsGroup']}"]
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()


def test_there_is_always_a_replica_that_serves(shipped: Manifests) -> None:
    deployment = shipped.one("Deployment")["spec"]
    assert shipped.one("PodDisruptionBudget")["spec"]["minAvailable"] == 1 < deployment["replicas"]
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert "publishNotReadyAddresses" not in shipped.one("Service")["spec"]
    quiet = shipped.container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert shipped.pod["spec"]["terminationGracePeriodSeconds"] > quiet + 10


def test_the_replicas_together_leave_istiod_its_quiet(shipped: Manifests) -> None:
    """In the worst case their bursts are evenly apart, whatever streams an istiod has to which of them."""
    deployment = shipped.one("Deployment")["spec"]
    most = deployment["replicas"] + deployment["strategy"]["rollingUpdate"]["maxSurge"]
    assert config_of(shipped).push.gap / most > ISTIOD_DEBOUNCE_S


# That they fit the bridge


def test_the_configuration_has_no_mistake(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "-c", str(file)]) == 0, capsys.readouterr().out


def test_what_the_configuration_takes_from_the_environment_comes_from_the_Secret(shipped: Manifests) -> None:
    assert set(re.findall(r"\$\{(\w+)\}", shipped.configuration)) == set(SECRETS)
    (origin,) = shipped.container["envFrom"]
    assert origin["secretRef"]["name"] == "isthmus"
    shown = (DEPLOY.parent / "docs" / "operations.md").read_text()
    assert "kubectl -n isthmus create secret generic isthmus --from-literal=NACOS_PASSWORD=" in shown


def mesh_config(file: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> list[Any]:
    """Return the configSources that `isthmus mesh-config` prints."""
    assert main(["mesh-config", "-c", str(file), *flags]) == 0
    sources: list[Any] = yaml.safe_load(capsys.readouterr().out)["configSources"]
    return sources


def test_the_configSources_are_those_that_the_bridge_prints(
    directory: Path, shipped: Manifests, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service = shipped.one("Service")["metadata"]
    flags = ["--host", service["name"], "--namespace", service["namespace"]]
    if directory == TLS:
        flags += ["--ca", str(file.parent / "tls" / "ca.crt"), "--istio-version", "1.26"]
    printed = mesh_config(file, capsys, *flags)

    here = yaml.safe_load((PLAIN / "istio-mesh-config.yaml").read_text())["configSources"]
    assert [source["address"] for source in here] == [source["address"] for source in printed]
    *bridge, kubernetes = printed
    assert kubernetes == {"address": "k8s://"}
    assert len(bridge) == len(shipped.one("Service")["spec"]["ports"])
    for source in bridge:
        settings = source.get("tlsSettings")
        assert (settings is not None) == (directory == TLS)
        assert settings is None or settings["mode"] == "SIMPLE"
        assert settings is None or settings["subjectAltNames"] == [certificate_names()[0]] == [settings["sni"]]


@pytest.mark.parametrize("directory", [PLAIN], ids=["plain"], indirect=True)
def test_the_mesh_configuration_that_is_shown_has_no_mistake(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = PLAIN / "istio-mesh-config.yaml"
    assert main(["check", "-c", str(file), "--mesh-config", str(shown)]) == 0, capsys.readouterr().out

    wrong = file.with_name("mesh.yaml")
    wrong.write_text(shown.read_text().replace("- address: xds://isthmus.isthmus.svc:16107\n", ""))
    assert main(["check", "-c", str(file), "--mesh-config", str(wrong)]) == 1


def test_the_configSources_of_one_machine_are_those_that_the_bridge_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in re.findall(r"\$\{(\w+)\}", (DEPLOY / "isthmus.yaml").read_text()):
        monkeypatch.setenv(name, "a secret")
    shown = yaml.safe_load((DEPLOY / "istio-mesh-config.yaml").read_text())["configSources"]
    assert mesh_config(DEPLOY / "isthmus.yaml", capsys, "--host", "127.0.0.1") == shown
