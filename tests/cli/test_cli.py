"""The command line: options, exit codes, and what it says when something is wrong."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from bundles import build_bundle
from commands import invoke
from photos import break_photo, write_photos
from rich.text import Text
from typer.main import get_command
from typer.testing import Result

from batchcap import __version__
from batchcap.bundle.manifest import Generation
from batchcap.cli.app import app
from batchcap.errors import DeviceError
from batchcap.run import pipeline
from batchcap.runtime import device_choice
from batchcap.system.locks import open_locked

COUNT = 6

pytestmark = pytest.mark.usefixtures("plain_environment")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    write_photos(tmp_path / "photos", COUNT)
    return tmp_path / "photos"


def records(text: str | Path) -> list[dict[str, Any]]:
    lines = (text.read_text() if isinstance(text, Path) else text).splitlines()
    return [json.loads(line) for line in lines]


# Getting to know it


def test_version_and_help() -> None:
    assert invoke("--version").stdout == f"batchcap {__version__}\n"
    shown = invoke("--help")
    assert shown.exit_code == 0
    for command in ("run", "info", "doctor", "bench"):
        assert re.search(rf"\b{command}\b", shown.stdout)
    for panel in ("Captions", "Device and speed", "Output", "Terminal"):
        assert panel in invoke("run", "--help").stdout


def test_every_option_says_what_it_does_and_nothing_of_it_is_lost() -> None:
    """A text in square brackets would be taken for markup, and not be shown."""
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        for parameter in command.params:
            if parameter.name == "help":
                continue
            assert parameter.help, f"{name} {parameter.name}"
            told = re.sub(r"\[/?dim\]", "", parameter.help)
            assert Text.from_markup(parameter.help).plain == told, f"{name} {parameter.name}"


def test_starting_up_imports_nothing_heavy() -> None:
    """`batchcap --help` must not wait for NumPy or onnxruntime."""
    code = "import sys, batchcap.cli.app; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "batchcap.cli.app" in loaded
    assert not {"numpy", "onnxruntime", "PIL", "simplejpeg", "tensorflow", "rich.progress"} & set(loaded)


def test_every_option_of_run_has_its_variable() -> None:
    command = typer.main.get_command(app).commands["run"]
    options = {max(p.opts, key=len): p.envvar for p in command.params if max(p.opts, key=len).startswith("--")}
    options.pop("--help", None)
    assert len(options) >= 19
    for option, variable in options.items():
        assert variable == "BATCHCAP_" + option[2:].replace("-", "_").upper()


def test_the_environment_sets_options(photos: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    environment = {
        "BATCHCAP_OUTPUT": str(tmp_path / "env.csv"),
        "BATCHCAP_MODEL": str(tiny_bundle),
        "BATCHCAP_LIMIT": "2",
        "BATCHCAP_BEAM_SIZE": "2",
        "BATCHCAP_QUIET": "1",
        "BATCHCAP_DEVICE": "cpu",
    }
    done = invoke("run", photos, env=environment)
    assert (done.exit_code, done.output) == (0, "")
    rows = list(csv.DictReader((tmp_path / "env.csv").read_text().splitlines()))
    assert len(rows) == 2
    assert rows[0]["decoding"].startswith("beam2-")


# Running


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


# Bad input: what is wrong, and the fix


def test_an_unreadable_image(call: Callable[..., Result], photos: Path, tmp_path: Path) -> None:
    break_photo(photos / "0001.jpg")
    done = call()
    assert done.exit_code == 3
    assert "1 image failed" in done.stderr
    assert re.search(r"0001\.jpg: decode, truncated: ", done.stderr)
    by_path = {record["path"]: record for record in records(tmp_path / "out.jsonl")}
    assert by_path["0001.jpg"]["error"]["kind"] == "truncated"
    assert len(by_path) == COUNT
    again = call()
    assert again.exit_code == 3
    assert f"Nothing new: {COUNT} images have their record in" in again.stderr
    assert "1 of them without a caption" in again.stderr
    assert call("--retry-errors").exit_code == 3


def test_failures_are_not_in_the_rate_of_captions(call: Callable[..., Result], photos: Path) -> None:
    for photo in photos.rglob("*.jpg"):
        photo.write_text("no picture")
    said = call().stderr
    assert "Captioned 0 images: " in said
    assert "(0.0 images/s)" in said
    assert said.count("    failed: ") == 5
    assert "    and 1 more\n" in said


def test_verbose_says_why_there_is_no_gpu(call: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    def no_driver() -> list[str]:
        raise DeviceError("There is no NVIDIA driver.")

    monkeypatch.setattr(device_choice, "_driver_names", no_driver)
    assert "on the CPU because: There is no NVIDIA driver." in call("-v", "--device", "auto", "--limit", "1").stderr
    assert "because" not in call("--device", "auto").stderr


def test_verbose_names_failures_when_they_happen(call: Callable[..., Result], photos: Path) -> None:
    break_photo(photos / "0001.jpg")
    said = call("-v", "--no-progress").stderr
    assert said.index("failed: 0001.jpg: decode, truncated") < said.index("Captioned")


def altered_bundle(folder: Path) -> Path:
    bundle = build_bundle(folder / "altered")
    with (bundle / "encoder.onnx").open("ab") as file:
        file.write(b"x")
    return bundle


def no_bundle(folder: Path) -> Path:
    (folder / "nothing").mkdir()
    return folder / "nothing"


@pytest.mark.parametrize(
    ("make", "thing", "fix"),
    [
        (no_bundle, "nothing: not a bundle", "Name the folder of a bundle"),
        (altered_bundle, "encoder.onnx: was altered", "Copy the bundle again"),
        (lambda folder: folder / "nowhere", "no such folder", "Name the folder of a bundle"),
    ],
)
def test_a_bad_bundle(
    make: Callable[[Path], Path], thing: str, fix: str, call: Callable[..., Result], tmp_path: Path
) -> None:
    done = call("--model", make(tmp_path))
    assert done.exit_code == 1
    assert thing in done.stderr
    assert fix in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(
    ("more", "code", "thing", "fix"),
    [
        (("--device", "gpu"), 2, "--device gpu", "cuda:N"),
        (("--beam-size", "0"), 2, "--beam-size 0", "1 to 256"),
        (("--num-captions", "9"), 2, "--num-captions 9 is more than --beam-size 3", "--beam-size 9"),
        (("--num-captions", "257"), 2, "--num-captions 257", "at most 256"),
        (("--search", "greedy", "--num-captions", "2"), 2, "greedy search finds one caption", "--search beam"),
        (("--search", "greedy", "--beam-size", "4"), 2, "--beam-size 4", "leave --beam-size out"),
        (("--limit", "0"), 2, "--limit 0", "at least 1"),
        (("--beam-size", "four"), 2, "--beam-size four: must be a whole number from 1 to 256.", "batchcap run --help"),
        (("--limit", "1.5"), 2, "--limit 1.5: must be a whole number.", "batchcap run --help"),
        (("--length-penalty", "x"), 2, "--length-penalty x: must be a number.", "batchcap run --help"),
        (("--search", "magic"), 2, "--search magic: must be beam, greedy, sample or im2txt.", "batchcap run --help"),
        (("--precision", "fp8"), 2, "--precision fp8: must be auto, fp32, fp16 or int8.", "batchcap run --help"),
        (("--on-mismatch", "go"), 2, "--on-mismatch go: must be stop, recaption or keep.", "batchcap run --help"),
        (("--temperature", "0.5"), 2, "--temperature 0.5 goes with --search sample", "Add --search sample"),
        (("--seed", "3", "--search", "greedy"), 2, "this is greedy search", "leave --seed out"),
        (("--ban", "two dogs"), 2, '--ban "two dogs": is more than one word.', "--ban two --ban dogs"),
        (("--ban", "two,dogs"), 2, '--ban "two,dogs": is more than one word.', "--ban two --ban dogs"),
        (("--ban", ""), 2, "--ban: the word is empty.", "leave --ban out"),
        (("--ban", " "), 2, "--ban: the word is empty.", "leave --ban out"),
        (("--root", ""), 2, "--root: the name is empty.", "batchcap run --help"),
        (("--root", "/proc"), 2, "--root /proc: none of the inputs is in this folder: /", "leave --root out"),
        (("",), 2, "INPUT: the name is empty.", "batchcap run --help"),
        (("-o", ""), 2, "-o: the name is empty.", "- for standard output"),
        (("--progress", "--quiet"), 2, "--progress and --quiet", "Leave one of them out."),
        (("--limit",), 2, "--limit requires an argument", "--help"),
        (("--batch-size", "0"), 2, "--batch-size 0", "1 to 4096"),
        (("--length-penalty", "-1"), 2, "--length-penalty -1", "0 to 2"),
        (("--length-penalty", "3"), 2, "--length-penalty 3", "0 to 2"),
        (("--style", "title"), 2, "--style title: must be raw or sentence.", "batchcap run --help"),
        (("--no-such-option",), 2, "--no-such-option", "--help"),
    ],
)
def test_a_bad_option(
    more: tuple[str, ...], code: int, thing: str, fix: str, call: Callable[..., Result], tmp_path: Path
) -> None:
    done = call(*more)
    assert done.exit_code == code
    assert thing in done.stderr
    assert fix in done.stderr

    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out.jsonl").exists()


def test_a_gpu_that_is_not_there(call: Callable[..., Result], tmp_path: Path) -> None:
    done = call("--device", "cuda:99")
    assert done.exit_code == 1
    assert re.match(
        r"Device not available: (There is no NVIDIA driver|--device cuda:99: there is no such GPU|The )", done.stderr
    )
    assert len(done.stderr.splitlines()) == 2, "and the fix"
    assert not (tmp_path / "out.jsonl").exists()


def test_a_value_from_the_environment_is_called_by_its_variable(
    call: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCHCAP_BEAM_SIZE", "four")
    assert "BATCHCAP_BEAM_SIZE=four: must be a whole number from 1 to 256." in call().stderr
    assert "--beam-size five: must be" in call("--beam-size", "five").stderr
    monkeypatch.setenv("BATCHCAP_BEAM_SIZE", "4")
    monkeypatch.setenv("BATCHCAP_QUIET", "maybe")
    assert "BATCHCAP_QUIET=maybe: must be true or false." in call().stderr


@pytest.mark.parametrize(
    ("arguments", "thing"),
    [
        (("run",), "INPUT is missing: Folders "),
        (("run", "photos"), "--output is missing: A .jsonl or .csv file, "),
        (("bench", "--images", "0"), "--images 0: must be at least 1."),
        (("export", "a", "-o", "b", "--min-distinct", "3"), "--min-distinct 3: must be at most 1."),
        (("export", "a", "-o", "b", "--precision", "fp8"), "--precision fp8: must be fp16 or int8."),
        (("train", "a", "--dropout", "0", "0", "x"), "--dropout x: must be a number."),
        (("verify",), "BUNDLE is missing: "),
        (("info", "a", "b"), "unexpected extra argument"),
        (("caption",), "No such command caption."),
        (("--no-such",), "No such option: --no-such."),
    ],
)
def test_wrong_usage_of_every_command_is_two_lines(arguments: tuple[str, ...], thing: str) -> None:
    done = invoke(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    message, fix = done.stderr.splitlines()
    assert thing in message
    assert message.startswith(("Wrong option: ", "Wrong usage: "))
    assert re.fullmatch(rf"See batchcap( {arguments[0]})? --help\.", fix)


def test_without_anything_it_shows_its_help() -> None:
    done = invoke()
    assert "Usage: batchcap" in done.output
    assert "Wrong" not in done.output


def test_no_such_input(call: Callable[..., Result], photos: Path, tmp_path: Path) -> None:
    done = call(inputs=(photos, tmp_path / "nowhere"))
    assert done.exit_code == 1
    assert str(tmp_path / "nowhere") in done.stderr
    assert "Check the spelling" in done.stderr
    assert not (tmp_path / "out.jsonl").exists()


def test_no_image_anywhere(call: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = call(inputs=(tmp_path / "empty",))
    assert done.exit_code == 1
    assert f"There is no image in {tmp_path / 'empty'}" in done.stderr
    assert "--allow-empty" in done.stderr
    allowed = call("--allow-empty", inputs=(tmp_path / "empty",))
    assert (allowed.exit_code, allowed.stderr) == (0, "Nothing new: there is no image.\n")


def test_an_output_in_a_missing_folder(call: Callable[..., Result], tmp_path: Path) -> None:
    done = call(output="missing/out.jsonl")
    assert done.exit_code == 1
    assert f"there is no folder {tmp_path / 'missing'}" in done.stderr
    assert "mkdir" in done.stderr
    assert not (tmp_path / "missing").exists()


def test_a_folder_as_output(call: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "few").mkdir()
    done = call(output="few")
    assert done.exit_code == 2
    assert f"-o {tmp_path / 'few'}: this is a folder." in done.stderr
    assert "captions.jsonl" in done.stderr


@pytest.mark.parametrize(
    ("more", "thing"), [(("-o", "x" * 300 + ".jsonl"), ".jsonl"), (("--model", "x" * 300), "bundle.json")]
)
def test_a_name_that_is_too_long(more: tuple[str, str], thing: str, call: Callable[..., Result]) -> None:
    done = call(*more)
    assert done.exit_code == 1
    assert "File name too long" in done.stderr
    assert thing in done.stderr
    assert "bug" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a stream that is always full")
@pytest.mark.parametrize(("to", "thing"), [("> /dev/full", "No space left on device"), (">&-", "is closed")])
def test_a_standard_output_that_takes_nothing(to: str, thing: str, photos: Path, tiny_bundle: Path) -> None:
    command = f'"$0" -m batchcap run "$1" -o - --model "$2" --device cpu {to}'
    done = subprocess.run(
        ["/bin/sh", "-c", command, sys.executable, photos, tiny_bundle], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    *before, error, fix = done.stderr.splitlines()
    assert all(line.startswith("Captioning ") for line in before)
    assert error.startswith("Output cannot be used: Standard output ")
    assert thing in error
    assert fix.startswith(("Name a file", "Leave it open"))


def test_what_cannot_be_read_is_ours_to_explain(
    call: Callable[..., Result], photos: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Typer would ask the system and call it wrong usage. The tests may run as root, who may read everything."""
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    assert call("--root", photos).exit_code == 0
    file = tmp_path / "bench.json"
    file.touch()
    done = invoke("bench", photos, "--model", tiny_bundle, "--repeats", "1", "--device", "cpu", "--json", file)
    assert done.exit_code == 0, done.output


