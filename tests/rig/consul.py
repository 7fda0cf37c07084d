"""Real Consul servers, spoken to over HTTP.

What differs from a Consul out of its box: it asks nobody for updates, it is without DNS, gRPC and a WAN, and elects its
leader as quickly as Consul can. There is no leader, for real, when one of a `ConsulPair` is killed: the other refuses
with "No cluster leader", or answers `stale` questions with `X-Consul-Knownleader: false`.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import ssl
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlencode

from tests.rig.build import part
from tests.rig.consul_records import Instance, example, example_node, node_name, operations
from tests.rig.process import START_TIMEOUT_S, Process, free_port

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from tests.rig.certificates import ClientCertificates
    from tests.rig.consul_records import Status

ANSWER_TIMEOUT_S = 30.0
WRITERS = 4
OPERATIONS_OF_A_TRANSACTION = 128
LONG_TTL = "24h"
# Not `serfHealth`: the leader removes nodes that have it and are no members.
NODE_CHECK = "node"


class ConsulError(AssertionError):
    """A Consul refused what a test asked of it."""

    def __init__(self, request: str, status: int, body: str) -> None:
        super().__init__(f"{request}: status {status}: {body[:500]}")
        self.status = status
        self.body = body


class Answer(NamedTuple):
    """One answer, of whatever status; the names of headers are as Consul writes them."""

    request: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    def expect(self) -> Answer:
        """Return the answer; raise `ConsulError` when its status is not 200."""
        if self.status != http.client.OK:
            raise ConsulError(self.request, self.status, self.body.decode(errors="backslashreplace"))
        return self

    def json(self) -> Any:
        """Return what the body says; raise `ConsulError` when the status is not 200."""
        return json.loads(self.expect().body)


class Consul(Process):
    """One server on 127.0.0.1; its ports and what it knows outlive a restart.

    dev: as `consul agent -dev`: ready in some tenths of a second instead of some seconds, and empty after a restart.
    token: ACLs are on and all is denied that no token allows; this one allows all, and the methods below use it.
    certificates: HTTPS and no HTTP; a client must show a certificate.
    hold_s: how long questions wait for a leader before they are refused, or twice that; Consul's own default is 7.
    expect: how many servers there must be before they elect a leader. join: the Serf port of another one.
    settings: further ones, stronger than the rig's.
    """

    def __init__(
        self,
        directory: Path,
        *,
        dev: bool = False,
        datacenter: str = "dc1",
        token: str = "",
        certificates: ClientCertificates | None = None,
        hold_s: float = 7,
        expect: int = 1,
        join: int | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.port = free_port()
        self.serf_port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.url = f"{'https' if certificates else 'http'}://{self.address}"
        self.node = f"rig-{self.port}"
        self.token = token
        self.certificates = certificates
        self._data = directory / f"{self.node}-data"
        self._file = directory / f"{self.node}.json"
        self._settings = {
            **_COMMON_SETTINGS,
            "node_name": self.node,
            "datacenter": datacenter,
            "performance": {"raft_multiplier": 1, "rpc_hold_timeout": f"{hold_s}s"},
            "ports": {
                **_NO_PORTS,
                "https" if certificates else "http": self.port,
                "server": free_port(),
                "serf_lan": self.serf_port,
            },
            **({} if dev else {"data_dir": str(self._data), "bootstrap_expect": expect}),
            **({"retry_join": [f"127.0.0.1:{join}"], "retry_interval": "200ms"} if join else {}),
            **(_acl_settings(token) if token else {}),
            **(_tls_settings(certificates) if certificates else {}),
            **(settings or {}),
        }
        command = [str(part("consul") / "consul"), "agent", "-config-file", str(self._file)]
        super().__init__(self.node, [*command, "-dev"] if dev else command, directory)

    def launch(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self._file.write_text(json.dumps(self._settings, indent=2))
        super().launch()

    def ready(self) -> bool:
        answer = self.ask("GET", "catalog/services")
        return answer.status == http.client.OK and "consul" in answer.json()

    def restart(self, *, empty: bool = False) -> None:
        """Start an ended server again; `empty`: without its data, as a new one at the old address."""
        if empty and self._data.exists():
            shutil.rmtree(self._data)
        self.start()

    def version(self) -> str:
        """Return the version, such as `1.22.5`."""
        version: str = self._page("GET", "agent/self")["Config"]["Version"]
        return version

    def leader(self) -> str:
        """Return host and port of the leader; empty when this server knows of none."""
        answer = self.ask("GET", "status/leader")
        return str(answer.json()) if answer.status == http.client.OK else ""

    def leads(self) -> bool:
        """Tell whether this server is the leader."""
        return self.leader() == f"127.0.0.1:{self._settings['ports']['server']}"

    def register(self, service: str, instance_id: str, **more: Any) -> None:
        """Register an instance with this server's own agent; `more` are the other fields of `Instance`.

        Its check is one of a long TTL that `set_check` gives another status. An instance that is registered already is
        changed, and keeps the status of its check. After a restart a check that `set_check` never set is critical.
        """
        instance = Instance(service, instance_id, **more)
        check = {"CheckID": instance.check_id(), "TTL": LONG_TTL, "Status": instance.status}
        checks = [check] if instance.status else []
        self._page("PUT", "agent/service/register", {"Name": service, **instance.record(), "Checks": checks})

    def deregister(self, instance_id: str) -> None:
        """Take back what `register` registered."""
        self._page("PUT", f"agent/service/deregister/{quote(instance_id, safe='')}")

    def set_check(self, instance_id: str, status: Status, output: str = "") -> None:
        """Set what the check of an instance says that `register` registered."""
        page = f"agent/check/update/{quote(f'service:{instance_id}', safe='')}"
        self._page("PUT", page, {"Status": status, "Output": output})

    def set_maintenance(self, instance_id: str, *, on: bool, reason: str = "") -> None:
        """Put an instance of `register` into maintenance mode, or end it."""
        query = urlencode({"enable": "true" if on else "false", "reason": reason})
        self._page("PUT", f"agent/service/maintenance/{quote(instance_id, safe='')}?{query}")

    def set_node_maintenance(self, *, on: bool) -> None:
        """Put this server's own node into maintenance mode, with all that `register` registered, or end it."""
        self._page("PUT", f"agent/maintenance?{urlencode({'enable': 'true' if on else 'false'})}")

    def put_node(
        self, node: str, address: str, *, meta: Mapping[str, str] | None = None, status: Status | None = None
    ) -> None:
        """Write a node into the catalog, or another address or meta over it; no agent runs there.

        status: of a check of the whole node; None: that check is left as it is.
        """
        check = {"Node": node, "CheckID": NODE_CHECK, "Name": "Node check", "Status": status}
        checks = {"Checks": [check]} if status else {}
        fields = {"Node": node, "Address": address, "NodeMeta": dict(meta or {}), **checks}
        self._page("PUT", "catalog/register", fields)

    def put(self, node: str, service: str, instance_id: str, **more: Any) -> None:
        """Write an instance, and its check, into the catalog at a node of `put_node`; `more` as in `register`."""
        instance = Instance(service, instance_id, **more)
        record = {"Service": service, **instance.record()}
        checks = [instance.check(node)] if instance.status else []
        fields = {"Node": node, "SkipNodeUpdate": True, "Service": record, "Checks": checks}
        self._page("PUT", "catalog/register", fields)

    def remove(self, node: str, instance_id: str | None = None) -> None:
        """Remove an instance from the catalog, with its checks; None: the node with all that it has."""
        instance = {} if instance_id is None else {"ServiceID": instance_id}
        self._page("PUT", "catalog/deregister", {"Node": node, **instance})

    def fill(self, services: int, instances: int, nodes: int) -> None:
        """Write `instances` instances of each of `services` services, by the names of `service_name`, on `nodes` nodes.

        Each has an address and a check of its own; 10,000 take some seconds.
        """
        names = [node_name(index) for index in range(nodes)]
        self._transact({"Node": {"Verb": "set", "Node": example_node(index)}} for index in range(nodes))
        examples = [example(number, instances) for number in range(services * instances)]
        self._transact(operations(examples, names))

    def services(self) -> dict[str, list[str]]:
        """Return the tags of all services by their names, Consul's own among them."""
        services: dict[str, list[str]] = self._page("GET", "catalog/services")
        return services

    def statuses(self, service: str) -> dict[str, str]:
        """Return instance id -> the worst status of its checks and its node's; without any it is passing."""
        entries = self._page("GET", f"health/service/{quote(service, safe='')}")
        return {entry["Service"]["ID"]: _worst(check["Status"] for check in entry["Checks"]) for entry in entries}

    def snapshot(self) -> bytes:
        """Return all that the servers know, to be given to `restore`."""
        return self.ask("GET", "snapshot").expect().body

    def restore(self, snapshot: bytes) -> None:
        """Put what the servers know back to what it was at a snapshot."""
        self.ask("PUT", "snapshot", snapshot).expect()

    def create_token(self, rules: str) -> str:
        """Return the secret of a new token that may do what the rules (HCL) say and nothing else."""
        number = len(self._page("GET", "acl/policies"))
        policy = self._page("PUT", "acl/policy", {"Name": f"rig-{number}", "Rules": rules})
        secret: str = self._page("PUT", "acl/token", {"Policies": [{"ID": policy["ID"]}]})["SecretID"]
        return secret

    def delete_token(self, secret: str) -> None:
        """Delete a token of `create_token`; whoever still uses it is refused."""
        accessor = self.ask("GET", "acl/token/self", token=secret).json()["AccessorID"]
        self._page("DELETE", f"acl/token/{accessor}")

    def run_command(self, *arguments: str | Path) -> str:
        """Run Consul's command line against this server and return what it says on stdout.

        Raises `ConsulError`.
        """
        command = [self.command[0], *map(str, arguments)]
        ended = subprocess.run(
            command, env={**os.environ, **self._command_environment()}, capture_output=True, text=True
        )
        if ended.returncode:
            raise ConsulError(" ".join(command), ended.returncode, ended.stdout + ended.stderr)
        return ended.stdout

    def ask(self, method: str, page: str, body: Any = None, *, token: str | None = None) -> Answer:
        """Return the answer to one request below /v1; raise OSError when nobody answers.

        body: bytes as they are, or what is sent as JSON. token: instead of this server's; empty: none.
        """
        with closing(self._connection()) as connection:
            return self._exchange(connection, method, page, body, token)

    def _page(self, method: str, page: str, body: Any = None) -> Any:
        answer = self.ask(method, page, body).expect()
        return json.loads(answer.body) if answer.body.strip() else None

    def _transact(self, operations: Iterable[dict[str, Any]]) -> None:
        everything = list(operations)
        step = OPERATIONS_OF_A_TRANSACTION
        transactions = [everything[start : start + step] for start in range(0, len(everything), step)]
        with ThreadPoolExecutor(WRITERS) as writers:
            shares = [transactions[start::WRITERS] for start in range(WRITERS)]
            list(writers.map(self._transact_share, shares))

    def _transact_share(self, transactions: list[list[dict[str, Any]]]) -> None:
        with closing(self._connection()) as connection:
            for transaction in transactions:
                self._exchange(connection, "PUT", "txn", transaction).expect()

    def _connection(self) -> http.client.HTTPConnection:
        if self.certificates is None:
            return http.client.HTTPConnection(self.address, timeout=ANSWER_TIMEOUT_S)
        context = ssl.create_default_context(cafile=str(self.certificates.ca_file))
        context.load_cert_chain(self.certificates.client_cert_file, self.certificates.client_key_file)
        return http.client.HTTPSConnection(self.address, timeout=ANSWER_TIMEOUT_S, context=context)

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        page: str,
        body: Any = None,
        token: str | None = None,
    ) -> Answer:
        secret = self.token if token is None else token
        headers = {"X-Consul-Token": secret} if secret else {}
        content = body if body is None or isinstance(body, bytes) else json.dumps(body)
        try:
            connection.request(method, f"/v1/{page}", content, headers)
            response = connection.getresponse()
            return Answer(f"{method} /v1/{page}", response.status, dict(response.getheaders()), response.read())
        except http.client.HTTPException as error:
            raise ConnectionError(f"{method} /v1/{page}: {error!r}") from error

    def _command_environment(self) -> dict[str, str]:
        environment = {"CONSUL_HTTP_ADDR": self.url, "CONSUL_HTTP_TOKEN": self.token}
        if self.certificates:
            environment["CONSUL_CACERT"] = str(self.certificates.ca_file)
            environment["CONSUL_CLIENT_CERT"] = str(self.certificates.client_cert_file)
            environment["CONSUL_CLIENT_KEY"] = str(self.certificates.client_key_file)
        return environment


