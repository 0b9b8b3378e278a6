"""Outputs that others change while a run writes them, and files with odd dates; `benchmarks/` has the long proofs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from runs import run

from batchcap.errors import OutputError
from batchcap.run.figures import Progress

YEAR = 365 * 24 * 3600
DATES = (-1, -60 * YEAR, 0, 1, 2**31, 60 * YEAR, 130 * YEAR)


def cut(output: Path) -> None:
    os.truncate(output, output.stat().st_size - 20)


def replace(output: Path) -> None:
    shutil.copyfile(output, output.with_name("copy"))
    output.with_name("copy").replace(output)


CHANGES: list[Callable[[Path], object]] = [
    lambda output: os.truncate(output, 0),
    cut,
    replace,
    lambda output: output.replace(output.with_name("moved")),
    Path.unlink,
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_the_next_run_completes_an_output_that_was_changed_under_a_run(
    change: Callable[[Path], object], kind: str, photos: Path, tmp_path: Path, tiny_bundle: Path
) -> None:
    run(photos, tmp_path / f"undisturbed.{kind}", tiny_bundle, format=kind)
    output, left = tmp_path / f"out.{kind}", []

    def changed(progress: Progress) -> None:
        assert progress.done == 4, "one batch is written, and no more after the change"
        change(output)
        left.append(output.read_bytes() if output.exists() else b"")

    with pytest.raises(OutputError, match=r"during the run"):
        run(photos, output, tiny_bundle, changed, batch_size=4, format=kind)
    # A file that a run has made and that is empty goes with it.
    assert [output.read_bytes() if output.exists() else b""] == left
    run(photos, output, tiny_bundle, format=kind)
    assert output.read_bytes() == (tmp_path / f"undisturbed.{kind}").read_bytes()


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_dates_before_1970_and_far_in_the_future(kind: str, photos: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    files = sorted(photos.rglob("*.jpg"))[: len(DATES)]
    for path, date in zip(files, DATES, strict=True):
        os.utime(path, ns=(0, date * 10**9 + 123_456_789))
    output = tmp_path / f"out.{kind}"
    assert run(photos, output, tiny_bundle, format=kind).captioned == 10
    for date in DATES:
        assert str(date * 10**6 + 123_456).encode() in output.read_bytes()
    assert run(photos, output, tiny_bundle, format=kind).captioned == 0
    for path, date in zip(files, DATES, strict=True):
        os.utime(path, ns=(0, (date - 1) * 10**9))
    assert run(photos, output, tiny_bundle, format=kind).captioned == len(DATES), "an earlier date is another one too"
    assert run(photos, output, tiny_bundle, format=kind).captioned == 0
