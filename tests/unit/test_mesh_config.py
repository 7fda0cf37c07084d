"""What istiod's mesh configuration has to say: what is printed for it, and everything that is told of a wrong one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from isthmus.config import Config, config_from_text
from isthmus.mcp.transport import utc_now
from isthmus.meshconfig.certificates import shown_by, trusting
from isthmus.meshconfig.findings import findings, remarks
from isthmus.meshconfig.ours import Ours, read_ours
from isthmus.meshconfig.printed import as_json, as_yaml, notes_on
from isthmus.meshconfig.sources import ConfigSource, Reach, config_sources, read_version
from isthmus.meshconfig.stated import mesh_configs
from isthmus.registry.errors import ConfigError
from tests.rig.certificates import Certificates

HOST = "bridge.example"
NAMES = f"DNS:{HOST},DNS:*.{HOST},DNS:xds.mesh.svc,IP:10.0.0.7,IP:fd00::7"
KUBERNETES = {"address": "k8s://"}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Give certificates of one authority, `named` among them."""
    made = Certificates(tmp_path_factory.mktemp("certificates"))
    made.issue("named", names=NAMES)
    return made


@pytest.fixture(scope="module")
def tls(certificates: Certificates) -> dict[str, str]:
    """Give the `tls` of a listener whose file holds its authority, too."""
    named = certificates.cert_file.with_name("named.pem")
    chain = named.with_name("chain.pem")
    chain.write_text(named.read_text() + certificates.ca_file.read_text())
    return {"certificate": str(chain), "key": str(named.with_suffix(".key"))}


def config(**settings: object) -> Config:
    settings = {"listen": "0.0.0.0:16100", "plaintext": "anywhere", **settings}
    return config_from_text(json.dumps({"sources": [{"kind": "files", "directory": "d"}], **settings}), {})


def printed(
    configuration: Config, host: str = HOST, namespace: str = "", version: str = "", ca: str = "", listener: int = 0
) -> tuple[ConfigSource, ...]:
    chosen = configuration.all_listeners[listener]
    shown = shown_by(chosen)
    if ca:
        shown = trusting(shown, ca, utc_now())
    reach = Reach(host=host, namespace=namespace, version=read_version(version) if version else None)
    return config_sources(chosen, reach, shown)


