"""The configuration: files, flags and environment that are right, and every mistake with its place."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from isthmus.adapters.applications import ApplicationPort
from isthmus.adapters.consul.options import ConsulOptions
from isthmus.adapters.dubbo import PROTOCOLS, DubboProtocol
from isthmus.adapters.etcd.options import EtcdFields, EtcdOptions, EtcdPrefix, EtcdScheme
from isthmus.adapters.eureka.options import EurekaOptions
from isthmus.adapters.files import FilesOptions
from isthmus.adapters.nacos.options import NacosOptions
from isthmus.adapters.zookeeper.options import ZookeeperOptions
from isthmus.config import Config, Flags, config_from_flags, config_from_text, load_config
from isthmus.config.environment import Expansion
from isthmus.config.listeners import IstiodOptions, Listener
from isthmus.config.mistakes import Mistake, MistakesFound
from isthmus.mcp.transport import TlsOptions
from isthmus.registry.errors import ConfigError
from isthmus.registry.vips import DEFAULT_RANGE

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLE = """\
listen: 127.0.0.1:16010
sources:
- name: zk-main
  kind: zookeeper
  address: 10.0.8.1:2181,10.0.8.2:2181
  namespace: dubbo
- name: by-hand
  kind: files
  directory: /etc/isthmus/services
"""

WHOLE = """\
listen: "[::]:16010"
shards: 16
tls: {certificate: /etc/isthmus/tls.crt, key: /etc/isthmus/tls.key}
listeners:
- name: by-name
  address: 0.0.0.0:17000
  shards: 4
  routing: authority
  form: standard
  tls: {certificate: /tls.crt, key: /tls.key, clientCa: /ca.crt}
  types: [ServiceEntry]
  namespaces: [shop]
  sources: [zk]
  debug: never
state: /var/lib/isthmus
istiods:
- {name: main, address: "https://istiod:15014", revision: canary, interval: 5, tokenFile: /token, ca: /ca.crt}
debug: ""
plaintext: anywhere
startupGrace: 0
push: {gap: 1}
vips: {range: 242.0.0.0/16}
log: {level: debug, format: json}
sources:
- name: zk
  kind: zookeeper
  address: "[2001:db8::1]:2181,zoo_2.internal:2182/a/b"
  root: /services/dubbo
  sessionTimeout: 20
  reconcile: 60.5
  digest: "user:pass:word"
  required: false
  vip: none
  labels: {"dubbo.tag": isthmus.io/tag, env: env}
  locality: eu/eu-1/a
  network: vm
  exportTo: [., shop]
  revisions: [canary, "1-31"]
  allow: [127.0.0.0/8, "::1/128"]
  protocols:
    dubbo: {port: 20880, protocol: tcp, suffix: dubbo.legacy}
