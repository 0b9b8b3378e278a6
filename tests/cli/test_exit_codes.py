"""Every exit code that the docs and the help of `run` name, from a process of its own."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commands import invoke
from paths import ROOT
from photos import break_photo
from processes import PATIENCE, command, environment

from batchcap.system.locks import open_locked

Case = Callable[[list[str], Path], int]


def ended(arguments: list[str]) -> int:
    return subprocess.run(arguments, capture_output=True, check=False, env=environment()).returncode


def all_captioned(arguments: list[str], _: Path) -> int:
    assert ended(arguments) == 0
    return ended(arguments)


def no_such_input(arguments: list[str], folder: Path) -> int:
    return ended([*arguments, str(folder / "nowhere")])


def wrong_option(arguments: list[str], _: Path) -> int:
    return ended([*arguments, "--shard", "3/2"])


def broken_image(arguments: list[str], folder: Path) -> int:
    break_photo(folder / "photos" / "0001.jpg")
    assert ended(arguments) == 3
    return ended(arguments)


def other_run(arguments: list[str], folder: Path) -> int:
    held, _ = open_locked(folder / "out.jsonl")
    with held:
        return ended(arguments)


def signalled(number: signal.Signals) -> Case:
    def case(arguments: list[str], folder: Path) -> int:
        held, _ = open_locked(folder / "out.jsonl")
        process = subprocess.Popen([*arguments, "--wait", "100"], stderr=subprocess.PIPE, text=True, env=environment())
        with held, process:
            assert process.stderr is not None
            assert "waiting" in process.stderr.readline()
            process.send_signal(number)
            return process.wait(PATIENCE)

    return case


CASES: dict[int, Case] = {
    0: all_captioned,
    1: no_such_input,
    2: wrong_option,
    3: broken_image,
    75: other_run,
    129: signalled(signal.SIGHUP),
    130: signalled(signal.SIGINT),
    143: signalled(signal.SIGTERM),
}


def documented() -> Iterator[int]:
    """The codes in the table of the docs."""
    page = (ROOT / "docs" / "captioning.md").read_text()
    table = page.partition("## Exit codes\n")[2].partition("\n## ")[0]
    yield from map(int, re.findall(r"^\| (\d+) \|", table, re.MULTILINE))


def test_each_has_its_case() -> None:
    assert list(documented()) == list(CASES)
    told = invoke("run", "--help", env={"COLUMNS": "80"}).stdout.partition("Exit codes:")[2].partition("╭")[0]
    assert {int(code) for code in re.findall(r"\b\d+\b", told)} == set(CASES)


@pytest.mark.usefixtures("own_handlers")
@pytest.mark.parametrize("code", CASES)
def test_the_code_is_as_documented(code: int, photos: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    assert CASES[code](command(photos, tmp_path / "out.jsonl", tiny_bundle), tmp_path) == code
