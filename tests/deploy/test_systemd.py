"""The systemd unit: its directives are known to systemd, its command to us, and it leaves the bridge what it needs."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from isthmus.cli.main import parser
from isthmus.config import config_from_text
from tests.deploy.manifests import DEPLOY

if TYPE_CHECKING:
    from pathlib import Path

UNIT = DEPLOY / "systemd" / "isthmus.service"
TLS = DEPLOY / "systemd" / "tls.conf"
PAGE = (DEPLOY.parent / "docs" / "operations.md").read_text()
VERIFY_S = 60.0
# What `systemd-analyze security` says of a unit without any of this is 9.6; 10 is the most.
MOST_EXPOSED = 2.0
KNOWN = {
    "Unit": {"Description", "Wants", "After", "StartLimitIntervalSec"},
    "Service": {
        *("Type", "ExecStart", "EnvironmentFile", "Environment", "LoadCredential", "Restart", "RestartSec"),
        *("TimeoutStopSec", "LimitNOFILE", "MemoryMax", "DynamicUser", "StateDirectory", "StateDirectoryMode", "UMask"),
        *("NoNewPrivileges", "CapabilityBoundingSet", "AmbientCapabilities", "LockPersonality", "RemoveIPC"),
        *("ProtectSystem", "ProtectHome", "ProtectProc", "ProtectClock", "ProtectControlGroups"),
        *("ProtectHostname", "ProtectKernelLogs", "ProtectKernelModules", "ProtectKernelTunables"),
        *("PrivateDevices", "PrivateTmp", "PrivateUsers", "MemoryDenyWriteExecute", "RestrictAddressFamilies"),
        *("RestrictNamespaces", "RestrictRealtime", "RestrictSUIDSGID", "SystemCallArchitectures"),
        *("SystemCallFilter", "SystemCallErrorNumber"),
    },
    "Install": {"WantedBy"},
}


def directives(text: str) -> list[tuple[str, str, str]]:
    """Return section, name and value of each directive. Raises ValueError: a line is none."""
    section, found = "", []
    for line in text.splitlines():
        if match := re.fullmatch(r"\[(\w+)\]", line):
            section = match[1]
        elif line and not line.startswith("#"):
            name, value = line.split("=", 1)
            found.append((section, name, value))
    return found


def faults(text: str) -> list[str]:
    """Return the directives that are not known in their section."""
    return [f"{section}.{name}" for section, name, _ in directives(text) if name not in KNOWN.get(section, ())]


def said(name: str) -> str:
    return " ".join(value for _, one, value in directives(UNIT.read_text()) if one == name)


@pytest.mark.parametrize("file", [UNIT, TLS], ids=["unit", "tls"])
def test_every_directive_is_known(file: Path) -> None:
    assert faults(file.read_text()) == []
    assert faults(file.read_text().replace("[Service]\n", "[Service]\nNoNewPriviliges=yes\n", 1))


def test_what_is_started_is_our_command() -> None:
    program, *arguments = shlex.split(said("ExecStart"))
    assert program == "/opt/isthmus/bin/isthmus"
    assert parser().parse_args(arguments).config == "/etc/isthmus/isthmus.yaml"
    assert f"python3 -m venv {program.removesuffix('/bin/isthmus')}" in PAGE


def test_the_unit_leaves_no_rights_and_what_a_bridge_needs() -> None:
    assert said("CapabilityBoundingSet") == said("AmbientCapabilities") == ""
    assert said("NoNewPrivileges") == said("DynamicUser") == "yes"
    assert said("ProtectSystem") == "strict"
    assert {"AF_INET", "AF_INET6"} <= set(said("RestrictAddressFamilies").split())
    assert said("StateDirectory") == "isthmus"
    assert said("Restart") == "on-failure"
    assert said("StartLimitIntervalSec") == "0"


def test_the_key_is_where_the_configuration_that_is_shown_looks_for_it() -> None:
    (shown,) = re.findall(r"^#   (tls: .*)$", TLS.read_text(), re.MULTILINE)
    text = f"listen: 0.0.0.0:16012\n{shown}\nsources: [{{kind: files, directory: /srv/services}}]\n"
    tls = config_from_text(text, {"CREDENTIALS_DIRECTORY": "/run/credentials/isthmus.service"}).tls
    given = {value.partition(":")[0] for _, name, value in directives(TLS.read_text()) if name == "LoadCredential"}
    assert {path.rpartition("/")[2] for path in (tls.certificate, tls.key)} == given
    assert str(TLS.name) in PAGE


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", "--no-pager", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=VERIFY_S, check=False)


def test_systemd_takes_the_unit_and_calls_it_hardened(tmp_path: Path) -> None:
    """Where there is no systemd, `test_every_directive_is_known` is all that can be said."""
    if shutil.which("systemd-analyze") is None:
        return
    unit = tmp_path / "isthmus.service"
    unit.write_text(UNIT.read_text().replace("/opt/isthmus/bin/isthmus", sys.executable))
    (tmp_path / "isthmus.service.d").mkdir()
    (tmp_path / "isthmus.service.d" / "tls.conf").write_text(TLS.read_text())
    verify = ("verify", "--man=no", "--recursive-errors=no", str(unit))

    done = analyze(*verify)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    threshold = f"--threshold={MOST_EXPOSED * 10:g}"
    security = analyze("security", "--offline=yes", threshold, str(unit))
    assert security.returncode == 0, security.stdout

    unit.write_text(unit.read_text().replace("NoNewPrivileges", "NoNewPriviliges"))
    assert "NoNewPriviliges" in analyze(*verify).stderr