"""


def mistakes(text: str, environ: dict[str, str] | None = None, flags: Flags | None = None) -> list[Mistake]:
    """Return what is found wrong with a text that must not be right."""
    with pytest.raises(MistakesFound) as caught:
        config_from_text(text, environ or {}, flags or Flags(), file="f.yaml")
    return list(caught.value.found)


def zookeeper(**options: object) -> str:
    source = {"kind": "zookeeper", "address": "zk:2181", **options}
    return json.dumps({"sources": [source]})


def files(**settings: object) -> str:
    return json.dumps({"sources": [{"kind": "files", "directory": "d"}], **settings})


def flag_mistakes(*urls: str) -> list[str]:
    with pytest.raises(MistakesFound) as caught:
        config_from_flags(Flags(sources=urls), {})
    return caught.value.mistakes


def test_the_example_of_ten_lines() -> None:
    assert config_from_text(EXAMPLE, {}) == Config(
        sources=(
            ZookeeperOptions(name="zk-main", address="10.0.8.1:2181,10.0.8.2:2181", namespace="dubbo"),
            FilesOptions(name="by-hand", directory="/etc/isthmus/services"),
        )
    )


def test_what_is_not_said_has_safe_values() -> None:
    config = config_from_text(EXAMPLE, {})
    assert (config.listen, config.debug, config.plaintext) == ("127.0.0.1:16010", "127.0.0.1:16014", "loopback")
    assert (config.startup_grace, config.push.gap, config.vips.range) == (30.0, 0.25, DEFAULT_RANGE)
    assert (config.log.level, config.log.format) == ("info", "auto")


def test_every_key_is_spelled_as_in_Istio() -> None:
    config = config_from_text(WHOLE, {})
    assert config.startup_grace == 0
    assert config.state == "/var/lib/isthmus"
    assert config.all_listeners == (
        Listener(
            name="xds",
            address="[::]:16010",
            shards=16,
            tls=TlsOptions(certificate="/etc/isthmus/tls.crt", key="/etc/isthmus/tls.key"),
        ),
        Listener(
            name="by-name",
            address="0.0.0.0:17000",
            shards=4,
            routing="authority",
            tls=TlsOptions(certificate="/tls.crt", key="/tls.key", client_ca="/ca.crt"),
            types=("ServiceEntry",),
            namespaces=("shop",),
            sources=("zk",),
            debug="never",
        ),
    )
    assert config.istiods == (
        IstiodOptions(
            name="main",
            address="https://istiod:15014",
            revision="canary",
            interval=5,
            token_file="/token",
            ca="/ca.crt",
        ),
    )
    assert config.sources == (
        ZookeeperOptions(
            name="zk",
            address="[2001:db8::1]:2181,zoo_2.internal:2182/a/b",
            root="/services/dubbo",
            session_timeout=20,
            reconcile=60.5,
            digest="user:pass:word",
            required=False,
            vip="none",
            labels={"dubbo.tag": "isthmus.io/tag", "env": "env"},
            locality="eu/eu-1/a",
            network="vm",
            export_to=(".", "shop"),
            revisions=("canary", "1-31"),
            allow=("127.0.0.0/8", "::1/128"),
            protocols={"dubbo": DubboProtocol(20880, "tcp", "dubbo.legacy")},
        ),
    )


REGISTRIES = """\
sources:
- kind: nacos
  address: "nacos_1:8848,[2001:db8::1]:8848"
  grpcPortOffset: 0
  contextPath: ""
  namespaces: [public, 6e1d0bd6-5c1a-4f7c-b2a6-000000000000]
  groups: [DEFAULT_GROUP, PAY_GROUP]
  kubernetesNamespaces: {public: shop}
  clusters: [SH]
  localities: {SH: cn/sh/a, BJ: ""}
  health: any
  suffix: nacos.legacy
  port: 8080
  protocol: HTTP2
  services: {pay-service: {port: 9090, protocol: GRPC}}
  dubbo: {}
  username: bridge
  password: "${PASSWORD}"
  tls: true
  ca: /etc/isthmus/ca.pem
  listing: 2
  reconcile: 30
  timeout: 3
- kind: nacos
  address: mse.example:8848
  namespaces: ["*"]
  groups: ["*"]
  kubernetesNamespaces: {dev: dev}
  accessKey: AK
  secretKey: "${PASSWORD}"
- kind: eureka
  address: "https://eureka-1:8761/eureka, https://eureka-2/eureka/"
  username: bridge
  password: "${PASSWORD}"
  ca: /etc/isthmus/ca.pem
  nameFrom: metadata:service
  suffix: eureka.legacy
  port: 8080
  protocol: HTTP
  services: {Pay: {port: 443, protocol: HTTPS}}
  securePort: always
  statuses: [up, STARTING]
  region: eu
  zones: {a: eu/eu-1/a}
  poll: 5
  fullEvery: 1
