"""Writes the generated modules beside the .proto files: `python -m isthmus.protos.generate [DIRECTORY]`.

Needs grpcio-tools (requirements/test.txt). The modules are committed; tests/unit/test_protos.py compares them with
what this writes.
"""

from __future__ import annotations

import sys
from pathlib import Path

NAMES = ("etcd", "mcp", "nacos", "networking", "status", "xds")


def generate(root: Path, target: Path) -> None:
    """Generate all modules from the checkout `root` into `target`, as `isthmus/protos/NAME_pb2.py` and `.pyi`.

    Raises RuntimeError: protoc refuses a file.
    """
    from grpc_tools import protoc

    well_known = Path(protoc.__file__).parent / "_proto"
    # The path in the pool follows from the path given here: isthmus/ makes the name our own.
    files = [f"isthmus/protos/{name}.proto" for name in NAMES]
    arguments = [f"-I{root}", f"-I{well_known}", f"--python_out={target}", f"--pyi_out={target}", *files]
    if protoc.main(["protoc", *arguments]) != 0:
        raise RuntimeError("protoc refused a file")


if __name__ == "__main__":
    checkout = Path(__file__).absolute().parent.parent
    if checkout.name == "isthmus":
        checkout = checkout.parent
    generate(checkout, Path(sys.argv[1]) if len(sys.argv) > 1 else checkout)