def refused(configuration: Config, **how: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        printed(configuration, **how)
    return "\n".join(caught.value.mistakes)


def addresses(sources: tuple[ConfigSource, ...]) -> list[str]:
    return [source.address for source in sources]


# What is printed.


def test_one_shard() -> None:
    assert addresses(printed(config())) == [f"xds://{HOST}:16100", "k8s://"]


def test_a_port_for_each_shard() -> None:
    assert addresses(printed(config(shards=3), "xds", "mesh")) == [
        *("xds://xds.mesh.svc:16100", "xds://xds.mesh.svc:16101", "xds://xds.mesh.svc:16102"),
        "k8s://",
    ]


def test_a_name_for_each_shard() -> None:
    listener = {"name": "one-port", "address": "0.0.0.0:17000", "shards": 2, "routing": "authority"}
    both = config(listeners=[listener])

    assert addresses(printed(both, listener=1)) == [
        *(f"xds://shard-0-of-2.{HOST}:17000", f"xds://shard-1-of-2.{HOST}:17000"),
        "k8s://",
    ]
    assert addresses(printed(both, "xds", "mesh", listener=1)) == [
        *("xds://xds-shard-0-of-2.mesh.svc:17000", "xds://xds-shard-1-of-2.mesh.svc:17000"),
        "k8s://",
    ]


def test_an_IPv6_address_has_brackets() -> None:
    assert addresses(printed(config(), "fd00::1")) == ["xds://[fd00::1]:16100", "k8s://"]


def test_TLS_as_istiod_can_do_it(tls: dict[str, str], certificates: Certificates) -> None:
    source, kubernetes = json.loads(as_json(printed(config(tls=tls))))["configSources"]

    assert source == {
        "address": f"xds://{HOST}:16100",
        "tlsSettings": {
            "mode": "SIMPLE",
            "sni": HOST,
            "subjectAltNames": [HOST],
            "caCertificates": certificates.ca_file.read_text(),
        },
    }
    assert kubernetes == KUBERNETES


def test_istiod_compares_a_wildcard_to_the_letter(tls: dict[str, str]) -> None:
    listener = {"name": "b", "address": "0.0.0.0:17000", "shards": 2, "routing": "authority", "tls": tls}
    sources = printed(config(listeners=[listener]), listener=1)

    settings = [source.tls_settings for source in sources[:2]]
    # gRPC calls the server by `sni` where there is one, so it has to say the shard as well.
    assert [one.sni for one in settings if one] == [f"shard-0-of-2.{HOST}", f"shard-1-of-2.{HOST}"]
    assert {one.subject_alt_names for one in settings if one} == {(f"*.{HOST}",)}


@pytest.mark.parametrize("host", ["10.0.0.7", "fd00::7"])
def test_an_address_is_found_in_the_certificate_without_names(host: str, tls: dict[str, str]) -> None:
    settings = printed(config(tls=tls), host)[0].tls_settings
    assert settings is not None
    assert (settings.sni, settings.subject_alt_names) == ("", ())


def test_an_authority_that_is_not_in_the_file_is_given(certificates: Certificates, tls: dict[str, str]) -> None:
    alone = {**tls, "certificate": str(certificates.cert_file.with_name("named.pem"))}
    assert "give the authority's with --ca FILE" in refused(config(tls=alone))

    settings = printed(config(tls=alone), ca=str(certificates.ca_file))[0].tls_settings
    assert settings is not None
    assert settings.ca_certificates == certificates.ca_file.read_text()


def test_a_certificate_that_vouches_for_itself(certificates: Certificates) -> None:
    certificate, key = certificates.issue_by_itself("own")
    sources = printed(config(tls={"certificate": str(certificate), "key": str(key)}))
    assert sources[0].tls_settings is not None
    assert sources[0].tls_settings.ca_certificates == certificate.read_text()


GOLDEN = """\
# Of istiod's mesh configuration, by isthmus mesh-config.
# istiod reads this once, as it starts: restart it after every change here.
# Start the bridge before istiod: an istiod that cannot reach a source as it starts exits.
# The order counts: of two resources with one kind, namespace and name the first source's is used.
# Sidecars answer for the hosts' names only with DNS capture: defaultConfig (docs/operations.md#names).
# Each source is one of 2 shards: list all of them, each once, or istiod deletes what is missing.
# k8s://, to the letter: without it istiod stops reading its own custom resources.
configSources:
- address: xds://bridge.example:16100
- address: xds://bridge.example:16101
- address: k8s://
"""


def test_the_YAML_says_what_is_to_be_known() -> None:
    sharded = config(shards=2)
    assert as_yaml(printed(sharded), notes_on(sharded.all_listeners[0], Reach(host=HOST), None)) == GOLDEN


def test_YAML_and_JSON_say_the_same(tls: dict[str, str]) -> None:
    secured = config(shards=2, tls=tls)
    sources = printed(secured)
    notes = notes_on(secured.all_listeners[0], Reach(host=HOST), shown_by(secured.all_listeners[0]))

    text = as_yaml(sources, notes)
    assert yaml.safe_load(text) == json.loads(as_json(sources))
    assert yaml.safe_load(text)["configSources"][-1] == KUBERNETES
    assert "    caCertificates: |\n      -----BEGIN CERTIFICATE-----\n" in text
    assert "TLS needs istiod 1.26 or newer" in text


def test_what_is_printed_for_Slimes_istiod_says_so() -> None:
    slime = config(listeners=[{"name": "slime", "address": "0.0.0.0:17000", "form": "slime"}]).listeners[0]
    assert "For Slime's istiod ONLY" in notes_on(slime, Reach(host=HOST), None)[0]


def test_with_TLS_shards_have_one_address_where_the_certificate_knows_it(tls: dict[str, str]) -> None:
    listener = {"name": "b", "address": "0.0.0.0:17000", "shards": 2, "routing": "authority", "tls": tls}
    both = config(listeners=[listener])
    reach = Reach(host=HOST)
    sources = printed(both, listener=1)

    assert addresses(sources) == [f"xds://{HOST}:17000"] * 2 + ["k8s://"]
    assert [one.tls_settings.sni for one in sources if one.tls_settings] == [
        f"shard-{shard}-of-2.{HOST}" for shard in (0, 1)
    ]
    assert found(both, listed(sources)) == []
    notes = notes_on(both.listeners[0], reach, shown_by(both.listeners[0]))
    assert any("All shards have one address" in note for note in notes)
    # A host that the certificate does not know may be the end of names and nothing else.
    below = Certificates(Path(tls["key"]).parent / "below")
    certificate, key = below.issue("below", names=f"DNS:*.{HOST}")
    alone = config(listeners=[{**listener, "tls": {"certificate": str(certificate), "key": str(key)}}])
    assert addresses(printed(alone, listener=1, ca=str(below.ca_file)))[0] == f"xds://shard-0-of-2.{HOST}:17000"


# What is not printed.


@pytest.mark.parametrize(
    ("settings", "how", "word"),
    [
        ({"listen": "127.0.0.1:16100"}, {}, "listens on loopback only"),
        ({"listen": "127.0.0.1:16100"}, {"host": "xds", "namespace": "mesh"}, "listens on loopback only"),
        ({"listen": "127.0.0.1:16100"}, {"host": "::1"}, "listens on 127.0.0.1 only, where '::1' does not lead"),
        ({"listen": "[::1]:16100"}, {"host": "127.0.0.1"}, "listens on ::1 only"),
        ({"listen": "10.0.0.5:16100"}, {"host": "localhost"}, "listens on 10.0.0.5 only"),
        ({"listen": "0.0.0.0:0"}, {}, "port 0"),
        ({}, {"host": "bridge:16100"}, "is no name or address"),
        ({}, {"host": "https://bridge"}, "is no name or address"),
        ({}, {"host": "xds.mesh", "namespace": "mesh"}, "is no name of a Service"),
        ({}, {"host": "xds", "namespace": "Mesh"}, "is no namespace"),
    ],
)
def test_an_istiod_that_would_not_get_there(settings: dict[str, Any], how: dict[str, str], word: str) -> None:
    assert word in refused(config(**settings), **how)


def test_a_shard_cannot_be_named_below_an_address() -> None:
    listener = {"name": "b", "address": "0.0.0.0:17000", "shards": 2, "routing": "authority"}
    both = config(listeners=[listener])
    assert "cannot be an address" in refused(both, host="10.0.0.7", listener=1)
    assert "too long" in refused(both, host="x" * 60, namespace="mesh", listener=1)


def test_loopback_leads_to_loopback() -> None:
    for bound, host in (("127.0.0.1", "127.0.0.1"), ("127.0.0.1", "localhost"), ("localhost", "127.0.0.1")):
        assert addresses(printed(config(listen=f"{bound}:16100"), host))[0] == f"xds://{host}:16100"
    assert addresses(printed(config(listen="[::1]:16100"), "::1"))[0] == "xds://[::1]:16100"


def test_that_few_resolvers_know_names_below_localhost_is_said() -> None:
    whole = config(listeners=LISTENERS)
    listener = whole.listeners[-1]
    assert listener.name == "here-named"
    assert any("its /etc/hosts" in note for note in notes_on(listener, Reach(host="localhost"), None))
    assert not any("/etc/hosts" in note for note in notes_on(listener, Reach(host=HOST), None))
    sources = printed(whole, "localhost", listener=len(LISTENERS))
    told = [path for path, _ in noted(whole, listed(sources))]
    assert told == [f"configSources[{index}].address" for index in (0, 1)]


def test_TLS_that_istiod_would_not_do(tls: dict[str, str], certificates: Certificates) -> None:
    assert "istiod 1.25 does not" in refused(config(tls=tls), version="1.25.4")
    assert printed(config(tls=tls), version="1.26.0")
    asking = {**tls, "clientCa": str(certificates.ca_file)}
    assert "istiod shows none" in refused(config(tls=asking))
    assert f"not one of other.example, so istiod would refuse it; it names {HOST}" in refused(
        config(tls=tls), host="other.example"
    )


def test_an_authority_that_does_not_vouch(tls: dict[str, str], tmp_path: Path) -> None:
    other = Certificates(tmp_path)
    assert "vouches for the certificate" in refused(config(tls=tls), ca=str(other.ca_file))
    assert "holds no certificate" in refused(config(tls=tls), ca=str(other.key_file))
    assert "cannot be read" in refused(config(tls=tls), ca=str(tmp_path / "gone.pem"))
    assert "has no certificate" in refused(config(), ca=str(other.ca_file))


@pytest.mark.parametrize("text", ["", "1", "v1.26", "1.26b", "latest"])
def test_what_is_no_version(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a version such as"):
        read_version(text)


# What is found in one.


def ours(configuration: Config, version: str = "") -> Ours:
    return read_ours(configuration, read_version(version) if version else None, utc_now())


def found(configuration: Config, sources: list[Any], version: str = "") -> list[tuple[str, str]]:
    """Return the path and the text of everything that is found."""
    (stated,) = mesh_configs(json.dumps({"configSources": sources}))
    return [(one.path, one.message) for one in findings(stated, ours(configuration, version))]


def at(port: int = 16100, host: str = HOST, **settings: Any) -> dict[str, Any]:
    return {"address": f"xds://{host}:{port}", **({"tlsSettings": settings} if settings else {})}


def listed(sources: tuple[ConfigSource, ...]) -> list[Any]:
    built: list[Any] = json.loads(as_json(sources))["configSources"]
    return built


def test_what_is_printed_is_right(tls: dict[str, str]) -> None:
    authority = {"name": "b", "address": "0.0.0.0:17000", "shards": 4, "routing": "authority", "tls": tls}
    whole = config(shards=3, tls=tls, listeners=[authority])

    for listener in (0, 1):
        assert found(whole, listed(printed(whole, listener=listener))) == []
    assert found(config(), listed(printed(config()))) == []


LISTENERS = [
    {"name": "more", "address": "0.0.0.0:17000", "shards": 2},
    {"name": "named", "address": "0.0.0.0:18000", "shards": 2, "routing": "authority"},
    {"name": "slime", "address": "0.0.0.0:19000", "form": "slime"},
    {"name": "shop", "address": "0.0.0.0:20000", "namespaces": ["shop"]},
    {"name": "bank", "address": "0.0.0.0:20001", "namespaces": ["bank"]},
    {"name": "here", "address": "127.0.0.1:21000"},
    {"name": "here-too", "address": "[::1]:22000"},
    {"name": "network", "address": "10.0.0.5:23000"},
    {"name": "here-named", "address": "127.0.0.1:24000", "shards": 2, "routing": "authority"},
]
WRONG = [
    ([], "", "there is none"),
    ([at()], "", "`- address: k8s://` is missing"),
    ([at(), {"address": "k8s://other/x"}, KUBERNETES], "[1].address", "write `k8s://`, to the letter"),
    ([at(), {}, KUBERNETES], "[1]", "has no address"),
    ([at(), 7, KUBERNETES], "[1]", "has no address"),
    ([at(), {"address": "bridge:16100"}, KUBERNETES], "[1].address", "write xds://HOST:PORT"),
    ([at(), {"address": "http://bridge:16100"}, KUBERNETES], "[1].address", "write xds://HOST:PORT"),
    ([at(), {"address": "xds://bridge"}, KUBERNETES], "[1].address", "has no port"),
    ([at(), {"address": "xds://bridge:x"}, KUBERNETES], "[1].address", "is no URL"),
    ([at(), {"address": " k8s://"}, KUBERNETES], "[1].address", "is no URL"),
    ([at(15010, "other"), KUBERNETES], "", "whose ports are 16100, 17000 to 17001, 18000,"),
    ([at(), at(16014), KUBERNETES], "[1].address", "16014 is the port of no listener here"),
    ([at(), at(), KUBERNETES], "[1].address", "is listed before, as configSources[0]"),
    ([at(), at(host="replica-2"), KUBERNETES], "[1].address", "replicas share one name"),
    ([{"address": f"xds://{HOST}:16100?type=sidecar"}, KUBERNETES], "[0].address", "drops a path and `?type=`"),
    ([{"address": f"xds://{HOST}:16100/debug"}, KUBERNETES], "[0].address", "drops a path"),
    ([at(17001), KUBERNETES], "", "listener more has 2 shards, and 0 (from 0) is not listed"),
    ([at(17000), at(17001), at(17002), KUBERNETES], "[2].address", "17002 is the port of no listener here"),
    ([at(17000), at(17001), at(16100), KUBERNETES], "[2].address", "listener xds, and configSources[0] to more"),
    ([at(18000), KUBERNETES], "[0].address", "would ask for no shard by this name"),
    ([at(18000, f"shard-1-of-4.{HOST}"), KUBERNETES], "[0].address", "would ask for shard 1 of 4"),
    ([at(18000, f"shard-2-of-2.{HOST}"), KUBERNETES], "[0].address", "has `shard-N-of-2`, N from 0 to 1"),
    ([at(18000, "x-shard-1-of-2.mesh.svc"), KUBERNETES], "", "and 0 (from 0) is not listed"),
    ([at(21000), KUBERNETES], "[0].address", "is on loopback only, where this does not lead"),
    ([at(21000, "[::1]"), KUBERNETES], "[0].address", "is on 127.0.0.1 only, where this does not lead"),
    ([at(22000, "127.0.0.1"), KUBERNETES], "[0].address", "is on ::1 only, where this does not lead"),
    ([at(23000, "127.0.0.1"), KUBERNETES], "[0].address", "is on 10.0.0.5 only, where this does not lead"),
    ([at(mode="SIMPLE"), KUBERNETES], "[0].tlsSettings.mode", "istiod would speak TLS, and listener xds"),
    ([at(mode=1), KUBERNETES], "[0].tlsSettings.mode", "istiod would speak TLS, and listener xds"),
    ([at(mode="ISTIO_MUTUAL"), KUBERNETES], "[0].tlsSettings.mode", "istiod takes this for plaintext"),
    ([at(mode="simple"), KUBERNETES], "[0].tlsSettings.mode", "is no mode of istiod's"),
]


@pytest.mark.parametrize(("sources", "path", "word"), WRONG)
def test_a_misconfiguration_is_named_alone(sources: list[Any], path: str, word: str) -> None:
    ((where, text),) = found(config(listeners=LISTENERS), sources)
    assert where == f"configSources{path}"
    assert word in text


def test_sources_that_are_right() -> None:
    listeners = config(listeners=LISTENERS)
    elsewhere = [{"address": "xds://nacos:18848"}, {"address": "fs:///etc/istio"}]
    assert found(listeners, [at(), *elsewhere, KUBERNETES]) == []
    assert found(listeners, [at(mode="DISABLE"), {"address": "k8s:///"}]) == []
    # Two views that have nothing in common can be listed together.
    assert found(listeners, [at(20000), at(20001), KUBERNETES]) == []
    for right in (at(21000, "localhost"), at(21000, "127.0.0.1"), at(22000, "[::1]"), at(22000, "localhost")):
        assert found(listeners, [right, KUBERNETES]) == []
    for host in ("[::1]", "127.0.0.1", "10.0.0.5"):
        assert found(listeners, [at(16100, host), KUBERNETES]) == []


def test_every_shard_that_is_missing_is_named() -> None:
    ((_, text),) = found(config(shards=8), [at(16100 + shard) for shard in (0, 3, 5, 6)] + [KUBERNETES])
    assert "has 8 shards, and 1, 2, 4, 7 (from 0) is not listed" in text


def wrong_tls(tls: dict[str, str], settings: dict[str, Any], host: str = HOST, version: str = "") -> Any:
    ((path, text),) = found(config(tls=tls), [at(host=host, **settings), KUBERNETES], version)
    return path.removeprefix("configSources[0]."), text


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ({}, "address"),
        ({"sni": HOST}, "tlsSettings"),
        ({"mode": "DISABLE"}, "tlsSettings.mode"),
        ({"mode": "MUTUAL"}, "tlsSettings.mode"),
        ({"mode": "ISTIO_MUTUAL"}, "tlsSettings.mode"),
    ],
)
def test_what_istiod_takes_for_plaintext(settings: dict[str, object], path: str, tls: dict[str, str]) -> None:
    where, text = wrong_tls(tls, settings)
    assert where == path
    assert "istiod takes this for plaintext, without a word, and listener xds speaks TLS" in text


