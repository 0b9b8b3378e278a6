"""`--metrics`: read with the parser of the official client; counters go on from run to run."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import COUNT
from photos import break_photo
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import Result

from batchcap.errors import DeviceError, OutputLockedError
from batchcap.options.reports import ReportOptions
from batchcap.records import Fingerprint
from batchcap.reports import metrics_file, run_reports
from batchcap.reports.ending import Ending
from batchcap.reports.metrics_file import MetricsFile
from batchcap.reports.metrics_text import METRICS, Samples, read_samples
from batchcap.run.figures import Summary
from batchcap.system.locks import open_locked
from batchcap.system.replaced_file import replace_file

pytestmark = pytest.mark.usefixtures("plain_environment")

Call = Callable[..., Result]


def families(path: Path) -> dict[str, Metric]:
    """Every metric of a file, by its name as a query has it."""
    found = list(text_string_to_metric_families(path.read_text("utf-8")))
    assert all(family.type in ("counter", "gauge") and family.documentation for family in found)
    return {family.name + "_total" * (family.type == "counter"): family for family in found}


def value(path: Path, name: str, **labels: str) -> float:
    """The one sample with these labels; those not named do not matter."""
    samples = families(path)[f"batchcap_{name}"].samples
    [found] = [each.value for each in samples if labels.items() <= each.labels.items()]
    return float(found)


def test_a_run_leaves_its_metrics(call: Call, photos: Path, tmp_path: Path) -> None:
    break_photo(photos / "0003.jpg")
    file, before = tmp_path / "batchcap.prom", time.time()
    assert call("--metrics", file).exit_code == 3
    found = families(file)
    assert set(found) == {f"batchcap_{name}" for name in METRICS} - {"batchcap_last_success_timestamp_seconds"}
    assert {sample.labels["output"] for each in found.values() for sample in each.samples} == {
        str(tmp_path / "out.jsonl")
    }
    assert value(file, "running") == 0
    assert value(file, "last_run_exit_code") == 3
    assert before <= value(file, "run_start_timestamp_seconds") <= value(file, "last_run_timestamp_seconds")
    assert [value(file, "run_images", state=state) for state in ("captioned", "failed", "skipped")] == [COUNT - 1, 1, 0]
    assert value(file, "images_failed_total", stage="decode", kind="truncated") == 1
    assert value(file, "images_without_caption", stage="decode", kind="truncated") == 1
    assert value(file, "output_bytes") == (tmp_path / "out.jsonl").stat().st_size
    assert value(file, "stage_seconds_total", stage="encode") > 0
    [info] = found["batchcap_info"].samples
    assert {"batchcap", "onnxruntime", "python", "model", "device"} <= set(info.labels)
    assert call("--metrics", file).exit_code == 3
    assert value(file, "run_images", state="failed") == 0
    assert value(file, "images_without_caption", stage="decode", kind="truncated") == 1
    assert file.stat().st_mode & 0o444 == 0o444 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_counters_and_the_last_success_go_on(call: Call, photos: Path, tmp_path: Path) -> None:
    file = tmp_path / "batchcap.prom"
    call("--metrics", file, "--limit", "2")
    succeeded = value(file, "last_success_timestamp_seconds")
    call("--metrics", file)
    assert value(file, "images_captioned_total") == COUNT
    assert value(file, "run_images", state="captioned") == COUNT - 2
    assert value(file, "runs_total", exit_code="0") == 2
    assert value(file, "last_success_timestamp_seconds") > succeeded
    assert value(file, "image_bytes_total") == sum(path.stat().st_size for path in photos.rglob("*.jpg"))
    succeeded = value(file, "last_success_timestamp_seconds")
    assert call("--metrics", file, "--model", tmp_path / "none").exit_code == 1
    assert value(file, "last_success_timestamp_seconds") == succeeded
    assert value(file, "last_run_exit_code") == 1
    assert value(file, "runs_total", exit_code="0") == 2
    assert value(file, "runs_total", exit_code="1") == 1
    assert value(file, "images_captioned_total") == COUNT
    assert value(file, "output_records") == COUNT, "that run has not looked into it"


def test_a_run_that_finds_the_output_in_use_leaves_the_file_alone(call: Call, tmp_path: Path) -> None:
    file = tmp_path / "batchcap.prom"
    call("--metrics", file)
    before = file.read_bytes()
    with open_locked(tmp_path / "out.jsonl")[0]:
        assert call("--metrics", file).exit_code == OutputLockedError.exit_code
    assert file.read_bytes() == before


def test_the_present_run_shows_while_it_works(monkeypatch: pytest.MonkeyPatch, photos: Path, tmp_path: Path) -> None:
    """The thread writes in the middle of a run; a kill then leaves this file, with what the last run said."""
    file, output = tmp_path / "batchcap.prom", tmp_path / "out.jsonl"
    _write(file, output, succeeded=True)
    ended = value(file, "last_run_timestamp_seconds")
    monkeypatch.setattr(run_reports, "_POLL_SECONDS", 0.001)
    made_with = Fingerprint(model="m", preprocess="exact", decoding="d")
    summary = Summary(output=output, overwrite=False, fingerprint=made_with, wall=1.0)
    with run_reports.RunReports(ReportOptions(metrics=file), summary, (photos,)):
        assert value(file, "running") == 0  # this run does not hold the output yet
        summary.live, summary.captioned = output, 7
        deadline = time.monotonic() + 60
        while value(file, "running") == 0:
            assert time.monotonic() < deadline
        assert value(file, "run_images", state="captioned") == 7
        assert value(file, "images_captioned_total") == 12
        assert value(file, "last_run_timestamp_seconds") == value(file, "last_success_timestamp_seconds") == ended
        assert value(file, "images_without_caption", kind="empty") == 2
    assert value(file, "running") == 0
    assert value(file, "images_captioned_total") == 12
    assert "batchcap_images_without_caption" not in families(file)


def test_a_run_that_is_ended_at_once_has_the_last_word(
    monkeypatch: pytest.MonkeyPatch, photos: Path, tmp_path: Path
) -> None:
    """The thread that writes now and then may be in the middle of it."""
    file, output = tmp_path / "batchcap.prom", tmp_path / "out.jsonl"
    under_way, go_on = threading.Event(), threading.Event()

    def slow(path: Path, data: bytes) -> None:
        if threading.current_thread().name == "batchcap-metrics":
            under_way.set()
            go_on.wait(60)
        replace_file(path, data)

    monkeypatch.setattr(metrics_file, "replace_file", slow)
    monkeypatch.setattr(run_reports, "_POLL_SECONDS", 0.001)
    summary = Summary(output=output, overwrite=False, live=output)
    with run_reports.RunReports(ReportOptions(metrics=file), summary, (photos,)) as told:
        assert under_way.wait(60)
        ends = threading.Thread(target=told.end_at_once, args=(15,))
        ends.start()
        ends.join(0.2)  # it must not write meanwhile
        go_on.set()
        ends.join()
        told._writer.join()
        assert (value(file, "running"), value(file, "last_run_exit_code")) == (0, 143)
        assert value(file, "runs_total", exit_code="143") == 1


def _write(file: Path, output: Path, *, succeeded: bool) -> None:
    """The metrics of a run that is over: 5 captions, 2 failures."""
    summary = Summary(output=output, overwrite=False, captioned=5, failed=2)
    summary.failed_kinds["decode", "empty"] = 2
    ending = Ending.of(None if succeeded else DeviceError("lost"), Summary(output=output, overwrite=False))
    if succeeded:
        assert ending.exit_code == 0
    MetricsFile(file, summary, 1000.0).write(1010.5, 10.5, ending)
    if succeeded:
        assert value(file, "images_without_caption", kind="empty") == 2


def test_what_remains_is_told_by_runs_that_came_to_their_end(tmp_path: Path) -> None:
    file = tmp_path / "batchcap.prom"
    _write(file, tmp_path / "o", succeeded=True)
    summary = Summary(output=tmp_path / "o", overwrite=False)
    MetricsFile(file, summary, 2000.0).write(2001.0, 1.0, Ending.of(DeviceError("lost"), summary))
    assert value(file, "images_without_caption", kind="empty") == 2
    assert value(file, "last_success_timestamp_seconds") == 1010.5
    assert value(file, "last_run_timestamp_seconds") == 2001
    summary.limited = True
    MetricsFile(file, summary, 3000.0).write(3001.0, 1.0, Ending.of(None, summary))
    assert value(file, "images_without_caption", kind="empty") == 2


def test_counters_of_an_output_with_an_odd_name_go_on(tmp_path: Path) -> None:
    for _ in range(2):
        _write(tmp_path / "m.prom", tmp_path / "a\r\u2028\nb", succeeded=False)
    again = MetricsFile(tmp_path / "m.prom", Summary(output=tmp_path / "a\r\u2028\nb", overwrite=False), 0.0)._read()
    assert again.get("images_captioned_total") == 10


@pytest.mark.parametrize("odd", ['a"b', "a\\b", "a\nb", "a,b} 1", "a\u2028b", 'é"', "\\n", ""])
def test_label_values_are_escaped(odd: str, tmp_path: Path) -> None:
    samples = Samples(odd)
    samples.set("images_failed_total", 2, {"stage": odd, "kind": "x"})
    samples.set("last_success_timestamp_seconds", 1795298264.2472417)
    (tmp_path / "m.prom").write_text(samples.text(), "utf-8")
    [found] = families(tmp_path / "m.prom")["batchcap_images_failed_total"].samples
    assert found.labels == {"output": odd, "stage": odd, "kind": "x"}
    again = read_samples(samples.text(), odd)
    assert again == samples
    assert read_samples(samples.text(), f"{odd}x").values == {}


def test_lines_that_are_not_understood_are_left_out() -> None:
    text = """\
batchcap_running{output="a"} 1
batchcap_runs_total{output="a",exit_code="0"} many
batchcap_runs_total{output="a",exit_code="1"} NaN
batchcap_of_tomorrow{output="a"} 1
batchcap_running{output="b"} 0
batchcap_run_seconds_total{output="a"
"""
    assert read_samples(text, "a").values == {"running": {'batchcap_running{output="a"}': 1.0}}
