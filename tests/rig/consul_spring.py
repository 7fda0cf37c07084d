"""Real Spring Cloud services, which register themselves in Consul."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.rig.java import java_command
from tests.rig.process import free_port, own_address
from tests.rig.spring import QUIET, SpringProcess

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tests.rig.consul import Consul

_DISCOVERY = "spring.cloud.consul.discovery"


class ConsulSpringClient(SpringProcess):
    """A service that registers itself, listens on this machine's own address, and greets over HTTP.

    It has started when it is registered and its check passes. By default Consul asks it over HTTP every second whether
    it is well; with `heartbeat_s` it tells so itself, and is critical when it is not heard of for that long.
    properties: further settings of Spring's.
    `stop` deregisters first; after `kill` its check gets critical and it stays registered.
    """

    def __init__(
        self,
        directory: Path,
        server: Consul,
        application: str = "shop",
        *,
        port: int | None = None,
        tags: Sequence[str] = (),
        metadata: Mapping[str, str] | None = None,
        heartbeat_s: int | None = None,
        properties: Mapping[str, str] | None = None,
    ) -> None:
        self.application = application
        self.host = own_address()
        self.port = port or free_port()
        self.address = f"{self.host}:{self.port}"
        self.instance_id = f"{application}-{self.port}"
        self._server = server
        discovery = {
            "instance-id": self.instance_id,
            "prefer-ip-address": "true",
            "ip-address": self.host,
            "tags": ",".join(tags),
            "acl-token": server.token,
            **_health(heartbeat_s),
            **{f"metadata[{key}]": value for key, value in (metadata or {}).items()},
        }
        settings = {
            **QUIET,
            "spring.application.name": application,
            "server.address": self.host,
            "server.port": str(self.port),
            "spring.cloud.consul.host": "127.0.0.1",
            "spring.cloud.consul.port": str(server.port),
            **{f"{_DISCOVERY}.{key}": value for key, value in discovery.items()},
            **(properties or {}),
        }
        command = java_command("spring-consul", "rig.Greeter", heap="64m", home=directory, properties=settings)
        super().__init__(self.instance_id, command, directory)

    def ready(self) -> bool:
        return self._server.statuses(self.application).get(self.instance_id) == "passing"

    def greeting(self, name: str) -> str:
        """Return what this service, and no other, answers to `GET /greet/NAME`."""
        return f"hello {name} from {self.application}:{self.port}"


def _health(heartbeat_s: int | None) -> dict[str, str]:
    if heartbeat_s is None:
        return {"health-check-path": "/greet/consul", "health-check-interval": "1s"}
    return {"heartbeat.enabled": "true", "heartbeat.ttl": f"{heartbeat_s}s"}
