"""What the documentation says is so."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from msgspec import Raw, inspect

from isthmus.adapters import SourceOptions
from isthmus.adapters.consul import records as consul_records
from isthmus.adapters.consul.options import CONSISTENCY, HEALTH, ConsulOptions
from isthmus.adapters.consul.services import service_of
from isthmus.adapters.consul.wire import read_entries
from isthmus.adapters.etcd.options import FORMATS, EtcdFields, EtcdOptions, EtcdPrefix
from isthmus.adapters.etcd.records import Format, format_of
from isthmus.adapters.eureka import records
from isthmus.adapters.eureka.options import EurekaOptions
from isthmus.adapters.eureka.services import Services
from isthmus.adapters.eureka.state import Change
from isthmus.adapters.files import read_file
from isthmus.adapters.nacos import scopes
from isthmus.adapters.nacos.options import NacosOptions
from isthmus.adapters.nacos.records import Scope, read_service
from isthmus.adapters.zookeeper import instances
from isthmus.adapters.zookeeper.options import ZookeeperOptions
from isthmus.cli.main import main
from isthmus.config import Config, Flags, config_from_flags, config_from_text, load_config
from isthmus.config.listener_rules import KINDS
from isthmus.config.listeners import IstiodOptions, Listener
from isthmus.mcp.transport import TlsOptions
from isthmus.mcp.views import NAMESPACES, REVISION, SOURCES, TYPES
from isthmus.meshconfig.layout import confirm_layout
from isthmus.registry import codes
from isthmus.registry.policy import Policy, admit

if TYPE_CHECKING:
    from isthmus.registry.model import Service

CHECKOUT = Path(__file__).parent.parent.parent
PAGES = sorted([*CHECKOUT.glob("*.md"), *CHECKOUT.glob("docs/**/*.md"), *CHECKOUT.glob("bench/*.md")])


def yaml_blocks(page: Path) -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)


def test_every_code_has_its_place_in_the_troubleshooting_page() -> None:
    page = (CHECKOUT / "docs" / "troubleshooting.md").read_text()

    for code in codes.MEANING:
        assert f'<a id="{code.lower()}"></a>{code}' in page
    assert set(re.findall(r"IS\d{3}", page)) == set(codes.MEANING)


def sources_shown(text: str) -> list[SourceOptions]:
    """Return the sources of a configuration that is shown, whatever its variables hold."""
    environ = dict.fromkeys(re.findall(r"\$\{(\w+)\}", text), "a secret")
    return list(config_from_text(text, environ).sources)


def test_the_configurations_that_are_shown_are_valid() -> None:
    example = next(block for block in yaml_blocks(CHECKOUT / "README.md") if "sources:" in block)
    assert [source.name for source in sources_shown(example)] == ["zk-main", "by-hand"]
    deployed = sources_shown((CHECKOUT / "deploy" / "isthmus.yaml").read_text())
    names = ["zk-main", "nacos-main", "eureka-main", "consul-main", "etcd-main"]
    assert [source.name for source in deployed] == names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_sources_in_one_word_that_are_shown_are_valid(page: Path) -> None:
    for url in re.findall(r"--source '([^']+)'", page.read_text()):
        environ = dict.fromkeys(re.findall(r"\$\{(\w+)\}", url), "a secret")
        assert config_from_flags(Flags(sources=(url,)), environ).sources


def example_of(page: str) -> tuple[SourceOptions, bytes]:
    """Return the configuration that a page shows, and the record beside it."""
    path = CHECKOUT / "docs" / page
    (block,) = yaml_blocks(path)
    (options,) = sources_shown(block)
    (record,) = re.findall(r"```json\n(.*?)```", path.read_text(), re.DOTALL)
    return options, record.encode()


def rows_of(page: str, service: Service) -> None:
    """Check the rows of a page's table against the service that its example becomes."""
    text = (CHECKOUT / "docs" / page).read_text()
    (endpoint,) = service.endpoints
    ((port, number),) = endpoint.workload.ports
    assert f"| host `{service.host}` |" in text
    assert f"| port {service.ports[0].number}, `{service.ports[0].name}`, {service.ports[0].protocol} |" in text
    assert f"| endpoint {endpoint.workload.address}, `{port}: {number}` |" in text
    assert f"| locality `{endpoint.workload.locality}` |" in text
    ((key, value),) = endpoint.workload.labels
    assert f"| labels `{key}: {value}` |" in text
    assert f"| annotation `isthmus.io/service` | `{service.identity}` |" in text


