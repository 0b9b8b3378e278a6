"""A report that could not be written, or would take the place of something else, is an error before the run begins."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

pytestmark = pytest.mark.usefixtures("plain_environment")

Call = Callable[..., Result]

FLAGS = ("--summary", "--metrics", "--log-file")
NAMES = {"--summary": "report.json", "--metrics": "report.prom", "--log-file": "report.log"}


def refused(done: Result, *words: str) -> None:
    """One error that names what is wrong, and no run."""
    assert done.exit_code == 1
    assert done.stderr.startswith("Output cannot be used: ")
    for word in words:
        assert word in done.stderr
    assert "Captioning" not in done.stderr


@pytest.mark.parametrize("flag", FLAGS)
def test_places_where_nothing_can_be_written(flag: str, call: Call, tmp_path: Path) -> None:
    refused(call(flag, tmp_path / "away" / NAMES[flag]), flag, f"there is no folder {tmp_path / 'away'}", "mkdir -p")
    (tmp_path / NAMES[flag]).mkdir()
    refused(call(flag, tmp_path / NAMES[flag]), flag, "is a folder")
    refused(call(flag, tmp_path / ("x" * 300 + NAMES[flag])), flag, "File name too long")
    (tmp_path / "file").write_text("")
    refused(call(flag, tmp_path / "file" / NAMES[flag]), flag, "Not a directory")
    assert {path.name for path in tmp_path.iterdir()} == {"file", "photos", NAMES[flag]}


@pytest.mark.parametrize("flag", ["--summary", "--log-file"])
def test_standard_output_is_no_report(flag: str, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = call(flag, "-")
    assert done.exit_code == 2
    assert f"{flag} -: a report is a file, not standard output." in done.stderr
    assert not (tmp_path / "-").exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("flag", FLAGS)
def test_a_folder_that_may_not_be_written(flag: str, call: Call, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    refused(call(flag, tmp_path / "locked" / NAMES[flag]), flag, "Permission denied", "Give yourself the right")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("flag", FLAGS)
def test_a_named_pipe_does_not_hang_the_run(flag: str, call: Call, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / NAMES[flag])
    refused(call(flag, tmp_path / NAMES[flag]), flag, "is not a regular file")


@pytest.mark.parametrize("flag", FLAGS)
def test_a_report_is_never_the_output_or_another_report(flag: str, call: Call, tmp_path: Path) -> None:
    call(output="out.jsonl")
    before = (tmp_path / "out.jsonl").read_bytes()
    (tmp_path / "link.prom").symlink_to("out.jsonl")
    (tmp_path / "hard.prom").hardlink_to(tmp_path / "out.jsonl")
    for name in ("link.prom", "hard.prom"):
        refused(call(flag, tmp_path / name), flag, "this file is the output too")
    assert (tmp_path / "out.jsonl").read_bytes() == before
    other = FLAGS[FLAGS.index(flag) - 1]
    both = tmp_path / "both.prom"
    refused(call(flag, both, other, both), "this file is", "too", "Give each a file of its own")
    assert not both.exists()


def test_a_report_is_not_the_new_file_of_overwrite(call: Call, tmp_path: Path) -> None:
    refused(call("--log-file", tmp_path / "out.jsonl.partial", "--overwrite"), "--log-file", "--overwrite")
    refused(call("--summary", tmp_path / "." / "out.jsonl"), "--summary", "the output")


@pytest.mark.parametrize("flag", FLAGS)
def test_other_files_stay_as_they_are(flag: str, call: Call, photos: Path, tmp_path: Path) -> None:
    call(output="other.jsonl")
    call(output="other.csv")
    others = {"photo.prom": (photos / "0000.jpg").read_bytes(), "node.prom": b"node_load1 0.5\n", "a.prom": b"{}\n"}
    others |= {"j.prom": (tmp_path / "other.jsonl").read_bytes(), "c.prom": (tmp_path / "other.csv").read_bytes()}
    if flag == "--log-file":  # any text may go on as a log
        del others["node.prom"], others["a.prom"]
    for name, data in others.items():
        (tmp_path / name).write_bytes(data)
        refused(call(flag, tmp_path / name), flag, "is there already, and holds no ")
        assert (tmp_path / name).read_bytes() == data


def test_an_empty_file_is_no_other_file(call: Call, tmp_path: Path) -> None:
    for name in NAMES.values():
        (tmp_path / name).write_bytes(b"")
    assert call(*(part for flag, name in NAMES.items() for part in (flag, tmp_path / name))).exit_code == 0
    assert all((tmp_path / name).stat().st_size for name in NAMES.values())


def test_metrics_need_the_ending_that_the_collector_reads(call: Call, tmp_path: Path) -> None:
    done = call("--metrics", tmp_path / "batchcap.txt")
    assert done.exit_code == 2
    assert "the name must end in .prom" in done.stderr
    assert "textfile collector" in done.stderr
