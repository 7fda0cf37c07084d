"""What the rig is made of, and how each part is built from the package registries.

`python -m tests.rig.build [NAME...]` builds the parts that are not in the cache yet (no name: all), and prints where
each of them is.
"""

from __future__ import annotations

import argparse
import platform
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.rig.cache import cached, fingerprint, say
from tests.rig.kube_schemas import write_schemas
from tests.rig.tools import GO_ENVIRONMENT, BuildError, MissingToolError, go_tool, pip_install, run, tool

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

RIG = Path(__file__).parent
REQUIREMENTS = RIG.parent.parent / "requirements"
LINKER_FLAGS = "-ldflags=-s -w"
EXIT_FAILED = 1
EXIT_TOOL_MISSING = 69  # EX_UNAVAILABLE


@dataclass(frozen=True)
class Part:
    """One thing that the rig needs.

    inputs: the files that it is built from, by their place in the folder that it is built in.
    make: builds it in that folder and returns the folder to keep.
    settings: what else its content depends on.
    """

    name: str
    inputs: Mapping[str, Path]
    make: Callable[[Path], Path]
    settings: tuple[str, ...] = ()

    def folder(self) -> Path:
        """Return where the part is; build it first when it is not there."""
        key = fingerprint(self.inputs, (platform.machine(), *self.settings))
        return cached(self.name, key, self._build)

    def _build(self, workplace: Path) -> Path:
        for place, source in self.inputs.items():
            copy = workplace / place
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
        return self.make(workplace)


def maven_part(name: str, *shared: Path) -> Part:
    """Return a part of jars: `java/NAME/pom.xml` with the folders that it shares with others beside it."""
    java = RIG / "java"
    sources = [path for folder in shared for path in sorted(folder.rglob("*.java"))]
    inputs = {str(path.relative_to(java)): path for path in [java / name / "pom.xml", *sources]}

    def make(workplace: Path) -> Path:
        tool("javac", "default-jdk-headless")
        project = workplace / name
        run(name, [tool("mvn", "maven"), "-B", "-ntp", "package"], project)
        jars = project / "target" / "lib"
        for own in (project / "target").glob("*.jar"):
            own.rename(jars / own.name)
        return jars

    return Part(name, inputs, make)


def go_part(name: str, *, source: str, versions: str) -> Part:
    """Return a part that is one binary: `go/SOURCE/main.go`, with the versions of `go/VERSIONS/go.mod`."""
    main = {"main.go": RIG / "go" / source / "main.go"}
    return _go_binary(name, package=".", sources=main, versions=versions)


def go_tool_part(name: str, package: str) -> Part:
    """Return a part that is one binary of somebody else's: `package`, a tool of the module in `go/NAME`."""
    return _go_binary(name, package=package, sources={}, versions=name)


def _go_binary(name: str, *, package: str, sources: Mapping[str, Path], versions: str) -> Part:
    module = {place: RIG / "go" / versions / place for place in ("go.mod", "go.sum")}

    def make(workplace: Path) -> Path:
        out = workplace / "bin"
        build = [go_tool(_toolchain(module["go.mod"])), "build", LINKER_FLAGS, "-o", str(out / name), package]
        run(name, build, workplace, GO_ENVIRONMENT)
        return out

    return Part(name, {**module, **sources}, make, (LINKER_FLAGS, *GO_ENVIRONMENT.values()))


def kube_schemas_part(name: str, module: str, *kinds: str) -> Part:
    """Return a part of JSON schemas: of these definitions in the OpenAPI document of `k8s.io/kubernetes@VERSION`."""

    def make(workplace: Path) -> Path:
        # A cache of its own, which goes with the workplace: all else in this module is of no use here.
        modules = workplace / "modules"
        environment = {**GO_ENVIRONMENT, "GOFLAGS": "-mod=mod -modcacherw", "GOMODCACHE": str(modules)}
        go = go_tool(_toolchain(RIG / "go" / "kubeconform" / "go.mod"))
        run(name, [go, "mod", "download", module], workplace, environment)
        schemas = workplace / "schemas"
        write_schemas(modules / module / "api" / "openapi-spec" / "swagger.json", kinds, schemas)
        return schemas

    script = RIG / "kube_schemas.py"
    return Part(name, {script.name: script}, make, (module, *kinds))


def debian_part(name: str, *packages: str) -> Part:
    """Return a part of Debian packages, unpacked and not installed; `PACKAGE=VERSION`, with `*` in the version."""

    def make(workplace: Path) -> Path:
        apt_get, dpkg_deb = tool("apt-get", "apt"), tool("dpkg-deb", "dpkg")
        # Lists of its own: those of the machine may be missing or old, and only root may renew them.
        lists, cache = workplace / "lists", workplace / "cache"
        (lists / "partial").mkdir(parents=True)
        cache.mkdir()
        options = ["-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={cache}"]
        run(name, [apt_get, *options, "update"], workplace)
        run(name, [apt_get, *options, "download", *packages], workplace)
        for package in sorted(workplace.glob("*.deb")):
            run(name, [dpkg_deb, "-x", str(package), "root"], workplace)
        return workplace / "root"

    return Part(name, {}, make, packages)


