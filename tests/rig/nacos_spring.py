"""Real Spring Cloud Alibaba services, which register themselves in Nacos."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.rig.java import java_command
from tests.rig.nacos import DEFAULT_CLUSTER, DEFAULT_GROUP, PASSWORD, USER
from tests.rig.process import free_port, own_address
from tests.rig.spring import QUIET, SpringProcess

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.rig.nacos import Nacos

_REGISTERED = "register finished"


class NacosSpringClient(SpringProcess):
    """A service that registers itself, listens on this machine's own address, and greets over HTTP.

    properties: further settings of Spring's.
    `stop` deregisters first; after `kill` the server drops the instance as soon as it sees the connection end.
    """

    def __init__(
        self,
        directory: Path,
        server: Nacos,
        application: str = "shop",
        *,
        namespace: str = "",
        group: str = DEFAULT_GROUP,
        cluster: str = DEFAULT_CLUSTER,
        weight: float = 1.0,
        port: int | None = None,
        metadata: Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
    ) -> None:
        self.application = application
        self.host = own_address()
        self.port = port or free_port()
        self.address = f"{self.host}:{self.port}"
        discovery = {
            "server-addr": server.address,
            "namespace": namespace,
            "group": group,
            "cluster-name": cluster,
            "weight": str(weight),
            "ip": self.host,
            **({"username": USER, "password": PASSWORD} if server.auth else {}),
            **{f"metadata[{key}]": value for key, value in (metadata or {}).items()},
        }
        settings = {
            **QUIET,
            "logging.level.com.alibaba.cloud.nacos.registry": "info",  # says when it is registered
            "spring.application.name": application,
            "server.address": self.host,
            "server.port": str(self.port),
            **{f"spring.cloud.nacos.discovery.{key}": value for key, value in discovery.items()},
            **(properties or {}),
        }
        command = java_command("spring-nacos", "rig.Greeter", heap="64m", home=directory, properties=settings)
        super().__init__(f"{application}-{self.port}", command, directory)

    def ready(self) -> bool:
        return self.said(_REGISTERED) > 0

    def greeting(self, name: str) -> str:
        """Return what this service, and no other, answers to `GET /greet/NAME`."""
        return f"hello {name} from {self.application}:{self.port}"
