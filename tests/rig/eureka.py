"""Real Eureka servers of Spring Cloud, and what reads and writes their REST pages."""

from __future__ import annotations

import http.client
import json
import re
import ssl
import time
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import quote, urlencode

from tests.rig.java import java_command
from tests.rig.process import free_port
from tests.rig.spring import QUIET, SpringProcess

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from tests.rig.certificates import Certificates

Profile = Literal["fast", "defaults"]

LONG_LEASE_S = 3600
ANSWER_TIMEOUT_S = 10.0
WRITERS = 4
_AGENT = "rig"
_PROFILES: dict[Profile, dict[str, str]] = {
    "fast": {
        "eureka.server.use-read-only-response-cache": "false",
        # What is registered while a server makes up an answer is missing in that answer until the cache expires, by
        # default in 180 s, or something else is registered.
        "eureka.server.response-cache-auto-expiration-in-seconds": "1",
        "eureka.server.eviction-interval-timer-in-ms": "1000",
        "eureka.server.enable-self-preservation": "false",
    },
    "defaults": {},
}
_SERVER = {
    **QUIET,
    "server.address": "127.0.0.1",
    "server.tomcat.accesslog.enabled": "true",
    "server.tomcat.accesslog.buffered": "false",
    "server.tomcat.accesslog.rotate": "false",
    "server.tomcat.accesslog.pattern": "%{begin:msec}t %s %m %U%q %{User-Agent}i",
    "eureka.client.register-with-eureka": "false",
    # Both are read by methods below.
    "logging.level.org.springframework.cloud.netflix.eureka.server": "info",
    "logging.level.com.netflix.eureka.registry.AbstractInstanceRegistry": "info",
}
_STARTED = "Started Eureka Server"
_LOOKED_AT_LEASES = "Running the evict task"
_LEASES_END = re.compile(r"Lease expiration enabled</td>\s*<td>true<")


class Request(NamedTuple):
    """One request that was answered.

    at: milliseconds since 1970 when it came in. path: with its query. agent: the User-Agent, `-` without one.
    """

    at: int
    status: int
    method: str
    path: str
    agent: str


