"""`--summary`: one JSON file that says the same as the run, however the run ends."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from commands import COUNT, invoke, records
from photos import break_photo
from typer.testing import Result

import batchcap
from batchcap.errors import OutputLockedError
from batchcap.run import pipeline
from batchcap.system.interrupts import Interrupted
from batchcap.system.locks import open_locked

pytestmark = pytest.mark.usefixtures("plain_environment")

Call = Callable[..., Result]


@pytest.fixture
def summary(tmp_path: Path) -> Callable[[], dict[str, Any]]:
    def read() -> dict[str, Any]:
        found: dict[str, Any] = json.loads((tmp_path / "run.json").read_bytes())
        return found

    return read


def test_it_says_what_the_run_has_done(
    call: Call, summary: Callable[[], dict[str, Any]], photos: Path, tmp_path: Path
) -> None:
    break_photo(photos / "0003.jpg")
    (photos / "notes.txt").write_text("no image")
    before = time.time()
    assert call("--summary", tmp_path / "run.json").exit_code == 3
    found = summary()
    record = records(tmp_path / "out.jsonl")[0]
    assert list(found)[:4] == ["program", "format_version", "exit_code", "outcome"]
    assert (found["exit_code"], found["outcome"], found["signal"], found["error"]) == (3, "finished", None, None)
    assert (found["model"], found["decoding"]) == (record["model"], record["decoding"])
    assert (found["inputs"], found["output"]) == ([str(photos)], str(tmp_path / "out.jsonl"))
    assert (found["images"]["captioned"], found["images"]["failed"], found["records"]) == (COUNT - 1, 1, COUNT)
    [failed] = [each for each in records(tmp_path / "out.jsonl") if "error" in each]
    assert found["failures"] == {
        "count": 1,
        "by_kind": [{"stage": "decode", "kind": "truncated", "count": 1}],
        "examples": [
            {
                "path": "0003.jpg",
                "stage": "decode",
                "kind": "truncated",
                "message": failed["error"]["message"],
                "folder": False,
            }
        ],
    }
    assert found["not_read"] == {"by_kind": {".txt": 1}, "links": 0}
    assert found["bytes"] == sum(path.stat().st_size for path in photos.rglob("*.jpg"))
    assert all(seconds > 0 for seconds in found["stage_seconds"].values())
    rates, seconds = found["stage_images_per_second"], found["stage_seconds"]
    assert rates["load"] == pytest.approx(COUNT / seconds["load"], rel=0.01)
    assert rates["search"] == pytest.approx((COUNT - 1) / seconds["search"], rel=0.01)
    assert found["images_per_second"] == pytest.approx((COUNT - 1) / found["seconds"], rel=0.1)
    assert found["versions"]["batchcap"] == batchcap.__version__
    assert {"onnxruntime", "python", "numpy"} <= set(found["versions"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found["started"])
    assert before - 1 < _seconds(found["started"]) <= _seconds(found["ended"]) < time.time() + 1


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def test_failures_of_earlier_runs_remain(call: Call, summary: Callable[[], dict[str, Any]], photos: Path) -> None:
    break_photo(photos / "0003.jpg")
    call()
    call("--summary", photos.parent / "run.json")
    found = summary()
    assert found["images"]["skipped_failures"] == 1
    counts = {name: count for name, count in found["images"].items() if count}
    assert counts == {"skipped": COUNT, "skipped_failures": 1}
    assert (found["exit_code"], found["failures"]["count"]) == (3, 1)
    assert found["failures"]["by_kind"] == [{"stage": "decode", "kind": "truncated", "count": 1}]
    [example] = found["failures"]["examples"]
    assert (example["path"], example["kind"], example["message"]) == ("0003.jpg", "truncated", None)


def test_a_run_that_cannot_begin_says_why(
    call: Call, summary: Callable[[], dict[str, Any]], tmp_path: Path, photos: Path
) -> None:
    done = call("--summary", tmp_path / "run.json", "--model", tmp_path / "none")
    found = summary()
    assert (done.exit_code, found["exit_code"], found["outcome"]) == (1, 1, "failed")
    assert found["error"]["type"] == "BundleError"
    assert found["error"]["message"] in done.stderr
    assert found["error"]["fix"] in done.stderr
    assert (found["model"], found["device"], found["records"]) == (None, None, None)
    done = call("--summary", tmp_path / "run.json", "--batch-size", "0")
    found = summary()
    assert (done.exit_code, found["exit_code"], found["error"]["type"]) == (2, 2, "OptionError")
    call()
    with open_locked(tmp_path / "out.jsonl")[0]:
        done = call("--summary", tmp_path / "run.json")
    assert (done.exit_code, summary()["exit_code"]) == (75, 75)
    assert summary()["error"]["type"] == "OutputLockedError"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a stream that is always full")
def test_a_full_disk_is_told(tmp_path: Path, photos: Path, tiny_bundle: Path) -> None:
    command = [sys.executable, "-m", "batchcap", "run", photos, "-o", "-", "--model", tiny_bundle, "--device", "cpu"]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([*command, "--summary", tmp_path / "run.json"], stdout=full, check=False)
    found = json.loads((tmp_path / "run.json").read_bytes())
    assert (done.returncode, found["exit_code"], found["output"]) == (1, 1, None)
    assert "No space left" in found["error"]["message"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_named(number: signal.Signals, tmp_path: Path, photos: Path, tiny_bundle: Path) -> None:
    names = ["--summary", tmp_path / "run.json", "--log-file", tmp_path / "log", "-o", tmp_path / "out.jsonl"]
    code = (
        "import os, signal, sys\n"
        "from batchcap.run import figures\n"
        "add = figures.Summary.add\n"
        "def add_and_stop(self, *args):\n"
        "    add(self, *args)\n"
        f"    os.kill(os.getpid(), {int(number)})\n"
        "figures.Summary.add = add_and_stop\n"
        "from batchcap.__main__ import main\n"
        "main()\n"
    )
    command = [
        sys.executable,
        "-c",
        code,
        "run",
        photos,
        "--model",
        tiny_bundle,
        "--device",
        "cpu",
        "--batch-size",
        "2",
    ]
    done = subprocess.run([*command, *names], capture_output=True, text=True, check=False)
    assert done.returncode == 128 + number, done.stderr
    found = json.loads((tmp_path / "run.json").read_bytes())
    assert (found["exit_code"], found["outcome"], found["signal"]) == (128 + number, "stopped", number.name)
    assert found["images"]["captioned"] == found["records"] == 2
    assert not found["reached_end"]
    assert "Stopped: 2 records safe" in (tmp_path / "log").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="names that are not UTF-8")
def test_names_that_are_no_text(tmp_path: Path, tiny_bundle: Path) -> None:
    odd = os.fsdecode(b"odd\xff\n")
    folder = tmp_path / odd
    folder.mkdir()
    (folder / os.fsdecode(b"b\xe9.jpg")).write_bytes(b"no image")
    files = ["--summary", folder / "run.json", "--metrics", folder / "m.prom", "--log-file", folder / "log"]
    common = ["--model", tiny_bundle, "--device", "cpu", "--log-format", "json"]
    done = invoke("run", folder, "-o", folder / "out.jsonl", *files, *common)
    assert done.exit_code == 3
    found = json.loads((folder / "run.json").read_text("utf-8"))
    assert found["inputs"] == [f"file://{tmp_path}/odd%FF%0A"]
    [example] = found["failures"]["examples"]
    assert (example["path"], example["path_b64"]) == ("b\ufffd.jpg", _b64(b"b\xe9.jpg"))
    assert f'output="file://{tmp_path}/odd%FF%0A/out.jsonl"' in (folder / "m.prom").read_text("utf-8")
    lines = [json.loads(line) for line in (folder / "log").read_text("utf-8").splitlines()]
    assert [line["path_b64"] for line in lines if line["event"] == "image_failed"] == [_b64(b"b\xe9.jpg")]


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_it_is_replaced_whole_and_keeps_its_rights(call: Call, tmp_path: Path) -> None:
    call("--summary", tmp_path / "run.json")
    (tmp_path / "run.json").chmod(0o640)
    (tmp_path / "link.json").symlink_to("run.json")
    first = (tmp_path / "run.json").stat().st_ino
    call("--summary", tmp_path / "link.json")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "run.json").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "run.json").stat().st_ino != first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.json", "out.jsonl", "photos", "run.json"]


@pytest.mark.parametrize(
    ("error", "code", "outcome"),
    [
        (None, 0, "finished"),
        (KeyboardInterrupt(), 130, "stopped"),
        (Interrupted(signal.SIGTERM), 143, "stopped"),
        (BrokenPipeError(), 0, "stopped"),
        (OutputLockedError("held"), 75, "failed"),
        (ZeroDivisionError("bug"), 1, "failed"),
    ],
)
def test_exit_codes_are_those_of_the_command_line(
    error: BaseException | None, code: int, outcome: str, call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def end(*_: object) -> None:
        if error is not None:
            raise error

    monkeypatch.setattr(pipeline, "run", lambda *_, **__: end())
    done = call("--summary", tmp_path / "run.json")
    found = json.loads((tmp_path / "run.json").read_bytes())
    assert (done.exit_code, found["exit_code"], found["outcome"]) == (code, code, outcome)
