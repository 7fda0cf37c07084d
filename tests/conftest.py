"""Fixtures of all tests: real servers, ended after the test that asked for them; and nothing left behind."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import logging
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings

from tests.rig import build, kubeconform
from tests.rig.bridge import Bridge
from tests.rig.consul import Consul, ConsulPair
from tests.rig.consul_spring import ConsulSpringClient
from tests.rig.dubbo import DubboConsumer, DubboProvider
from tests.rig.envoy import Envoy
from tests.rig.etcd import Etcd, EtcdCluster
from tests.rig.etcd_writers import EtcdWriters
from tests.rig.eureka import Eureka, pair
from tests.rig.istioctl import istioctl as run_istioctl
from tests.rig.istiod import Istiod
from tests.rig.missing import leave_out
from tests.rig.nacos import Nacos
from tests.rig.nacos_spring import NacosSpringClient
from tests.rig.nacos_writer import NacosWriter, prove_push
from tests.rig.py_consul import PyConsulClient
from tests.rig.py_eureka import PyEurekaClient
from tests.rig.spring import SpringClient
from tests.rig.tools import MissingToolError
from tests.rig.wait import wait_for, wait_for_async
from tests.rig.zookeeper import ZooKeeper

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path
    from subprocess import CompletedProcess

    from kazoo.client import KazooClient

T = TypeVar("T")

# A slow machine is no failure of a property.
settings.register_profile("isthmus", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("isthmus")

THREADS_END_WITHIN_S = 60.0
TASKS_END_WITHIN_S = 60.0
# grpc keeps this thread for the life of the process, by design.
THREADS_THAT_STAY = ("_poll_wrapper",)


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Take back what a command that ran in this process set up for its logs: later tests read theirs."""
    root = logging.getLogger()
    level = root.level
    yield
    root.setLevel(level)
    for handler in root.handlers[:]:
        # pytest's own are of other types, and come and go with each phase of a test.
        if type(handler) is logging.StreamHandler:
            root.removeHandler(handler)


@pytest.fixture(autouse=True)
def no_thread_left_behind() -> Iterator[None]:
    """Fail a test that ends and leaves a thread running."""
    before = set(threading.enumerate())
    yield

    def leftover() -> list[str]:
        new = [thread.name for thread in threading.enumerate() if thread not in before]
        return [name for name in new if not any(known in name for known in THREADS_THAT_STAY)]

    wait_for(lambda: not leftover(), THREADS_END_WITHIN_S, f"end of the test's threads {leftover()}")


@pytest.fixture(autouse=True)
def no_task_left_behind(request: pytest.FixtureRequest, no_thread_left_behind: None) -> None:
    """Fail an asynchronous test that ends, with its fixtures, and leaves a task running."""
    if inspect.iscoroutinefunction(request.function):
        request.getfixturevalue("_task_check")


@pytest.fixture
async def _task_check() -> AsyncIterator[None]:
    yield

    def leftover() -> set[asyncio.Task[Any]]:
        return asyncio.all_tasks() - {asyncio.current_task()}

    # gRPC needs a moment for the calls that were cancelled.
    await wait_for_async(lambda: not leftover(), TASKS_END_WITHIN_S, f"end of the test's tasks {leftover()}")


class Parts:
    """Builds parts of the rig when a test needs them, in sight of who waits."""

    def __init__(self, configuration: pytest.Config) -> None:
        self._capture: Any = configuration.pluginmanager.getplugin("capturemanager")

    def need(self, *names: str) -> None:
        """Build the parts, or skip the test when a tool is missing; in CI a missing tool is a failure."""
        try:
            with self._capture.global_and_fixture_disabled():
                for name in names:
                    build.part(name)
        except MissingToolError as error:
            leave_out(error)


@pytest.fixture(scope="session")
def parts(pytestconfig: pytest.Config) -> Parts:
    """Give what builds parts of the rig; for tests that start servers in their own way."""
    return Parts(pytestconfig)


@pytest.fixture
def running() -> Iterator[Callable[[AbstractContextManager[T]], T]]:
    """Give a function that starts a process and has it ended after the test, the last one first."""
    with ExitStack() as stack:
        yield stack.enter_context


@pytest.fixture
def zookeeper(parts: Parts, tmp_path: Path, running: Callable[[ZooKeeper], ZooKeeper]) -> ZooKeeper:
    """Give a running ZooKeeper of the test's own."""
    parts.need("zookeeper")
    return running(ZooKeeper(tmp_path / "zookeeper"))


@pytest.fixture
def registry(zookeeper: ZooKeeper) -> Iterator[KazooClient]:
    """Give a client of the running ZooKeeper."""
    with zookeeper.client() as client:
        yield client


@pytest.fixture
def dubbo(
    parts: Parts, tmp_path: Path, running: Callable[[DubboProvider], DubboProvider]
) -> Callable[..., DubboProvider]:
    """Give a function that starts providers; its arguments are DubboProvider's, without the folder."""
    parts.need("dubbo3", "dubbo27")
    return lambda *arguments, **options: running(DubboProvider(tmp_path / "dubbo", *arguments, **options))


