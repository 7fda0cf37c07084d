"""A real process that registers itself with py-consul, which Isthmus itself does not use."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.rig.build import part
from tests.rig.lines import LineProcess
from tests.rig.process import START_TIMEOUT_S, STOP_TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.rig.consul import Consul
    from tests.rig.consul_records import Status

SCRIPT = Path(__file__).parent / "python" / "consul_instance.py"


class PyConsulClient(LineProcess):
    """One instance of a service; it is registered and passing when it has started, and nothing listens at its address.

    ttl_s: its check is critical when it is not heard of for that long; it says what it is four times as often, and
        registers again with a server that lost it.
    `stop` deregisters first; after `kill` its check gets critical and it stays registered.
    """

    def __init__(
        self,
        directory: Path,
        server: Consul,
        service: str = "shop",
        *,
        address: str = "10.20.0.1",
        port: int = 8080,
        instance_id: str | None = None,
        tags: Sequence[str] = (),
        meta: Mapping[str, str] | None = None,
        ttl_s: int = 2,
    ) -> None:
        self.service = service
        self.address = f"{address}:{port}"
        self.instance_id = instance_id or f"{service}-{address}-{port}"
        options = {
            "server": _server(server),
            "ttl_s": ttl_s,
            "service": {
                "name": service,
                "service_id": self.instance_id,
                "address": address,
                "port": port,
                "tags": list(tags),
                "meta": dict(meta or {}),
            },
        }
        # -S: of the packages that are installed here it sees none.
        python = ["env", f"PYTHONPATH={part('py-consul')}", sys.executable, "-S"]
        super().__init__(self.instance_id, [*python, str(SCRIPT), json.dumps(options)], directory)

    def greeted(self) -> None:
        self.next_line(START_TIMEOUT_S)

    def set_status(self, status: Status) -> None:
        """Have it say this of itself from now on; the agent knows when this returns, the catalog soon after."""
        self.say(status)
        self.next_line(STOP_TIMEOUT_S)

    def stop(self) -> None:
        """Deregister and end the process."""
        self.say("stop")
        self.next_line(STOP_TIMEOUT_S)
        self.process.wait(STOP_TIMEOUT_S)


def _server(server: Consul) -> dict[str, object]:
    """Return the arguments of py-consul's client."""
    host, _, port = server.address.partition(":")
    arguments: dict[str, object] = {"host": host, "port": int(port), "token": server.token or None}
    if server.certificates is None:
        return {**arguments, "scheme": "http"}
    pair = (str(server.certificates.client_cert_file), str(server.certificates.client_key_file))
    return {**arguments, "scheme": "https", "verify": str(server.certificates.ca_file), "cert": pair}