def test_what_becomes_of_an_instance_of_Nacos_is_as_shown() -> None:
    options, record = example_of("nacos.md")
    assert isinstance(options, NacosOptions)
    rules = scopes.rules_of(options)
    home = Scope("public", "DEFAULT_GROUP", (), options.namespace)
    other = b'{"ip": "10.1.2.4", "port": 18080, "clusterName": "OTHER"}'
    (service,) = read_service(home, "pay-service", [record], rules).services.values()
    rows_of("nacos.md", service)
    (weighted,) = read_service(home, "pay-service", [record, other], rules).services.values()
    assert max(one.workload.weight for one in weighted.endpoints) == 200

    text = (CHECKOUT / "docs" / "nacos.md").read_text()
    for group, namespace, qualifiers in (("PAY_GROUP", "public", ("PAY_GROUP",)), ("DEFAULT_GROUP", "dev", ("dev",))):
        scope = Scope(namespace, group, qualifiers, options.namespace)
        (service,) = read_service(scope, "pay-service", [], rules).services.values()
        assert f"`{service.host}`" in text
    (dubbo,) = read_service(home, "providers:com.foo.Bar:1.0.0:gray", [], rules).services.values()
    assert f"`{dubbo.host}:{dubbo.ports[0].number}`, `{dubbo.identity}`" in text


def test_what_becomes_of_an_instance_of_Eureka_is_as_shown() -> None:
    options, record = example_of("eureka.md")
    assert isinstance(options, EurekaOptions)
    rules = records.rules_of(options)
    reading = records.read_application(Raw(b'{"name": "PAY-SERVICE", "instance": [' + record + b"]}"), rules)
    (member,) = reading.members
    services = Services(rules)
    services.take([Change("PAY-SERVICE", member.key, None, member)])
    (service,) = services.read("pay-service").values()
    rows_of("eureka.md", service)


def test_what_becomes_of_an_instance_in_ZooKeeper_is_as_shown() -> None:
    options, record = example_of("zookeeper.md")
    assert isinstance(options, ZookeeperOptions)
    policy = Policy("zk-main", locality=options.locality)
    reading = instances.read_application("/services", "pay-service", [record], instances.rules_of(options))
    (service,) = reading.services.values()
    rows_of("zookeeper.md", admit(service, policy))


def test_what_becomes_of_an_instance_of_Consul_is_as_shown() -> None:
    options, record = example_of("consul.md")
    assert isinstance(options, ConsulOptions)
    rules = consul_records.rules_of(options)
    other = record.replace(b"pay-1", b"pay-2").replace(b'"Passing": 2', b'"Passing": 1')
    for bodies, weight in ((record, 0), (record + b"," + other, 200)):
        entries, faults = read_entries(b"[" + bodies + b"]")
        reading = consul_records.read_service(entries, faults, rules)
        service = service_of("pay-service", reading.instances, (), (), rules, panics=False)
        assert max(one.workload.weight for one in service.endpoints) == weight
        if not weight:
            rows_of("consul.md", service)

    text = (CHECKOUT / "docs" / "consul.md").read_text()
    assert all(f"`{word}`" in text for word in (*HEALTH, *CONSISTENCY))


def services_of(form: Format, key: str, value: str) -> list[Service]:
    """Return what one key below the prefix of a format becomes."""
    placed = form.read(key, value.encode())
    return [form.service(one.place, {key: one.item}) for one in placed]


def test_what_becomes_of_a_key_in_etcd_is_as_shown() -> None:
    options, record = example_of("etcd.md")
    assert isinstance(options, EtcdOptions)
    text = (CHECKOUT / "docs" / "etcd.md").read_text()
    (key,) = re.findall(r"the key `grpc/([^`]+)` with the value", text)
    form = format_of("grpc/", options.prefixes["grpc/"], options)
    (service,) = services_of(form, key, record.decode())
    rows_of("etcd.md", admit(service, Policy("etcd-main", locality=options.locality)))


