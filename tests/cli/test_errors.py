"""What the command line says when something is wrong: the thing, the fix, and the exit code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from bundles import build_bundle
from commands import COUNT, invoke, records
from photos import break_photo
from typer.testing import Result

from batchcap.errors import DeviceError
from batchcap.run import pipeline
from batchcap.runtime import device_choice
from batchcap.system.locks import open_locked

pytestmark = pytest.mark.usefixtures("plain_environment")


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
        photo.write_text("no image")
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
        (("--limit",), 2, "--limit requires an argument", "batchcap run --help"),
        (("--batch-size", "0"), 2, "--batch-size 0", "1 to 4096"),
        (("--length-penalty", "-1"), 2, "--length-penalty -1", "0 to 2"),
        (("--length-penalty", "3"), 2, "--length-penalty 3", "0 to 2"),
        (("--style", "title"), 2, "--style title: must be raw or sentence.", "batchcap run --help"),
        (("--no-such-option",), 2, "--no-such-option", "batchcap run --help"),
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


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a stream that is always full")
@pytest.mark.parametrize("option", ["--help", "--version"])
def test_a_full_standard_output_is_told_before_a_command_too(option: str) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "batchcap", option]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "Output cannot be used: Standard output cannot be written: No space left on device.\n"