_COMMON_SETTINGS: dict[str, Any] = {
    "server": True,
    "bind_addr": "127.0.0.1",
    "client_addr": "127.0.0.1",
    "disable_update_check": True,
    "log_level": "INFO",
}
_NO_PORTS = dict.fromkeys(("http", "https", "grpc", "grpc_tls", "dns", "serf_wan"), -1)
_SEVERITIES = ("passing", "warning", "critical")


def _acl_settings(token: str) -> dict[str, Any]:
    tokens = {"initial_management": token, "agent": token}
    return {"acl": {"enabled": True, "default_policy": "deny", "tokens": tokens}}


def _tls_settings(certificates: ClientCertificates) -> dict[str, Any]:
    return {
        "tls": {
            "https": {
                "ca_file": str(certificates.ca_file),
                "cert_file": str(certificates.cert_file),
                "key_file": str(certificates.key_file),
                "verify_incoming": True,
            }
        }
    }


def _worst(statuses: Iterable[str]) -> str:
    return max(statuses, key=_SEVERITIES.index, default="passing")


class ConsulPair:
    """Two servers that elect a leader between them; a context manager that starts both and ends both.

    options: Consul's.
    """

    def __init__(self, directory: Path, **options: Any) -> None:
        one = Consul(directory, expect=2, **options)
        self.servers = one, Consul(directory, expect=2, join=one.serf_port, **options)

    def __enter__(self) -> Self:
        try:
            for server in self.servers:
                server.launch()
            for server in self.servers:
                server.wait(server.ready, START_TIMEOUT_S, "ready")
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """End both servers in whatever state they are."""
        for server in self.servers:
            server.end()

    def leader_first(self) -> tuple[Consul, Consul]:
        """Return the server that leads, and the other."""
        one, other = self.servers
        return (one, other) if one.leads() else (other, one)
