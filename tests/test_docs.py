"""README and docs: their commands and snippets run, and what they name exists."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import skimage
import typer
from commands import invoke
from pages import TABLES, Block, Call, Page, calls, commands_of, read
from paths import ROOT
from photos import break_photo
from PIL import Image

from batchcap.bundle.bundle import open_bundle
from batchcap.cli.app import app
from batchcap.journal.formats import make_codec
from batchcap.records import Record
from batchcap.runtime.decoding_defaults import decoding_options
from batchcap.system.locks import open_locked

DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS]
LINKED = [*PAGES, ROOT / "CHANGELOG.md", ROOT / "benchmarks" / "README.md"]
NOTES = {"not run", "needs", "exit code", "of"}
COMMANDS = commands_of(app)
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
# Code in a sentence that names the options of another program.
OTHERS = ("python ", "pip ", "make ", "pytest ", "ruff ", "git ")
PLACES = ("batchcap/", "export/", "examples/", "benchmarks/", "tests/", "docs/", "LICENSES/")


def page_id(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


pages = pytest.mark.parametrize("path", PAGES, ids=page_id)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the commands of the pages find: real photos, small, under the names that the pages use."""
    folder = tmp_path_factory.mktemp("found")
    data = Path(skimage.__file__).parent / "data"
    for name, files in {
        "astronaut.png": ("photos/astronaut.jpg", "a.jpg", "dog.png"),
        "rocket.jpg": ("photos/2019/rocket.jpg", "b.png"),
        "chelsea.png": ("photos/chelsea.jpg", "more/cat.jpg"),
        "coffee.png": ("more/coffee.jpg", "beach.jpg"),
    }.items():
        with Image.open(data / name) as image:
            small = image.convert("RGB").resize((240, 180))
        for file in files:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            small.save(folder / file)
    return folder


@pytest.fixture
def place(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain_environment: None) -> Path:
    """A folder of its own with those photos, which is the current one; `batchcap` is a command of its shell."""
    folder = tmp_path / "place"
    shutil.copytree(photos, folder)
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "batchcap").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m batchcap "$@"\n')
    (programs / "batchcap").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{ROOT / 'export'}")
    monkeypatch.chdir(folder)
    return folder


# Commands and snippets run


@pages
def test_a_page_can_be_followed(path: Path, place: Path) -> None:
    """In the order of the page, since a command may go on with what one before it has written."""
    for block in read(path).blocks:
        assert set(block.notes) <= NOTES, f"{block.where}: {block.notes}"
        needed = block.notes.get("needs")
        if "not run" in block.notes:
            assert len(block.notes["not run"]) > 10, f"{block.where}: why is it not run?"
        elif block.language == "python":
            exec(compile(block.text, block.where, "exec"), {})
        elif block.language == "sh" and (needed is None or shutil.which(needed)):
            follow(block)


def follow(block: Block) -> None:
    """Run the lines of a block; all but the last must end with 0."""
    lines = [line for line in block.lines if line.split("#")[0].strip()]
    found = [list(calls(line)) for line in lines]
    wanted = int(block.notes.get("exit code", 0))
    if all(len(each) == 1 and each[0].alone for each in found):
        for place, [call] in enumerate(found):
            last = place + 1 == len(found)
            done = invoke(call.name, *call.arguments, env=call.environment)
            assert done.exit_code == (wanted if last else 0), f"{block.where}: {lines[place]}\n{done.output}"
    else:
        shell = subprocess.run(["/bin/sh", "-euc", block.text], capture_output=True, text=True, check=False, timeout=60)
        assert shell.returncode == wanted, f"{block.where}: {shell.stdout}{shell.stderr}"


def test_lines_of_json_are_records() -> None:
    """As they would be written today, by the embedded model."""
    codec, bundle = make_codec("jsonl"), open_bundle("flickr8k-small")
    lines = [
        line.encode()
        for path in PAGES
        for block in read(path).blocks
        if block.language == "json"
        for line in block.text.splitlines()
    ]
    assert lines
    for line in lines:
        record = msgspec.json.decode(line, type=Record)
        assert codec.encode([record]) == line + b"\n"
        assert (record.model, record.decoding) == (bundle.label, decoding_options(bundle.manifest).label)