@pytest.fixture
def consumer(parts: Parts, tmp_path: Path, running: Callable[[DubboConsumer], DubboConsumer]) -> DubboConsumer:
    """Give a running Dubbo 3 consumer."""
    parts.need("dubbo3")
    return running(DubboConsumer(tmp_path / "consumer"))


@pytest.fixture
def bridge(tmp_path: Path, running: Callable[[Bridge], Bridge]) -> Callable[..., Bridge]:
    """Give a function that starts `isthmus serve`; its arguments are Bridge's, without the folder."""
    return lambda *arguments, **options: running(Bridge(tmp_path / "isthmus", *arguments, **options))


@pytest.fixture
def istiod(parts: Parts, tmp_path: Path, running: Callable[[Istiod], Istiod]) -> Callable[..., Istiod]:
    """Give a function that starts an istiod; its arguments are Istiod's, without the folder."""

    def start(*arguments: Any, **options: Any) -> Istiod:
        parts.need(f"istiod-{options.get('version', '1.31')}")
        return running(Istiod(tmp_path / "istiod", *arguments, **options))

    return start


@pytest.fixture
def istioctl(parts: Parts) -> Callable[..., CompletedProcess[str]]:
    """Give the function that runs an istioctl command without Kubernetes."""
    parts.need("istioctl")
    return run_istioctl


@pytest.fixture
def manifest_faults(parts: Parts) -> Callable[..., list[str]]:
    """Give the function that checks manifests against Kubernetes' schemas; its arguments are files."""
    parts.need("kubeconform", "kube-schemas")
    return kubeconform.faults


@pytest.fixture
def envoy(parts: Parts, tmp_path: Path, running: Callable[[Envoy], Envoy]) -> Callable[..., Envoy]:
    """Give a function that starts an Envoy; its arguments are Envoy's, without the folder."""
    parts.need("envoy")
    return lambda *arguments, **options: running(Envoy(tmp_path / "envoy", *arguments, **options))


@pytest.fixture(scope="session")
def eureka(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Eureka]:
    """Give the running Eureka that tests share; each registers apps of its own name and leaves the server alone."""
    parts.need("eureka")
    with Eureka(tmp_path_factory.mktemp("eureka")) as server:
        yield server


@pytest.fixture
def eureka_server(parts: Parts, tmp_path: Path, running: Callable[[Eureka], Eureka]) -> Callable[..., Eureka]:
    """Give a function that starts Eureka servers of the test's own; its arguments are Eureka's, without the folder."""
    parts.need("eureka")
    return lambda **options: running(Eureka(tmp_path / "eureka", **options))


@pytest.fixture
def eureka_pair(parts: Parts, tmp_path: Path, running: Callable[[Eureka], Eureka]) -> tuple[Eureka, Eureka]:
    """Give two running Eureka servers that replicate to each other."""
    parts.need("eureka")
    one, other = pair(tmp_path / "eureka")
    return running(one), running(other)


@pytest.fixture
def spring_client(
    parts: Parts, tmp_path: Path, running: Callable[[SpringClient], SpringClient]
) -> Callable[..., SpringClient]:
    """Give a function that starts Spring Cloud services; its arguments are SpringClient's, without the folder."""
    parts.need("eureka-client")
    return lambda *arguments, **options: running(SpringClient(tmp_path / "spring", *arguments, **options))


@pytest.fixture
def py_eureka_client(
    parts: Parts, tmp_path: Path, running: Callable[[PyEurekaClient], PyEurekaClient]
) -> Callable[..., PyEurekaClient]:
    """Give a function that starts clients of a Eureka; its arguments are PyEurekaClient's, without the folder."""
    parts.need("py-eureka-client")
    return lambda *arguments, **options: running(PyEurekaClient(tmp_path / "py-eureka", *arguments, **options))


@pytest.fixture(scope="session")
def nacos2(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nacos]:
    """Give the running Nacos 2 that tests share; each takes a namespace of its own and leaves the server alone."""
    parts.need("nacos2", "nacos-writer")
    with Nacos(tmp_path_factory.mktemp("nacos2"), version="2") as server:
        prove_push(server)
        yield server


@pytest.fixture(scope="session")
def nacos3(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nacos]:
    """Give the running Nacos 3 that tests share; each takes a namespace of its own and leaves the server alone."""
    parts.need("nacos3", "nacos-writer")
    with Nacos(tmp_path_factory.mktemp("nacos3"), version="3") as server:
        prove_push(server)
        yield server


@pytest.fixture
def nacos_server(parts: Parts, tmp_path: Path, running: Callable[[Nacos], Nacos]) -> Callable[..., Nacos]:
    """Give a function that starts Nacos servers of the test's own; its arguments are Nacos's, without the folder."""

    def start(**options: Any) -> Nacos:
        parts.need(f"nacos{options.get('version', '3')}")
        return running(Nacos(tmp_path / f"nacos-{next(count)}", **options))

    count = itertools.count(1)
    return start


