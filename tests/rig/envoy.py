"""A real Envoy that plays the sidecar of a legacy workload and takes all of its configuration from istiod.

Envoy asks the kernel to be ended together with the process that started it, so it has to be started from the
tests' own long-lived process.
"""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING, Any

from tests.rig import http as web
from tests.rig.build import part
from tests.rig.process import Process, free_port

if TYPE_CHECKING:
    from pathlib import Path

HTTP2 = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def binary() -> Path:
    """Return Envoy's binary."""
    return part("envoy") / "envoy" / "_bin" / "envoy"


def bootstrap(xds_port: int, admin_port: int) -> dict[str, Any]:
    """Return the bootstrap configuration: plaintext ADS from 127.0.0.1:xds_port."""
    ads = {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"}
    return {
        "node": {
            "id": "sidecar~127.0.0.1~vm1.default~default.svc.cluster.local",
            "cluster": "vm1.default",
            "metadata": {
                "NAMESPACE": "default",
                "CLUSTER_ID": "",
                "ISTIO_VERSION": "1.31.0",
                # A listener 127.0.0.1:<port> for each service port, nothing that needs iptables.
                "INTERCEPTION_MODE": "NONE",
                "LABELS": {"app": "vm1"},
            },
        },
        "admin": {"address": _socket(admin_port)},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [{"envoy_grpc": {"cluster_name": "istiod"}}],
            },
            "cds_config": ads,
            "lds_config": ads,
        },
        "static_resources": {"clusters": [_istiod_cluster(xds_port)]},
    }


def _istiod_cluster(port: int) -> dict[str, Any]:
    return {
        "name": "istiod",
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": HTTP2,
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
        "load_assignment": {
            "cluster_name": "istiod",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _socket(port)}}]}],
        },
    }


def _socket(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


class Envoy(Process):
    """One Envoy on 127.0.0.1; `xds_port` is istiod's.

    It listens on 127.0.0.1:<service port>, so the services of a test need ports that are free and their own.
    """

    def __init__(self, directory: Path, xds_port: int) -> None:
        self.admin_port = free_port()
        self._bootstrap = bootstrap(xds_port, self.admin_port)
        self._file = directory / "bootstrap.json"
        command = [str(binary()), "-c", str(self._file), "--concurrency", "1", "--disable-hot-restart"]
        super().__init__("envoy", command, directory)

    def launch(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self._file.write_text(json.dumps(self._bootstrap))
        super().launch()

    def ready(self) -> bool:
        status, _ = web.get(f"http://127.0.0.1:{self.admin_port}/ready")
        return status == http.client.OK

    def admin(self, path: str) -> Any:
        """Return the JSON of an admin page such as `config_dump`."""
        return web.get_json(f"http://127.0.0.1:{self.admin_port}/{path}")

    def endpoints(self, host: str) -> set[str]:
        """Return the `address:port` of every endpoint that Envoy would send requests for a host to."""
        return {
            f"{address['address']}:{address['port_value']}"
            for cluster in self.admin("clusters?format=json").get("cluster_statuses", [])
            if cluster["name"].startswith("outbound|") and cluster["name"].endswith(f"|{host}")
            for status in cluster.get("host_statuses", [])
            for address in [status["address"]["socket_address"]]
        }