# What is named exists


@pages
def test_commands_take_the_options_that_a_page_gives_them(path: Path) -> None:
    """Those that are not run too, and those of other languages than a shell's."""
    for block in read(path).blocks:
        for line in block.lines if block.language not in ("python", "json") else ():
            for call in calls(line):
                assert_parsed(call, f"{block.where}: {line}")
    for span in read(path).spans:
        for call in calls(span.text) if span.text.startswith("batchcap ") else ():
            assert call.name in COMMANDS or call.name.startswith("-"), f"{span.where}: {span.text}"


def assert_parsed(call: Call, where: str) -> None:
    assert call.name in COMMANDS, where
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
        named = re.match(r"batchcap ([a-z]+)", span.text)
        known = set[str]().union(*(options_of(name) for name in ([named[1]] if named else span.commands)))
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


# Tables and figures


@pytest.mark.parametrize("path", DOCS, ids=page_id)
def test_tables_are_those_of_the_code(path: Path) -> None:
    page = path.read_text("utf-8")
    assert page == TABLES["rewritten"](page), "make docs"


def rows(page: Page, heading: str) -> list[str]:
    """The first cell of every row under a heading."""
    section = page.path.read_text("utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return [row.split("|")[1].strip() for row in re.findall(r"^\|.*\|$", section, re.MULTILINE)[2:]]


def test_the_record_has_these_fields() -> None:
    told = re.findall(r"`(\w+)`", " ".join(rows(read(ROOT / "docs" / "captioning.md"), "The record")))
    # Nothing reads archives yet.
    assert sorted(told) == sorted(set(Record.__struct_fields__) - {"member"})


def test_figures_are_those_of_the_manifest() -> None:
    figures = {metric.name: metric.value for metric in open_bundle("flickr8k-small").manifest.provenance.metrics}
    page = (ROOT / "docs" / "models.md").read_text()
    for name in ("dev", "photos", "photos-as-trained"):
        bleu = " / ".join(f"{figures[f'{name}/bleu_{n}']:.3f}" for n in range(1, 5))
        assert f"| {bleu} | {figures[f'{name}/cider']:.3f} |" in page
    bleu4, cider = figures["dev/bleu_4"], figures["dev/cider"]
    assert f"BLEU-4 {bleu4:.3f}, CIDEr {cider:.3f}" in (ROOT / "README.md").read_text()


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 130


# Exit codes


def nothing_wrong() -> int:
    return invoke("run", "photos", "-o", "out.jsonl").exit_code


def no_such_input() -> int:
    return invoke("run", "no-such-folder", "-o", "out.jsonl").exit_code


def wrong_usage() -> int:
    return invoke("run", "photos", "-o", "out.jsonl", "--beam-size", "four").exit_code


def broken_image() -> int:
    break_photo(Path("photos/chelsea.jpg"))
    return invoke("run", "photos", "-o", "out.jsonl").exit_code


def output_in_use() -> int:
    with open_locked(Path("out.jsonl"))[0]:
        return invoke("run", "photos", "-o", "out.jsonl").exit_code


def stopped_by(number: int) -> Callable[[], int]:
    def stopped() -> int:
        for copy in range(2000):
            shutil.copy("photos/chelsea.jpg", f"photos/{copy}.jpg")
        command = ["batchcap", "run", "photos", "-o", "out.jsonl", "--batch-size", "1"]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            while not Path("out.jsonl").exists() or not Path("out.jsonl").stat().st_size:
                assert process.poll() is None
                time.sleep(0.01)
            process.send_signal(number)
            return process.wait(60)

    return stopped


CAUSES = {
    "0": nothing_wrong,
    "1": no_such_input,
    "2": wrong_usage,
    "3": broken_image,
    "75": output_in_use,
    "130": stopped_by(signal.SIGINT),
    "143": stopped_by(signal.SIGTERM),
}


def test_every_exit_code_is_told() -> None:
    assert rows(read(ROOT / "docs" / "captioning.md"), "Exit codes") == list(CAUSES)


@pytest.mark.parametrize("code", CAUSES)
@pytest.mark.usefixtures("place", "own_handlers")
def test_an_exit_code_is_right(code: str) -> None:
    assert CAUSES[code]() == int(code)
