"""Every mistake in a configuration is found, and told with its place (issue 3, point 6)."""

from __future__ import annotations

import json
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect

from isthmus.adapters.etcd.options import FORMATS
from isthmus.config import RULES, Config, config_from_text
from isthmus.config.mistakes import Mistake, MistakesFound, find_mistakes
from isthmus.registry.errors import ConfigError
from isthmus.registry.names import printable
from isthmus.registry.vips import Vips

if TYPE_CHECKING:
    from collections.abc import Callable


def mistakes(text: str) -> list[Mistake]:
    """Return what is found wrong with a text that must not be right."""
    with pytest.raises(MistakesFound) as caught:
        config_from_text(text, {}, file="f.yaml")
    return list(caught.value.found)


def zookeeper(**options: object) -> str:
    source = {"kind": "zookeeper", "address": "zk:2181", **options}
    return json.dumps({"sources": [source]})


def nacos(**options: object) -> str:
    return json.dumps({"sources": [{"kind": "nacos", "address": "nacos:8848", **options}]})


def eureka(**options: object) -> str:
    return json.dumps({"sources": [{"kind": "eureka", "address": "http://eureka:8761/eureka", **options}]})


def consul(**options: object) -> str:
    return json.dumps({"sources": [{"kind": "consul", "address": "http://consul:8500", **options}]})


def etcd(**options: object) -> str:
    return json.dumps({"sources": [{"kind": "etcd", "address": "http://etcd:2379", **options}]})


def prefix(**options: object) -> str:
    return etcd(prefixes={"/a/": {"format": "grpc", **options}})


def files(**settings: object) -> str:
    return json.dumps({"sources": [{"kind": "files", "directory": "d"}], **settings})


def listener(**options: object) -> str:
    return files(listeners=[{"name": "b", "address": "127.0.0.1:17000", **options}])


def istiod(**options: object) -> str:
    return files(istiods=[{"address": "http://istiod:15014", **options}])


def opened(*options: dict[str, object], **settings: object) -> str:
    """Return a configuration with listeners a, b and so on."""
    made = [{"name": name, **one} for name, one in zip("abc", options, strict=False)]
    return files(listeners=made, **settings)


TLS = {"certificate": "/tls.crt", "key": "/tls.key"}
KINDS = "consul, etcd, eureka, files, nacos, zookeeper"