def test_every_fault_of_TLS(tls: dict[str, str], certificates: Certificates, tmp_path: Path) -> None:
    authority = certificates.ca_file.read_text()
    right: dict[str, Any] = {"mode": "SIMPLE", "sni": HOST, "subjectAltNames": [HOST], "caCertificates": authority}
    assert found(config(tls=tls), [at(**right), KUBERNETES]) == []

    for change, path, word in (
        ({"caCertificates": "/etc/certs/ca.pem"}, "caCertificates", "and not a path"),
        ({"caCertificates": "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----"}, "caCertificates", "read"),
        ({"caCertificates": Certificates(tmp_path).ca_file.read_text()}, "caCertificates", "nobody in it vouches"),
        ({"caCertificates": ""}, "", "believes every authority that its system knows"),
        ({"credentialName": "ca"}, "caCertificates", "takes either this or `credentialName`"),
        ({"sni": "other.example"}, "sni", f"which names {HOST}"),
        ({"subjectAltNames": [f"shard-0.{HOST}"]}, "subjectAltNames", "to the letter, with the DNS names"),
        ({"insecureSkipVerify": True}, "insecureSkipVerify", "would believe whoever answers"),
    ):
        where, text = wrong_tls(tls, {**right, **change})
        assert where == f"tlsSettings.{path}".rstrip(".")
        assert word in text

    where, text = wrong_tls(tls, {**right, "sni": ""}, "other.example")
    assert where == "address"
    assert "set `sni`" in text
    where, text = wrong_tls(tls, right, version="1.25")
    assert "istiod 1.25 speaks plaintext, whatever stands here" in text
    asking = {**tls, "clientCa": str(certificates.ca_file)}
    assert "istiod shows none" in wrong_tls(asking, right)[1]


