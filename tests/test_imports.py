"""Imports run downward: read from the source, so that an import nobody runs counts too."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import batchcap

PACKAGE = Path(batchcap.__file__).parent
FILES = sorted(PACKAGE.glob("*.py"))

# From the ground up; a file imports files below its own floor, or beside it where that makes no circle.
FLOORS = (
    ("errors", "records", "places", "checked", "options", "text", "interrupts", "standard"),
    (
        *("files", "tiff", "jpeg", "metadata", "damage", "kinds", "opening", "images", "preprocess"),
        *("vocabulary", "onnxfile", "bundlefiles", "bundle", "contract", "sessions"),
        *("steps", "stepcheck", "rules", "sampling", "im2txt", "search"),
    ),
    ("giants", "roots", "walk", "sources", "loading", "formats", "resume", "stream", "wording", "captioner"),
    ("locks", "recovery", "mismatch", "journal"),
    ("progress", "pipeline", "doctor", "bench", "verify"),
    ("console", "console_progress", "console_summary", "console_tables"),
    ("cli", "cli_export", "cli_frameworks", "cli_help", "cli_origin", "cli_train", "cli_usage", "cli_verify"),
    ("__main__",),
)
EXPORT_STAGE = {"tensorflow", "keras", "tf2onnx", "onnx", "batchcap_export", "pycocoevalcap"}


def imports(path: Path, *, lazy: bool) -> Iterator[str]:
    """Dotted names that a file imports; those inside functions only if ``lazy``, those for types only never."""
    pending: list[ast.AST] = [ast.parse(path.read_bytes())]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative imports hide where they lead"
            assert node.module is not None
            whole = node.module == "batchcap"
            yield from (f"batchcap.{name.name}" for name in node.names) if whole else [node.module]
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            pending += node.orelse
        elif lazy or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            pending += ast.iter_child_nodes(node)


def ours(path: Path, *, lazy: bool) -> set[str]:
    names = {name.split(".")[1] for name in imports(path, lazy=lazy) if name.startswith("batchcap.")}
    return names - {"__version__"}


def others(path: Path, *, lazy: bool) -> set[str]:
    return {name.split(".")[0] for name in imports(path, lazy=lazy)}


def floor(name: str) -> int:
    return next(i for i, names in enumerate(FLOORS) if name in names)


def test_every_file_has_its_floor() -> None:
    assert sorted(path.stem for path in FILES if path.stem != "__init__") == sorted(sum(FLOORS, ()))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_imports_run_downward(path: Path) -> None:
    if path.stem == "__init__":
        assert not ours(path, lazy=True)
        return
    for name in ours(path, lazy=True):
        assert floor(name) <= floor(path.stem), f"{path.stem} imports {name}, which stands above it"


def test_no_import_runs_in_a_circle() -> None:
    graph = {path.stem: ours(path, lazy=True) for path in FILES}
    while leaves := [name for name, uses in graph.items() if not uses & graph.keys()]:
        for name in leaves:
            del graph[name]
    assert not graph


ONLY = {
    "onnxruntime": {"sessions"},
    "rich": {"console", "console_progress", "console_tables"},
    "typer": {"cli", "cli_export", "cli_origin", "cli_train", "cli_usage", "cli_verify", "__main__"},
}


@pytest.mark.parametrize("library", ONLY)
def test_a_library_has_its_one_place(library: str) -> None:
    users = {path.stem for path in FILES if library in others(path, lazy=True)}
    assert users <= ONLY[library]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_runtime_does_without_the_export_stage(path: Path) -> None:
    assert not others(path, lazy=False) & EXPORT_STAGE
    if not path.stem.startswith("cli"):
        assert not others(path, lazy=True) & EXPORT_STAGE


SEARCHES = {"steps", "rules", "sampling", "im2txt", "search"}


@pytest.mark.parametrize("name", sorted(SEARCHES))
def test_a_search_needs_numpy_and_options_alone(name: str) -> None:
    path = PACKAGE / f"{name}.py"
    assert ours(path, lazy=True) <= {"options"} | SEARCHES
    assert others(path, lazy=True) - set(sys.stdlib_module_names) <= {"numpy", "batchcap"}


def test_records_need_nothing_of_ours() -> None:
    assert not ours(PACKAGE / "records.py", lazy=True)


def test_the_journal_knows_no_model() -> None:
    seen, pending = set(), ["journal"]
    while pending:
        name = pending.pop()
        if name not in seen:
            seen.add(name)
            pending += ours(PACKAGE / f"{name}.py", lazy=True)
    assert not seen & {"sessions", "bundle", "captioner", "search"}


def test_the_pipeline_never_prints() -> None:
    assert not any(name.startswith("console") for name in ours(PACKAGE / "pipeline.py", lazy=True))


def test_importing_the_command_line_loads_no_model_library() -> None:
    code = "import sys, batchcap.cli.app; print(*sorted({'numpy', 'onnxruntime', 'tensorflow', 'cv2'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == ""
