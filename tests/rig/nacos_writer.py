"""The real Nacos client for Java: registers what tests want to see, and tells what was pushed to it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.rig.java import java_command
from tests.rig.lines import LineProcess
from tests.rig.nacos import DEFAULT_CLUSTER, DEFAULT_GROUP, PASSWORD, USER
from tests.rig.process import START_TIMEOUT_S
from tests.rig.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from tests.rig.nacos import Nacos

ANSWER_TIMEOUT_S = 120.0
PUSH_TIMEOUT_S = 60.0
HEALTH_SERVICE = "rig-health"


class WriterError(AssertionError):
    """The client said that a command failed."""


@dataclass(frozen=True)
class Instance:
    """One instance, as a client registers it."""

    ip: str
    port: int
    cluster: str = DEFAULT_CLUSTER
    weight: float = 1.0
    enabled: bool = True
    healthy: bool = True
    ephemeral: bool = True
    metadata: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return it with the names that Nacos gives to its fields."""
        return {
            "ip": self.ip,
            "port": self.port,
            "clusterName": self.cluster,
            "weight": self.weight,
            "enabled": self.enabled,
            "healthy": self.healthy,
            "ephemeral": self.ephemeral,
            "metadata": dict(self.metadata),
        }


@dataclass(frozen=True)
class Push:
    """What the client was told of a service that it subscribed to; `at` is the Unix time, in seconds."""

    service: str
    group: str
    at: float
    instances: Sequence[Mapping[str, Any]]


class NacosWriter(LineProcess):
    """One client of a server, in one namespace, over one gRPC connection; a context manager.

    A client has at most one registration for each service: the last `register` or `batch` of it. With the client,
    its ephemeral instances end: `kill` closes the connection, and the server drops them at once.
    """

    def __init__(
        self,
        directory: Path,
        server: Nacos,
        *,
        namespace: str = "",
        user: str = USER,
        password: str = PASSWORD,
    ) -> None:
        login = {"username": user, "password": password} if server.auth else {}
        arguments = {"serverAddr": server.url, "namespace": namespace, **login}
        self._pushes: list[Push] = []
        command = java_command(
            "nacos-writer",
            "rig.NacosWriter",
            *(f"{key}={value}" for key, value in arguments.items() if value),
            heap="192m",
            home=directory,
            properties={"org.slf4j.simpleLogger.defaultLogLevel": "warn", **_tls_properties(server)},
        )
        super().__init__("nacos-writer", command, directory)

    def greeted(self) -> None:
        self._answer(START_TIMEOUT_S)

    def register(self, service: str, instance: Instance, *, group: str = DEFAULT_GROUP) -> None:
        """Register the client's instance of a service, in place of the one that it had."""
        self._command("register", service, group, [instance])

    def deregister(self, service: str, instance: Instance, *, group: str = DEFAULT_GROUP) -> None:
        """Take back what `register` registered."""
        self._command("deregister", service, group, [instance])

    def batch(self, service: str, instances: Sequence[Instance], *, group: str = DEFAULT_GROUP) -> None:
        """Register several ephemeral instances of a service, in place of those that the client had."""
        self._command("batch", service, group, instances)

    def unbatch(self, service: str, instances: Sequence[Instance], *, group: str = DEFAULT_GROUP) -> None:
        """Take back some of what `batch` registered."""
        self._command("unbatch", service, group, instances)

    def load(
        self,
        prefix: str,
        services: int,
        instances: Sequence[Instance],
        *,
        first: int = 0,
        group: str = DEFAULT_GROUP,
    ) -> None:
        """Register these instances for each of the services PREFIX + number, from `first` on."""
        self._command("load", prefix, group, instances, first=first, services=services)

    def subscribe(self, service: str, *, group: str = DEFAULT_GROUP) -> None:
        """Have changes of a service pushed; what it has now comes first, unless it has nothing."""
        self._command("subscribe", service, group, [])

    def pushes(self) -> list[Push]:
        """Return all pushes so far, the oldest first."""
        while line := self.waiting_line():
            self._take(line)
        return list(self._pushes)

    def wait_for_push(self, wanted: Callable[[Push], bool], timeout: float = PUSH_TIMEOUT_S) -> Push:
        """Return the first push, of all so far or to come, that is wanted."""

        def found() -> Push | None:
            return next(filter(wanted, self.pushes()), None)

        return wait_for(found, timeout, "the push")

    def _command(self, command: str, service: str, group: str, instances: Sequence[Instance], **more: int) -> None:
        named = {"command": command, "service": service, "group": group}
        self.say(json.dumps({**named, "instances": [instance.as_json() for instance in instances], **more}))
        self._answer(ANSWER_TIMEOUT_S)

    def _answer(self, timeout: float) -> None:
        while (said := self._take(self.next_line(timeout))) is None:
            pass
        if "error" in said:
            raise WriterError(said["error"])

    def _take(self, line: str) -> dict[str, Any] | None:
        """Keep a push; return an answer."""
        said: dict[str, Any] = json.loads(line)
        if (push := said.get("push")) is None:
            return said
        self._pushes.append(Push(push["service"], push["group"], push["at_ms"] / 1000, push["instances"]))
        return None


def prove_push(server: Nacos) -> None:
    """Fail unless the server pushes a registration to a subscriber.

    With the wrong jar first on its class path a Nacos registers, lists, looks healthy, and never pushes.
    """
    instance = Instance("192.0.2.1", 1)
    namespace = server.new_namespace()
    with NacosWriter(server.directory / "prove-push", server, namespace=namespace) as writer:
        writer.subscribe(HEALTH_SERVICE)
        writer.register(HEALTH_SERVICE, instance)
        writer.wait_for_push(lambda push: [host["ip"] for host in push.instances] == [instance.ip])


def _tls_properties(server: Nacos) -> dict[str, str]:
    """Return what makes the client trust the server's authority, over HTTP and gRPC."""
    if server.certificates is None:
        return {}
    ca_file = str(server.certificates.ca_file)
    return {
        "tls.enable": "true",
        "tls.client.authServer": "true",
        "tls.client.trustCertPath": ca_file,
        "nacos.remote.client.rpc.tls.enable": "true",
        "nacos.remote.client.rpc.tls.trustCollectionChainPath": ca_file,
    }