@pytest.fixture
def nacos_writer(
    parts: Parts, tmp_path: Path, running: Callable[[NacosWriter], NacosWriter]
) -> Callable[..., NacosWriter]:
    """Give a function that starts Java clients of a Nacos; its arguments are NacosWriter's, without the folder."""
    parts.need("nacos-writer")
    count = itertools.count(1)
    return lambda server, **options: running(NacosWriter(tmp_path / f"nacos-writer-{next(count)}", server, **options))


@pytest.fixture
def nacos_spring_client(
    parts: Parts, tmp_path: Path, running: Callable[[NacosSpringClient], NacosSpringClient]
) -> Callable[..., NacosSpringClient]:
    """Give a function that starts Spring Cloud services for a Nacos; its arguments are NacosSpringClient's."""
    parts.need("spring-nacos")
    return lambda *arguments, **options: running(NacosSpringClient(tmp_path / "nacos-spring", *arguments, **options))


@pytest.fixture(scope="session")
def etcd(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """Give the running etcd that tests share; each writes under a prefix of its own and leaves the server alone."""
    parts.need("etcd-3.6")
    with Etcd(tmp_path_factory.mktemp("etcd")) as server:
        yield server


@pytest.fixture
def etcd_server(parts: Parts, tmp_path: Path, running: Callable[[Etcd], Etcd]) -> Callable[..., Etcd]:
    """Give a function that starts etcd servers of the test's own; its arguments are Etcd's, without the folder."""

    def start(**options: Any) -> Etcd:
        parts.need(f"etcd-{options.get('version', '3.6')}")
        return running(Etcd(tmp_path / f"etcd-{next(count)}", **options))

    count = itertools.count(1)
    return start


@pytest.fixture
def etcd_cluster(
    parts: Parts, tmp_path: Path, running: Callable[[EtcdCluster], EtcdCluster]
) -> Callable[..., EtcdCluster]:
    """Give a function that starts three members of one etcd; its arguments are Etcd's, without the folder."""

    def start(**options: Any) -> EtcdCluster:
        parts.need(f"etcd-{options.get('version', '3.6')}")
        return running(EtcdCluster(tmp_path / "etcd-cluster", **options))

    return start


@pytest.fixture
def etcd_writers(
    parts: Parts, tmp_path: Path, running: Callable[[EtcdWriters], EtcdWriters]
) -> Callable[..., EtcdWriters]:
    """Give a function that starts real clients of an etcd; its arguments are EtcdWriters's, without the folder."""
    parts.need("etcd-writers")
    count = itertools.count(1)
    return lambda server, **options: running(EtcdWriters(tmp_path / f"etcd-writers-{next(count)}", server, **options))


@pytest.fixture
def dubbo_etcd(
    parts: Parts, tmp_path: Path, running: Callable[[DubboProvider], DubboProvider]
) -> Callable[..., DubboProvider]:
    """Give a function that starts Dubbo 2.7 providers for an etcd.

    Its arguments: the server, then DubboProvider's, without folder, registry and version. A provider's keys end 2 s
    after it was killed.
    """
    parts.need("dubbo27-etcd")

    def start(server: Etcd, *arguments: Any, **options: Any) -> DubboProvider:
        registry = f"etcd3://{server.gateway.address}?session=2000"
        return running(DubboProvider(tmp_path / "dubbo", registry, *arguments, dubbo="2.7-etcd", **options))

    return start


@pytest.fixture(scope="session")
def consul(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consul]:
    """Give the running Consul that tests share; each uses services and nodes of its own and leaves the server alone."""
    parts.need("consul")
    with Consul(tmp_path_factory.mktemp("consul")) as server:
        yield server


@pytest.fixture
def consul_server(parts: Parts, tmp_path: Path, running: Callable[[Consul], Consul]) -> Callable[..., Consul]:
    """Give a function that starts Consul servers of the test's own; its arguments are Consul's, without the folder."""
    parts.need("consul")
    return lambda **options: running(Consul(tmp_path / "consul", **options))


@pytest.fixture
def consul_pair(parts: Parts, tmp_path: Path, running: Callable[[ConsulPair], ConsulPair]) -> ConsulPair:
    """Give two running Consul servers of one leader, which refuse within a second when there is none."""
    parts.need("consul")
    return running(ConsulPair(tmp_path / "consul-pair", hold_s=0.1))


@pytest.fixture
def spring_consul_client(
    parts: Parts, tmp_path: Path, running: Callable[[ConsulSpringClient], ConsulSpringClient]
) -> Callable[..., ConsulSpringClient]:
    """Give a function that starts Spring Cloud services for a Consul; its arguments are ConsulSpringClient's."""
    parts.need("spring-consul")
    return lambda *arguments, **options: running(ConsulSpringClient(tmp_path / "consul-spring", *arguments, **options))


@pytest.fixture
def py_consul_client(
    parts: Parts, tmp_path: Path, running: Callable[[PyConsulClient], PyConsulClient]
) -> Callable[..., PyConsulClient]:
    """Give a function that starts clients of a Consul; its arguments are PyConsulClient's, without the folder."""
    parts.need("py-consul")
    return lambda *arguments, **options: running(PyConsulClient(tmp_path / "py-consul", *arguments, **options))