def noted(configuration: Config, sources: list[Any]) -> list[tuple[str, str]]:
    """Return the path and the text of what is worth knowing of sources with which nothing is wrong."""
    assert found(configuration, sources) == []
    (stated,) = mesh_configs(json.dumps({"configSources": sources}))
    return [(one.path, one.message) for one in remarks(stated, ours(configuration))]


def test_what_may_be_as_it_should_is_told_apart(tls: dict[str, str]) -> None:
    listeners = config(listeners=LISTENERS)
    ((path, text),) = noted(listeners, [at(19000), KUBERNETES])
    assert (path, "any other deletes all the rest" in text) == ("configSources[0].address", True)
    named = [at(24000, f"shard-{shard}-of-2.localhost") for shard in (0, 1)]
    assert ["few resolvers know" in text for _, text in noted(listeners, [*named, KUBERNETES])] == [True, True]

    settings: dict[str, Any] = {"mode": "SIMPLE", "sni": HOST, "subjectAltNames": [HOST], "credentialName": "ca"}
    ((path, text),) = noted(config(tls=tls), [at(**settings), KUBERNETES])
    assert (path, "reads that Secret once" in text) == ("configSources[0].tlsSettings.credentialName", True)
    assert noted(listeners, [at(), KUBERNETES]) == []


