"""Real Nacos servers, of 2.x and 3.x, spoken to over HTTP.

What differs from a Nacos out of its box: no console. Nacos 3 has its pages on a port of their own and misses nothing
but them. Nacos 2 has them beside the others; of those the rig answers `/v1/console/namespaces` (GET and POST),
`/v2/console/namespace/list` and `/v1/console/server/state` itself, in the same words. Users are not cached, so that
one can log in as soon as it is created; a Nacos by default lets it wait for up to 15 s.
"""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import ssl
import uuid
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlencode

from tests.rig.certificates import KEYSTORE_PASSWORD
from tests.rig.java import java_command
from tests.rig.process import PORTS, Process, free_port

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.rig.certificates import Certificates

Version = Literal["2", "3"]

USER = "nacos"
PASSWORD = "rig-password"
DEFAULT_GROUP = "DEFAULT_GROUP"
DEFAULT_CLUSTER = "DEFAULT"
# Nacos derives these from the HTTP port, and no setting changes them.
RAFT, GRPC, GRPC_OF_SERVERS = -1000, 1000, 1001
ANSWER_TIMEOUT_S = 10.0
_TOKEN_SECRET = "cmlnLXJpZy1yaWctcmlnLXJpZy1yaWctcmlnLXJpZy1yaWc="  # base64 of 35 bytes; Nacos wants 32


class NacosError(AssertionError):
    """A Nacos refused what a test asked of it."""

    def __init__(self, request: str, status: int, body: str) -> None:
        super().__init__(f"{request}: status {status}: {body[:500]}")
        self.status = status
        self.body = body


