"""Real etcd servers: 3.6 and 3.5 built from their modules, 3.4 as Debian 12 has it; alone or three in a cluster."""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Literal

from tests.rig.build import part
from tests.rig.etcd_gateway import Gateway
from tests.rig.http import get
from tests.rig.process import START_TIMEOUT_S, Process, free_port
from tests.rig.tools import run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from tests.rig.certificates import ClientCertificates

Version = Literal["3.4", "3.5", "3.6"]

ROOT = "root"
ROOT_PASSWORD = "rig-root-password"
READER = "reader"
READER_PASSWORD = "rig-reader-password"
READERS = "readers"
CLUSTER = "rig"
LEADER_TIMEOUT_S = 60.0
_SECOND_NS = 1_000_000_000


class Etcd(Process):
    """One member, on 127.0.0.1; its data and its ports outlive a restart.

    address: `host:port` for clients; `url` with the scheme. gateway: writes, and asks, without TLS in any case.
    version: which etcd.
    certificates: `address` takes TLS and nothing else, and demands a client's certificate.
    readable: turns authentication on; READER may read what is under this prefix and nothing else, ROOT everything.
    token_ttl_s: how long a token lives that is not used.
    progress_s: how often a watch that asked for it, and has nothing else to tell, tells how far it is.
    auto_compaction: the time after which history is forgotten, as in `2s`.
    max_request_bytes: the size of a request; None: etcd's default of 1.5 MiB.
    settings: lines for its configuration file, stronger than the rig's.
    """

    def __init__(
        self,
        directory: Path,
        *,
        version: Version = "3.6",
        certificates: ClientCertificates | None = None,
        readable: str | None = None,
        token_ttl_s: int = 300,
        progress_s: int = 600,
        auto_compaction: str | None = None,
        max_request_bytes: int | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.version = version
        self.certificates = certificates
        self._readable = readable
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.url = f"{'https' if certificates else 'http'}://{self.address}"
        self.member = f"member-{self.port}"
        self.peer_url = f"http://127.0.0.1:{free_port()}"
        self.gateway = Gateway(f"127.0.0.1:{free_port()}" if certificates else self.address)
        self._data = directory / "data"
        self._file = directory / "etcd.json"
        self._settings = {
            **self._own_settings(),
            **_OF_VERSION[version],
            **({"client-transport-security": _tls(certificates)} if certificates else {}),
            "auth-token-ttl": token_ttl_s,
            _PROGRESS[version]: progress_s * _SECOND_NS,
            **({"auto-compaction-retention": auto_compaction} if auto_compaction else {}),
            **({"max-request-bytes": max_request_bytes} if max_request_bytes else {}),
            **(settings or {}),
        }
        super().__init__(f"etcd-{self.port}", [*_program(version), str(self._file)], directory)
        self._others: Sequence[Etcd] = ()

    def _own_settings(self) -> dict[str, Any]:
        clients = sorted({self.url, f"http://{self.gateway.address}"})
        return {
            "name": self.member,
            "data-dir": str(self._data),
            "listen-client-urls": ",".join(clients),
            "advertise-client-urls": self.url,
            "listen-peer-urls": self.peer_url,
            "initial-advertise-peer-urls": self.peer_url,
            "initial-cluster-token": CLUSTER,
            "enable-grpc-gateway": True,  # off where the configuration is a file
            "bcrypt-cost": 4,  # a log-in costs 50 ms by default
            "log-level": "warn",
        }

    def join(self, members: Sequence[Etcd]) -> None:
        """Make it one of these members, itself among them; before its first start."""
        self._others = [member for member in members if member is not self]

    def start(self) -> None:
        super().start()
        self.set_up()

    def launch(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self._configure(CLUSTER)
        super().launch()

    def ready(self) -> bool:
        status, body = get(f"http://{self.gateway.address}/health")
        return status == 200 and json.loads(body)["health"] == "true"

    def set_up(self) -> None:
        """Turn authentication on where it is wanted and not on yet, as in a server that is new or empty."""
        if self._readable is None:
            return
        self.gateway.user = None
        if not self.gateway.can_log_in(ROOT, ROOT_PASSWORD):
            self.gateway.add_role(ROOT)
            self.gateway.add_user(ROOT, ROOT_PASSWORD, ROOT)
            self.gateway.add_role(READERS)
            self.gateway.grant_read(READERS, self._readable)
            self.gateway.add_user(READER, READER_PASSWORD, READERS)
            self.gateway.enable_auth()
        self.gateway.user = (ROOT, ROOT_PASSWORD)

    def restart(self, *, empty: bool = False) -> None:
        """Start an ended server again; `empty`: without its data, as a new one at the old address."""
        if empty:
            shutil.rmtree(self._data)
        self.start()

    def backup(self) -> Path:
        """Return the file of a backup of the running server."""
        file = self.directory / f"backup-{self.gateway.revision()}.db"
        self.gateway.snapshot(file)
        return file

    def restore(self, backup: Path, *, cluster: str = CLUSTER) -> None:
        """Replace the data of an ended server, alone in its cluster, by a backup's, and start it again.

        cluster: another name makes another cluster id; the old one, as whoever restores in place has it, the same.
        """
        shutil.rmtree(self._data)
        self._configure(cluster)
        run(f"restore {self.name}", self._restore_command(backup, cluster), self.directory)
        self.start()

    def has_leader(self) -> bool:
        """Tell whether the member knows a leader of its cluster; OSError when it does not answer."""
        return self.leader_id() != 0

    def leader_id(self) -> int:
        """Return the id of the member that this one takes for the leader; 0: none."""
        return int(self.gateway.status().get("leader", 0))

    def member_id(self) -> int:
        """Return the member's own id."""
        return int(self.gateway.status()["header"]["member_id"])

    def _configure(self, cluster: str) -> None:
        members = {member.member: member.peer_url for member in (self, *self._others)}
        initial = ",".join(f"{name}={url}" for name, url in members.items())
        settings = {**self._settings, "initial-cluster": initial, "initial-cluster-token": cluster}
        self._file.write_text(json.dumps(settings, indent=1))

    def _restore_command(self, backup: Path, cluster: str) -> list[str]:
        if self.version != "3.4":
            return [*self.command, "-restore", str(backup)]
        options = {
            "name": self.member,
            "data-dir": self._data,
            "initial-cluster": f"{self.member}={self.peer_url}",
            "initial-advertise-peer-urls": self.peer_url,
            "initial-cluster-token": cluster,
        }
        etcdctl = str(part("etcd-3.4") / "usr" / "bin" / "etcdctl")
        return [etcdctl, "snapshot", "restore", str(backup), *(f"--{key}={value}" for key, value in options.items())]


class EtcdCluster:
    """Three members of one cluster; a context manager. Options are `Etcd`'s."""

    def __init__(self, directory: Path, **options: Any) -> None:
        self.members = [Etcd(directory / f"member-{number}", **options) for number in range(3)]
        for member in self.members:
            member.join(self.members)
        self._running = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for member in self.members:
                stack.callback(member.end)
                member.launch()
            for member in self.members:
                member.wait(member.ready, START_TIMEOUT_S, "ready")
            for member in self.members:
                member.set_up()
            self._running = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.close()

    def leader(self) -> Etcd:
        """Return the member that leads."""
        leader = self.members[0].leader_id()
        return next(member for member in self.members if member.member_id() == leader)

    def isolate(self, member: Etcd) -> None:
        """Kill the others, and wait until this member knows that it has no leader."""
        for other in self.members:
            if other is not member and other.running():
                other.kill()
        member.wait(lambda: not member.has_leader(), LEADER_TIMEOUT_S, "without a leader")

    def heal(self) -> None:
        """Start the members that ended, and wait until all serve."""
        for member in self.members:
            if not member.running():
                member.launch()
        for member in self.members:
            member.wait(member.ready, START_TIMEOUT_S, "ready")


_OF_VERSION: dict[Version, dict[str, Any]] = {
    "3.4": {"logger": "zap", "log-outputs": ["stderr"]},
    "3.5": {"unsafe-no-fsync": True},
    "3.6": {"unsafe-no-fsync": True},
}
_PROGRESS: dict[Version, str] = {
    "3.4": "experimental-watch-progress-notify-interval",
    "3.5": "experimental-watch-progress-notify-interval",
    "3.6": "watch-progress-notify-interval",
}


def _program(version: Version) -> list[str]:
    folder = part(f"etcd-{version}")
    if version == "3.4":
        return [str(folder / "usr" / "bin" / "etcd"), "--config-file"]
    return [str(folder / f"etcd-{version}"), "-config"]


def _tls(certificates: ClientCertificates) -> dict[str, Any]:
    return {
        "cert-file": str(certificates.cert_file),
        "key-file": str(certificates.key_file),
        "trusted-ca-file": str(certificates.ca_file),
        "client-cert-auth": True,
    }