def test_every_format_of_etcd_is_shown_with_what_becomes_of_it() -> None:
    text = (CHECKOUT / "docs" / "etcd.md").read_text()
    rows = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \| `([^`]+)` \| `([^`]+)` \| (`.+`) \|$", text, re.MULTILINE)
    assert tuple(sorted(row[0] for row in rows)) == tuple(sorted(FORMATS))
    for name, prefix, key, value, shown in rows:
        assert key.startswith(prefix)
        options = EtcdOptions(address="http://etcd:2379", prefixes={prefix: EtcdPrefix(name)})
        form = format_of(prefix, options.prefixes[prefix], options)
        services = services_of(form, key.removeprefix(prefix), value)
        assert [f"{one.host}:{one.ports[0].number}" for one in services] == re.findall(r"`([^`]+)`", shown)
        assert all(one.endpoints for one in services)


@pytest.mark.parametrize(
    ("heading", "struct"), [("key of a prefix", EtcdPrefix), ("field", EtcdFields)], ids=["prefix", "fields"]
)
def test_every_key_of_a_prefix_of_etcd_is_on_its_page(heading: str, struct: type) -> None:
    assert shown_keys("etcd.md", heading) == set(keys_of(struct))


@pytest.mark.parametrize(
    ("heading", "struct"),
    [("key of a listener", Listener), ("key of `tls`", TlsOptions), ("key of an istiod", IstiodOptions)],
    ids=["listener", "tls", "istiod"],
)
def test_every_key_of_a_listener_is_on_its_page(heading: str, struct: type) -> None:
    assert shown_keys("xds.md", heading) == set(keys_of(struct))


def test_the_keys_of_xDS_are_on_its_page() -> None:
    elsewhere = {"sources", "debug", "startupGrace", "push", "vips", "log"}
    assert shown_keys("xds.md", "key") == set(keys_of(Config)) - elsewhere
    text = (CHECKOUT / "docs" / "xds.md").read_text()
    assert "of {}, {} and {}".format(*KINDS) in text
    assert all(f"`{key}`" in text for key in (TYPES, NAMESPACES, SOURCES, REVISION))


def test_the_listeners_that_are_shown_are_valid() -> None:
    (block,) = yaml_blocks(CHECKOUT / "docs" / "xds.md")
    assert [one.name for one in config_from_text(block, {}).all_listeners] == ["xds", "payments", "tools"]


@pytest.mark.parametrize(
    ("page", "options"),
    [
        ("consul.md", ConsulOptions),
        ("etcd.md", EtcdOptions),
        ("eureka.md", EurekaOptions),
        ("nacos.md", NacosOptions),
        ("zookeeper.md", ZookeeperOptions),
    ],
)
def test_every_key_of_a_source_is_on_its_page(page: str, options: type[SourceOptions]) -> None:
    """What is on it beside those of every source."""
    own = set(keys_of(options)) - set(keys_of(SourceOptions))
    assert shown_keys(page, "key") - {"labels"} == own


def shown_keys(page: str, heading: str) -> set[str]:
    """Return the keys of the table with that heading; a row begins with the keys it is for."""
    text = (CHECKOUT / "docs" / page).read_text()
    (table,) = re.findall(rf"^\| {re.escape(heading)} \| default \| \|\n(.*?)\n\n", text, re.DOTALL | re.MULTILINE)
    return {key for row in table.splitlines() for key in re.findall(r"`(\w+)`", row.split(" | ")[0])}


def keys_of(options: type) -> list[str]:
    info = inspect.type_info(options)
    assert isinstance(info, inspect.StructType)
    return [field.encode_name for field in info.fields]


def test_the_services_that_are_shown_are_read() -> None:
    (block,) = yaml_blocks(CHECKOUT / "docs" / "files.md")
    (service,) = read_file(block, "default")
    assert service.host == "orders.shop.legacy"


def test_the_commands_below_the_example_do_what_they_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (CHECKOUT / "README.md").read_text()
    (tmp_path / "isthmus.yaml").write_text(next(block for block in yaml_blocks(CHECKOUT / "README.md")))
    monkeypatch.chdir(tmp_path)
    for line in re.findall(r"^    isthmus ((?:mesh-config|check|reshard) .*)$", text, re.MULTILINE):
        command, _, output = line.partition("#")[0].partition(" > ")
        assert main(shlex.split(command)) == 0, line
        printed = capsys.readouterr().out
        if output:
            (tmp_path / output.strip()).write_text(printed)
    confirm_layout(load_config("isthmus.yaml", {}))
    shown = next(block for block in yaml_blocks(CHECKOUT / "README.md") if "configSources:" in block)
    assert yaml.safe_load((tmp_path / "mesh.yaml").read_text()) == yaml.safe_load(shown)


def test_istiod_is_never_shown_a_configuration_without_k8s() -> None:
    # With configSources set, istiod reads its own custom resources only where k8s:// is listed (users.md F1).
    shown = [block for page in PAGES for block in yaml_blocks(page)] + [
        (CHECKOUT / "deploy" / "istio-mesh-config.yaml").read_text()
    ]
    for block in shown:
        if "configSources" in block:
            assert "- address: k8s://\n" in block


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"
