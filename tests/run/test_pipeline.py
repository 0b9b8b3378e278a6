"""Whole runs through `pipeline.run`, with a tiny real model and real files."""

from __future__ import annotations

import csv
import math
import os
import resource
import signal
import threading
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from bundles import build_bundle, rewrite
from photos import break_photo, write_photos
from runs import lines, reports, run

from batchcap.errors import BundleError, InputNotFoundError, MismatchError, NoImagesError, OutputError
from batchcap.images import discovery
from batchcap.journal import journal
from batchcap.options.run import RunOptions
from batchcap.records import Record
from batchcap.run import job, pipeline
from batchcap.run.figures import Progress, Start, Summary
from batchcap.runtime.captioner import Captioner
from batchcap.system.interrupts import Interrupted, InterruptGuard
from batchcap.tools import bench


def test_one_record_an_image_in_order(photos: Path, output: Path, tiny_bundle: Path) -> None:
    summary = run(photos, output, tiny_bundle, batch_size=4)
    records = lines(output)
    names = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.jpg"))
    assert [record["path"] for record in records] == names
    for record in records:
        status = (photos / record["path"]).stat()
        assert (record["width"], record["height"], record["bytes"]) == (24, 16, status.st_size)
        assert record["mtime_us"] == status.st_mtime_ns // 1000
        assert record["model"].startswith("tiny@")
        assert record["preprocess"] == "exact"
        assert record["decoding"].startswith("beam3-lp0.7;max_length=6#")
    assert (summary.captioned, summary.failed, summary.skipped, summary.safe) == (10, 0, 0, 10)
    assert summary.exit_code == 0
    assert summary.device.startswith("CPU")


def test_captions_are_those_of_the_library(photos: Path, output: Path, tiny_bundle: Path) -> None:
    run(photos, output, tiny_bundle, batch_size=3)
    records = lines(output)
    captioner = Captioner.load(tiny_bundle, device="cpu", batch_size=7)
    expected = [image.captions[0] for image in captioner.caption([photos / record["path"] for record in records])]
    assert [record["caption"] for record in records] == [caption.caption for caption in expected]
    assert len({record["caption"] for record in records}) > 3
    np.testing.assert_allclose([r["log_prob"] for r in records], [c.log_prob for c in expected], atol=6e-4)
    np.testing.assert_allclose([r["score"] for r in records], [c.score for c in expected], atol=6e-4)