class Nacos(Process):
    """One standalone server; HTTP on 127.0.0.1, gRPC and Raft on all addresses where Nacos knows no other way.

    Ephemeral instances are in its memory only: after a restart they are gone until their clients come back. Its
    files (namespaces, users, persistent instances, what was set for a service) outlive a restart.

    auth: nothing but a few pages is answered without a token; USER with PASSWORD is the administrator.
    token_ttl_s: how long a token is good for; Nacos's own default is five hours.
    certificates: HTTP and gRPC take TLS and nothing else, with these.
    settings: lines for its application.properties, stronger than the rig's.
    """

    def __init__(
        self,
        directory: Path,
        *,
        version: Version = "3",
        auth: bool = False,
        token_ttl_s: int = 18_000,
        certificates: Certificates | None = None,
        heap: str = "400m",
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.version = version
        self.auth = auth
        self.certificates = certificates
        self.http_port = _free_ports()
        self.grpc_port = self.http_port + GRPC
        self.address = f"127.0.0.1:{self.http_port}"
        self.url = f"{'https' if certificates else 'http'}://{self.address}"
        self._token = ""
        self._settings = {
            **_COMMON_SETTINGS,
            **_port_settings(version, self.http_port),
            **_auth_settings(auth=auth, token_ttl_s=token_ttl_s),
            **(_tls_settings(certificates) if certificates else {}),
            **(settings or {}),
        }
        self._data = directory / "data"
        self._file = directory / "conf" / "application.properties"
        command = java_command(
            f"nacos{version}",
            "rig.NacosServer",
            f"--spring.config.additional-location=file:{self._file.parent}/",
            heap=heap,
            home=directory,
            properties={
                "nacos.standalone": "true",
                "nacos.home": str(directory),
                "nacos.server.ip": "127.0.0.1",
                "nacos.remote.grpc.listen.ip": "127.0.0.1",  # read by Nacos 3
                "derby.system.durability": "test",  # no waiting for the disk; a killed process loses nothing by it
            },
        )
        super().__init__(f"nacos{version}-{self.http_port}", command, directory)

    def launch(self) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_text("".join(f"{key}={value}\n" for key, value in self._settings.items()))
        super().launch()

    def ready(self) -> bool:
        status, _ = self.ask("GET", _PAGES[self.version]["ready"])
        if status != http.client.OK:
            return False
        with socket.create_connection(("127.0.0.1", self.grpc_port), ANSWER_TIMEOUT_S):
            pass
        return not self.auth or self._log_in()

    def restart(self, *, empty: bool = False) -> None:
        """Start an ended server again; `empty`: without its files too, as a new one at the old address."""
        if empty:
            shutil.rmtree(self._data)
        self.start()

    def create_namespace(self, namespace: str, name: str) -> None:
        """Create a namespace; raise `NacosError` when there is one with this id."""
        fields = {"customNamespaceId": namespace, "namespaceId": namespace, "namespaceName": name}
        created = self._page("POST", "namespace", fields)
        if created is not True:
            raise NacosError(f"create_namespace({namespace})", http.client.OK, json.dumps(created))

    def new_namespace(self) -> str:
        """Create a namespace that no test had yet; return its id."""
        namespace = f"test-{uuid.uuid4().hex[:12]}"
        self.create_namespace(namespace, namespace)
        return namespace

    def namespaces(self) -> dict[str, str]:
        """Return the names of all namespaces by their ids; that of `public` is empty in Nacos 2, "public" in 3."""
        return {entry["namespace"]: entry["namespaceShowName"] for entry in self._page("GET", "namespaces")}

    def services(self, namespace: str = "") -> set[tuple[str, str]]:
        """Return the (group, service) pairs of a namespace, of those with and without instances."""
        page = self._page("GET", "services", {"namespaceId": namespace, "pageNo": 1, "pageSize": 500})
        entries = page["serviceList"] if self.version == "2" else page["pageItems"]
        return {(entry["groupName"], entry["name"]) for entry in entries}

    def instances(self, service: str, *, group: str = DEFAULT_GROUP, namespace: str = "") -> list[dict[str, Any]]:
        """Return the instances that a client is told of: the enabled ones of all clusters, healthy or not.

        What was registered or set shows after some milliseconds.
        """
        fields = {"serviceName": service, "groupName": group, "namespaceId": namespace}
        hosts: list[dict[str, Any]] = self._page("GET", "instances", fields)["hosts"]
        return hosts

    def create_service(
        self,
        service: str,
        *,
        group: str = DEFAULT_GROUP,
        namespace: str = "",
        protect_threshold: float = 0.0,
        ephemeral: bool = True,
    ) -> None:
        """Create a service without instances; Nacos removes an empty one after a minute or more."""
        fields = _service(service, group, namespace, protect_threshold)
        self._page("POST", "service", {**fields, "ephemeral": ephemeral})

    def set_protect_threshold(
        self, service: str, value: float, *, group: str = DEFAULT_GROUP, namespace: str = ""
    ) -> None:
        """Set the share (0 to 1) of healthy instances below which all of a service's are shown as healthy."""
        self._page("PUT", "service", _service(service, group, namespace, value))

    def register(
        self,
        service: str,
        ip: str,
        port: int,
        *,
        group: str = DEFAULT_GROUP,
        namespace: str = "",
        cluster: str = DEFAULT_CLUSTER,
        weight: float = 1.0,
        enabled: bool = True,
        healthy: bool = True,
        ephemeral: bool = True,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Register an instance over HTTP.

        An ephemeral one is unhealthy after 15 s without a beat and gone after 30 s; nobody sends beats for it.
        The server checks a persistent one itself: by a TCP connection, unless the cluster says otherwise.
        """
        fields = _instance(service, ip, port, group, namespace, cluster)
        state = {"weight": weight, "enabled": enabled, "healthy": healthy, "ephemeral": ephemeral}
        self._page("POST", "instance", {**fields, **state, "metadata": json.dumps(metadata or {})})

    def update_instance(
        self,
        service: str,
        ip: str,
        port: int,
        *,
        group: str = DEFAULT_GROUP,
        namespace: str = "",
        cluster: str = DEFAULT_CLUSTER,
        weight: float = 1.0,
        enabled: bool = True,
        ephemeral: bool = True,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Do what an operator does in the console: all of weight, enabled and metadata are set anew.

        What an operator set outlives what the client registers with, and a restart.
        """
        fields = _instance(service, ip, port, group, namespace, cluster)
        state = {"weight": weight, "enabled": enabled, "ephemeral": ephemeral}
        self._page("PUT", "instance", {**fields, **state, "metadata": json.dumps(metadata or {})})

    def deregister(
        self,
        service: str,
        ip: str,
        port: int,
        *,
        group: str = DEFAULT_GROUP,
        namespace: str = "",
        cluster: str = DEFAULT_CLUSTER,
        ephemeral: bool = True,
    ) -> None:
        """Take back what `register` registered; an instance of a Java client stays, it belongs to a connection."""
        fields = _instance(service, ip, port, group, namespace, cluster)
        self._page("DELETE", "instance", {**fields, "ephemeral": ephemeral})

    def create_user(self, name: str, password: str, *, reads: str | None = None) -> None:
        """Create a user without any right, or with the right to read one namespace, by its id in this version."""
        self._page("POST", "user", {"username": name, "password": password})
        if reads is not None:
            role = f"{name}-role"
            self._page("POST", "role", {"username": name, "role": role})
            self._page("POST", "permission", {"role": role, "resource": f"{reads}:*:*", "action": "r"})

    def token(self, user: str = USER, password: str = PASSWORD) -> str:
        """Log in and return the token; raise `NacosError` when Nacos refuses."""
        page = _PAGES[self.version]["login"]
        answer = self.ask("POST", page, {"username": user, "password": password})
        token: str = _parsed(f"POST {page}", answer)["accessToken"]
        return token

    def ask(
        self, method: str, page: str, fields: Mapping[str, object] | None = None, token: str = ""
    ) -> tuple[int, str]:
        """Return status and body of one request below /nacos, of any status; raise OSError when nobody answers."""
        headers = {"accessToken": token} if token else {}
        query = "" if fields is None else f"?{urlencode({key: _text(value) for key, value in fields.items()})}"
        connection = self._connection()
        try:
            connection.request(method, f"/nacos{page}{query}", headers=headers)
            response = connection.getresponse()
            return response.status, response.read().decode()
        except http.client.HTTPException as error:
            raise ConnectionError(f"{method} {page}: {error!r}") from error
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        if self.certificates is None:
            return http.client.HTTPConnection(self.address, timeout=ANSWER_TIMEOUT_S)
        context = ssl.create_default_context(cafile=str(self.certificates.ca_file))
        return http.client.HTTPSConnection(self.address, timeout=ANSWER_TIMEOUT_S, context=context)

    def _page(self, method: str, name: str, fields: Mapping[str, object] | None = None) -> Any:
        page = _PAGES[self.version][name]
        answer = self.ask(method, page, fields, self._token)
        if self.auth and answer[0] == http.client.FORBIDDEN:
            self._token = self.token()  # the last one may have come to its end
            answer = self.ask(method, page, fields, self._token)
        return _parsed(f"{method} {page}", answer)

    def _log_in(self) -> bool:
        """Make the administrator, which only a new server lets anybody do, and take a token."""
        self.ask("POST", _PAGES[self.version]["administrator"], {"password": PASSWORD})
        self._token = self.token()
        return True


def _free_ports() -> int:
    """Return an HTTP port that is free together with those that Nacos derives from it."""
    while True:
        port = free_port()
        if all(_is_free(port + offset) for offset in (RAFT, GRPC, GRPC_OF_SERVERS)):
            return port


def _is_free(port: int) -> bool:
    if port not in PORTS:
        return False
    with socket.socket() as probe:
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True


def _port_settings(version: Version, port: int) -> dict[str, str]:
    if version == "2":
        return {"server.port": str(port), "server.servlet.contextPath": "/nacos"}
    return {"nacos.server.main.port": str(port), "nacos.server.contextPath": "/nacos"}


def _auth_settings(*, auth: bool, token_ttl_s: int) -> dict[str, str]:
    return {
        "nacos.core.auth.enabled": _text(auth),
        "nacos.core.auth.admin.enabled": _text(auth),
        "nacos.core.auth.system.type": "nacos",
        "nacos.core.auth.caching.enabled": "false",
        "nacos.core.auth.server.identity.key": "rig",
        "nacos.core.auth.server.identity.value": "rig",
        "nacos.core.auth.plugin.nacos.token.secret.key": _TOKEN_SECRET,
        "nacos.core.auth.plugin.nacos.token.expire.seconds": str(token_ttl_s),
    }


def _tls_settings(certificates: Certificates) -> dict[str, str]:
    grpc = "nacos.remote.server.rpc.tls"
    return {
        "server.ssl.key-store": str(certificates.keystore_file),
        "server.ssl.key-store-type": "PKCS12",
        "server.ssl.key-store-password": KEYSTORE_PASSWORD,
        f"{grpc}.enableTls": "true",
        f"{grpc}.compatibility": "false",
        # a URL: Nacos looks for an absolute path on its class path
        f"{grpc}.certChainFile": certificates.cert_file.as_uri(),
        f"{grpc}.certPrivateKey": certificates.key_file.as_uri(),
    }


def _service(service: str, group: str, namespace: str, protect_threshold: float) -> dict[str, object]:
    name = {"serviceName": service, "groupName": group, "namespaceId": namespace}
    return {**name, "protectThreshold": protect_threshold, "metadata": "{}"}


def _instance(service: str, ip: str, port: int, group: str, namespace: str, cluster: str) -> dict[str, object]:
    name = {"serviceName": service, "groupName": group, "namespaceId": namespace}
    return {**name, "ip": ip, "port": port, "clusterName": cluster}


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _parsed(request: str, answer: tuple[int, str]) -> Any:
    """Return what an answer holds, without the wrapping that some pages have; raise `NacosError` for a refusal."""
    status, body = answer
    if status != http.client.OK:
        raise NacosError(request, status, body)
    if body == "ok":
        return body
    content = json.loads(body)
    if not isinstance(content, dict) or "code" not in content:
        return content
    if content["code"] not in (0, http.client.OK):
        raise NacosError(request, status, body)
    return content.get("data")


_PAGES: dict[Version, dict[str, str]] = {
    "2": {
        "ready": "/v1/console/server/state",
        "namespace": "/v1/console/namespaces",
        "namespaces": "/v1/console/namespaces",
        "services": "/v1/ns/catalog/services",
        "service": "/v1/ns/service",
        "instances": "/v1/ns/instance/list",
        "instance": "/v1/ns/instance",
        "administrator": "/v1/auth/users/admin",
        "login": "/v1/auth/login",
        "user": "/v1/auth/users",
        "role": "/v1/auth/roles",
        "permission": "/v1/auth/permissions",
    },
    "3": {
        "ready": "/v3/admin/core/state/readiness",
        "namespace": "/v3/admin/core/namespace",
        "namespaces": "/v3/admin/core/namespace/list",
        "services": "/v3/admin/ns/service/list",
        "service": "/v3/admin/ns/service",
        "instances": "/v1/ns/instance/list",
        "instance": "/v3/admin/ns/instance",
        "administrator": "/v3/auth/user/admin",
        "login": "/v3/auth/user/login",
        "user": "/v3/auth/user",
        "role": "/v3/auth/role",
        "permission": "/v3/auth/permission",
    },
}
_COMMON_SETTINGS = {
    "server.address": "127.0.0.1",
    "server.error.include-message": "ALWAYS",
    "nacos.inetutils.ip-address": "127.0.0.1",
    "nacos.k8s.sync.enabled": "false",
    "db.pool.config.connectionTimeout": "120000",  # ms; a busy machine may take more than the default of 30 s
    "management.metrics.export.elastic.enabled": "false",
    "management.metrics.export.influx.enabled": "false",
}