def test_the_spelling_of_protobuf_is_read_as_well(tls: dict[str, str], certificates: Certificates) -> None:
    settings = {"mode": "SIMPLE", "ca_certificates": "/etc/ca.pem", "subject_alt_names": [HOST]}
    source = {"address": f"xds://{HOST}:16100", "tls_settings": settings}
    (stated,) = mesh_configs(json.dumps({"config_sources": [source, KUBERNETES]}))
    (one,) = findings(stated, ours(config(tls=tls)))
    assert "and not a path" in one.message


def test_sni_is_the_name_by_which_a_shard_is_asked_for(tls: dict[str, str], certificates: Certificates) -> None:
    listener = {"name": "b", "address": "0.0.0.0:17000", "shards": 2, "routing": "authority", "tls": tls}
    whole = config(listeners=[listener])
    sources = listed(printed(whole, listener=1))
    for source in sources[:2]:
        source["tlsSettings"].update(sni=HOST, subjectAltNames=[HOST])

    assert [text.partition(" by this name")[0] for _, text in found(whole, sources)] == [
        "istiod would ask for no shard"
    ] * 2


# Where it stands.

MESH = """\
rootNamespace: istio-system
configSources:
- address: xds://bridge.example:16100
- address: xds://bridge.example:16014
- address: k8s://
"""