FAULTS = [
    # keys, kinds and types
    ("sources: [{kind: zookeeper, adress: 'zk:1'}]", "sources[0].adress", 'unknown key; did you mean "address"?'),
    (zookeeper(session_timeout=5), "sources[0].session_timeout", 'did you mean "sessionTimeout"?'),
    (files(qqq=1), "qqq", "the keys here are: sources, listen, shards, tls"),
    (files(push={"gapp": 1}), "push.gapp", 'did you mean "gap"?'),
    ("sources: [{kind: zookeeper}]", "sources[0].address", "missing"),
    ("sources: [{address: 'zk:2181'}]", "sources[0].kind", f"missing; choose from: {KINDS}"),
    ("sources: [{knd: files, directory: d}]", "sources[0].knd", 'unknown key; did you mean "kind"?'),
    ("sources: [{kind: zokeeper}]", "sources[0].kind", 'unknown value "zokeeper"; did you mean "zookeeper"?'),
    ("sources: [{kind: qqq}]", "sources[0].kind", f"choose from: {KINDS}"),
    ("sources: [{kind: 1}]", "sources[0].kind", "must be text, not a number"),
    ("sources: [1]", "sources[0]", "must be a map, not a number"),
    ("sources: {kind: files}", "sources", "must be a list, not a map"),
    ("sources:", "sources", "must be a list, not empty"),
    ("listen: 127.0.0.1:1", "sources", "missing"),
    ("[]", "", "must be a map, not a list"),
    ("sources", "", "must be a map, not text"),
    (files(sources=[]), "sources", "no source"),
    ("", "sources", "missing"),
    (zookeeper(required="no"), "sources[0].required", "must be true or false, not text"),
    (zookeeper(namespace=None), "sources[0].namespace", "must be text, not empty"),
    (zookeeper(sessionTimeout=True), "sources[0].sessionTimeout", "must be a number, not true"),
    (files(startupGrace=10**400), "startupGrace", "must be a number, not one of more than 308 digits"),
    (zookeeper(labels=[]), "sources[0].labels", "must be a map, not a list"),
    (zookeeper(labels={"a.b": 1}), "sources[0].labels.a.b", "must be text, not a number"),
    (zookeeper(exportTo="*"), "sources[0].exportTo", "must be a list, not text"),
    (zookeeper(protocols={"tri": {"port": 1.5, "protocol": "GRPC", "suffix": "tri"}}),
     "sources[0].protocols.tri.port", "must be a whole number, not a number"),
    (zookeeper(protocols={"tri": {"port": 1, "protocol": "GRPC"}}), "sources[0].protocols.tri.suffix", "missing"),
    (files(plaintext="qqq"), "plaintext", "choose from: anywhere, loopback"),
    (files(log={"level": "warn"}), "log.level", 'did you mean "warning"?'),
    (files(log={"format": "jsn"}), "log.format", 'did you mean "json"?'),
    (files(log={"format": 1}), "log.format", "must be text"),
    # addresses
    (zookeeper(address=""), "sources[0].address", "server 1 has no port"),
    (zookeeper(address="zk"), "sources[0].address", "server 1 has no port"),
    (zookeeper(address="zk:1,zk:"), "sources[0].address", "server 2 has no port"),
    (zookeeper(address="[::1]"), "sources[0].address", "server 1 has no port"),
    (zookeeper(address="zk:0"), "sources[0].address", "server 1 has port 0"),
    (zookeeper(address="zk:65536"), "sources[0].address", "has a port that is not 1 to 65535"),
    (zookeeper(address="zk:abc"), "sources[0].address", "has a port that is not 1 to 65535"),
    (zookeeper(address="a:b:1"), "sources[0].address", "has more than a host and a port"),
    (zookeeper(address="::1:2181"), "sources[0].address", "IPv6 address without brackets"),
    (zookeeper(address="[zk]:2181"), "sources[0].address", "no IPv6 address between its brackets"),
    (zookeeper(address="10.0.8.256:2181"), "sources[0].address", "no host name or address that can be"),
    (zookeeper(address="a:1, b:1"), "sources[0].address", "server 2 has no host name"),
    (zookeeper(address="zk:1/"), "sources[0].address", "its chroot is no node's path"),
    (zookeeper(address="zk:1/a//b"), "sources[0].address", "its chroot is no node's path"),
    (files(listen="16010"), "listen", "is not `host:port`: it has no port"),
    (files(listen=":16010"), "listen", "no host name or address"),
    (files(listen=""), "listen", "has no port"),
    (files(debug="localhost"), "debug", "has no port"),
    (files(listen="0.0.0.0:16010"), "listen", "plaintext: anywhere"),
    (files(listen="[::]:16010"), "listen", "plaintext: anywhere"),
    (files(listen="bridge.mesh:16010", plaintext="loopback"), "listen", "plaintext: anywhere"),
    (files(debug="10.0.0.1:16014", plaintext="anywhere"), "debug", "no access control"),
    (files(debug="127.0.0.1:16010"), "debug", "has the port of `listen`"),
    (files(listen="localhost:16014"), "listen", "has the port of `debug`"),
    (files(listen="0.0.0.0:7", debug="127.0.0.1:7", plaintext="anywhere"), "debug", "has the port of `listen`"),
    # listeners
    (files(shards=0), "shards", "is not 1 to 64"),
    (files(shards=65), "shards", "is not 1 to 64"),
    (files(shards=True), "shards", "must be a whole number"),
    (files(shards=5), "shards",
     "`listen` takes the ports 16010 to 16014, and `debug` port 16014: set `listen: 127.0.0.1:16100`"),
    (files(listen="0.0.0.0:16001", shards=16, plaintext="anywhere"), "listen",
     "`listen` takes the ports 16001 to 16016, and `debug` port 16014: set another port in `listen`, as 16100"),
    (files(shards=16, debug="127.0.0.1:16020"), "debug",
     "`debug` takes port 16020, and `listen` the ports 16010 to 16025: set `listen: 127.0.0.1:16100`"),
    (files(listen="127.0.0.1:65530", shards=8), "listen", "a range of 8 ports, one for each shard, beyond 65535"),
    (listener(address="127.0.0.1:65535", shards=2), "listeners[0].address", "beyond 65535"),
    (listener(address="127.0.0.1:16010"), "listeners[0].address", "has the port of `listen`"),
    (listener(address="0.0.0.0:16014", tls=TLS), "listeners[0].address", "has the port of `debug`"),
    (listener(address="127.0.0.1:16008", shards=4), "listeners[0].address",
     "takes the ports 16008 to 16011, and `listen` port 16010: set `address: 127.0.0.1:16100` in listeners[0]"),
    (opened({"address": "127.0.0.1:16100", "shards": 4}, {"address": "127.0.0.1:16103", "shards": 2}),
     "listeners[1].address",
     "and listeners[0] the ports 16100 to 16103: set `address: 127.0.0.1:16200` in listeners[1]"),
    (listener(address="10.0.0.1:17000"), "listeners[0].address", "plaintext: anywhere"),
    (listener(address="17000"), "listeners[0].address", "has no port"),
    (listener(name=""), "listeners[0].name", "is not a name of 1 to 63 small letters"),
    (listener(name="B"), "listeners[0].name", "is not a name of 1 to 63 small letters"),
    (listener(name="a.b"), "listeners[0].name", "is not a name of 1 to 63 small letters"),
    (listener(name="xds"), "listeners[0].name", "is the name of the listener that `listen` makes too"),
    (files(listeners=[{"address": "127.0.0.1:17000"}]), "listeners[0]", "has no `name`"),
    (files(listeners=[{"name": "b"}]), "listeners[0].address", "missing"),
    (files(listeners=[{"name": "b", "address": f"127.0.0.1:{port}"} for port in (17000, 18000)]), "listeners[1].name",
     "is the name of listeners[0] too"),
    (listener(shards=65), "listeners[0].shards", "is not 1 to 64"),
    (listener(routing="authority"), "listeners[0].routing", "is for more than one shard"),
    (listener(routing="port"), "listeners[0].routing", 'did you mean "ports"?'),
    (listener(form="slim"), "listeners[0].form", 'did you mean "slime"?'),
    (listener(debug="yes"), "listeners[0].debug", "choose from: always, auto, never"),
    (listener(types=["serviceentry"]), "listeners[0].types[0]", 'did you mean "ServiceEntry"?'),
    (listener(types=["Gateway"]), "listeners[0].types[0]", "choose from: ServiceEntry, WorkloadEntry, Sidecar"),
    (listener(types=["Sidecar", "Sidecar"]), "listeners[0].types[1]", "is said before"),
    (listener(namespaces=["Shop"]), "listeners[0].namespaces[0]", "is not a namespace"),
    (listener(namespaces=["a", "a"]), "listeners[0].namespaces[1]", "is said before"),
    (listener(sources=["file"]), "listeners[0].sources[0]", 'is the name of no source; did you mean "files"?'),
    (listener(sources=["files", "files"]), "listeners[0].sources[1]", "is said before"),
    (files(tls={"certificate": "c"}), "tls.certificate", "`certificate` and `key` go together"),
    (files(tls={"key": "k"}), "tls.key", "`key` and `certificate` go together"),
    (files(tls={"clientCa": "ca"}), "tls.clientCa", "there is no `certificate`, so no TLS"),
    (listener(tls={"certificate": "c", "key": ""}), "listeners[0].tls.key", "`certificate` and `key` go together"),
    (listener(tls={**TLS, "clientCa": "a\0b"}), "listeners[0].tls.clientCa", "is not a path"),
    (files(tls="c.pem"), "tls", "must be a map, not text"),
    (files(state="a\0b"), "state", "is not a path"),
    # istiods
    (files(istiods=[{}]), "istiods[0].address", "missing"),
    *(
        (istiod(**{key: value}), f"istiods[0].{key}", word)
        for key, value, word in (
            ("address", "istiod:15014", "is not `http(s)://host:port`: it is no `http://host:port` or `https://host:port`"),
            ("address", "http://istiod:15014/debug", "it has something after its port"),
            ("address", "http://a:1,http://b:1", "more than one URL: each is an item of its own"),
            ("address", "http://x:hunter2@istiod:15014", "say them under `tokenFile`"),
            ("name", "a b", "is not a name"),
            ("revision", "a,b", "is not one revision"),
            ("interval", 0.5, "is not 1 to 86400 seconds"),
            ("interval", 86_401, "is not 1 to 86400 seconds"),
            ("ca", "/ca.pem", "the address does not begin with `https:`"),
            ("tokenFile", "\0", "is not a path"),
        )
    ),
    (files(istiods=[{"name": "a", "address": f"http://i:{port}"} for port in (1, 2)]), "istiods[1].name",
     "is the name of istiods[0] too"),
    (files(istiods=[{"address": "http://i:1"}] * 2), "istiods[1].address", "is the address of istiods[0] too"),
    # what a source publishes
    (zookeeper(revisions=["a,b"]), "sources[0].revisions[0]", "is not one revision"),
    (zookeeper(revisions=["Canary"]), "sources[0].revisions[0]", "is not one revision"),
    (zookeeper(revisions=[""]), "sources[0].revisions[0]", "is not one revision"),
    (zookeeper(revisions=["a", "a"]), "sources[0].revisions[1]", "is said before"),
    (zookeeper(name="a b"), "sources[0].name", "is not a name"),
    (zookeeper(namespace="Shop"), "sources[0].namespace", '"Shop" is not a namespace'),
    (zookeeper(namespace="a.b"), "sources[0].namespace", "is not a namespace"),
    (zookeeper(namespace=""), "sources[0].namespace", "is not a namespace"),
    (zookeeper(namespace="a" * 64), "sources[0].namespace", "is not a namespace"),
    (zookeeper(vip="atuo"), "sources[0].vip", 'did you mean "auto"?'),
    (zookeeper(vip="241.0.0.1"), "sources[0].vip", "choose from: auto, none"),
    (zookeeper(labels={"tag": "istio.io/rev"}), "sources[0].labels.tag", "belongs to Istio or Kubernetes"),
    (zookeeper(labels={"tag": "app.kubernetes.io/x"}), "sources[0].labels.tag", "belongs to Istio or Kubernetes"),
    (zookeeper(labels={"tag": "a b"}), "sources[0].labels.tag", "is not a label key"),
    (zookeeper(labels={"": "x"}), "sources[0].labels", "cannot be empty"),
    (zookeeper(locality="a/b/c/d"), "sources[0].locality", "region/zone/subzone"),
    (zookeeper(locality="a//c"), "sources[0].locality", "region/zone/subzone"),
    (zookeeper(network="a b"), "sources[0].network", "is not a network"),
    (zookeeper(exportTo=["Shop"]), "sources[0].exportTo[0]", "is not a namespace"),
    (zookeeper(exportTo=["a", "a"]), "sources[0].exportTo[1]", "is said before"),
    (zookeeper(exportTo=["a", "*"]), "sources[0].exportTo[1]", "must stand alone"),
    (zookeeper(exportTo=["~", "a"]), "sources[0].exportTo[0]", "must stand alone"),
    (zookeeper(allow=["10.0.0.0/8", "x"]), "sources[0].allow[1]", "is not a CIDR"),
    (zookeeper(allow=["127.0.0.1/8"]), "sources[0].allow[0]", 'did you mean "127.0.0.0/8"?'),
    # ZooKeeper, Dubbo, files
    (zookeeper(root="dubbo"), "sources[0].root", "is not the path of a node"),
    (zookeeper(root="/"), "sources[0].root", "is not the path of a node"),
    (zookeeper(root="/a/../b"), "sources[0].root", "is not the path of a node"),
    (zookeeper(applications="services"), "sources[0].applications", "is not the path of a node"),
    (zookeeper(applications="/"), "sources[0].applications", "is not the path of a node"),
    (zookeeper(applications="", root=""), "sources[0].applications", "neither interfaces nor applications"),
    (zookeeper(applications="/dubbo"), "sources[0].applications", "are the same node"),
    (zookeeper(root="/services"), "sources[0].root", "are the same node"),
    (zookeeper(suffix="S"), "sources[0].suffix", "is not the end of a DNS name"),
    (zookeeper(port=0), "sources[0].port", "is not a port, 1 to 65535"),
    (zookeeper(protocol="HTP"), "sources[0].protocol", 'did you mean "HTTP"?'),
    (zookeeper(services={"": {"port": 80, "protocol": "HTTP"}}), "sources[0].services", "a key is empty"),
    (zookeeper(services={"pay": {"port": 0, "protocol": "HTTP"}}), "sources[0].services.pay.port", "is not a port"),
    (zookeeper(digest="password"), "sources[0].digest", "must be `user:password`"),
    (zookeeper(sessionTimeout=0), "sources[0].sessionTimeout", "is not 0.1 to 300 seconds"),
    (zookeeper(sessionTimeout=10_000), "sources[0].sessionTimeout", "is not 0.1 to 300 seconds"),
    (zookeeper(reconcile=-1), "sources[0].reconcile", "-1 is not 0.1 to 86400 seconds"),
    (zookeeper(protocols={}), "sources[0].protocols", "no protocol"),
    (zookeeper(protocols={"Tri": {"port": 1, "protocol": "GRPC", "suffix": "tri"}}),
     "sources[0].protocols.Tri", "no URL scheme"),
    *(
        (zookeeper(protocols={"tri": {"port": 1, "protocol": "GRPC", "suffix": "tri", **wrong}}),
         f"sources[0].protocols.tri.{key}", word)
        for wrong, key, word in (
            ({"port": 0}, "port", "is not a port, 1 to 65535"),
            ({"port": 10**30}, "port", "this number is not a port"),
            ({"protocol": "GRPX"}, "protocol", 'did you mean "GRPC"?'),
            ({"protocol": "dubbo"}, "protocol", "it knows: GRPC"),
            ({"protocol": ""}, "protocol", "is no protocol that Istio knows"),
            ({"suffix": "Tri"}, "suffix", "is not the end of a DNS name"),
            ({"suffix": ""}, "suffix", "is not the end of a DNS name"),
            ({"suffix": "a." * 63 + "a"}, "suffix", "is not the end of a DNS name"),
            ({"suffix": "svc.cluster.local"}, "suffix", "belongs to the cluster"),
            ({"suffix": "tri.7"}, "suffix", "only digits"),
        )
    ),
    ("sources: [{kind: files, directory: ''}]", "sources[0].directory", "is not a directory"),
    ("sources: [{kind: files, directory: d, reconcile: 0}]", "sources[0].reconcile", "is not 0.1 to 86400 seconds"),
    # Nacos
    ("sources: [{kind: nacos}]", "sources[0].address", "missing"),
    *(
        (nacos(**{key: value}), f"sources[0].{key}", word)
        for key, value, word in (
            ("address", "", "server 1 has no port"),
            ("address", "nacos", "server 1 has no port"),
            ("address", "a:1,b:0", "server 2 has port 0"),
            ("address", "a:1, b:1", "server 2 has no host name"),
            ("address", "http://nacos:8848/nacos", "TLS goes under `tls`, a path under `contextPath`"),
            ("address", "nacos:64536", "the gRPC port of server 1 would be 65536"),
            ("grpcPortOffset", -1, "is not 0 to 65534"),
            ("grpcPortOffset", 60_000, "the gRPC port of server 1 would be 68848"),
            ("grpcPortOffset", 10**30, "this number is not 0 to 65534"),
            ("contextPath", "nacos", "is not the beginning of a path"),
            ("contextPath", "/", "is not the beginning of a path"),
            ("contextPath", "/nacos/", "is not the beginning of a path"),
            ("contextPath", "/../nacos", "is not the beginning of a path"),
            ("contextPath", "/nacos?a=b", "is not the beginning of a path"),
            ("namespaces", [], "nothing would be read"),
            ("groups", [], "nothing would be read"),
            ("health", "halthy", 'did you mean "healthy"?'),
            ("health", "", "choose from: healthy, any"),
            ("suffix", "", "is not the end of a DNS name"),
            ("suffix", "svc.cluster.local", "belongs to the cluster"),
            ("port", 0, "is not a port, 1 to 65535"),
            ("protocol", "HTP", 'did you mean "HTTP"?'),
            ("protocol", "", "is no protocol that Istio knows"),
            ("username", "bridge", "`username` and `password` go together"),
            ("password", "hunter2", "`password` and `username` go together"),
            ("accessKey", "key", "`accessKey` and `secretKey` go together"),
            ("secretKey", "hunter2", "`secretKey` and `accessKey` go together"),
            ("ca", "/etc/ca.pem", "set `tls: true`"),
            ("listing", 0, "is not 0.1 to 300 seconds"),
            ("reconcile", 100_000, "is not 0.1 to 86400 seconds"),
            ("timeout", 5_000, "is not 0.1 to 300 seconds"),
        )
    ),
    (nacos(namespaces=["*", "dev"]), "sources[0].namespaces[0]", "must stand alone"),
    (nacos(groups=["a", ""]), "sources[0].groups[1]", "is empty, or begins or ends with a blank"),
    (nacos(groups=["a", " b"]), "sources[0].groups[1]", "is empty, or begins or ends with a blank"),
    (nacos(groups=["a", "a"]), "sources[0].groups[1]", "is said before"),
    (nacos(clusters=["*"]), "sources[0].clusters[0]", "leave `clusters` out"),
    (nacos(clusters=["a", "a"]), "sources[0].clusters[1]", "is said before"),
    (nacos(kubernetesNamespaces={"public": "Shop"}), "sources[0].kubernetesNamespaces.public", "is not a namespace"),
    (nacos(kubernetesNamespaces={"dev": "dev"}), "sources[0].kubernetesNamespaces.dev", "is none of `namespaces`"),
    (nacos(namespaces=["*"], kubernetesNamespaces={"": "dev"}), "sources[0].kubernetesNamespaces", "a key is empty"),
    (nacos(localities={"a": "a//b"}), "sources[0].localities.a", "region/zone/subzone"),
    (nacos(services={"": {"port": 80, "protocol": "HTTP"}}), "sources[0].services", "a key is empty"),
    (nacos(services={"pay": {"port": 0, "protocol": "HTTP"}}), "sources[0].services.pay.port", "is not a port"),
    (nacos(services={"pay": {"port": 80, "protocol": "X"}}), "sources[0].services.pay.protocol", "no protocol that"),
    (nacos(services={"pay": {"port": 80}}), "sources[0].services.pay.protocol", "missing"),
    (nacos(dubbo={"Tri": {"port": 1, "protocol": "GRPC", "suffix": "tri"}}), "sources[0].dubbo.Tri", "no URL scheme"),
    (nacos(dubbo={"tri": {"port": 1, "protocol": "GRPC", "suffix": "T"}}), "sources[0].dubbo.tri.suffix", "DNS name"),
    (nacos(password="", username="bridge"), "sources[0].password", "`username` and `password` go together"),
    (nacos(password="p", username="u", accessKey="a", secretKey="s"), "sources[0].accessKey", "a `username` too"),
    (nacos(password="${PASSWORD}", username="bridge"), "sources[0].password", "variable PASSWORD is not set"),
    # Eureka
    ("sources: [{kind: eureka}]", "sources[0].address", "missing"),
    *(
        (eureka(**{key: value}), f"sources[0].{key}", word)
        for key, value, word in (
            ("address", "", "server 1 is no `http://host:port/path`"),
            ("address", "eureka:8761", "server 1 is no `http://host:port/path`"),
            ("address", "http://a/eureka,ftp://b/eureka", "server 2 is no `http://host:port/path`"),
            ("address", "http://a/eureka,", "server 2 is no `http://host:port/path`"),
            ("address", "http://a:0/eureka", "server 1 is no"),
            ("address", "http://a:x/eureka", "server 1 is no URL"),
            ("address", "http://a b/eureka", "server 1 has no host name or address that can be"),
            ("address", "http://10.0.0.256/eureka", "server 1 has no host name or address that can be"),
            ("username", "bridge", "`username` and `password` go together"),
            ("password", "hunter2", "`password` and `username` go together"),
            ("ca", "/etc/ca.pem", "no address begins with `https:`"),
            ("nameFrom", "apps", "is not `app`, `vip` or `metadata:KEY`"),
            ("nameFrom", "metadata:", "is not `app`, `vip` or `metadata:KEY`"),
            ("suffix", "7", "it is only digits"),
            ("port", 65_536, "is not a port, 1 to 65535"),
            ("protocol", "HTP", 'did you mean "HTTP"?'),
            ("securePort", "yes", "choose from: auto, never, always"),
            ("statuses", [], "no instance would serve"),
            ("region", "eu/a", "is not a region"),
            ("region", " ", "is not a region"),
            ("poll", 0.5, "is not 1 to 300 seconds"),
            ("poll", 30_000, "is not 1 to 300 seconds"),
            ("fullEvery", 0, "is not 1 to 1000 polls"),
            ("fullEvery", 1_001, "is not 1 to 1000 polls"),
        )
    ),
    (eureka(username="a:b", password="p"), "sources[0].username", "basic authentication cannot send"),
    (eureka(statuses=["UP", "OUT"]), "sources[0].statuses[1]", "is no status of Eureka's"),
    (eureka(zones={"a": "a//b"}), "sources[0].zones.a", "region/zone/subzone"),
    (eureka(services={"pay": {"port": 0, "protocol": "HTTP"}}), "sources[0].services.pay.port", "is not a port"),
    (eureka(services={" pay": {"port": 80, "protocol": "HTTP"}}), "sources[0].services. pay", "a key is empty, or"),
    # Consul
    ("sources: [{kind: consul}]", "sources[0].address", "missing"),
    *(
        (consul(**{key: value}), f"sources[0].{key}", word)
        for key, value, word in (
            ("address", "", "server 1 is no `http://host:port/path`"),
            ("address", "consul:8500", "server 1 is no `http://host:port/path`"),
            ("address", "unix:///run/consul.sock", "server 1 is no `http://host:port/path`"),
            ("address", "http://a,ftp://b", "server 2 is no `http://host:port/path`"),
            ("address", "http://a b:8500", "server 1 has no host name or address that can be"),
            ("token", "two\nlines", "must be one line of printable ASCII"),
            ("token", "a ", "without a blank at its ends"),
            ("token", "ä", "must be one line of printable ASCII"),
            ("ca", "/etc/ca.pem", "says whom to trust, but no address begins with `https:`"),
            ("key", "/etc/c.key", "`key` and `cert` go together"),
            ("datacenter", "dc1,dc2", "is not one name of letters, digits, '-' and '_'"),
            ("consulNamespace", "*", "is not one name of letters, digits, '-' and '_'"),
            ("partition", "a b", "is not one name of letters, digits, '-' and '_'"),
            ("suffix", "svc.cluster.local", "belongs to the cluster"),
            ("port", 0, "is not a port, 1 to 65535"),
            ("protocol", "HTP", 'did you mean "HTTP"?'),
            ("health", "pasing", 'did you mean "passing"?'),
            ("health", "", "choose from: passing, warning, any"),
            ("panicThreshold", 30, "30 is not a share, 0 to 1"),
            ("panicThreshold", -0.1, "is not a share, 0 to 1"),
            ("taggedAddress", " wan", "begins or ends with a blank"),
            ("kubernetesTag", "k8s ", "begins or ends with a blank"),
            ("consistency", "eventual", "choose from: default, consistent, stale"),
            ("maxStale", -1, "is not 0 to 86400 seconds"),
            ("wait", 0.5, "is not 1 to 600 seconds"),
            ("wait", 601, "is not 1 to 600 seconds"),
            ("requests", 0, "is not 1 to 10000 requests a second"),
            ("requests", 10_001, "is not 1 to 10000 requests a second"),
            ("reconcile", 0, "is not 0.1 to 86400 seconds"),
        )
    ),
    (consul(address="http://a,https://b", cert="c", key=""), "sources[0].key", "`cert` and `key` go together"),
    (consul(cert="/etc/c.pem", key="/etc/c.key"), "sources[0].cert", "says who we are, but no address begins with"),
    (consul(services={"": {"port": 80, "protocol": "HTTP"}}), "sources[0].services", "a key is empty"),
    (consul(services={"pay": {"port": 80, "protocol": "X"}}), "sources[0].services.pay.protocol", "no protocol that"),
    # etcd
    ("sources: [{kind: etcd}]", "sources[0].address", "missing"),
    *(
        (etcd(**{key: value}), f"sources[0].{key}", word)
        for key, value, word in (
            ("address", "etcd:2379", "server 1 is no `http://host:port` or `https://host:port`"),
            ("address", "http://etcd:2379/dubbo", "server 1 has something after its port"),
            ("address", "http://a:0", "server 1 is no"),
            ("prefixes", {}, "nothing would be read"),
            ("prefixes", {"": {"format": "grpc"}, "/a/": {"format": "grpc"}}, "all keys, and must stand alone"),
            ("username", "bridge", "`username` and `password` go together"),
            ("ca", "/etc/ca.pem", "says whom to trust, but no address begins with `https:`"),
            ("key", "/etc/c.key", "`key` and `cert` go together"),
            ("reconcile", 0, "is not 0.1 to 86400 seconds"),
            ("timeout", 5_000, "is not 0.1 to 300 seconds"),
        )
    ),
    (etcd(address="http://a,https://b", cert="c", key=""), "sources[0].key", "`cert` and `key` go together"),
    (etcd(cert="/etc/c.pem", key="/etc/c.key"), "sources[0].cert", "says who we are, but no address begins with"),
    (etcd(prefixes={"/a": {"format": "grpc"}, "/a/b": {"format": "grpc"}}), "sources[0].prefixes./a/b",
     "begins with another prefix"),
    (etcd(prefixes={" /a/": {"format": "grpc"}}), "sources[0].prefixes. /a/", "begins or ends with a blank"),
    (etcd(prefixes={"/a/": {}}), "sources[0].prefixes./a/.format", "missing"),
    *(
        (prefix(**{key: value}), f"sources[0].prefixes./a/.{key}", word)
        for key, value, word in (
            ("format", "gozero", 'did you mean "go-zero"?'),
            ("format", "", f"choose from: {', '.join(FORMATS)}"),
            ("suffix", "", "is not the end of a DNS name"),
            ("port", -1, "is not a port, 1 to 65535"),
            ("protocol", "HTP", 'did you mean "HTTP"?'),
            ("fields", {"address": "host"}, "is for `json` only"),
            ("schemes", {"http": {"port": 80, "protocol": "HTTP", "suffix": "mesh"}}, "records have no URL schemes"),
        )
    ),
    *(
        (prefix(format=form, **{key: value}), f"sources[0].prefixes./a/.{key}", f"is not for `{form}`")
        for form, key, value in (
            ("dubbo", "suffix", "legacy"),
            ("dubbo", "port", 20880),
            ("kratos", "protocol", "GRPC"),
            ("kratos", "services", {"pay": {"port": 80, "protocol": "HTTP"}}),
        )
    ),
    (prefix(services={"": {"port": 80, "protocol": "HTTP"}}), "sources[0].prefixes./a/.services", "a key is empty"),
    (prefix(services={"pay": {"port": 0, "protocol": "HTTP"}}), "sources[0].prefixes./a/.services.pay.port",
     "is not a port"),
    *(
        (prefix(format="kratos", schemes={"http": {"port": 80, "protocol": "HTTP", "suffix": "mesh", **wrong}}),
         f"sources[0].prefixes./a/.schemes.http.{key}", word)
        for wrong, key, word in (
            ({"port": 0}, "port", "is not a port, 1 to 65535"),
            ({"protocol": "GRPX"}, "protocol", 'did you mean "GRPC"?'),
            ({"suffix": "Mesh"}, "suffix", "is not the end of a DNS name"),
        )
    ),
    (prefix(format="dubbo", schemes={"Tri": {"port": 1, "protocol": "GRPC", "suffix": "tri"}}),
     "sources[0].prefixes./a/.schemes.Tri", "no URL scheme"),
    *(
        (prefix(format="json", fields={key: value}), f"sources[0].prefixes./a/.fields.{key}", "is not the way to a")
        for key, value in (("address", ""), ("address", "a..b"), ("port", "."), ("service", "a. b"))
    ),
    # the rest
    (files(startupGrace=-1), "startupGrace", "is not 0 to 86400 seconds"),
    (files(push={"gap": 0}), "push.gap", "is not 0.001 to 60 seconds"),
    (files(vips={"range": "fd00::/64"}), "vips.range", "is not an IPv4 range"),
    (files(vips={"range": "10.0.0.0/31"}), "vips.range", "at least 4 addresses"),
    (files(vips={"range": "10.0.0.1/8"}), "vips.range", 'did you mean "10.0.0.0/8"?'),
    (files(vips={"range": "auto"}), "vips.range", "is not a CIDR"),
    # the environment
    (zookeeper(digest="u:${PASSWORD}"), "sources[0].digest", "variable PASSWORD is not set"),
    (zookeeper(allow=["${NET}"]), "sources[0].allow[0]", "variable NET is not set"),
    (zookeeper(digest="u:${}"), "sources[0].digest", "`${` needs the name of a variable"),
    (zookeeper(digest="u:${A-B}"), "sources[0].digest", "`${` needs the name of a variable"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "path", "word"), FAULTS)
