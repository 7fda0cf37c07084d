"""A real istiod without Kubernetes, fed by the configSources that it is given."""

from __future__ import annotations

import http.client
import json
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tests.rig import http as web
from tests.rig.build import part
from tests.rig.process import Process, free_port

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# 1.21 asks for networking.istio.io/v1alpha3, the others for v1; tlsSettings have a meaning from 1.26.
Version = Literal["1.31", "1.29", "1.26", "1.24", "1.21"]
Source = str | dict[str, Any]

# An upstream Envoy lacks the filters of Istio's own proxy.
ENVIRONMENT = {
    "POD_NAME": "istiod-rig-0",
    "POD_NAMESPACE": "istio-system",
    "PILOT_ENABLE_METADATA_EXCHANGE": "false",
    "PILOT_ENABLE_ALPN_FILTER": "false",
}
CONNECT_TIMEOUT_S = 2.0


def mesh_config(sources: Sequence[Source], discovery: str, tls: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return a MeshConfig in which only hosts that a ServiceEntry names are reachable.

    sources: `host:port` of each MCP-over-xDS server, or a whole configSource. discovery: `host:port` of istiod itself.
    tls: tlsSettings of the sources that are no whole configSource.
    """
    return {
        "configSources": [_config_source(source, tls) for source in sources],
        "rootNamespace": "istio-system",
        "trustDomain": "cluster.local",
        "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"},
        "enablePrometheusMerge": False,
        # No pilot-agent serves certificates here: clusters that wait for one would never be ready.
        "enableAutoMtls": False,
        "defaultConfig": {"discoveryAddress": discovery},
    }


def _config_source(source: Source, tls: Mapping[str, Any] | None) -> dict[str, Any]:
    if not isinstance(source, str):
        return source
    settings = {"tlsSettings": dict(tls)} if tls else {}
    return {"address": f"xds://{source}", **settings}


class Istiod(Process):
    """One istiod on 127.0.0.1.

    It ends at once when a source is not reachable as it starts, and is ready only when each source has given
    an answer for every type.

    sources: `host:port` of each MCP-over-xDS server, or a whole configSource.
    settings: more environment variables of istiod.
    tls: tlsSettings of the sources that are no whole configSource; its certificates are PEM text, not paths.
    revision: what it names itself as it asks; "" takes the resources of every revision.
    """

    def __init__(
        self,
        directory: Path,
        sources: Sequence[Source] = (),
        *,
        version: Version = "1.31",
        settings: Mapping[str, str] | None = None,
        tls: Mapping[str, Any] | None = None,
        revision: str = "",
    ) -> None:
        self.version = version
        self.xds_port, self._http_port, self._debug_port = free_port(), free_port(), free_port()
        self.xds_address = f"127.0.0.1:{self.xds_port}"
        self._mesh_config = mesh_config(sources, self.xds_address, tls)
        self._mesh_file = directory / "mesh.json"
        name = f"istiod-{version}"
        command = [str(part(name) / name), *self._flags()]
        super().__init__(name, command, directory, {**ENVIRONMENT, "REVISION": revision, **(settings or {})})

    def _flags(self) -> list[str]:
        flags = [
            f"--meshConfig={self._mesh_file}",
            f"--httpAddr=127.0.0.1:{self._http_port}",
            f"--grpcAddr={self.xds_address}",
            f"--monitoringAddr=127.0.0.1:{self._debug_port}",
        ]
        if self.version == "1.31":
            return flags
        return [
            "discovery",
            *flags,
            "--registries=",
            "--networksConfig=/nonexistent",
            "--secureGRPCAddr=",
            "--httpsAddr=",
            "--ctrlz_address=127.0.0.1",
            f"--ctrlz_port={free_port()}",
        ]

    def launch(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self._mesh_file.write_text(json.dumps(self._mesh_config))  # JSON is YAML
        super().launch()

    def ready(self) -> bool:
        if self.version == "1.31":
            status, _ = web.get(f"http://127.0.0.1:{self._http_port}/ready")
            return status == http.client.OK
        # Without any Kubernetes client its /ready says no for ever; the port opens once the sources are read.
        socket.create_connection(("127.0.0.1", self.xds_port), CONNECT_TIMEOUT_S).close()
        return True

    @property
    def debug_address(self) -> str:
        """URL of the debug pages."""
        return f"http://127.0.0.1:{self._debug_port}"

    def debug(self, page: str) -> Any:
        """Return the JSON of a debug page such as `configz` or `endpointShardz`."""
        return web.get_json(f"http://127.0.0.1:{self._debug_port}/debug/{page}")

    def cpu_seconds(self) -> float:
        """Return the processor time that istiod has used so far, to the hundredth of a second."""
        # The name of the command comes first, in brackets, and may hold spaces.
        after_name = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        user, system = after_name[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def metrics(self) -> str:
        """Return istiod's metrics page."""
        return web.get(f"http://127.0.0.1:{self._debug_port}/metrics")[1]

    def service_entries(self) -> dict[str, dict[str, Any]]:
        """Return the ServiceEntries that istiod's store holds, by `namespace/name`."""
        return {
            f"{held['metadata']['namespace']}/{held['metadata']['name']}": held
            for held in self.debug("configz")
            if held["kind"] == "ServiceEntry"
        }