def test_an_output_of_unknown_format(call: Callable[..., Result]) -> None:
    done = call(output="out.parquet")
    assert done.exit_code == 2
    assert ".parquet" in done.stderr
    assert "--format" in done.stderr
    stream = call("--format", "csv", output="-")
    assert (stream.exit_code, stream.stdout) == (2, "")
    assert "-o - streams JSONL" in stream.stderr


def test_an_output_that_is_something_else(call: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_text("my diary\n")
    done = call()
    assert done.exit_code == 1
    assert "is not a JSONL output of batchcap" in done.stderr
    assert (tmp_path / "out.jsonl").read_text() == "my diary\n"


def test_a_locked_output(call: Callable[..., Result], tmp_path: Path) -> None:
    held, _ = open_locked(tmp_path / "out.jsonl")
    with held:
        done = call()
    assert done.exit_code == 75
    assert "Another run is writing" in done.stderr
    assert call().exit_code == 0


def test_run_without_an_output(photos: Path) -> None:
    done = invoke("run", photos)
    assert done.exit_code == 2
    assert "--output" in done.stderr


def test_tracebacks_need_two_v(call: Callable[..., Result]) -> None:
    assert "Traceback" not in call("-v", inputs=("/nowhere",)).stderr
    assert "Traceback" in call("-vv", inputs=("/nowhere",)).stderr


def test_a_bug_is_one_panel_too(call: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(pipeline, "run", broken)
    done = call()
    assert done.exit_code == 1
    assert "bug" in done.stderr
    assert "ZeroDivisionError: division by zero" in done.stderr
    assert "-vv" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Traceback" in call("-vv").stderr


# The other commands


def test_info(tiny_bundle: Path, tmp_path: Path) -> None:
    shown = invoke("info", tiny_bundle)
    assert shown.exit_code == 0
    for text in ("tiny@", "8x8", "12 words", "2x3 regions", "beam 3,", "whole words", "decoder.onnx"):
        assert text in shown.stdout
    missing = invoke("info", tmp_path / "nowhere")
    assert missing.exit_code == 1
    assert "not a bundle" in missing.stderr


def test_doctor(tiny_bundle: Path) -> None:
    shown = invoke("doctor", "--model", tiny_bundle)
    assert shown.exit_code == 0
    assert re.search(r"batchcap +" + re.escape(__version__), shown.stdout)
    assert re.search(r"cpu .* works: \d+ ms", shown.stdout)
    assert "GPU" in shown.stdout


def test_doctor_says_what_to_install_and_when(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(device_choice.ctypes, "CDLL", absent)
    told = " ".join(invoke("doctor", "--model", tiny_bundle).stdout.split())
    assert "No GPU is used, and --device auto takes the CPU. There is no NVIDIA driver" in told
    assert "If this machine has an NVIDIA GPU, install NVIDIA's driver for it; if not, use --device cpu." in told


def test_doctor_fails_where_no_device_works(tmp_path: Path) -> None:
    shown = invoke("doctor", "--model", tmp_path / "nowhere")
    assert shown.exit_code == 1
    assert "does not work" in shown.stdout


def test_bench(tiny_bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    options = ("--images", "5", "--repeats", "2", "--batch-size", "4", "--device", "cpu", "--json", file)
    done = invoke("bench", "--model", tiny_bundle, *options)
    assert done.exit_code == 0, done.output
    assert "end to end" in done.stdout
    report = json.loads(file.read_text())
    parts = {part["name"]: part for part in report["parts"]}
    assert len(parts) == 10
    assert all(len(part["runs"]) == 2 and part["median"] > 0 for part in parts.values())
    assert {part["unit"] for part in parts.values()} == {"images/s", "ms", "us", "steps"}
    for rate, cost in zip(parts["search alone"]["runs"], parts["search, an image"]["runs"], strict=True):
        assert rate * cost == pytest.approx(1000)
    assert parts["its bookkeeping, a step"]["median"] < parts["search, a step"]["median"]
    assert re.search(r"its bookkeeping, a step *│ *[\d.]+ │ ms", done.stdout)
    assert parts["end to end"]["median"] < parts["encoder alone"]["median"]
    assert report["settings"]["images"] == 5
    assert report["settings"]["batch_size"] == 4
    assert report["machine"]["cores"] >= 1


def test_bench_with_a_folder(photos: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    done = invoke("bench", photos, "--model", tiny_bundle, "--repeats", "1", "--device", "cpu", "--json", file)
    assert done.exit_code == 0, done.output
    assert json.loads(file.read_text())["settings"]["images"] == COUNT
    assert sorted(path.name for path in photos.rglob("*") if path.is_file()) == sorted(
        f"{n:04}.jpg" for n in range(COUNT)
    )
