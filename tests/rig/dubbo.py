"""Real Dubbo providers and a real Dubbo consumer, of Dubbo 3 or 2.7."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from tests.rig.java import java_command
from tests.rig.lines import LineProcess
from tests.rig.process import START_TIMEOUT_S, Process, free_port, own_address

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Self

# 2.7-etcd is 2.7 with the clients of etcd that it wants, in place of those of ZooKeeper and Nacos.
Dubbo = Literal["3", "2.7", "2.7-etcd"]

PARTS: dict[Dubbo, str] = {"3": "dubbo3", "2.7": "dubbo27", "2.7-etcd": "dubbo27-etcd"}
GREETING = "rig.GreetingService"
ORDER = "rig.OrderService"
CALL_TIMEOUT_S = 30.0
# Dubbo replaces 127.* by another address of the machine, but not a name that stands for it.
LOOPBACK = ("127.0.0.1", "sidecar.test")


class DubboProvider(Process):
    """A provider that registers its services in a registry and answers calls to them.

    registry: as Dubbo writes it, `zookeeper://127.0.0.1:2181`, `nacos://127.0.0.1:8848?namespace=dev` or
        `etcd3://127.0.0.1:2379`.
    services: `INTERFACE[:VERSION[:GROUP]]`, of GREETING and ORDER.
    properties: Dubbo's settings, such as `dubbo.application.register-mode`.
    `stop` unregisters first; `kill` leaves the registration to the session's expiry.
    """

    def __init__(
        self,
        directory: Path,
        registry: str,
        services: Sequence[str] = (GREETING,),
        *,
        application: str = "shop",
        dubbo: Dubbo = "3",
        protocol: str = "dubbo",
        port: int | None = None,
        host: str | None = None,
        properties: Mapping[str, str] | None = None,
    ) -> None:
        self.application = application
        self.host = host or own_address()
        self.port = port or free_port()
        self.address = f"{self.host}:{self.port}"
        command = java_command(
            PARTS[dubbo],
            "rig.Provider",
            *(application, registry, str(self.port), protocol, *services),
            heap="128m",
            home=directory,
            properties={"host": self.host, **_QUIET, **(properties or {})},
        )
        super().__init__(f"{application}-{self.port}", command, directory)

    def ready(self) -> bool:
        return "READY" in self.output().splitlines()

    def greeting(self, name: str) -> str:
        """Return what this provider, and no other, answers to a greeting."""
        return f"hello {name} from {self.application}:{self.port}"


class DubboConsumer(LineProcess):
    """A consumer of GREETING that calls a URL; a context manager.

    service: GREETING with version and group as registered.
    """

    def __init__(self, directory: Path, service: str = GREETING, *, dubbo: Dubbo = "3") -> None:
        self._hosts = directory / "hosts"
        properties = {"jdk.net.hosts.file": str(self._hosts), **_QUIET}
        command = java_command(
            PARTS[dubbo], "rig.Consumer", service, heap="128m", home=directory, properties=properties
        )
        super().__init__("consumer", command, directory)

    def __enter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        self._hosts.write_text(" ".join(LOOPBACK) + "\n")
        return super().__enter__()

    def greeted(self) -> None:
        while self.next_line(START_TIMEOUT_S) != "READY":
            pass

    def greet(self, address: str, name: str, *, protocol: str = "dubbo") -> str:
        """Call greet(name) at `host:port` over a new connection; return the answer, or ERROR and why."""
        self.say(f"{protocol}://{address.replace(*LOOPBACK)} {name}")
        return self.next_line(CALL_TIMEOUT_S)


_QUIET = {"org.slf4j.simpleLogger.defaultLogLevel": "warn"}