def test_a_mistake_is_told_with_its_path_and_alone(text: str, path: str, word: str) -> None:
    (found,) = mistakes(text)
    assert found.path == path
    assert word in found.message


def test_listeners_that_are_right() -> None:
    text = opened(
        {"address": "0.0.0.0:16100", "shards": 64, "tls": TLS, "types": ["ServiceEntry"], "sources": ["files"]},
        {"address": "[::1]:18000", "shards": 64, "routing": "authority", "namespaces": ["shop"], "debug": "never"},
        {"address": "127.0.0.1:0", "shards": 9, "form": "slime"},
        shards=4,
    )
    assert outcome_of(text) == []


def outcome_of(text: str) -> list[Mistake]:
    try:
        config_from_text(text, {}, file="f.yaml")
    except MistakesFound as error:
        return list(error.found)
    return []


def test_TLS_takes_the_place_of_the_words() -> None:
    assert outcome_of(files(listen="0.0.0.0:16010", tls=TLS)) == []
    (found,) = outcome_of(opened({"address": "0.0.0.0:17000"}, listen="0.0.0.0:16010", tls=TLS))
    assert found.path == "listeners[0].address"
    assert "without TLS" in found.message


def test_every_listener_that_is_open_to_strangers_is_told() -> None:
    found = outcome_of(opened({"address": "0.0.0.0:17000"}, {"address": "10.0.0.1:18000"}, listen="0.0.0.0:16010"))
    assert [one.path for one in found] == ["listen", "listeners[0].address", "listeners[1].address"]


