"""What a person sees: progress, summaries, names that a terminal would obey; on a real terminal and in a file."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import on_a_terminal
from photos import break_photo, write_photos
from rich.cells import cell_len
from rich.console import Console
from typer import Context
from typer.main import get_command
from typer.testing import Result

from batchcap.cli.app import app
from batchcap.console import progress as bars
from batchcap.console import tables
from batchcap.console.progress import Steps
from batchcap.images import discovery

COUNT = 6
ORIGIN = ("0..255", "0..1", "-1..1", "caffe", "torch", "bilinear", "bilinear-antialias", "bilinear-tf1")
CHOICES = {
    "run": ("beam", "greedy", "sample", "im2txt", "auto", "fp32", "fp16", "int8", "stop", "recaption", "keep", "csv"),
    "verify": ORIGIN,
    "train": ("attention-gru", "show-and-tell", "show-attend-tell"),
    "export": (*ORIGIN, "float32", "float16", "int8", "plain", "english"),
}

pytestmark = pytest.mark.usefixtures("plain_environment")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    write_photos(tmp_path / "photos", COUNT)
    return tmp_path / "photos"


# Names


def test_names_that_a_terminal_would_obey_are_shown_escaped(call: Callable[..., Result], photos: Path) -> None:
    (photos / "a\x1b[2J\rb.jpg").write_text("no image")
    done = call("-v", "--no-progress")
    assert done.stderr.count("failed: a\\x1b[2J\\rb.jpg: decode, unsupported") == 2
    assert "\x1b" not in done.output
    missing = call("-vv", inputs=("nowhere\x1b[2J\x9b",))
    assert "nowhere\\x1b[2J\\x9b" in missing.stderr
    assert not set("\x1b\x9b") & set(missing.output)


FORGED = "a.jpg\nCaptioned 9 images\t\u2028.jpg"
ESCAPED = "a.jpg\\nCaptioned 9 images\\t\\u2028.jpg"


def test_a_line_end_in_a_name_writes_no_line_of_its_own(call: Callable[..., Result], photos: Path) -> None:
    (photos / FORGED).write_text("no image")
    done = call("-v", "--no-progress")
    assert done.stderr.count(f"failed: {ESCAPED}: decode, unsupported") == 2
    missing = call("-vv", inputs=(FORGED,))
    assert missing.stderr.count(ESCAPED) == 2, "the last line of the traceback, and the error"
    fix = call("--model", "wrong\nCaptioned 9 images")
    for said in (done.output, missing.output, fix.output):
        assert not [line for line in said.splitlines() if line.startswith("Captioned 9")]
    assert "wrong\\nCaptioned 9 images: " in fix.stderr


def test_names_on_a_real_terminal_stay_on_their_line(photos: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    (photos / FORGED).write_text("no image")
    common = ("-o", tmp_path / "out.jsonl", "--model", tiny_bundle, "--device", "cpu")
    for arguments in ((photos, *common, "-v"), (photos / "no\nCaptioned 9 images", *common)):
        _, seen = on_a_terminal("run", *arguments)
        assert "\\nCaptioned 9 images" in seen
        assert not re.search(r"^\W*Captioned 9", seen, re.MULTILINE)


def test_brackets_in_the_name_of_a_job_are_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Console(file=io.StringIO(), force_terminal=True, width=100)
    monkeypatch.setattr(bars, "err", lambda: screen)
    with Steps() as steps:
        steps("scoring [red]/[dim]", 1, 2)
    assert "scoring [red]/[dim]" in screen.file.getvalue()  # type: ignore[attr-defined]


# Errors


def test_a_long_name_in_an_error_is_not_cut_in_two(photos: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    name = tmp_path / ("a-name-that-does-not-fit-into-eighty-columns-of-any-terminal-" * 2)
    common = ("-o", tmp_path / "out.jsonl", "--model", tiny_bundle, "--no-progress")
    code, seen = on_a_terminal("run", name, *common, columns=80, color=False)
    assert code == 1
    assert [line.strip() for line in re.sub(r"\x1b\[\d*m", "", seen).splitlines()] == [
        *("Input not found:", "Input", f"{name}:", "No such file or directory."),
        "Check the spelling and the permissions.",
    ]
    _, short = on_a_terminal("run", "/[red]x", *common, columns=80, color=False)
    assert [line.strip("│ ") for line in re.sub(r"\x1b\[[\d;]*m", "", short).splitlines()[1:-1]] == [
        "Input /[red]x: No such file or directory.",
        "Check the spelling and the permissions.",
    ]


# Help


@pytest.mark.parametrize("columns", [80, 200])
@pytest.mark.parametrize("name", ["run", "info", "doctor", "bench", "verify", "distill", "train", "export"])
def test_help_is_whole_at_any_width(name: str, columns: int) -> None:
    """Every option with its metavar on one line, every text without a broken or swallowed word, every choice."""
    code, seen = on_a_terminal(name, "--help", stdout=True, columns=columns, color=False)
    assert code == 0
    shown = re.sub(r"\x1b\[[\d;]*m", "", seen)
    assert columns - 5 <= max(map(len, shown.splitlines())) <= columns
    lines = [" ".join(line.strip("│ ").split()) for line in shown.splitlines()]
    text = " ".join(lines)
    group = get_command(app)
    command = group.get_command(Context(group), name)  # type: ignore[attr-defined]
    options = [param for param in command.params if param.param_type_name == "option"]
    assert options
    for option in options:
        start = f"{max(option.opts, key=len)} "
        line = next(line for line in lines if line.removeprefix("* ").startswith((start, start.strip() + "\n")))
        assert f" {option.metavar}".rstrip() in line
        assert re.sub(r"\[/?dim\]", "", option.help) in text
        assert " ".join(option.metavar.split()) == option.metavar
    for choice in CHOICES.get(name, ()):
        assert re.search(rf"(?<![\w.-]){re.escape(choice)}(?![\w-])", shown)


# Summaries


def test_at_80_columns_no_word_of_a_summary_is_cut(tmp_path: Path, tiny_bundle: Path) -> None:
    photos = tmp_path / "a-folder-with-a-rather-long-name" / "and-another-one-below-it-as-archives-have-them"
    write_photos(photos, COUNT)
    break_photo(photos / "0001.jpg")
    output = photos.parent / "captions of all photos.jsonl"
    common = ("-o", output, "--model", tiny_bundle, "--device", "cpu")
    _, wide = on_a_terminal("run", photos, *common, "-v", "--no-progress", columns=1000, color=False)
    output.unlink()
    _, seen = on_a_terminal("run", photos, *common, "-v", "--no-progress", columns=80, color=False)
    lines = seen.splitlines()
    long = [line for line in lines if cell_len(line) > 80]
    assert [line for line in long if len(line.split()) > 1] == [], "only a name may be longer than the terminal"
    figures = re.compile(r"\d[\d.,]*")  # times differ between two runs
    assert figures.sub("0", " ".join(seen.split())) == figures.sub("0", " ".join(wide.split()))
    first = " ".join(seen[seen.index("Captioned") :].split())
    assert first.startswith(f"Captioned {COUNT - 1} images: {output} 1 image failed:")
    assert all(line.startswith(("failed: ", "Captioned", "  ")) for line in lines)


def test_a_folder_that_cannot_be_listed_is_no_image(
    call: Callable[..., Result], photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def refuse(folder: Any) -> Any:  # the tests may run as root, whom no permission stops
        if str(folder).endswith(refused):
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(discovery.os, "scandir", refuse)
    refused = "sub"
    break_photo(photos / "0001.jpg")
    done = call()
    assert done.exit_code == 3
    assert "  1 image failed, and 1 folder could not be listed:\n" in done.stderr
    assert "    failed: sub/: read, permission: this folder cannot be listed: Permission denied\n" in done.stderr
    refused = "photos"
    whole = call("--overwrite").stderr
    assert "  1 folder could not be listed:\n" in whole
    assert "    failed: ./: read, permission: this folder cannot be listed: Permission denied\n" in whole


# Tables


def test_the_table_of_captions_shows_p(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [("a.jpg", "two dogs", -8.31), ("b.jpg", "failed: truncated", None), ("c.jpg", "a long story", -2000.0)]
    tables.show_captions(rows, "out.jsonl")
    lines = [line for line in capsys.readouterr().out.splitlines() if ".jpg" in line]
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]
    assert cells == [
        ["a.jpg", "two dogs", "0.000246"],
        ["b.jpg", "failed: truncated", ""],
        ["c.jpg", "a long story", "2.58e-869"],
    ]
