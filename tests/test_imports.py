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
import batchcap_export

PACKAGES = {package.__name__: Path(package.__file__).parent for package in (batchcap, batchcap_export)}

# Each room, from the ground up, and the rooms of its package that it may import besides itself.
GROUND = frozenset({"errors", "records", "reporting", "roots"})
RUNTIME: dict[str, frozenset[str]] = {
    "errors": frozenset(),
    "records": frozenset(),
    "reporting": frozenset(),
    "roots": frozenset(),
    "system": GROUND,
    "options": GROUND | {"system"},
    "images": GROUND | {"system", "options"},
    "bundle": GROUND | {"options", "images"},
    "decoding": frozenset({"options"}),
    "runtime": GROUND | {"system", "options", "images", "bundle", "decoding"},
    "journal": GROUND | {"system", "options"},
    "convert": GROUND | {"system", "options", "images", "journal"},
    "run": GROUND | {"system", "options", "images", "bundle", "runtime", "journal"},
    "tools": GROUND | {"system", "options", "images", "bundle", "decoding", "runtime", "run"},
    "console": GROUND | {"images", "bundle", "journal", "convert", "run", "tools"},
    "reports": GROUND | {"system", "options", "journal", "run", "console"},
    "cli": GROUND
    | {"system", "options", "images", "bundle", "journal", "convert", "run", "tools", "console", "reports"},
    "__main__": frozenset({"system", "cli"}),
}
CAPTIONERS = frozenset({"data", "options", "model"})
EXPORT: dict[str, frozenset[str]] = {
    "system": frozenset(),
    "data": frozenset(),
    "options": frozenset({"data"}),
    "model": frozenset({"data"}),
    "convert": frozenset({"options", "model"}),
    "proof": frozenset({"data", "model"}),
    "architectures": frozenset({"data", "model"}),
    "training": CAPTIONERS | {"system", "convert", "proof", "architectures"},
    "importers.im2txt": CAPTIONERS,
    "importers.keras": CAPTIONERS,
    "importers": frozenset({"options", "model", "importers.im2txt", "importers.keras"}),
    "packaging": CAPTIONERS | {"system", "convert", "proof"},
    "exporting": CAPTIONERS | {"system", "proof", "training", "importers", "importers.keras", "packaging"},
}
ROOMS = {"batchcap": RUNTIME, "batchcap_export": EXPORT}
# What stands in a package itself: its version, its public names.
NOT_IN_A_ROOM = {*PACKAGES, "batchcap.__version__"}
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
    [package] = [package for package in PACKAGES.values() if path.is_relative_to(package)]
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    module_of(path): path
    for package in PACKAGES.values()
    for path in sorted(package.rglob("*.py"))
    if path != package / "__init__.py"
}


def ours(path: Path) -> set[str]:
    """The modules of batchcap and of the export stage that a file imports."""
    found = set()
    for name in imports(path):
        if name.split(".")[0] in PACKAGES and name not in NOT_IN_A_ROOM:
            module = name if name in MODULES else name.rpartition(".")[0]
            assert module in MODULES, f"{path}: {name}: a name is imported from the file that it stands in"
            found.add(module)
    return found


def others(path: Path, *, lazy: bool = True) -> set[str]:
    return {name.split(".")[0] for name in imports(path, lazy=lazy)}


def package(module: str) -> str:
    return module.split(".", maxsplit=1)[0]


def room(module: str) -> str:
    """The first part of the name, or the first two where these are a room of their own."""
    _, *parts = module.split(".")
    pair = ".".join(parts[:2])
    return pair if pair in ROOMS[package(module)] else parts[0]


@pytest.mark.parametrize("name", PACKAGES)
def test_every_file_has_its_room(name: str) -> None:
    assert {room(module) for module in MODULES if package(module) == name} == set(ROOMS[name])


@pytest.mark.parametrize("rooms", ROOMS.values(), ids=ROOMS)
def test_rooms_build_on_rooms_below(rooms: dict[str, frozenset[str]]) -> None:
    below: set[str] = set()
    for name, may in rooms.items():
        assert may <= below, f"{name} may import {may - below}, which stands above it"
        below.add(name)


@pytest.mark.parametrize("module", MODULES)
def test_a_file_imports_what_its_room_may(module: str) -> None:
    home = package(module)
    used = {room(name) for name in ours(MODULES[module]) if package(name) == home} - {room(module)}
    assert used <= ROOMS[home][room(module)]


def test_no_import_runs_in_a_circle() -> None:
    graph = {module: ours(path) - {module} for module, path in MODULES.items()}
    while leaves := [name for name, uses in graph.items() if not uses & graph.keys()]:
        for name in leaves:
            del graph[name]
    assert not graph


@pytest.mark.parametrize("path", [path for path in MODULES.values() if path.name == "__init__.py"], ids=module_of)
def test_a_room_has_no_door_of_its_own(path: Path) -> None:
    """One way to each name: the ``__init__.py`` of a room says what the room is about, and imports nothing."""
    [only] = ast.parse(path.read_bytes()).body
    assert isinstance(only, ast.Expr)
    assert isinstance(only.value, ast.Constant)


ONLY = {
    ("batchcap", "onnxruntime"): "runtime",
    ("batchcap", "rich"): "console",
    ("batchcap", "typer"): "cli",
    ("batchcap_export", "tf2onnx"): "convert",
    ("batchcap_export", "pycocoevalcap"): "proof",
}


@pytest.mark.parametrize(("name", "library"), ONLY)
def test_a_library_has_its_one_room(name: str, library: str) -> None:
    used = {room(module) for module, path in MODULES.items() if package(module) == name and library in others(path)}
    assert used <= {ONLY[name, library]}


@pytest.mark.parametrize("module", [module for module in MODULES if package(module) == "batchcap"])
def test_the_runtime_does_without_the_export_stage(module: str) -> None:
    assert not others(MODULES[module], lazy=False) & EXPORT_STAGE
    if room(module) != "cli":
        assert not others(MODULES[module]) & EXPORT_STAGE


NO_FRAMEWORK = {"system", "data", "options"}


@pytest.mark.parametrize("module", [m for m in MODULES if package(m) == "batchcap_export" and room(m) in NO_FRAMEWORK])
def test_what_a_command_is_told_is_checked_without_tensorflow(module: str) -> None:
    assert not others(MODULES[module]) & (EXPORT_STAGE - {"batchcap_export"})


@pytest.mark.parametrize("module", [module for module in MODULES if room(module) == "decoding"])
def test_a_search_needs_numpy_alone(module: str) -> None:
    assert others(MODULES[module]) - set(sys.stdlib_module_names) <= {"numpy", "batchcap"}


def test_importing_the_command_line_loads_no_model_library() -> None:
    heavy = "{'numpy', 'onnxruntime', 'tensorflow'}"
    code = f"import sys, batchcap.cli.app; print(*sorted({heavy} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == ""