def test_a_source_without_a_name_is_named_by_its_kind() -> None:
    sources = [{"kind": "files", "directory": "d"}] * 2
    named = [{"name": "b", "address": "127.0.0.1:17000", "sources": ["files-2"]}]
    assert outcome_of(json.dumps({"sources": sources, "listeners": named})) == []


def test_two_keys_cannot_become_one_label() -> None:
    found = mistakes(zookeeper(labels={"a": "x", "b": "x", "c": "y"}))
    assert [one.path for one in found] == ["sources[0].labels.a", "sources[0].labels.b"]


@pytest.mark.parametrize(
    "options", [{"root": ""}, {"applications": ""}, {"root": "/services/rpc"}, {"applications": "/dubbo/services"}]
)
def test_either_kind_of_registration_in_ZooKeeper_can_be_left_out(options: dict[str, object]) -> None:
    assert config_from_text(zookeeper(**options), {}).sources


@pytest.mark.parametrize("source", [consul, eureka])
def test_names_that_a_registry_does_not_tell_apart_are_told(source: Callable[..., str]) -> None:
    port = {"port": 80, "protocol": "HTTP"}
    found = mistakes(source(services={"pay": port, "Pay": port, "order": port}))
    assert [one.path for one in found] == ["sources[0].services.pay", "sources[0].services.Pay"]


