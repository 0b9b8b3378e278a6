"""README and docs: their commands and snippets run, their tables and figures are those of the code."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import skimage
from commands import invoke
from pages import DOCS, PAGES, TABLES, Block, Page, calls, page_id, read
from paths import ROOT
from photos import break_photo
from PIL import Image

from batchcap.bundle.bundle import open_bundle
from batchcap.journal.formats import make_codec
from batchcap.records import Record
from batchcap.runtime.decoding_defaults import decoding_options
from batchcap.system.locks import open_locked

NOTES = {"not run", "needs", "exit code", "of"}


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


@pytest.mark.parametrize("path", PAGES, ids=page_id)
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
    "129": stopped_by(signal.SIGHUP),
    "130": stopped_by(signal.SIGINT),
    "143": stopped_by(signal.SIGTERM),
}


def test_every_exit_code_is_told() -> None:
    assert rows(read(ROOT / "docs" / "captioning.md"), "Exit codes") == list(CAUSES)


@pytest.mark.parametrize("code", CAUSES)
@pytest.mark.usefixtures("place", "own_handlers")
def test_an_exit_code_is_right(code: str) -> None:
    assert CAUSES[code]() == int(code)