def test_batch_size_and_workers_do_not_change_the_output(photos: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    outputs = []
    for number, (batch_size, workers) in enumerate([(1, 1), (4, 3), (64, 2)]):
        output = tmp_path / f"{number}.jsonl"
        run(photos, output, tiny_bundle, batch_size=batch_size, workers=workers)
        outputs.append(output.read_bytes())
        assert len(lines(output)) == 10
    assert outputs[0] == outputs[1] == outputs[2]


def test_n_best_in_jsonl_and_csv(photos: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    run(photos, tmp_path / "out.jsonl", tiny_bundle, num_captions=3)
    run(photos, tmp_path / "out.csv", tiny_bundle, num_captions=3, format="csv")
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for record, row in zip(lines(tmp_path / "out.jsonl"), rows, strict=True):
        best = [each["caption"] for each in record["captions"]]
        assert best[0] == record["caption"]
        assert [row["caption"], row["caption_2"], row["caption_3"]] == best + [""] * (3 - len(best))
        scores = [each["score"] for each in record["captions"]]
        assert scores == sorted(scores, reverse=True)
        probabilities = [float(p) for p in (row["p"], row["p_2"], row["p_3"]) if p]
        assert probabilities == pytest.approx([math.exp(each["log_prob"]) for each in record["captions"]], rel=1e-5)
    assert max(len(record["captions"]) for record in lines(tmp_path / "out.jsonl")) == 3


def test_progress_counts_up_to_the_total(photos: Path, output: Path, tiny_bundle: Path) -> None:
    break_photo(photos / "0001.jpg")
    run(photos, output, tiny_bundle, limit=2)
    seen, summary = reports(photos, output, tiny_bundle, batch_size=2)
    assert [each.done for each in seen] == [2, 4, 6, 8]
    assert seen[-1].skipped == summary.skipped == 2
    # The second run does not try again what could not be decoded in the first.
    assert sum(each.failed for each in seen) == summary.failed == 0
    assert seen[0].total in {None, 10}
    assert [each.total for each in seen[1:]] == [10] * 3
    assert all(b.seconds.load > a.seconds.load > 0 for a, b in pairwise(seen))
    assert seen[-1].seconds == summary.seconds
    assert min(summary.seconds.load, summary.seconds.encode, summary.seconds.search, summary.seconds.write) > 0


def test_without_a_wish_nothing_is_counted(
    photos: Path, output: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[Sequence[Path]] = []
    monkeypatch.setattr(discovery, "count", lambda inputs: counted.append(inputs) or 10)
    seen: list[Progress] = []
    run(photos, output, tiny_bundle, report=seen.append, batch_size=1)
    assert [each.total for each in seen] == [None] * 10
    assert not counted
    reports(photos, output, tiny_bundle, overwrite=True)
    assert counted == [(photos,)]


def test_the_start_is_told_once_and_only_where_something_is_to_do(
    photos: Path, output: Path, tiny_bundle: Path
) -> None:
    said: list[Start | int] = []

    def start(**settings: Any) -> Start | None:
        said.clear()
        options = RunOptions(inputs=(photos,), output=output, model=str(tiny_bundle), device="cpu", **settings)
        pipeline.run(options, {}, lambda progress: said.append(progress.done), said.append)
        assert not any(isinstance(each, Start) for each in said[1:]), "before the first report, and once"
        return said[0] if said and isinstance(said[0], Start) else None

    first = start(limit=4, batch_size=2)
    assert first is not None
    assert (first.inputs, first.output, first.terms, first.fresh) == ((photos,), output, "none", True)
    assert first.model == lines(output)[0]["model"]
    assert first.device.startswith("CPU")
    assert said == [first, 2, 4]
    second = start()
    assert second is not None
    assert not second.fresh
    assert start() is None
    assert said == []
    again = start(overwrite=True)
    assert again is not None
    assert again.fresh


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_signal_during_the_last_commit_is_told_apart(
    overwrite: bool, photos: Path, output: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = journal.Journal.commit

    def interrupted(self: journal.Journal, complete: bool = True) -> None:
        signal.raise_signal(signal.SIGTERM)
        commit(self, complete)

    monkeypatch.setattr(journal.Journal, "commit", interrupted)
    summary = run(photos, output, tiny_bundle, overwrite=overwrite)
    assert (summary.exit_code, summary.committed, summary.safe) == (143, True, 10)
    assert len(lines(output)) == 10


@pytest.mark.usefixtures("own_handlers")
def test_a_signal_while_a_batch_is_written_waits_until_it_is_counted(
    photos: Path, output: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = journal.Journal.append

    def interrupted(self: journal.Journal, records: Sequence[Record]) -> None:
        if self.done:
            signal.raise_signal(signal.SIGTERM)
        append(self, records)

    monkeypatch.setattr(journal.Journal, "append", interrupted)
    summary = run(photos, output, tiny_bundle, batch_size=4)
    assert (summary.exit_code, summary.committed) == (143, False)
    assert summary.captioned == summary.safe == len(lines(output)) == 8


@pytest.mark.usefixtures("own_handlers")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_bench(
    number: signal.Signals, code: int, photos: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = journal.Journal.append

    def interrupted(self: journal.Journal, records: Sequence[Record]) -> None:
        append(self, records)
        signal.raise_signal(number)

    monkeypatch.setattr(journal.Journal, "append", interrupted)
    options = bench.BenchOptions(model=str(tiny_bundle), folder=photos, repeats=1, device="cpu")
    with pytest.raises(Interrupted) as caught, InterruptGuard():
        bench.measure(options, lambda _: None)
    assert 128 + caught.value.signum == code


def test_a_broken_image_is_a_record(photos: Path, output: Path, tiny_bundle: Path) -> None:
    break_photo(photos / "0003.jpg")
    (photos / "0004.jpg").write_bytes(b"")
    (photos / "0006.jpg").write_text("no image")
    seen: list[Progress] = []
    summary = run(photos, output, tiny_bundle, report=seen.append, batch_size=4)
    assert (summary.captioned, summary.failed, summary.exit_code) == (7, 3, 3)
    errors = {record["path"]: record["error"] for record in lines(output) if "error" in record}
    assert {path: (error["stage"], error["kind"]) for path, error in errors.items()} == {
        "0003.jpg": ("decode", "truncated"),
        "0004.jpg": ("decode", "empty"),
        "0006.jpg": ("decode", "unsupported"),
    }
    reported = [record.path for each in seen for record in each.failures]
    assert reported == [record.path for record in summary.failures] == sorted(errors)
    assert len(lines(output)) == 10


def test_an_image_that_cannot_be_opened_is_tried_again(photos: Path, output: Path, tiny_bundle: Path) -> None:
    (photos / "gone.jpg").symlink_to(photos / "nowhere.jpg")
    assert run(photos, output, tiny_bundle).exit_code == 3
    assert {r["path"]: r["error"]["stage"] for r in lines(output) if "error" in r} == {"gone.jpg": "read"}
    (photos / "gone.jpg").unlink()
    write_photos(photos / "more", 1)
    (photos / "more" / "0000.jpg").rename(photos / "gone.jpg")
    summary = run(photos, output, tiny_bundle)
    assert (summary.captioned, summary.exit_code) == (1, 0)
    assert "caption" in lines(output)[-1]


def test_nothing_new_loads_no_model(
    photos: Path, output: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(photos, output, tiny_bundle)
    before = output.read_bytes()

    def refuse(*_: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(job, "Captioner", refuse)
    summary = run(photos, output, tiny_bundle)
    assert (summary.captioned, summary.skipped, summary.exit_code) == (0, 10, 0)
    assert output.read_bytes() == before


def test_a_changed_image_is_captioned_again(photos: Path, output: Path, tiny_bundle: Path) -> None:
    run(photos, output, tiny_bundle)
    os.utime(photos / "0001.jpg", (1, 1))
    summary = run(photos, output, tiny_bundle)
    assert (summary.captioned, summary.skipped) == (1, 9)
    assert lines(output)[-1]["path"] == "0001.jpg"
    assert lines(output)[-1]["mtime_us"] == 1_000_000


def test_other_settings_stop_the_run(photos: Path, output: Path, tiny_bundle: Path) -> None:
    run(photos, output, tiny_bundle)
    before = output.read_bytes()
    with pytest.raises(MismatchError, match="--beam-size was 3 and is now 2"):
        run(photos, output, tiny_bundle, beam_size=2)
    assert output.read_bytes() == before
    assert run(photos, output, tiny_bundle, beam_size=2, on_mismatch="keep").skipped == 10
    assert run(photos, output, tiny_bundle, beam_size=2, on_mismatch="recaption").captioned == 10
    assert len(lines(output)) == 20


def test_no_image_touches_nothing(tmp_path: Path, output: Path, tiny_bundle: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "notes.txt").write_text("no image")
    with pytest.raises(NoImagesError, match="empty") as caught:
        run(empty, output, tiny_bundle)
    assert "--allow-empty" in caught.value.fix
    assert not output.exists()
    summary = run(empty, output, tiny_bundle, allow_empty=True)
    assert (summary.captioned, summary.skipped, summary.exit_code) == (0, 0, 0)
    assert output.read_bytes() == b""


def test_a_bad_model_or_input_touches_nothing(photos: Path, tmp_path: Path, output: Path) -> None:
    bundle = build_bundle(tmp_path / "bundle")

    def forget(model: onnx.ModelProto) -> None:
        del model.graph.output[-1]

    rewrite(bundle, "decoder.onnx", forget)
    with pytest.raises(BundleError, match=r"decoder\.onnx"):
        run(photos, output, bundle)
    with pytest.raises(InputNotFoundError, match="nowhere"):
        run(tmp_path / "nowhere", output, bundle)
    assert not output.exists()


def test_a_full_disk_keeps_what_is_written(photos: Path, output: Path, tiny_bundle: Path) -> None:
    """A limit on the size of files stands in for the disk: the same call fails in the same way."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1200, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"out\.jsonl") as caught:
            run(photos, output, tiny_bundle, batch_size=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.exit_code == 1
    assert 0 < len(lines(output)) < 10
    run(photos, output, tiny_bundle)
    assert len({record["path"] for record in lines(output)}) == len(lines(output)) == 10


def test_a_run_in_another_thread(photos: Path, output: Path, tiny_bundle: Path) -> None:
    """Only the main thread may set signal handlers."""
    summaries: list[Summary] = []
    thread = threading.Thread(target=lambda: summaries.append(run(photos, output, tiny_bundle)))
    thread.start()
    thread.join(60)
    assert summaries[0].captioned == 10


def test_several_inputs_are_named_once(photos: Path, output: Path, tiny_bundle: Path) -> None:
    inputs = (photos / "sub", photos, photos / "0001.jpg")
    options = RunOptions(inputs=inputs, output=output, model=str(tiny_bundle), device="cpu", root=photos)
    assert pipeline.run(options).captioned == 10
    assert len({record["path"] for record in lines(output)}) == 10
    assert lines(output)[0]["path"] == "sub/0002.jpg"