@pytest.mark.parametrize(
    "prefixes",
    [
        {"": {"format": "go-zero"}},
        {"/a/": {"format": "grpc"}, "/ab/": {"format": "grpc"}, "a/": {"format": "kitex"}},
        {"/a/": {"format": "json", "fields": {"address": "spec.hosts.0", "port": ""}}},
        {"/a/": {"format": "grpc", "port": 0, "protocol": "", "schemes": {}, "fields": {"address": "address"}}},
        {"/a/": {"format": "dubbo", "suffix": "mesh", "port": 0, "services": {}}},
        {
            "/services/": {
                "format": "dubbo-applications",
                "suffix": "legacy",
                "schemes": {"rest": {"port": 80, "protocol": "HTTP", "suffix": "rest"}},
            }
        },
    ],
)
def test_prefixes_of_etcd_that_are_right(prefixes: dict[str, object]) -> None:
    assert config_from_text(etcd(prefixes=prefixes), {}).sources


@pytest.mark.parametrize(
    "text",
    [
        nacos(address="bridge:hunter2@nacos:8848"),
        nacos(address="http://bridge:hunter2@nacos:8848"),
        nacos(address="nacos:8848?password=hunter2"),
        nacos(password="hunter2"),
        nacos(secretKey="hunter2"),
        nacos(username="u", password=["hunter2"]),
        nacos(username="u", password="hunter2", accessKey="a", secretKey="hunter2"),
        eureka(address="http://bridge:hunter2@eureka:8761/eureka"),
        eureka(address="http://bridge:hun,hunter2@eureka:8761/eureka"),
        eureka(address="http://eureka:8761/eureka?password=hunter2"),
        eureka(address="http://eureka:8761/eureka#hunter2"),
        eureka(password="hunter2"),
        eureka(username="bridge:hunter2", password="hunter2"),
        consul(address="http://bridge:hunter2@consul:8500"),
        consul(address="http://consul:8500?token=hunter2"),
        consul(token="hunter2\n"),
        consul(token=["hunter2"]),
        etcd(address="http://bridge:hunter2@etcd:2379"),
        etcd(address="http://etcd:2379?password=hunter2"),
        etcd(password="hunter2"),
        istiod(address="http://bridge:hunter2@istiod:15014"),
        istiod(address="https://istiod:15014?token=hunter2"),
    ],
)
def test_T17_no_mistake_holds_a_secret(text: str) -> None:
    assert "hunter2" not in "".join(one.message + one.path for one in mistakes(text))


