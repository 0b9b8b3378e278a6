"""Progress and the start of a run: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import io
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bundles import build_bundle
from commands import invoke, on_a_terminal
from photos import write_photos
from rich.console import Console
from typer.testing import Result

from batchcap.console import progress as bars
from batchcap.console import summary, terminal
from batchcap.console.progress import Display
from batchcap.images import discovery
from batchcap.run.figures import Progress, StageSeconds, Start, Summary

COUNT = 6
RESTRICTED = "For research and\nnon-commercial use; so are its captions."

pytestmark = pytest.mark.usefixtures("plain_environment")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    write_photos(tmp_path / "photos", COUNT)
    return tmp_path / "photos"


@contextmanager
def joined_counters() -> Iterator[None]:
    """Wait at the end for the threads that count."""
    yield
    for thread in threading.enumerate():
        if thread.name == "batchcap-count":
            thread.join(60)


# Progress


def progress(done: int, failed: int = 0, total: int | None = 100) -> Progress:
    return Progress(done=done, failed=failed, skipped=0, total=total, seconds=StageSeconds(), failures=())


def test_a_plain_line_every_30_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    with Display(clock=lambda: now) as display:
        for second in range(0, 100, 10):
            now = float(second)
            display(progress(second))
    assert capsys.readouterr().err.splitlines() == [
        "30 of 100 images, 1.0 images/s, 1 min 10 s left",
        "60 of 100 images, 1.0 images/s, 40 s left",
        "90 of 100 images, 1.0 images/s, 10 s left",
    ]


def test_what_came_before_the_first_image_is_not_in_the_rate(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    with Display(clock=lambda: now) as display:
        now = 100.0
        display.begin(Start(inputs=(Path("a"),), output=None, model="m@1", terms="", device="CPU", fresh=True))
        now = 130.0
        display(progress(30))
    assert capsys.readouterr().err.splitlines() == [
        "Captioning a with m@1 on CPU, into standard output.",
        "30 of 100 images, 1.0 images/s, 1 min 10 s left",
    ]


def test_lines_without_a_total_and_with_failures(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    with Display(clock=lambda: now) as display:
        now = 50.0
        display(progress(2000, failed=3, total=None))
    assert capsys.readouterr().err == "2,000 images, 40 images/s, 3 failed\n"


def test_images_that_arrive_one_by_one_have_no_speed(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    with Display(clock=lambda: now) as display:
        now = 10.0
        display(replace(progress(20, total=None), waiting=True))
        now = 100.0
        display(progress(21, total=None))
    assert capsys.readouterr().err.splitlines() == ["20 images, waiting for more", "21 images"]


def test_memory_that_ran_out_is_said_once_for_each_size(capsys: pytest.CaptureFixture[str]) -> None:
    for quiet in (False, True):
        with Display(not quiet, quiet=quiet) as display:
            for size in (None, 8, 8, 1, 1):
                display(replace(progress(20), reduced_batch=size))
    assert capsys.readouterr().err.splitlines() == [
        "Memory ran out: from here on at most 8 images at a time.",
        "Memory ran out: from here on at most 1 image at a time.",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (9.94, "9.9 s"), (42, "42 s"), (310, "5 min 10 s"), (12000, "3 h 20 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert terminal.duration(seconds) == text


def stopped(output: Path, **fields: Any) -> str:
    return summary._stopped_text(Summary(output=output, overwrite=True, interrupted=2, **fields), str(output))


def test_a_stopped_overwrite_says_what_became_of_the_output() -> None:
    output = Path("out.jsonl")
    assert stopped(output) == "Stopped: out.jsonl was not touched; the same command goes on from there."
    assert stopped(output, safe=2) == (
        "Stopped: out.jsonl was not touched; 2 records of the new output in out.jsonl.partial; "
        "the same command goes on from there."
    )
    assert stopped(output, safe=2, committed=True) == "Stopped when all was done: 2 records in out.jsonl."


def test_a_bar_and_a_panel_on_a_terminal(photos: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    common = ("-o", tmp_path / "out.jsonl", "--model", tiny_bundle, "--device", "cpu")
    code, seen = on_a_terminal("run", photos, *common, "--batch-size", "1")
    assert code == 0
    assert "captioning" in seen
    assert re.search(r"\d(?: of 6)? images, [\d.,]+ images/s", seen), "beside the bar; the summary has another form"
    assert f"Captioned {COUNT} images" in seen
    assert seen.count("\x1b[?25l") == seen.count("\x1b[?25h"), "the cursor is shown again"
    code, seen = on_a_terminal("run", tmp_path / "nowhere", *common)
    assert code == 1
    assert seen.index("╭─") < seen.index("Input not found") < seen.index(str(tmp_path / "nowhere")) < seen.index("╰─")


def test_no_bar_among_records_on_a_terminal(photos: Path, tiny_bundle: Path) -> None:
    code, seen = on_a_terminal("run", photos, "-o", "-", "--model", tiny_bundle, "--device", "cpu", stdout=True)
    assert code == 0
    assert "\x1b" not in seen
    assert len([line for line in seen.splitlines() if line.startswith('{"path":')]) == COUNT


# The start


def test_where_nobody_watches_the_first_line_says_what_is_done(
    call: Callable[..., Result], photos: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    first = call("--limit", "2").stderr.splitlines()[0]
    assert re.fullmatch(rf"Captioning {photos} with tiny@\w{{8}} on CPU, \d+ cores, into {output}\.", first)
    assert call("--limit", "1").stderr.startswith("Captioning ")
    for silent in ("--no-progress", "--quiet"):
        assert "Captioning" not in call("--limit", "1", silent).stderr
    assert call().stderr.startswith("Captioning ")
    assert call().stderr.startswith("Nothing new")
    several = call("--overwrite", inputs=sorted(photos.glob("*.jpg"))).stderr
    assert re.match(rf"Captioning {photos}/0000.jpg, {photos}/0001.jpg, {photos}/0003.jpg, \.\.\. with tiny", several)


def test_a_dumb_terminal_gets_lines_and_no_bar(photos: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    common = ("-o", tmp_path / "out.jsonl", "--model", tiny_bundle, "--device", "cpu")
    code, seen = on_a_terminal("run", photos, *common, term="dumb", columns=80)
    assert code == 0
    assert "\x1b" not in seen
    assert seen.startswith("Captioning")
    assert "Captioned 6 images: " in " ".join(seen.split())


def test_limited_terms_are_said_once_for_an_output(photos: Path, tmp_path: Path) -> None:
    model = build_bundle(tmp_path / "model", terms=RESTRICTED)
    line = "Terms of tiny: For research and non-commercial use; so are its captions."

    def said(*more: str, output: str = "out.jsonl", model: Path = model) -> list[str]:
        where = output if output == "-" else str(tmp_path / output)
        done = invoke("run", photos, "-o", where, "--model", model, "--device", "cpu", *more)
        assert done.exit_code == 0
        assert line not in done.stdout
        return done.stderr.splitlines()

    assert said("--limit", "2", "--no-progress").count(line) == 1
    assert line not in said("--limit", "2")
    assert line not in said()
    assert said("--overwrite").count(line) == 1
    assert said(output="-").count(line) == 1
    assert said("--quiet", output="quiet.jsonl") == []
    free = build_bundle(tmp_path / "free", terms="Apache-2.0")
    assert not [each for each in said(output="free.jsonl", model=free) if "Terms" in each]


def test_limited_terms_are_not_said_again_after_failures_alone(tmp_path: Path) -> None:
    """Images that could not even be read have a record too; with another model its terms are new."""
    model, other = (build_bundle(tmp_path / name, name=name, terms=RESTRICTED) for name in ("one", "two"))
    write_photos(tmp_path / "photos", 2)

    def said(*more: str, model: Path = model) -> tuple[int, int]:
        done = invoke(
            "run", tmp_path / "photos", "-o", tmp_path / "out.csv", "--model", model, "--device", "cpu", *more
        )
        return done.exit_code, done.stderr.count("Terms of")

    for photo in (tmp_path / "photos").iterdir():
        photo.rename(tmp_path / photo.name)
        photo.symlink_to(tmp_path / "gone" / photo.name)
    assert said() == (3, 1)
    assert said() == (3, 0)
    (tmp_path / "gone").mkdir()
    for photo in (tmp_path / "photos").iterdir():
        (tmp_path / photo.name).rename(tmp_path / "gone" / photo.name)
    assert said() == (0, 0)
    assert said("--on-mismatch", "recaption", model=other) == (0, 1)
    assert said("--on-mismatch", "recaption", "--limit", "1") == (0, 0), "of this model there are records"


def test_limited_terms_on_a_terminal(photos: Path, tmp_path: Path) -> None:
    model = build_bundle(tmp_path / "model", terms=RESTRICTED)
    _, seen = on_a_terminal("run", photos, "-o", tmp_path / "out.jsonl", "--model", model, "--device", "cpu")
    assert seen.count("Terms of tiny: For research and non-commercial use; so are its captions.\r\n") == 1


def test_the_bar_is_not_red(photos: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    common = ("-o", tmp_path / "out.jsonl", "--model", tiny_bundle, "--device", "cpu", "--batch-size", "1")
    _, seen = on_a_terminal("run", photos, *common)
    colours = set(re.findall(r"\x1b\[[\d;]*m(?=[━╸╺ ]*[━╸╺])", seen))
    assert colours, "there was a bar"
    assert not {colour for colour in colours if re.search(r"\b(?:31|91|35|95|1?97|249;38;114)\b", colour)}


@pytest.mark.parametrize(("columns", "rate"), [(80, "198/s"), (200, "198 images/s")])
def test_the_bar_of_a_long_run_fits(columns: int, rate: str, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Console(file=io.StringIO(), force_terminal=True, width=columns, color_system=None)
    monkeypatch.setattr(bars, "err", lambda: screen)
    now = 0.0
    with Display(clock=lambda: now) as display:
        now = 600.0
        display(progress(119000, failed=1234, total=2_000_000))
    shown = screen.file.getvalue()  # type: ignore[attr-defined]
    assert f"119,000 of 2,000,000 images, {rate}, 2 h 38 min left, 1,234 failed" in shown
    assert "…" not in shown


@pytest.mark.parametrize(("more", "times"), [((), 2), (("--quiet",), 1), (("--no-progress",), 1)])
def test_folders_are_listed_twice_only_where_a_total_is_shown(
    more: tuple[str, ...], times: int, call: Callable[..., Result], photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed: list[str] = []
    scandir = os.scandir

    def noted(folder: Any) -> Any:
        listed.append(str(folder))
        return scandir(folder)

    counters: list[Any] = []
    total = discovery.count

    def count(inputs: Any) -> int:
        counters.append(total(inputs))
        return counters[-1]

    monkeypatch.setattr(discovery.os, "scandir", noted)
    monkeypatch.setattr(discovery, "count", count)
    with joined_counters():
        assert call(*more).exit_code == 0
    assert listed.count(str(photos)) == listed.count(str(photos / "sub")) == times
    assert counters == [COUNT] * (times - 1)
