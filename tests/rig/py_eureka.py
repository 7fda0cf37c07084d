"""A real process that registers itself with py-eureka-client, which Isthmus itself does not use."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.rig.build import part
from tests.rig.lines import LineProcess
from tests.rig.process import START_TIMEOUT_S, STOP_TIMEOUT_S, ProcessError

if TYPE_CHECKING:
    from collections.abc import Mapping

SCRIPT = Path(__file__).parent / "python" / "eureka_instance.py"


class PyEurekaClient(LineProcess):
    """One instance of an application; it is registered when it has started, and nothing listens at its address.

    registry: Eureka's `spring_address`; several with commas between, of which the first that answers is used.
    metadata: the client adds `management.port`, and the zone `default` where none is given.
    renewal_s: seconds between heartbeats; a server that lost the registration is given it again with the next one.
    lease_s: the server ends the lease twice that long after the last heartbeat, which is how Eureka counts.
    `stop` deregisters first; `kill` leaves the registration to the end of its lease.
    """

    def __init__(
        self,
        directory: Path,
        registry: str,
        application: str = "shop",
        *,
        ip: str = "10.20.0.1",
        port: int = 8080,
        instance_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        renewal_s: int = 1,
        lease_s: int = 5,
    ) -> None:
        self.application = application
        self.address = f"{ip}:{port}"
        self.instance_id = instance_id or f"{application}:{self.address}"
        options = {
            "eureka_server": registry,
            "app_name": application,
            "instance_id": self.instance_id,
            "instance_ip": ip,
            "instance_host": ip,  # else it asks DNS for the address's name
            "instance_port": port,
            "metadata": dict(metadata or {}),
            "renewal_interval_in_secs": renewal_s,
            "duration_in_secs": lease_s,
            "should_discover": False,
        }
        # -S: of the packages that are installed here it sees none.
        python = ["env", f"PYTHONPATH={part('py-eureka-client')}", sys.executable, "-S"]
        name = f"{application}-{ip}-{port}"
        super().__init__(name, [*python, str(SCRIPT), json.dumps(options)], directory)

    def greeted(self) -> None:
        self._done("register", START_TIMEOUT_S)

    def stop(self) -> None:
        """Deregister and end the process; raise `ProcessError` when it could not."""
        self.say("stop")
        self._done("deregister", STOP_TIMEOUT_S)
        self.process.wait(STOP_TIMEOUT_S)

    def _done(self, what: str, timeout: float) -> None:
        if failures := json.loads(self.next_line(timeout)):
            raise ProcessError(f"{self.name} could not {what}: {failures}")