def test_a_name_said_twice_is_told_at_the_second() -> None:
    text = "sources:\n- {name: a, kind: files, directory: d}\n- {name: b, kind: x}\n- {name: a, kind: x}\n"
    assert [(one.path, one.line) for one in mistakes(text)] == [
        ("sources[1].kind", 3),
        ("sources[2].kind", 4),
        ("sources[2].name", 4),
    ]


def test_all_mistakes_of_a_file_are_told_in_its_order() -> None:
    text = """\
push: {gap: -1}
sources:
- name: zk
  kind: zookeeper
  adress: 10.0.8.1:2181
  namespace: Shop
  exportTo:
  - Bad_One
  - 7
- kind: files
  reconcile: 0

- name: zk
  kind: files
  directory: 1
listen: 0.0.0.0:16010
"""
    with pytest.raises(MistakesFound) as caught:
        config_from_text(text, {}, file="f.yaml")
    assert [mistake.split(" ")[:2] for mistake in caught.value.mistakes] == [
        ["f.yaml:1:", "push.gap:"],
        ["f.yaml:5:", "sources[0].adress:"],
        ["f.yaml:6:", "sources[0].namespace:"],
        ["f.yaml:9:", "sources[0].exportTo[1]:"],
        ["f.yaml:10:", "sources[1].directory:"],
        ["f.yaml:11:", "sources[1].reconcile:"],
        ["f.yaml:13:", "sources[2].name:"],
        ["f.yaml:15:", "sources[2].directory:"],
        ["f.yaml:16:", "listen:"],
    ]


