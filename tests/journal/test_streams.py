"""Standard streams that are closed, full, or no longer read: a run that wrote everything has not failed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from photos import break_photo, write_photos

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a stream that is always full")
COUNT = 40


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streams") / "photos"
    write_photos(folder, COUNT, (8, 8))
    return folder


def shell(text: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """A line of bash, where ``batchcap`` is the command line and "$1", ... are ``arguments``."""
    line = f'set -o pipefail; batchcap() {{ {sys.executable} -m batchcap "$@"; }}; {text}'
    return subprocess.run(
        ["/bin/bash", "-c", line, "bash", *arguments], capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.parametrize("progress", ["", "--quiet", "-v"])
@pytest.mark.parametrize("to", ["2> /dev/full", "2>&-", "2> >(true)", ">&- 2>&-"])
def test_standard_error_that_takes_nothing(
    to: str, progress: str, photos: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    done = shell(f'batchcap run "$1" -o "$2" --model "$3" --batch-size 1 {progress} {to}', photos, output, tiny_bundle)
    assert (done.returncode, done.stdout) == (0, "")
    assert len(output.read_text().splitlines()) == COUNT
    assert all("caption" in json.loads(line) for line in output.read_text().splitlines())


def test_an_error_keeps_its_code_where_it_cannot_be_told(photos: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    for to in ("2> /dev/full", "2>&-"):
        assert (
            shell(f'batchcap run /nowhere -o "$1" --model "$2" {to}', tmp_path / "o.jsonl", tiny_bundle).returncode == 1
        )
        assert shell(f'batchcap run "$1" --no-such-option {to}', photos).returncode == 2


def test_what_is_written_to_a_closed_standard_error_is_not_in_the_output(
    photos: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    """The next file that is opened takes the number of a closed stream: libraries in C would write into it."""
    code = (
        "import os, sys; from batchcap.__main__ import main; import batchcap.cli.app as c; "
        "c.app = lambda **_: (open(sys.argv[1], 'w'), os.write(1, b'noise'), os.write(2, b'noise')); main()"
    )
    shell(f'{sys.executable} -c "$1" "$2" >&- 2>&-', code, tmp_path / "file")
    assert (tmp_path / "file").read_text() == ""


def test_a_reader_that_has_seen_enough(photos: Path, tiny_bundle: Path) -> None:
    done = shell('batchcap run "$1" -o - --model "$2" --batch-size 1 -q | head -1', photos, tiny_bundle)
    assert (done.returncode, done.stderr) == (0, "")
    assert "caption" in json.loads(done.stdout)


def test_a_reader_of_a_table_too(tiny_bundle: Path) -> None:
    done = shell('batchcap info "$1" | true', tiny_bundle)
    assert (done.returncode, done.stderr) == (0, "")
    # What has not been seen to hold is not said to hold.
    assert shell('batchcap verify "$1" | true', tiny_bundle).returncode != 0


def test_failed_images_count_without_standard_error(tiny_bundle: Path, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 3)
    break_photo(tmp_path / "photos" / "0001.jpg")
    done = shell(
        'batchcap run "$1" -o "$2" --model "$3" 2> /dev/full', tmp_path / "photos", tmp_path / "o.jsonl", tiny_bundle
    )
    assert done.returncode == 3


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a stream that is always full")
@pytest.mark.parametrize("command", [["info"], ["run", "--help"]])
def test_a_full_standard_output_is_no_bug(command: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "batchcap", *command], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert "Standard output cannot be written: No space left on device" in done.stderr.replace("\n", " ")
    assert "bug" not in done.stderr
