"""Java processes of the rig: small heaps, quick to start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.rig.build import part
from tests.rig.tools import tool

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

QUICK_START = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


def java_command(
    part_name: str, main_class: str, *arguments: str, heap: str, home: Path, properties: Mapping[str, str]
) -> list[str]:
    """Return the command that runs a main class on the jars of a part.

    heap: the largest size of the heap, as Java writes it (`128m`).
    home: takes what Java code puts into the user's home.
    """
    system_properties = {"user.home": str(home), **properties}
    return [
        tool("java", "default-jdk-headless"),
        f"-Xmx{heap}",
        *QUICK_START,
        "--add-opens=java.base/java.lang=ALL-UNNAMED",
        *(f"-D{key}={value}" for key, value in system_properties.items()),
        "-cp",
        f"{part(part_name)}/*",
        main_class,
        *arguments,
    ]