def test_the_form_of_a_mistake() -> None:
    with pytest.raises(ConfigError) as caught:
        config_from_text("sources:\n- kind: zookeeper\n  adress: zk:1\n", {}, file="isthmus.yaml")
    assert caught.value.mistakes == ['isthmus.yaml:3: sources[0].adress: unknown key; did you mean "address"?']


def test_T11_what_a_terminal_would_act_on_is_escaped() -> None:
    with pytest.raises(ConfigError) as caught:
        config_from_text(json.dumps({"\x1b[2J\n": 1, "sources": [{"kind": "\x9b"}]}), {}, file="a\nb")
    assert all(mistake.isprintable() for mistake in caught.value.mistakes)


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [("a: [", None, "line"), ("a: &x 1\n", None, "anchor"), ("a: 1\n---\na: 1\n", 3, "second document")],
)
def test_T27_a_text_that_is_not_one_plain_document(text: str, line: int | None, word: str) -> None:
    (mistake,) = mistakes(text)
    assert mistake.line == line
    assert word in mistake.message


def test_every_rule_is_for_a_key_that_there_is() -> None:
    for struct, of_struct in RULES.items():
        info = inspect.type_info(struct)
        assert isinstance(info, inspect.StructType)
        assert set(of_struct) <= {field.encode_name for field in info.fields} | {""}


