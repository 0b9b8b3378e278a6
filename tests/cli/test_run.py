"""`batchcap run`: what it writes and what it says."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from bundles import build_bundle
from commands import COUNT, invoke, records
from photos import break_photo
from typer.testing import Result

from batchcap.bundle.manifest import Generation

pytestmark = pytest.mark.usefixtures("plain_environment")


def test_run_writes_records_and_a_summary(call: Callable[..., Result], tmp_path: Path) -> None:
    done = call()
    assert done.exit_code == 0
    assert done.stdout == ""
    output = tmp_path / "out.jsonl"
    _, first, *rest = done.stderr.splitlines()
    assert first == f"Captioned {COUNT} images: {output}"
    assert re.fullmatch(r"  In [\d.]+ s \([\d.,]+ images/s\) on CPU, \d+ cores\.", "\n".join(rest))
    made_with = records(output)[0]
    assert len(records(output)) == COUNT
    told = call("-v", "--overwrite").stderr
    assert f"  model {made_with['model']}, decoding {made_with['decoding']}\n" in told
    for stage in ("read+decode", "encode", "search", "write"):
        assert re.search(rf"{re.escape(stage)} [\d.]+ s", told)
        assert not re.search(rf"{re.escape(stage)} [\d.]+ s", done.stderr)


def test_the_second_run_says_nothing_new(call: Callable[..., Result], tmp_path: Path) -> None:
    begun = call("--prefix", "a dog", output="-")
    assert [record["caption"][:5] for record in records(begun.stdout)] == ["a dog"] * COUNT
    call()
    before = (tmp_path / "out.jsonl").read_bytes()
    done = call()
    assert done.exit_code == 0
    assert done.stderr == f"Nothing new: all {COUNT} images are already in {tmp_path / 'out.jsonl'}.\n"
    assert (tmp_path / "out.jsonl").read_bytes() == before


def test_relocate_says_that_it_was_done(call: Callable[..., Result], photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    assert "have the root" not in call().stderr
    moved = photos.rename(tmp_path / "archive")
    done = call("--relocate", inputs=(moved,))
    assert done.exit_code == 0
    assert done.stderr.splitlines()[1:] == [f"  All records of {output} have the root {moved} now."]
    assert {record["root"] for record in records(output)} == {str(moved)}
    assert "have the root" not in call("--relocate", inputs=(moved,)).stderr


def test_limit_and_then_the_rest(call: Callable[..., Result], tmp_path: Path) -> None:
    assert call("--limit", "2").exit_code == 0
    assert len(records(tmp_path / "out.jsonl")) == 2
    done = call()
    assert f"Captioned {COUNT - 2} images" in done.stderr
    assert "2 images skipped" in done.stderr
    paths = [record["path"] for record in records(tmp_path / "out.jsonl")]
    assert len(set(paths)) == len(paths) == COUNT


def test_csv_by_its_ending_and_by_format(call: Callable[..., Result], tmp_path: Path) -> None:
    call(output="out.csv")
    call("--format", "csv", output="captions.txt")
    assert (tmp_path / "out.csv").read_text() == (tmp_path / "captions.txt").read_text()
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    call()
    assert [(row["path"], row["caption"]) for row in rows] == [
        (record["path"], record["caption"]) for record in records(tmp_path / "out.jsonl")
    ]


def test_a_stream_on_standard_output(call: Callable[..., Result], tmp_path: Path) -> None:
    done = call(output="-")
    assert done.exit_code == 0
    call()
    assert done.stdout == (tmp_path / "out.jsonl").read_text()
    assert f"Captioned {COUNT} images" in done.stderr
    assert "standard output" in done.stderr


def test_greedy_and_n_best(call: Callable[..., Result]) -> None:
    greedy = records(call("--search", "greedy", output="-").stdout)
    assert [record["decoding"].split("-")[0] for record in greedy] == ["greedy"] * COUNT
    assert not any("captions" in record for record in greedy)
    best = records(call("--num-captions", "2", "--beam-size", "4", output="-").stdout)
    assert max(len(record["captions"]) for record in best) == 2


def test_control(call: Callable[..., Result], tmp_path: Path) -> None:
    free = records(call(output="-").stdout)
    word = free[0]["caption"].split()[0]
    done = call("--ban", word, "--ban", "blue", "--min-length", "3", "--no-repeat-ngram", "1", output="-")
    for record in records(done.stdout):
        said = record["caption"].split()
        assert len(set(said)) == len(said) >= 3
        assert not {word, "blue"} & set(said)
    assert records(done.stdout)[0]["decoding"] != free[0]["decoding"]
    call()
    before = (tmp_path / "out.jsonl").read_bytes()
    wrong = call("--ban", "dogg")
    assert (wrong.exit_code, "Near words: dog" in wrong.stderr) == (2, True)
    assert (tmp_path / "out.jsonl").read_bytes() == before


def test_samples_repeat_at_any_batch_size_and_when_resumed(call: Callable[..., Result], tmp_path: Path) -> None:
    chosen = ("--search", "sample", "--top-k", "5", "--temperature", "0.9", "--top-p", "0.95", "--num-captions", "3")
    whole = records(call(*chosen, output="-").stdout)
    assert whole == records(call(*chosen, "--batch-size", "4", output="-").stdout)
    assert whole != records(call(*chosen, "--seed", "1", output="-").stdout)
    call(*chosen, "--limit", "2")
    call(*chosen, "--batch-size", "1")
    assert records(tmp_path / "out.jsonl") == whole


def test_the_environment_sets_decoding_too(call: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    expected = call("--search", "im2txt", "--ban", "dog", "--ban", "cat", "--prefix", "a red", output="-").stdout
    monkeypatch.setenv("BATCHCAP_SEARCH", "im2txt")
    monkeypatch.setenv("BATCHCAP_BAN", "cat dog")
    monkeypatch.setenv("BATCHCAP_PREFIX", "a red")
    assert call(output="-").stdout == expected
    assert len(records(expected)) == COUNT


def test_sentences(call: Callable[..., Result]) -> None:
    raw, sentences = records(call(output="-").stdout), records(call("--style", "sentence", output="-").stdout)
    assert [s["caption"] for s in sentences] == [r["caption"][0].upper() + r["caption"][1:] + "." for r in raw]
    assert sentences[0]["decoding"] != raw[0]["decoding"]


def test_the_search_of_the_bundle(photos: Path, tmp_path: Path) -> None:
    own = build_bundle(tmp_path / "b", generation=Generation(search="greedy", beam_size=1, max_length=6))

    def decoding(*more: str) -> str:
        done = invoke("run", photos, "-o", "-", "--model", own, "--device", "cpu", *more)
        return {record["decoding"].split("-")[0] for record in records(done.stdout)}.pop()

    assert decoding() == "greedy"
    assert decoding("--beam-size", "4") == "beam4"
    assert decoding("--search", "beam") == "beam3"
    assert decoding("--search", "im2txt", "--length-penalty", "3") == "im2txt3"
    assert "greedy, up to 6 words" in invoke("info", own).stdout


def test_root_changes_the_paths(call: Callable[..., Result], photos: Path) -> None:
    paths = [record["path"] for record in records(call("--root", photos.parent, output="-").stdout)]
    assert paths[0] == "photos/0000.jpg"


def test_overwrite_and_mismatch(call: Callable[..., Result], tmp_path: Path) -> None:
    call()
    stopped = call("--beam-size", "2")
    assert stopped.exit_code == 1
    assert "--beam-size was 3 and is now 2" in stopped.stderr
    assert "--on-mismatch recaption" in stopped.stderr
    assert call("--beam-size", "2", "--on-mismatch", "keep").exit_code == 0
    assert call("--beam-size", "2", "--overwrite").exit_code == 0
    assert {record["decoding"][:5] for record in records(tmp_path / "out.jsonl")} == {"beam2"}
    assert len(records(tmp_path / "out.jsonl")) == COUNT


def test_quiet_says_nothing_but_errors(call: Callable[..., Result], photos: Path) -> None:
    done = call("-q")
    assert (done.exit_code, done.output) == (0, "")
    break_photo(photos / "0001.jpg")
    failed = call("-q")
    assert (failed.exit_code, failed.output) == (3, "")
    assert "/nowhere" in call("-q", inputs=("/nowhere",)).stderr
