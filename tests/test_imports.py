"""Rooms and what they may import: read from the source, so that an import nobody runs counts too.

Imports inside functions, and those for types alone, are imports: whoever reads a file follows them all.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import batchcap

PACKAGE = Path(batchcap.__file__).parent
FILES = sorted(file for file in PACKAGE.rglob("*.py") if file != PACKAGE / "__init__.py")

# Each room, from the ground up, and the rooms that it may import besides itself.
GROUND = frozenset({"errors", "records", "roots"})
ROOMS: dict[str, frozenset[str]] = {
    "errors": frozenset(),
    "records": frozenset(),
    "roots": frozenset(),
    "system": GROUND,
    "options": GROUND | {"system"},
    "images": GROUND | {"system", "options"},
    "bundle": GROUND | {"options", "images"},
    "decoding": frozenset({"options"}),
    "runtime": GROUND | {"system", "options", "images", "bundle", "decoding"},
    "journal": GROUND | {"system", "options"},
    "run": GROUND | {"system", "options", "images", "bundle", "runtime", "journal"},
    "tools": GROUND | {"system", "options", "images", "bundle", "decoding", "runtime", "run"},
    "console": GROUND | {"images", "bundle", "journal", "run", "tools"},
    "cli": GROUND | {"system", "options", "images", "bundle", "run", "tools", "console"},
    "__main__": frozenset({"system", "cli"}),
}
EXPORT_STAGE = {"tensorflow", "keras", "tf2onnx", "onnx", "batchcap_export", "pycocoevalcap"}


def imports(path: Path, *, lazy: bool = True) -> Iterator[str]:
    """Dotted names that a file imports; those inside functions and for types only if ``lazy``."""
    pending: list[ast.AST] = [ast.parse(path.read_bytes())]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where they lead"
            assert node.module is not None
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif lazy or not (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
        ):
            pending += ast.iter_child_nodes(node)


def module_of(path: Path) -> str:
    """``batchcap.images.walk``; of ``__init__.py`` its package."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


def ours(path: Path) -> set[str]:
    """The modules of batchcap that a file imports."""
    found = set()
    for name in imports(path):
        if name.startswith("batchcap.") and name != "batchcap.__version__":
            module = name if name in MODULES else name.rpartition(".")[0]
            assert module in MODULES, f"{path}: {name}: a name is imported from the file that it stands in"
            found.add(module)
    return found


def others(path: Path, *, lazy: bool = True) -> set[str]:
    return {name.split(".")[0] for name in imports(path, lazy=lazy)}


def room(module: str) -> str:
    return module.split(".")[1]


def test_every_file_has_its_room() -> None:
    assert {room(module) for module in MODULES} == set(ROOMS)


def test_rooms_build_on_rooms_below() -> None:
    below: set[str] = set()
    for name, may in ROOMS.items():
        assert may <= below, f"{name} may import {may - below}, which stands above it"
        below.add(name)


@pytest.mark.parametrize("module", MODULES)
def test_a_file_imports_what_its_room_may(module: str) -> None:
    used = {room(name) for name in ours(MODULES[module])} - {room(module)}
    assert used <= ROOMS[room(module)]


def test_no_import_runs_in_a_circle() -> None:
    graph = {module: ours(path) - {module} for module, path in MODULES.items()}
    while leaves := [name for name, uses in graph.items() if not uses & graph.keys()]:
        for name in leaves:
            del graph[name]
    assert not graph


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*/**/__init__.py")), ids=module_of)
def test_a_room_has_no_door_of_its_own(path: Path) -> None:
    """One way to each name: the ``__init__.py`` of a room says what the room is about, and imports nothing."""
    [only] = ast.parse(path.read_bytes()).body
    assert isinstance(only, ast.Expr)
    assert isinstance(only.value, ast.Constant)


ONLY = {"onnxruntime": {"runtime"}, "rich": {"console"}, "typer": {"cli"}}


@pytest.mark.parametrize("library", ONLY)
def test_a_library_has_its_one_room(library: str) -> None:
    assert {room(module) for module, path in MODULES.items() if library in others(path)} <= ONLY[library]


@pytest.mark.parametrize("module", MODULES)
def test_the_runtime_does_without_the_export_stage(module: str) -> None:
    assert not others(MODULES[module], lazy=False) & EXPORT_STAGE
    if room(module) != "cli":
        assert not others(MODULES[module]) & EXPORT_STAGE


@pytest.mark.parametrize("module", [module for module in MODULES if room(module) == "decoding"])
def test_a_search_needs_numpy_alone(module: str) -> None:
    assert others(MODULES[module]) - set(sys.stdlib_module_names) <= {"numpy", "batchcap"}


def test_importing_the_command_line_loads_no_model_library() -> None:
    heavy = "{'numpy', 'onnxruntime', 'tensorflow'}"
    code = f"import sys, batchcap.cli.app; print(*sorted({heavy} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == ""