def indented(text: str, by: int) -> str:
    return "".join(f"{' ' * by}{line}\n" for line in text.splitlines())


FORMS = [
    (MESH, "configSources[1].address", 4),
    (f"# values\nmeshConfig:\n{indented(MESH, 2)}", "meshConfig.configSources[1].address", 6),
    (f"istiod:\n  meshConfig:\n{indented(MESH, 4)}", "istiod.meshConfig.configSources[1].address", 6),
    (
        f"apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nspec:\n  meshConfig:\n{indented(MESH, 4)}",
        "spec.meshConfig.configSources[1].address",
        8,
    ),
    (
        f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio}}\ndata:\n  mesh: |-\n{indented(MESH, 4)}",
        "data.mesh.configSources[1].address",
        9,
    ),
    (
        f"kind: List\nitems:\n- kind: ConfigMap\n  data:\n    other: x\n    mesh: {json.dumps(MESH)}\n",
        "items[0].data.mesh.configSources[1].address",
        6,
    ),
]


@pytest.mark.parametrize(("text", "path", "line"), FORMS)
def test_a_mesh_configuration_is_found_where_operators_keep_it(text: str, path: str, line: int) -> None:
    (stated,) = mesh_configs(text)
    (one,) = findings(stated, ours(config()))
    assert (one.path, one.line) == (path, line)


