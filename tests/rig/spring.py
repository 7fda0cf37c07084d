"""Real Spring Cloud services."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.rig.java import java_command
from tests.rig.process import Process, free_port, own_address

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

QUIET = {"spring.main.banner-mode": "off", "logging.level.root": "warn"}
_REGISTERED = "registration status: 204"


class SpringProcess(Process):
    """A Spring Boot process; what it said before its last launch does not make it ready."""

    _said_before = 0

    def launch(self) -> None:
        self._said_before = self.log.stat().st_size if self.log.exists() else 0
        super().launch()

    def said(self, text: str) -> int:
        """Return how often the text is in the output since the last launch."""
        with self.log.open("rb") as log:
            log.seek(self._said_before)
            return log.read().count(text.encode())


class SpringClient(SpringProcess):
    """A Spring Cloud service that registers itself, listens on this machine's own address, and greets over HTTP.

    registry: Eureka's `spring_address`; several with commas between, of which the first that answers is used.
    ip: the address to register; None: the one that it listens on.
    zone: goes into the metadata, as Spring Cloud has it.
    renewal_s: seconds between heartbeats; a server that lost the registration is given it again with the next one.
    lease_s: the server ends the lease twice that long after the last heartbeat, which is how Eureka counts.
    properties: further settings of Spring's.
    `stop` deregisters first; `kill` leaves the registration to the end of its lease.
    """

    def __init__(
        self,
        directory: Path,
        registry: str,
        application: str = "shop",
        *,
        port: int | None = None,
        ip: str | None = None,
        metadata: Mapping[str, str] | None = None,
        zone: str = "",
        renewal_s: int = 1,
        lease_s: int = 5,
        properties: Mapping[str, str] | None = None,
    ) -> None:
        self.application = application
        self.host = own_address()
        self.ip = ip or self.host
        self.port = port or free_port()
        self.address = f"{self.host}:{self.port}"
        self.instance_id = f"{application}:{self.port}"
        settings = {
            **QUIET,
            "logging.level.com.netflix.discovery.DiscoveryClient": "info",  # says when it is registered
            "spring.application.name": application,
            "server.address": self.host,
            "server.port": str(self.port),
            "eureka.instance.prefer-ip-address": "true",
            "eureka.instance.ip-address": self.ip,
            "eureka.instance.instance-id": self.instance_id,
            "eureka.instance.lease-renewal-interval-in-seconds": str(renewal_s),
            "eureka.instance.lease-expiration-duration-in-seconds": str(lease_s),
            "eureka.client.service-url.defaultZone": registry,
            "eureka.client.fetch-registry": "false",
            **_metadata({**({"zone": zone} if zone else {}), **(metadata or {})}),
            **(properties or {}),
        }
        command = java_command("eureka-client", "rig.Greeter", heap="64m", home=directory, properties=settings)
        super().__init__(f"{application}-{self.port}", command, directory)

    def ready(self) -> bool:
        return self.said(_REGISTERED) > 0

    def greeting(self, name: str) -> str:
        """Return what this service, and no other, answers to `GET /greet/NAME`."""
        return f"hello {name} from {self.application}:{self.port}"


def _metadata(values: Mapping[str, str]) -> dict[str, str]:
    return {f"eureka.instance.metadata-map[{key}]": value for key, value in values.items()}