def python_part(name: str, *settings: str) -> Part:
    """Return a part of Python distributions in a folder of its own: those of `requirements/NAME.txt`."""
    requirements = REQUIREMENTS / f"{name}.txt"

    def make(workplace: Path) -> Path:
        run(name, pip_install(requirements, workplace / "site"), workplace)
        return workplace / "site"

    return Part(name, {requirements.name: requirements}, make, settings)


def _toolchain(go_mod: Path) -> str:
    found = re.search(r"^toolchain (\S+)$", go_mod.read_text(), re.MULTILINE)
    if found is None:
        raise BuildError(f"{go_mod} has no toolchain line")
    return found[1]


DUBBO_SOURCES = RIG / "java" / "dubbo-src"
NACOS2_SOURCES = RIG / "java" / "nacos2" / "src"
NACOS3_SOURCES = RIG / "java" / "nacos3" / "src"
NACOS_WRITER_SOURCES = RIG / "java" / "nacos-writer" / "src"
EUREKA_SOURCES = RIG / "java" / "eureka" / "src"
EUREKA_CLIENT_SOURCES = RIG / "java" / "eureka-client" / "src"
PARTS = {
    part.name: part
    for part in (
        maven_part("zookeeper"),
        maven_part("dubbo3", DUBBO_SOURCES),
        maven_part("dubbo27", DUBBO_SOURCES),
        maven_part("dubbo27-etcd", DUBBO_SOURCES),
        maven_part("nacos2", NACOS2_SOURCES),
        maven_part("nacos3", NACOS3_SOURCES),
        maven_part("nacos-writer", NACOS_WRITER_SOURCES),
        maven_part("eureka", EUREKA_SOURCES),
        maven_part("eureka-client", EUREKA_CLIENT_SOURCES),
        maven_part("spring-nacos", EUREKA_CLIENT_SOURCES),
        maven_part("spring-consul", EUREKA_CLIENT_SOURCES),
        python_part("envoy"),
        python_part("nacos-sdk", sys.implementation.cache_tag),  # among its wheels are some of one Python each
        python_part("py-eureka-client", sys.implementation.cache_tag),  # which wheels it needs depends on the Python
        python_part("py-consul", sys.implementation.cache_tag),  # among its wheels are some of one Python each
        go_part("etcd-3.6", source="etcd-3.6", versions="etcd-3.6"),
        go_part("etcd-3.5", source="etcd-3.6", versions="etcd-3.5"),
        debian_part("etcd-3.4", "etcd-server=3.4.*", "etcd-client=3.4.*"),
        go_part("etcd-writers", source="etcd-writers", versions="etcd-writers"),
        go_part("istiod-1.31", source="istiod-1.31", versions="istiod-1.31"),
        go_part("adsprobe-1.31", source="adsprobe", versions="istiod-1.31"),
        go_part("istiod-1.29", source="istiod-1.29", versions="istiod-1.29"),
        go_part("istiod-1.26", source="istiod-1.29", versions="istiod-1.26"),
        go_part("istiod-1.24", source="istiod-1.29", versions="istiod-1.24"),
        go_part("istiod-1.21", source="istiod-1.29", versions="istiod-1.21"),
        go_part("adsprobe-1.21", source="adsprobe", versions="adsprobe-1.21"),
        go_tool_part("consul", "github.com/hashicorp/consul"),
        go_tool_part("istioctl", "istio.io/istio/istioctl/cmd/istioctl"),
        go_tool_part("kubeconform", "github.com/yannh/kubeconform/cmd/kubeconform"),
        kube_schemas_part(
            "kube-schemas",
            "k8s.io/kubernetes@v1.33.0",
            "io.k8s.api.apps.v1.Deployment",
            "io.k8s.api.core.v1.ConfigMap",
            "io.k8s.api.core.v1.Namespace",
            "io.k8s.api.core.v1.Pod",
            "io.k8s.api.core.v1.Secret",
            "io.k8s.api.core.v1.Service",
            "io.k8s.api.core.v1.ServiceAccount",
            "io.k8s.api.networking.v1.NetworkPolicy",
            "io.k8s.api.policy.v1.PodDisruptionBudget",
        ),
    )
}


def part(name: str) -> Path:
    """Return the folder of a part, built first when it is not in the cache.

    Raises `MissingToolError` or `BuildError`.
    """
    return PARTS[name].folder()


def main(arguments: list[str]) -> int:
    """Build the parts that are named, or all; return the exit code."""
    parser = argparse.ArgumentParser("python -m tests.rig.build", description="Build parts of the test rig.")
    parser.add_argument("name", nargs="*", metavar="NAME", help=f"one of: {', '.join(PARTS)} (default: all)")
    names = parser.parse_args(arguments).name
    if unknown := sorted(set(names) - PARTS.keys()):
        parser.error(f"no such part: {', '.join(unknown)}")
    try:
        for name in names or PARTS:
            print(part(name))
    except MissingToolError as error:
        say(str(error))
        return EXIT_TOOL_MISSING
    except BuildError as error:
        say(str(error))
        return EXIT_FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