# Values near to what each type wants, so that most of a drawn configuration is right and every part can be wrong.

JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=5,
)
TEXT = st.sampled_from(
    ["", "a", "a:1", "[::1]:2", "a:1/b", "/a/b", "10.0.0.0/8", "::/0", "auto", "TCP", "istio.io/a", "u:p", "${A}", "*"]
) | st.text(max_size=8)


SCALARS: dict[type[inspect.Type], st.SearchStrategy[Any]] = {
    inspect.StrType: TEXT,
    inspect.BoolType: st.booleans(),
    inspect.IntType: st.integers(),
    inspect.FloatType: st.integers(-1, 400) | st.floats(allow_nan=False) | st.just(10**400),
}


def near(info: inspect.Type) -> st.SearchStrategy[Any]:
    match info:
        case inspect.StructType():
            return near_struct(info)
        case inspect.UnionType():
            return st.one_of([near(one) for one in info.types])
        case inspect.VarTupleType():
            return st.lists(near(info.item_type), max_size=2)
        case inspect.DictType():
            return st.dictionaries(TEXT, near(info.value_type), max_size=2)
        case inspect.LiteralType():
            return st.sampled_from([*info.values, "other"])
        case _:
            return SCALARS[type(info)]


def near_struct(info: inspect.StructType) -> st.SearchStrategy[Any]:
    """A struct's value that is right in its keys, or has one key too few and one that is spoiled."""
    required = {field.encode_name: near(field.type) for field in info.fields if field.required}
    optional = {field.encode_name: near(field.type) for field in info.fields if not field.required}
    if info.tag_field is not None:
        required[info.tag_field] = st.just(info.tag)
    right: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(required, optional=optional)
    wrong = st.dictionaries(st.sampled_from([*required, *optional, "other"]), JUNK, max_size=1)
    lost = st.sampled_from(["", *required, *optional])
    return right | st.builds(spoil, right, wrong, lost)


def spoil(right: dict[str, Any], wrong: dict[str, Any], lost: str) -> dict[str, Any]:
    return {key: value for key, value in {**right, **wrong}.items() if key != lost}


CONFIGS = near(inspect.type_info(Config))


@given(CONFIGS | JUNK)
def test_the_walker_takes_exactly_what_msgspec_takes(value: Any) -> None:
    try:
        msgspec.convert(value, Config)
    except msgspec.ValidationError:
        assert find_mistakes(value, Config, {}, {})
    else:
        assert not find_mistakes(value, Config, {}, {})


@given(CONFIGS | JUNK)
def test_no_value_raises_anything_but_mistakes_with_a_place(value: Any) -> None:
    config, told = outcome(value)
    assert all(mistake.startswith("f:") and mistake == printable(mistake) for mistake in told)
    assert told if config is None else all(source.name for source in config.sources)


def outcome(value: object) -> tuple[Config | None, list[str]]:
    try:
        return config_from_text(json.dumps(value), {"A": "a\x00"}, file="f"), []
    except MistakesFound as error:
        return None, error.mistakes


CIDRS = st.builds("{}/{}".format, st.ip_addresses(v=4), st.integers(24, 33)) | st.sampled_from(
    ["0.0.0.0/0", "::/8", ""]
)


@given(CIDRS | st.ip_addresses(network="10.0.0.0/30").map("{}/30".format))
def test_the_rule_of_the_range_is_that_of_its_user(cidr: str) -> None:
    try:
        Vips(cidr)
    except (ConfigError, ValueError):
        assert outcome(json.loads(files(vips={"range": cidr})))[1]
    else:
        assert outcome(json.loads(files(vips={"range": cidr})))[1] == []


@given(CIDRS | st.ip_addresses().map(str))
def test_the_rule_of_allow_is_that_of_its_user(cidr: str) -> None:
    try:
        ip_network(cidr)
    except ValueError:
        assert outcome(json.loads(zookeeper(allow=[cidr])))[1]
    else:
        assert outcome(json.loads(zookeeper(allow=[cidr])))[1] == []
