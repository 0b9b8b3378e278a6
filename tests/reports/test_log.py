"""`--log-file` and `--log-format`: every message of a run, one line each, and never a run that stops for its log."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import COUNT
from photos import break_photo
from typer.testing import Result

from batchcap.console import pace
from batchcap.options.reports import ReportOptions
from batchcap.reports.log import RunLog
from batchcap.reports.run_reports import RunReports
from batchcap.run import job
from batchcap.run.figures import Progress, StageSeconds, Start, Summary

pytestmark = pytest.mark.usefixtures("plain_environment")

Call = Callable[..., Result]

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d (INFO|WARNING|ERROR) (.*)")


def texts(path: Path) -> list[tuple[str, ...]]:
    """Level and message of every line."""
    matches = [LINE.fullmatch(line) for line in path.read_text("utf-8").split("\n")[:-1]]
    assert all(matches)
    return [match.groups() for match in matches if match]


def objects(text: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in text.split("\n")[:-1]]
    for line in found:
        assert list(line)[:4] == ["time", "level", "event", "message"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
    return found


def test_a_log_of_text_has_what_the_run_said(call: Call, photos: Path, tmp_path: Path) -> None:
    break_photo(photos / "0003.jpg")
    (photos / "odd\nname.jpg").write_bytes(b"")
    log = tmp_path / "log"
    done = call("--log-file", log)
    assert done.exit_code == 3
    without = call(output="other.jsonl")
    assert _masked(done.stderr).replace("out.jsonl", "other.jsonl") == _masked(without.stderr)
    (begins, captioning, *failed, captioned) = texts(log)[:5]
    assert begins[0] == captioning[0] == captioned[0] == "INFO"
    assert captioned[1] == f"Captioned {COUNT - 1} images: {tmp_path / 'out.jsonl'}"
    assert [level for level, _ in failed] == ["WARNING", "WARNING"]
    assert failed[0][1].startswith("failed: 0003.jpg: decode, truncated: ")
    assert failed[1][1].startswith("failed: odd\\nname.jpg: decode, empty: ")
    call("--log-file", log, "--quiet")
    assert texts(log)[-2][1].startswith("batchcap ")
    assert texts(log)[-1][1].startswith("Nothing new: ")


def _masked(text: str) -> str:
    return re.sub(r"In [\d.]+ s \([\d.,]+ images/s\)", "In ...", text)


def test_a_log_of_json_has_fields(call: Call, photos: Path, tmp_path: Path) -> None:
    break_photo(photos / "0003.jpg")
    log = tmp_path / "log"
    assert call("--log-file", log, "--log-format", "json").stderr.startswith("Captioning ")
    started, captioning, failed, ended = objects(log.read_text("utf-8"))
    assert [each["event"] for each in (started, captioning, failed, ended)] == [
        "started",
        "captioning",
        "image_failed",
        "ended",
    ]
    assert (started["inputs"], started["output"]) == ([str(photos)], str(tmp_path / "out.jsonl"))
    assert captioning["model"].startswith("tiny@")
    assert {name: failed[name] for name in ("level", "path", "stage", "kind")} == {
        "level": "warning",
        "path": "0003.jpg",
        "stage": "decode",
        "kind": "truncated",
    }
    assert failed["reason"] in failed["message"]
    assert (ended["exit_code"], ended["captioned"], ended["failed"]) == (3, COUNT - 1, 1)


def test_json_on_stderr_takes_the_place_of_the_terminal(call: Call, tmp_path: Path, photos: Path) -> None:
    done = call("--log-format", "json", "-v", output="-")
    assert [each["event"] for each in objects(done.stderr)] == ["started", "captioning", "ended"]
    assert len(done.stdout.splitlines()) == COUNT
    done = call("--log-format", "json", "--model", tmp_path / "none")
    assert done.exit_code == 1
    [_, error] = objects(done.stderr)
    assert (error["event"], error["level"], error["type"], error["exit_code"]) == ("error", "error", "BundleError", 1)
    assert error["message"].startswith(error["title"])
    assert error["details"] == [error["fix"]]
    assert call("--log-format", "json", "--quiet").stderr == ""
    done = call("--log-format", "json", "--quiet", "--model", tmp_path / "none")
    assert [each["event"] for each in objects(done.stderr)] == ["error"]


def test_an_error_is_told_in_both_places(call: Call, tmp_path: Path) -> None:
    done = call("--log-file", tmp_path / "log", "--model", tmp_path / "none")
    [_, error, fix] = texts(tmp_path / "log")
    assert (error[0], fix[0]) == ("ERROR", "ERROR")
    assert done.stderr == f"{error[1]}\n{fix[1]}\n"


def test_a_bug_is_logged_with_its_traceback(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("of a test")

    monkeypatch.setattr(job, "open_bundle", broken)
    done = call("--log-file", tmp_path / "log")
    assert done.exit_code == 1
    assert "This is a bug in batchcap: ZeroDivisionError: of a test" in done.stderr
    found = texts(tmp_path / "log")
    assert ("ERROR", "This is a bug in batchcap: ZeroDivisionError: of a test") in found
    assert ("ERROR", "Traceback (most recent call last):") in found


def test_progress_is_logged_now_and_then(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "LINE_SECONDS", 0.0)
    call("--log-file", tmp_path / "log", "--log-format", "json", "--batch-size", "2")
    found = [each for each in objects((tmp_path / "log").read_text("utf-8")) if each["event"] == "progress"]
    assert [each["done"] for each in found] == [2, 4, 6]
    assert all(each["message"].startswith(f"{each['done']} ") for each in found)


def test_the_lines_of_a_run_that_waits(tmp_path: Path) -> None:
    """First for another run, which is not in its speed; then for images, once for each time, however soon."""
    options = ReportOptions(log_file=tmp_path / "log", log_format="json")
    now = 0.0
    with RunReports(options, Summary(output=None, overwrite=False), (tmp_path,), clock=lambda: now) as told:
        now = 1000.0
        told.begin(Start(inputs=(tmp_path,), output=None, model="m@1", terms="", device="CPU", fresh=True))
        for seconds, waiting, done in ((1031, False, 62), (1032, True, 62), (1033, True, 62), (1034, True, 63)):
            now = seconds
            told(
                Progress(
                    done=done, failed=0, skipped=0, total=None, seconds=StageSeconds(), failures=(), waiting=waiting
                )
            )
    said = [(each["event"], each["message"]) for each in objects((tmp_path / "log").read_text("utf-8"))[2:-1]]
    assert said == [
        ("progress", "62 images, 2.0 images/s"),
        ("waiting", "62 images, waiting for more"),
        ("waiting", "63 images, waiting for more"),
    ]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a file that is always full")
def test_a_full_disk_does_not_stop_the_run(call: Call, tmp_path: Path) -> None:
    done = call("--log-file", "/dev/full", "--summary", tmp_path / "run.json")
    assert done.exit_code == 0
    told = "--log-file /dev/full could not be written: No space left on device. The run goes on without it."
    assert done.stderr.count(told) == 1
    assert json.loads((tmp_path / "run.json").read_bytes())["notes"]["problems"] == [told]
    assert len((tmp_path / "out.jsonl").read_bytes().splitlines()) == COUNT


def test_a_report_that_cannot_be_written_in_the_end_is_told(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = job.open_bundle

    def away(model: str) -> object:
        shutil.rmtree(tmp_path / "reports")
        return real(model)

    monkeypatch.setattr(job, "open_bundle", away)
    (tmp_path / "reports").mkdir()
    names = [("--summary", "a.json"), ("--metrics", "a.prom"), ("--log-file", "log")]
    done = call(*(part for flag, name in names for part in (flag, tmp_path / "reports" / name)))
    assert done.exit_code == 0
    for flag, name in names:
        told = f"{flag} {tmp_path / 'reports' / name} could not be written: No such file or directory."
        assert done.stderr.count(told) == 1


def test_a_torn_line_is_ended_before_the_next(tmp_path: Path) -> None:
    """A disk that fills up takes part of a line."""
    heard: list[OSError] = []
    lines = RunLog(ReportOptions(log_file=tmp_path / "log"), heard.append, quiet=False)
    lines.info("a", "first")
    handler = lines._handler
    assert handler is not None

    class Short:
        def __init__(self, stream: Any) -> None:
            self._stream = stream

        def write(self, data: bytes) -> int:
            return int(self._stream.write(data[:10]))

        def __getattr__(self, name: str) -> Any:
            return getattr(self._stream, name)

    whole, handler.stream = handler.stream, Short(handler.stream)  # type: ignore[attr-defined]
    lines.info("b", "second")
    handler.stream = whole  # type: ignore[attr-defined]
    lines.info("c", "third")
    lines.close()
    first, torn, third = (tmp_path / "log").read_text().splitlines()
    assert (first[-5:], len(torn), third[-5:]) == ("first", 10, "third")
    assert len(heard) == 1


def test_a_line_that_a_killed_run_has_left_is_ended(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"torn")
    for _ in range(2):
        lines = RunLog(ReportOptions(log_file=tmp_path / "log"), lambda error: pytest.fail(str(error)), quiet=False)
        lines.info("a", "next")
        lines.close()
    torn, *others = (tmp_path / "log").read_text().splitlines()
    assert torn == "torn"
    assert [line[-4:] for line in others] == ["next", "next"]


@pytest.mark.skipif(shutil.which("logrotate") is None, reason="needs logrotate")
@pytest.mark.parametrize("how", ["copytruncate", "create"])
def test_logrotate_loses_no_line(how: str, tmp_path: Path) -> None:
    """The log is rotated while a run has it open."""
    path = tmp_path / "batchcap.log"
    settings = tmp_path / "rotate"
    settings.write_text(f"{path} {{\n rotate 3\n size 1\n {how}\n su root root\n}}\n")
    settings.chmod(0o600)
    tmp_path.chmod(0o755)
    lines = RunLog(ReportOptions(log_file=path), lambda error: pytest.fail(str(error)), quiet=False)
    lines.info("a", "first")
    done = subprocess.run(["logrotate", "-f", "-s", tmp_path / "state", settings], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"logrotate does not work here: {done.stderr.decode()}")
    lines.info("b", "second")
    lines.close()
    assert [message for _, message in texts(tmp_path / "batchcap.log.1")] == ["first"]
    assert [message for _, message in texts(path)] == ["second"]


def test_wrong_options(call: Call, tmp_path: Path) -> None:
    done = call("--log-format", "xml")
    assert done.exit_code == 2
    assert "text or json" in done.stderr