"""


def test_Nacos_and_Eureka_are_spelled_so() -> None:
    nacos, signed, eureka = config_from_text(REGISTRIES, {"PASSWORD": "hunter2"}).sources
    assert nacos == NacosOptions(
        name="nacos",
        address="nacos_1:8848,[2001:db8::1]:8848",
        grpc_port_offset=0,
        context_path="",
        namespaces=("public", "6e1d0bd6-5c1a-4f7c-b2a6-000000000000"),
        groups=("DEFAULT_GROUP", "PAY_GROUP"),
        kubernetes_namespaces={"public": "shop"},
        clusters=("SH",),
        localities={"SH": "cn/sh/a", "BJ": ""},
        health="any",
        suffix="nacos.legacy",
        port=8080,
        protocol="HTTP2",
        services={"pay-service": ApplicationPort(9090, "GRPC")},
        dubbo={},
        username="bridge",
        password="hunter2",
        tls=True,
        ca="/etc/isthmus/ca.pem",
        listing=2,
        reconcile=30,
        timeout=3,
    )
    assert signed == NacosOptions(
        name="nacos-2",
        address="mse.example:8848",
        namespaces=("*",),
        groups=("*",),
        kubernetes_namespaces={"dev": "dev"},
        access_key="AK",
        secret_key="hunter2",
    )
    assert eureka == EurekaOptions(
        name="eureka",
        address="https://eureka-1:8761/eureka, https://eureka-2/eureka/",
        username="bridge",
        password="hunter2",
        ca="/etc/isthmus/ca.pem",
        name_from="metadata:service",
        suffix="eureka.legacy",
        port=8080,
        protocol="HTTP",
        services={"Pay": ApplicationPort(443, "HTTPS")},
        secure_port="always",
        statuses=("up", "STARTING"),
        region="eu",
        zones={"a": "eu/eu-1/a"},
        poll=5,
        full_every=1,
    )


STORES = """\
sources:
- kind: consul
  address: "https://consul-1:8501,https://proxy/consul/"
  token: "${PASSWORD}"
  ca: /etc/isthmus/ca.pem
  cert: /etc/isthmus/client.pem
  key: /etc/isthmus/client.key
  datacenter: dc-1
  consulNamespace: team_a
  partition: billing
  suffix: consul.legacy
  port: 8080
  protocol: HTTP2
  services: {pay: {port: 50051, protocol: GRPC}}
  health: warning
  panicThreshold: 0.5
  taggedAddress: wan
  kubernetesTag: ""
  consistency: stale
  maxStale: 5
  wait: 60
  requests: 20
  reconcile: 600
- kind: etcd
  address: "https://etcd-1:2379,https://[2001:db8::2]:2379"
  prefixes:
    /dubbo/: {format: dubbo, schemes: {tri: {port: 50051, protocol: GRPC, suffix: tri}}}
    grpc/: {format: grpc, suffix: grpc.legacy, port: 50051, protocol: GRPC}
    kitex/registry-etcd/: {format: kitex, services: {pay: {port: 9090, protocol: TCP}}}
    /registry/: {format: json, fields: {service: app.name, address: hosts.0, port: "", enabled: up}}
  username: bridge
  password: "${PASSWORD}"
  ca: /etc/isthmus/ca.pem
  cert: /etc/isthmus/client.pem
  key: /etc/isthmus/client.key
  reconcile: 60
  timeout: 3
- kind: etcd
  address: http://etcd:2379
  prefixes: {"": {format: go-zero}}