def test_one_without_sources_is_one_all_the_same() -> None:
    (stated,) = mesh_configs("rootNamespace: istio-system\n")
    (one,) = findings(stated, ours(config()))
    assert "there is none" in one.message


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("kind: Service\n", "holds no mesh configuration"),
        ("- a\n", "holds no mesh configuration"),
        ("", "holds no mesh configuration"),
        ("kind: ConfigMap\ndata: {mesh: 'a: ['}\n", "data.mesh"),
        ("kind: ConfigMap\ndata: {mesh: ''}\n", "data.mesh: holds no mesh configuration"),
    ],
)
def test_a_file_without_one(text: str, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        mesh_configs(text)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)
ADDRESSES = st.builds(
    "{}{}{}".format,
    st.sampled_from(["xds://", "k8s://", "fs://", "xds:", "", "xds://[", "//"]),
    st.sampled_from(["", HOST, f"shard-1-of-2.{HOST}", "127.0.0.1", "[::1]", "a@b", "\u2100"]),
    st.sampled_from(["", ":16100", ":17001", ":18000", ":x", ":99999", ":18000/a?b#c"]),
)
SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "mode": st.sampled_from(["SIMPLE", "MUTUAL", 1, 9]) | JUNK,
        "sni": st.sampled_from([HOST, ""]) | JUNK,
        "subjectAltNames": st.lists(st.sampled_from([HOST, "x"])) | JUNK,
        "caCertificates": st.sampled_from(["", "/ca.pem", "-----BEGIN CERTIFICATE-----"]) | JUNK,
        "credentialName": st.sampled_from(["", "ca"]) | JUNK,
        "insecureSkipVerify": JUNK,
    },
)
SOURCES = st.fixed_dictionaries({}, optional={"address": ADDRESSES | JUNK, "tlsSettings": SETTINGS | JUNK}) | JUNK


@given(st.lists(SOURCES, max_size=4) | JUNK, st.booleans())
def test_whatever_a_mesh_configuration_holds_is_told_of_with_its_place(
    tls: dict[str, str], listed: object, secured: bool
) -> None:
    (stated,) = mesh_configs(json.dumps({"configSources": listed, "rootNamespace": "x"}))
    compared = ours(config(listeners=LISTENERS, **({"tls": tls} if secured else {})))
    told = [*findings(stated, compared), *remarks(stated, compared)]
    assert all(one.path.startswith("configSources") and one.line == 1 for one in told)
    addresses = [one.get("address") for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    if "k8s://" not in addresses:
        assert told
