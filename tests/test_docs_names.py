"""README and docs: the commands, options, variables, files, links and names in them exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
from pages import PAGES, Call, calls, commands, page_id, read
from paths import ROOT

LINKED = [*PAGES, ROOT / "CHANGELOG.md", ROOT / "benchmarks" / "README.md"]
COMMANDS = commands()
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
# Code in a sentence that names the options of another program.
OTHERS = ("python ", "pip ", "make ", "pytest ", "ruff ", "git ")
PLACES = ("batchcap/", "export/", "examples/", "benchmarks/", "tests/", "docs/", "LICENSES/")
pages = pytest.mark.parametrize("path", PAGES, ids=page_id)


@pages
def test_commands_take_the_options_that_a_page_gives_them(path: Path) -> None:
    """Those that are not run too, and those of other languages than a shell's."""
    for block in read(path).blocks:
        for line in block.lines if block.language not in ("python", "json") else ():
            for call in calls(line):
                assert_parsed(call, f"{block.where}: {line}")
    for span in read(path).spans:
        for call in calls(span.text) if span.text.startswith("batchcap ") else ():
            assert call.name in COMMANDS, f"{span.where}: {span.text}"


def assert_parsed(call: Call, where: str) -> None:
    assert call.name in COMMANDS, where
    if call.name == "batchcap":  # its options act at once
        assert set(call.arguments) <= options_of("batchcap"), where
        return
    try:
        COMMANDS[call.name].make_context(call.name, list(call.arguments))
    except Exception as error:
        raise AssertionError(f"{where}: {type(error).__name__}: {error}") from error


def options_of(name: str) -> set[str]:
    return {"--help"}.union(
        *(each.opts + each.secondary_opts for each in COMMANDS[name].params if each.param_type_name == "option")
    )


@pages
def test_options_in_sentences_exist(path: Path) -> None:
    page = read(path)
    for span in page.spans:
        if span.text.startswith(OTHERS):
            continue
        named = {call.name for call in calls(span.text)} if span.text.startswith("batchcap ") else span.commands
        known = set[str]().union(*(options_of(name) for name in named))
        assert set(OPTION.findall(span.text)) <= known, f"{span.where}: {span.text} is none of {span.commands}"
    for where, text in page.texts:
        assert not OPTION.search(text), f"{where}: an option is written as code: {text}"


@pages
def test_values_in_sentences_are_valid(path: Path) -> None:
    """``--search im2txt`` is one of the searches. Words in capitals stand for values of the reader's own."""
    for span in read(path).spans:
        for option, value in re.findall(r"(--[a-z-]+) ([a-z0-9.-]+)(?= |$)", span.text):
            takers = [COMMANDS[name] for name in span.commands if option in options_of(name)]
            assert not takers or not all(is_refused(taker, option, value) for taker in takers), (
                f"{span.where}: {span.text}"
            )


def is_refused(command: Any, option: str, value: str) -> bool:
    """Options that are given are looked at before those that are missing."""
    try:
        command.make_context(command.name, [option, value])
    except typer.BadParameter as error:
        return option in getattr(getattr(error, "param", None), "opts", ())
    return False


@pages
def test_variables_exist(path: Path) -> None:
    known = {param.envvar for command in COMMANDS.values() for param in command.params if param.envvar}
    source = (ROOT / "batchcap" / "__init__.py").read_text()
    known |= {name for name in ("BATCHCAP_ALLOW_TELEMETRY",) if f'"{name}"' in source}
    assert set(re.findall(r"BATCHCAP_[A-Z_]+", path.read_text())) <= known


def test_every_option_of_run_has_its_variable() -> None:
    for param in COMMANDS["run"].params:
        if param.param_type_name == "option":
            assert param.envvar == "BATCHCAP_" + param.opts[0].lstrip("-").replace("-", "_").upper()


@pytest.mark.parametrize("path", LINKED, ids=page_id)
def test_links_lead_somewhere(path: Path) -> None:
    for where, target in read(path).links:
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        assert there.exists(), f"{where}: {target}"
        assert not anchor or anchor in read(there).anchors, f"{where}: {target}: {read(there).anchors}"


@pages
def test_files_that_a_page_names_exist(path: Path) -> None:
    """In the repository, or in the runtime's folder, where rooms are named alone."""
    rooms = tuple(f"{folder.name}/" for folder in (ROOT / "batchcap").iterdir() if folder.is_dir())
    texts = [(span.where, span.text) for span in read(path).spans]
    texts += [
        (block.where, word) for block in read(path).blocks if block.language == "sh" for word in block.text.split()
    ]
    for where, text in texts:
        if re.fullmatch(r"[\w./-]+", text) and text.startswith((*PLACES, *rooms)):
            assert any((folder / text).exists() for folder in (ROOT, ROOT / "batchcap")), f"{where}: {text}"


@pages
def test_names_of_code_exist(path: Path) -> None:
    """Classes and constants: `CaptionModel`, `STRATEGIES`."""
    source = "".join(file.read_text() for part in ("batchcap", "export") for file in (ROOT / part).rglob("*.py"))
    known = set(re.findall(r"\w+", source))
    for span in read(path).spans:
        if re.fullmatch(r"[A-Z]\w*[a-z][A-Z]\w*|[A-Z]{3}[A-Z_]+", span.text):
            assert span.text in known, f"{span.where}: {span.text}"


@pages
def test_extras_and_targets_exist(path: Path) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    texts = [span.text for span in read(path).spans] + [
        line for b in read(path).blocks if b.language == "sh" for line in b.lines
    ]
    for text in texts:
        for named in re.findall(r"(?:\.|batchcap)\[([a-z,]+)\]", text):
            assert set(named.split(",")) <= extras.keys(), text
        if target := re.match(r"make ([a-z]+)", text):
            assert target[1] in targets, text