class Instance(NamedTuple):
    """What is registered. An id is the server's key within an app; lease_s: how long it lives without a heartbeat.

    vip: the name that clients of Eureka ask for; by default the app's, in small letters, as Spring Cloud does.
    """

    app: str
    id: str
    ip: str = "10.20.0.1"
    port: int | None = 8080
    secure_port: int | None = None
    status: str = "UP"
    metadata: Mapping[str, str] = {}
    vip: str | None = None
    secure_vip: str | None = None
    host: str | None = None
    lease_s: int = LONG_LEASE_S

    def record(self) -> dict[str, Any]:
        """Return it as clients send it."""
        vip = self.vip if self.vip is not None else self.app.lower()
        return {
            "instanceId": self.id,
            "app": self.app.upper(),
            "hostName": self.host or self.ip,
            "ipAddr": self.ip,
            "status": self.status,
            "overriddenStatus": "UNKNOWN",
            "port": _port(self.port, otherwise=80),
            "securePort": _port(self.secure_port, otherwise=443),
            "vipAddress": vip,
            "secureVipAddress": self.secure_vip if self.secure_vip is not None else vip,
            "dataCenterInfo": {
                "@class": "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo",
                "name": "MyOwn",
            },
            "leaseInfo": {"renewalIntervalInSecs": 30, "durationInSecs": self.lease_s},
            "metadata": dict(self.metadata),
            "lastDirtyTimestamp": str(time.time_ns() // 1_000_000),
        }


def _port(port: int | None, *, otherwise: int) -> dict[str, Any]:
    return {"$": port or otherwise, "@enabled": "true" if port else "false"}


class Eureka(SpringProcess):
    """One server on 127.0.0.1; its port outlives a restart, what is registered does not.

    profile: `fast` shows a change at once, or after a second, looks at leases every second and has no
        self-preservation; `defaults` is what Spring Cloud ships: a change shows up to 30 s later, leases are looked at
        every 60 s.
    self_preservation: keep what is not heard of when most is not heard of, see `leases_end`; None: the profile's.
    delta: False answers 403 to /apps/delta.
    credentials: user and password, 401 without them. certificates: TLS and nothing else.
    peers: ports of servers with the same credentials and certificates, to copy from at the start and replicate to.
    warm_up_s: how long a server that starts empty answers 403.
    properties: further settings of Spring's.
    """

    def __init__(
        self,
        directory: Path,
        *,
        profile: Profile = "fast",
        self_preservation: bool | None = None,
        delta: bool = True,
        credentials: tuple[str, str] | None = None,
        certificates: Certificates | None = None,
        port: int | None = None,
        peers: Sequence[int] = (),
        warm_up_s: int = 0,
        heap: str = "96m",
        properties: Mapping[str, str] | None = None,
    ) -> None:
        self.port = port or free_port()
        self._credentials = credentials
        self._tls = ssl.create_default_context(cafile=certificates.ca_file) if certificates else None
        name = f"eureka-{self.port}"
        self._access_log = directory / f"{name}-access.log"
        settings = {
            **_SERVER,
            "server.port": str(self.port),
            "server.tomcat.basedir": str(directory),
            "server.tomcat.accesslog.directory": str(directory),
            "server.tomcat.accesslog.prefix": self._access_log.stem,
            **_PROFILES[profile],
            **_kept(self_preservation),
            "eureka.server.disable-delta": _word(not delta),
            **_secured(credentials, certificates),
            **self._among(peers),
            **_warming_up(warm_up_s),
            **(properties or {}),
        }
        command = java_command("eureka", "rig.EurekaServer", heap=heap, home=directory, properties=settings)
        super().__init__(name, command, directory)

    @property
    def address(self) -> str:
        """Where clients find the pages, without credentials: `http://127.0.0.1:PORT/eureka`."""
        return self._url(self.port)

    @property
    def spring_address(self) -> str:
        """The address as Spring Cloud's clients take it, with credentials; a colon in them is too much for Spring."""
        return self._url(self.port, self._credentials) + "/"

    def _url(self, port: int, credentials: tuple[str, str] | None = None) -> str:
        user = ":".join(quote(part, safe="") for part in credentials) + "@" if credentials else ""
        return f"{'https' if self._tls else 'http'}://{user}127.0.0.1:{port}/eureka"

    def _among(self, peers: Sequence[int]) -> dict[str, str]:
        if not peers:
            return {"eureka.client.fetch-registry": "false"}
        zone = ",".join(self._url(peer, self._credentials) + "/" for peer in peers)
        return {
            "eureka.client.service-url.defaultZone": zone,
            "eureka.server.my-url": self.spring_address,  # else all that has its host name is taken for itself
            "eureka.server.registry-sync-retries": "1",
        }

    def ready(self) -> bool:
        # The port is open before the peers are copied from. A look at /apps would have the read-only cache answer
        # "empty" for its first 30 s.
        return self.said(_STARTED) > 0 and not self._ask("GET", _page("no", "such")).found()

    def register(self, app: str, instance_id: str, **more: Any) -> None:
        """Register an instance, or put another in its place; `more` are the other fields of `Instance`."""
        self.register_all([Instance(app, instance_id, **more)])

    def register_all(self, instances: Iterable[Instance]) -> None:
        """Register many instances, a few at a time; 10,000 take some seconds."""
        everything = list(instances)
        shares = [everything[start::WRITERS] for start in range(min(WRITERS, len(everything)))]
        with ThreadPoolExecutor(WRITERS) as writers:
            list(writers.map(self._register_share, shares))

    def _register_share(self, instances: list[Instance]) -> None:
        with closing(self._connect()) as connection:
            for instance in instances:
                page = f"/eureka/apps/{quote(instance.app.upper(), safe='')}"
                self._exchange(connection, "POST", page, {"instance": instance.record()}).expect(204)

    def fill(self, apps: int, instances: int) -> None:
        """Register `instances` instances of each of `apps` apps, by the names of `app_name`."""
        count = apps * instances
        self.register_all(_example(app_name(number // instances), number) for number in range(count))

    def heartbeat(self, app: str, instance_id: str) -> bool:
        """Renew a lease; tell whether the instance is known."""
        return self._ask("PUT", _page(app, instance_id)).found()

    def cancel(self, app: str, instance_id: str) -> bool:
        """Deregister an instance; tell whether it was known."""
        return self._ask("DELETE", _page(app, instance_id)).found()

    def override(self, app: str, instance_id: str, status: str = "OUT_OF_SERVICE") -> bool:
        """Put a status over the instance's own, which heartbeats do not undo; tell whether the instance is known."""
        return self._ask("PUT", f"{_page(app, instance_id)}/status?{urlencode({'value': status})}").found()

    def end_override(self, app: str, instance_id: str, status: str = "UP") -> bool:
        """Take the override away and set a status; tell whether the instance is known."""
        return self._ask("DELETE", f"{_page(app, instance_id)}/status?{urlencode({'value': status})}").found()

    def instance(self, app: str, instance_id: str) -> dict[str, Any] | None:
        """Return the record of one instance, past all caches."""
        answer = self._ask("GET", _page(app, instance_id))
        record: dict[str, Any] | None = json.loads(answer.body)["instance"] if answer.found() else None
        return record

    def statuses(self, app: str) -> dict[str, str]:
        """Return instance id -> status of one app, as clients are answered; empty: the app is not known."""
        answer = self._ask("GET", _page(app))
        found = json.loads(answer.body)["application"]["instance"] if answer.found() else []
        return {instance["instanceId"]: instance["status"] for instance in found}

    def page(self, path: str) -> Any:
        """Return the JSON of a page such as `apps/delta`; raise OSError when the status is not 200."""
        answer = self._ask("GET", f"/eureka/{path}")
        answer.expect(200)
        return json.loads(answer.body)

    def leases_end(self) -> bool:
        """Tell whether leases end in time; False: self-preservation holds them.

        With self-preservation it is False from the start, until heartbeats of nearly all came in for a minute.
        """
        return _LEASES_END.search(self._ask("GET", "/").body.decode()) is not None

    def lease_rounds(self) -> int:
        """Return how often leases were looked at since the start; one round ends at most 15 % and at least one."""
        return self.said(_LOOKED_AT_LEASES)

    def requests(self) -> list[Request]:
        """Return all requests so far, over restarts too, but for the rig's own; one appears when it is answered."""
        whole, _, _ = self._access_log.read_text(encoding="utf-8").rpartition("\n")
        requests = [_request(*line.split(" ", 4)) for line in whole.splitlines()]
        return [request for request in requests if request.agent != _AGENT]

    def _ask(self, method: str, target: str) -> _Answer:
        with closing(self._connect()) as connection:
            return self._exchange(connection, method, target)

    def _connect(self) -> http.client.HTTPConnection:
        if self._tls:
            return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=ANSWER_TIMEOUT_S, context=self._tls)
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_TIMEOUT_S)

    def _exchange(self, connection: http.client.HTTPConnection, method: str, target: str, body: Any = None) -> _Answer:
        headers = {"Accept": "application/json", "User-Agent": _AGENT}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self._credentials:
            headers["Authorization"] = "Basic " + b64encode(":".join(self._credentials).encode()).decode()
        try:
            connection.request(method, target, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            return _Answer(f"{method} {target}", response.status, response.read())
        except http.client.HTTPException as error:
            raise ConnectionError(f"{method} {target}: {error!r}") from error


class _Answer(NamedTuple):
    what: str
    status: int
    body: bytes

    def expect(self, *statuses: int) -> None:
        if self.status not in statuses:
            raise ConnectionError(f"{self.what}: status {self.status}: {self.body[:200]!r}")

    def found(self) -> bool:
        self.expect(200, 404)
        return self.status == http.client.OK


def _page(app: str, *instance_id: str) -> str:
    return "/".join(["/eureka/apps", *(quote(part, safe=":") for part in (app.upper(), *instance_id))])


def _request(at: str, status: str, method: str, path: str, agent: str) -> Request:
    return Request(int(at), int(status), method, path, agent)


def _word(value: bool) -> str:
    return "true" if value else "false"


def _kept(self_preservation: bool | None) -> dict[str, str]:
    if self_preservation is None:
        return {}
    return {"eureka.server.enable-self-preservation": _word(self_preservation)}


def _secured(credentials: tuple[str, str] | None, certificates: Certificates | None) -> dict[str, str]:
    settings = {}
    if credentials:
        settings["rig.credentials"] = ":".join(credentials)
    if certificates:
        settings["server.ssl.certificate"] = f"file:{certificates.cert_file}"
        settings["server.ssl.certificate-private-key"] = f"file:{certificates.key_file}"
    return settings


def _warming_up(seconds: int) -> dict[str, str]:
    if not seconds:
        return {}
    return {
        "eureka.instance.registry.default-open-for-traffic-count": "0",
        "eureka.server.wait-time-in-ms-when-sync-empty": str(seconds * 1000),
    }


def app_name(index: int) -> str:
    """Return the name of one of the apps of `Eureka.fill`."""
    return f"EXAMPLE-{index:05d}-SERVICE"


def _example(app: str, number: int) -> Instance:
    ip = f"10.{64 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"
    return Instance(app, f"{app.lower()}:{ip}:8080", ip=ip, metadata={"version": "v1", "zone": "z1"})


def pair(directory: Path, **options: Any) -> tuple[Eureka, Eureka]:
    """Return two servers, not started, that replicate to each other; options: Eureka's."""
    ports = free_port(), free_port()
    one, other = (Eureka(directory, port=own, peers=[peer], **options) for own, peer in (ports, reversed(ports)))
    return one, other