"""


def test_Consul_and_etcd_are_spelled_so() -> None:
    consul, etcd, other = config_from_text(STORES, {"PASSWORD": "hunter2"}).sources
    assert consul == ConsulOptions(
        name="consul",
        address="https://consul-1:8501,https://proxy/consul/",
        token="hunter2",
        ca="/etc/isthmus/ca.pem",
        cert="/etc/isthmus/client.pem",
        key="/etc/isthmus/client.key",
        datacenter="dc-1",
        consul_namespace="team_a",
        partition="billing",
        suffix="consul.legacy",
        port=8080,
        protocol="HTTP2",
        services={"pay": ApplicationPort(50051, "GRPC")},
        health="warning",
        panic_threshold=0.5,
        tagged_address="wan",
        kubernetes_tag="",
        consistency="stale",
        max_stale=5,
        wait=60,
        requests=20,
        reconcile=600,
    )
    assert etcd == EtcdOptions(
        name="etcd",
        address="https://etcd-1:2379,https://[2001:db8::2]:2379",
        prefixes={
            "/dubbo/": EtcdPrefix("dubbo", schemes={"tri": EtcdScheme(50051, "GRPC", "tri")}),
            "grpc/": EtcdPrefix("grpc", suffix="grpc.legacy", port=50051, protocol="GRPC"),
            "kitex/registry-etcd/": EtcdPrefix("kitex", services={"pay": ApplicationPort(9090, "TCP")}),
            "/registry/": EtcdPrefix(
                "json", fields=EtcdFields(service="app.name", address="hosts.0", port="", enabled="up")
            ),
        },
        username="bridge",
        password="hunter2",
        ca="/etc/isthmus/ca.pem",
        cert="/etc/isthmus/client.pem",
        key="/etc/isthmus/client.key",
        reconcile=60,
        timeout=3,
    )
    assert other == EtcdOptions(name="etcd-2", address="http://etcd:2379", prefixes={"": EtcdPrefix("go-zero")})


def test_JSON_is_read_as_well() -> None:
    assert config_from_text(json.dumps(yaml.safe_load(EXAMPLE)), {}) == config_from_text(EXAMPLE, {})


def test_sources_without_a_name_are_called_after_their_kind() -> None:
    sources = [{"kind": "files", "directory": "d"}] * 3 + [{"kind": "files", "directory": "d", "name": "files-2"}]
    config = config_from_text(json.dumps({"sources": sources}), {})
    assert [source.name for source in config.sources] == ["files", "files-3", "files-4", "files-2"]


def test_defaults_of_the_options_keep_the_rules() -> None:
    urls = ("zookeeper://a:1", "nacos://a:1", "eureka://a:1", "consul://a:1", "etcd://a:1", "file:d")
    config = config_from_flags(Flags(sources=urls), {})
    spelled = msgspec.to_builtins(config)
    assert spelled["sources"][0]["protocols"] == msgspec.to_builtins(PROTOCOLS)
    assert config_from_text(json.dumps(spelled), {}) == config


def test_the_environment_is_put_into_texts() -> None:
    text = zookeeper(address="${HOST}:${PORT}", digest="$${x}:${PASSWORD}", labels={"${HOST}": "a"}, root="/$a")
    environ = {"HOST": "zk", "PORT": "2181", "PASSWORD": "${HOST}"}
    (source,) = config_from_text(text, environ).sources
    assert isinstance(source, ZookeeperOptions)
    assert (source.address, source.digest, source.root) == ("zk:2181", "${x}:${HOST}", "/$a")
    assert source.labels == {"${HOST}": "a"}


def test_the_environment_gives_text_and_no_numbers() -> None:
    (mistake,) = mistakes(files(startupGrace="${GRACE}"), {"GRACE": "5"})
    assert mistake.message == "must be a number, not text; the environment gives text only"


def test_a_variable_that_is_not_UTF8_is_a_mistake() -> None:
    (mistake,) = mistakes(zookeeper(digest="u:${P}"), {"P": "a\udcff"})
    assert "UTF-8" in mistake.message


def test_what_the_environment_said_is_never_shown() -> None:
    secret = "hunter2 a/b/c/d"
    texts = [
        zookeeper(**{key: "${S}"}) for key in ("address", "namespace", "root", "digest", "vip", "locality", "network")
    ]
    texts += [zookeeper(**{key: ["${S}"]}) for key in ("exportTo", "allow")]
    texts += [zookeeper(labels={"a": "${S}"}), files(listen="${S}"), files(plaintext="${S}")]
    texts += [files(sources=[{"kind": "${S}"}]), files(vips={"range": "${S}"})]
    listener, istiod = {"name": "b", "address": "127.0.0.1:17000"}, {"address": "http://istiod:15014"}
    texts += [files(listeners=[{**listener, key: "${S}"}]) for key in ("name", "address", "routing")]
    texts += [files(listeners=[{**listener, key: ["${S}"]}]) for key in ("types", "namespaces", "sources")]
    texts += [files(istiods=[{**istiod, key: "${S}"}]) for key in ("name", "address", "revision")]
    for text in texts:
        (mistake,) = mistakes(text, {"S": secret})
        assert "hunter2" not in mistake.message
        assert "${S}" in mistake.message or mistake.path.endswith("digest")


def test_a_relative_directory_is_meant_from_where_the_file_is(tmp_path: Path) -> None:
    file = tmp_path / "isthmus.yaml"
    file.write_text("sources:\n- {kind: files, directory: services}\n- {kind: files, directory: '${D}'}\n")
    config = load_config(str(file), {"D": "/absolute"}, Flags(sources=("file:elsewhere",)))
    directories = [source.directory for source in config.sources if isinstance(source, FilesOptions)]
    assert directories == [str(tmp_path / "services"), "/absolute", "elsewhere"]


PLACED = """\
sources: [{kind: files, directory: services}]
tls: {certificate: tls/tls.crt, key: /etc/tls.key}
listeners:
- {name: b, address: "127.0.0.1:17000", tls: {certificate: b.crt, key: b.key, clientCa: ca.crt}}
state: state
istiods: [{address: "https://istiod:15014", tokenFile: token, ca: "${CA}"}]
"""


def test_relative_paths_are_meant_from_where_the_file_is(tmp_path: Path) -> None:
    file = tmp_path / "isthmus.yaml"
    file.write_text(PLACED)
    config = load_config(str(file), {"CA": "ca.pem"})

    assert config.tls == TlsOptions(certificate=f"{tmp_path}/tls/tls.crt", key="/etc/tls.key")
    b = TlsOptions(certificate=f"{tmp_path}/b.crt", key=f"{tmp_path}/b.key", client_ca=f"{tmp_path}/ca.crt")
    assert config.listeners[0].tls == b
    assert config.state == f"{tmp_path}/state"
    assert (config.istiods[0].token_file, config.istiods[0].ca) == (f"{tmp_path}/token", f"{tmp_path}/ca.pem")
    # In a flag they are meant from where the process is.
    flags = load_config(str(file), {"CA": ""}, Flags(tls_certificate="other.crt"))
    assert flags.tls == TlsOptions(certificate="other.crt", key="/etc/tls.key")
    assert flags.istiods[0].ca == ""
    assert load_config(str(file), {"CA": ""}, Flags(state="elsewhere")).state == "elsewhere"


@pytest.mark.parametrize(("content", "word"), [(None, "No such file"), (b"\xff", "not UTF-8")])
def test_a_file_that_cannot_be_read_is_a_mistake(tmp_path: Path, content: bytes | None, word: str) -> None:
    file = tmp_path / "isthmus.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=word):
        load_config(str(file), {})


URLS = [
    ("zookeeper://127.0.0.1:2181", ZookeeperOptions(name="zookeeper", address="127.0.0.1:2181")),
    ("zookeeper://a:1,[::1]:2/", ZookeeperOptions(name="zookeeper", address="a:1,[::1]:2")),
    (
        "zookeeper://a:1/x/y?namespace=shop&name=zk&sessionTimeout=5&required=false&exportTo=.,shop&root=%2Fd",
        ZookeeperOptions(name="zk", address="a:1/x/y", namespace="shop", session_timeout=5.0, required=False,
                         export_to=(".", "shop"), root="/d"),
    ),
    ("zookeeper://a:1?digest=u:p%26@", ZookeeperOptions(name="zookeeper", address="a:1", digest="u:p&@")),
    ("nacos://127.0.0.1:8848", NacosOptions(name="nacos", address="127.0.0.1:8848")),
    ("nacos://a:1,[::1]:2/", NacosOptions(name="nacos", address="a:1,[::1]:2")),
    (
        "nacos://a:1?namespaces=dev,public&groups=*&tls=true&grpcPortOffset=7&listing=2&health=any&username=u&password=p%40",
        NacosOptions(name="nacos", address="a:1", namespaces=("dev", "public"), groups=("*",), tls=True,
                     grpc_port_offset=7, listing=2.0, health="any", username="u", password="p@"),
    ),
    ("nacos://a:1?accessKey=k&secretKey=${S}",
     NacosOptions(name="nacos", address="a:1", access_key="k", secret_key="from the environment @")),
    ("eureka://127.0.0.1:8761", EurekaOptions(name="eureka", address="http://127.0.0.1:8761/eureka")),
    ("eureka://a:1,[::1]:2/", EurekaOptions(name="eureka", address="http://a:1/eureka,http://[::1]:2/eureka")),
    (
        "eurekas://a,b:8443/registry/v2/?nameFrom=metadata:service&statuses=UP,STARTING&poll=5&fullEvery=3&port=8080",
        EurekaOptions(name="eureka", address="https://a/registry/v2,https://b:8443/registry/v2",
                      name_from="metadata:service", statuses=("UP", "STARTING"), poll=5.0, full_every=3, port=8080),
    ),
    ("consul://127.0.0.1:8500", ConsulOptions(name="consul", address="http://127.0.0.1:8500")),
    (
        "consuls://a:8501,[::1]:2/consul/?token=${S}&datacenter=dc1&health=any&panicThreshold=0&wait=5&requests=7",
        ConsulOptions(name="consul", address="https://a:8501/consul,https://[::1]:2/consul",
                      token="from the environment @", datacenter="dc1", health="any", panic_threshold=0.0, wait=5.0,
                      requests=7.0),
    ),
    ("etcd://127.0.0.1:2379/", EtcdOptions(name="etcd", address="http://127.0.0.1:2379")),
    (
        "etcds://a:1,[::1]:2?prefix=kitex/registry-etcd/&format=kitex&username=u&password=p%40&timeout=2",
        EtcdOptions(name="etcd", address="https://a:1,https://[::1]:2",
                    prefixes={"kitex/registry-etcd/": EtcdPrefix("kitex")}, username="u", password="p@", timeout=2.0),
    ),
    (
        "etcd://a:1?prefix=&format=grpc&suffix=grpc.legacy&port=8080&protocol=GRPC",
        EtcdOptions(name="etcd", address="http://a:1",
                    prefixes={"": EtcdPrefix("grpc", suffix="grpc.legacy", port=8080, protocol="GRPC")}),
    ),
    ("file:some/dir", FilesOptions(name="files", directory="some/dir")),
    ("files:/100%25", FilesOptions(name="files", directory="/100%25")),
    ("file:///with%20space?reconcile=5", FilesOptions(name="files", directory="/with space", reconcile=5.0)),
]  # fmt: skip


@pytest.mark.parametrize(("url", "options"), URLS)
def test_a_source_in_a_flag(url: str, options: object) -> None:
    assert config_from_flags(Flags(sources=(url,)), {"S": "from the environment @"}).sources == (options,)


NO_SOURCE = (
    "--source[0]: is no source: write zookeeper://HOST:PORT, nacos://HOST:PORT, eureka://HOST:PORT, "
    "consul://HOST:PORT, etcd://HOST:PORT or file:DIRECTORY"
)

SERVICE_URLS = "`http(s)://host:port/eureka[,http(s)://host:port/eureka...]`"


@pytest.mark.parametrize(
    ("url", "mistake"),
    [
        ("localhost", NO_SOURCE),
        ("zookeeper:a:1", "--source[0]: write zookeeper://HOST:PORT"),
        ("nacos:a:1", "--source[0]: write nacos://HOST:PORT"),
        ("eurekas:/a:1", "--source[0]: write eurekas://HOST:PORT"),
        (
            "nacos://a:1/nacos",
            "--source[0].address: must be `host:port[,host:port...]`: TLS goes under `tls`, a path under `contextPath`",
        ),
        ("nacos://a:1?grpcPortOffset=1.5", "--source[0].grpcPortOffset: must be a whole number, not text"),
        ("nacos://a:1?port=" + "9" * 5_000, "--source[0].port: must be a whole number, not text"),
        ("nacos://a:1?namespaces=", '--source[0].namespaces[0]: "" is empty, or begins or ends with a blank'),
        ("nacos://a:1?groups=a,*", '--source[0].groups[1]: "*" must stand alone'),
        ("nacos://a:1?services=a", "--source[0].services: must be a map, not text"),
        (
            "eureka://a:x",
            f'--source[0].address: "http://a:x/eureka" is not {SERVICE_URLS}: server 1 is no URL',
        ),
        ("eureka://a:1?ca=c", '--source[0].ca: "c" says whom to trust, but no address begins with `https:`'),
        ("eurekass://a:1", '--source[0].kind: unknown value "eurekass"; did you mean "eureka"?'),
        ("consul:a:1", "--source[0]: write consul://HOST:PORT"),
        ("etcds:/a:1", "--source[0]: write etcds://HOST:PORT"),
        (
            "consul://a:x",
            f'--source[0].address: "http://a:x" is not {SERVICE_URLS.replace("/eureka", "")}: server 1 is no URL',
        ),
        ("consul://a:1?wait=700", "--source[0].wait: 700.0 is not 1 to 600 seconds"),
        ("consul://a:1?ca=c", '--source[0].ca: "c" says whom to trust, but no address begins with `https:`'),
        ("etcd://a:1/dubbo", "--source[0]: has a path: write ?prefix=/dubbo/&format=dubbo"),
        (
            "etcd://a:1?format=grpc",
            "--source[0]: says something of a prefix, but not which one: write ?prefix=/dubbo/&format=dubbo",
        ),
        ("etcd://a:1?prefix=grpc/", "--source[0].prefixes.grpc/.format: missing"),
        (
            "etcd://a:1?prefix=grpc/&format=grcp",
            '--source[0].prefixes.grpc/.format: "grcp" is unknown here; did you mean "grpc"?',
        ),
        ("etcd://a:1?prefixes=grpc/", "--source[0].prefixes: must be a map, not text"),
        ("file://host/dir", "--source[0]: names another machine: write file:DIRECTORY or file:///DIRECTORY"),
        ("zokeeper://a:1", '--source[0].kind: unknown value "zokeeper"; did you mean "zookeeper"?'),
        ("file:d?reconcil=1", '--source[0].reconcil: unknown key; did you mean "reconcile"?'),
        ("file:d?reconcile=soon", "--source[0].reconcile: must be a number, not text"),
        ("file:d?reconcile=nan", "--source[0].reconcile: NaN is not 0.1 to 86400 seconds"),
        ("file:d?required=no", "--source[0].required: must be true or false, not text"),
        ("file:d?labels=a", "--source[0].labels: must be a map, not text"),
        ("file:d?required", "--source[0]: has an option that is not KEY=VALUE; write & in a value as %26"),
        ("file:d?name=a&name=b", "--source[0]: says the same thing twice"),
        ("file:d?kind=zookeeper", "--source[0]: says the same thing twice"),
        ("file:d?name=${NAME}", "--source[0].name: the environment variable NAME is not set"),
    ],
)
def test_a_mistake_in_a_flag(url: str, mistake: str) -> None:
    assert flag_mistakes(url) == [mistake]


@pytest.mark.parametrize(
    "url",
    [
        "zookeeper://user:hunter2@a:1",
        "zookeeper://user:hun?ter2=hunter2@a:1",
        "zookeeper:user:hunter2",
        "zookeper://user:hunter2@a:1",
        "user:hunter2@a:1",
        "zookeeper://a:1?hunter2",
        "zookeeper://a:1?digest=hunter2",
        "zookeeper://a:0?digest=user:hunter2",
        "zookeeper://a:1?digest=user:1&hunter2",
        "zookeeper://a:1?digest=user:1&digest=hunter2",
        "nacos://user:hunter2@a:1",
        "nacos://user:hun?password=hunter2@a:1",
        "nacos:user:hunter2",
        "nacos://a:1?password=hunter2",
        "nacos://a:1?secretKey=hunter2&username=u",
        "nacos://a:1?username=u&password=hunter2@",
        "nacos://a:1?username=u&password=1&password=hunter2",
        "eureka://user:hunter2@a:1",
        "eurekas://user:hun,hunter2@a:1/eureka",
        "eureka:user:hunter2",
        "eureka://a:1?password=hunter2",
        "eureka://a:1?username=user:hunter2&password=hunter2",
        "consul://user:hunter2@a:1",
        "consuls://a:1?token=hun@hunter2",
        "consul:hunter2",
        "consul://a:1?token=hunter2%0A",
        "consul://a:1?token=hunter2&token=1",
        "etcd://user:hunter2@a:1",
        "etcds://a:1?password=hunter2",
        "etcd://a:1/user:hunter2?prefix=a&format=grpc",
        "etcd://a:0?username=u&password=hunter2",
    ],
)
def test_a_password_in_a_flag_is_never_shown(url: str) -> None:
    assert "hunter2" not in "".join(flag_mistakes(url))


def test_flags_make_a_listener() -> None:
    flags = Flags(sources=("file:d",), listen="0.0.0.0:16100", shards=4, tls_certificate="tls.crt", tls_key="tls.key")
    config = config_from_flags(flags, {})
    tls = TlsOptions(certificate="tls.crt", key="tls.key")
    assert config.all_listeners == (Listener(name="xds", address="0.0.0.0:16100", shards=4, tls=tls),)


@pytest.mark.parametrize(
    ("flags", "mistake"),
    [
        (Flags(sources=("file:d",), shards=0), "--shards: 0 is not 1 to 64"),
        (Flags(sources=("file:d",), tls_key="k"), "--tls-key: `key` and `certificate` go together"),
    ],
)
def test_a_mistake_in_the_flags_of_a_listener(flags: Flags, mistake: str) -> None:
    with pytest.raises(MistakesFound) as caught:
        config_from_flags(flags, {})
    assert caught.value.mistakes == [mistake]


def test_a_flag_finds_a_map_in_its_way() -> None:
    (mistake,) = mistakes(files(tls="tls.crt"), flags=Flags(tls_key="k"))
    assert (mistake.path, mistake.message) == ("tls", "must be a map, not text")


def test_flags_win_over_the_file_and_add_sources() -> None:
    flags = Flags(sources=("file:d", "file:e"), listen="0.0.0.0:1", debug="", plaintext="anywhere")
    config = config_from_text(EXAMPLE.replace("by-hand", "files"), {}, flags)
    assert [source.name for source in config.sources] == ["zk-main", "files", "files-2", "files-3"]
    assert (config.listen, config.debug) == ("0.0.0.0:1", "")


def test_flags_alone_can_bring_the_sources_of_a_file() -> None:
    assert len(config_from_text("log: {level: debug}", {}, Flags(sources=("file:d",))).sources) == 1


def test_mistakes_of_flags_come_after_those_of_the_file_and_name_the_flag() -> None:
    found = mistakes("sources: [{kind: q}]\n", flags=Flags(sources=("zookeeper://a", "q"), listen="b"))
    assert [(one.path, one.line) for one in found] == [
        ("sources[0].kind", 1),
        ("--source[1]", None),
        ("--source[0].address", None),
        ("--listen", None),
    ]


TARGETS = st.sampled_from(["", "a:1", "[::1]:2/b", "/a", "u:p@a:1", "${A}:1"]) | st.text(max_size=8)
QUERIES = st.sampled_from(
    [
        "",
        "?",
        "?name=a&root=/b",
        "?port=1&groups=*",
        "?port=-",
        "?username=a",
        "?reconcile=",
        "?vip=%zz",
        "?allow=,",
        "?token=%0A",
        "?prefix=&format=x",
        "?prefix=a&prefixes=b",
        "?digest=${A}",
    ]
)


@given(
    st.text()
    | st.builds(
        "{}{}{}".format,
        st.sampled_from(
            ["zookeeper://", "nacos://", "eureka://", "eurekas://", "consul://", "etcds://", "file:", "file://"]
        ),
        TARGETS,
        QUERIES,
    )
)
def test_no_source_URL_raises_anything_but_mistakes(url: str) -> None:
    try:
        told = [source.name for source in config_from_flags(Flags(sources=(url,)), {"A": "a"}).sources]
    except MistakesFound as error:
        told = [mistake.partition("]")[0] for mistake in error.mistakes]
    assert told
    assert len(set(told)) == 1


@given(st.text(st.sampled_from("${}Aa")))
def test_a_text_without_references_is_not_changed_but_for_the_escape(text: str) -> None:
    escaped = text.replace("${", "$${")
    expansion = Expansion({})
    if "$${" not in text:
        assert expansion.expand(escaped) == text
        assert not expansion.found
        assert not expansion.said
