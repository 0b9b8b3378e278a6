"""Getting to know the command line: its help, its version, the variables that set its options."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from dataclasses import MISSING
from pathlib import Path

import pytest
import typer
from commands import invoke
from rich.text import Text
from typer.main import get_command

from batchcap import __version__
from batchcap.cli.app import app

pytestmark = pytest.mark.usefixtures("plain_environment")


def test_version_and_help() -> None:
    assert invoke("--version").stdout == f"batchcap {__version__}\n"
    shown = invoke("--help")
    assert shown.exit_code == 0
    for command in ("run", "info", "doctor", "bench"):
        assert re.search(rf"\b{command}\b", shown.stdout)
    for panel in ("Captions", "Device and speed", "Output", "Operation", "Terminal"):
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


def test_every_option_of_every_command_is_read_from_an_annotated_field() -> None:
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        fields = command.callback.options
        assert fields.keys() == {parameter.name for parameter in command.params}, name
        for field in fields.values():
            if field.default is not MISSING:
                field.check_range(field.default)


def test_help_has_no_words_of_typer_for_types_and_no_line_for_a_variable() -> None:
    for name in ("", *get_command(app).commands):  # type: ignore[attr-defined]
        shown = invoke(*filter(None, (name,)), "--help").stdout
        assert "env var" not in shown
        assert not re.search(r"<(bool|int|str|float|path|list\[)", shown, re.IGNORECASE), name


def test_the_help_of_a_command_that_captions_no_images_of_yours_does_not_name_failed_ones() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    told = {
        name for name, command in commands.items() if any("failed image" in p.help for p in command.params if p.help)
    }
    assert told == {"run"}


def test_the_help_of_run_begins_with_everyday_options() -> None:
    shown = invoke("run", "--help").stdout
    titles = re.findall(r"╭─ (.*?) ─", shown)
    assert titles == [
        *("Arguments", "Everyday options", "Captions", "Words", "Sampling"),
        *("Device and speed", "Output", "Operation", "Reports", "Watching", "Terminal"),
    ]
    everyday = shown[shown.index("Everyday options") : shown.index("─ Captions")]
    assert 5 <= len(re.findall(r"^│[ *]+--", everyday, re.MULTILINE)) <= 8


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


def test_without_anything_it_shows_its_help() -> None:
    done = invoke()
    assert "Usage: batchcap" in done.output
    assert "Wrong" not in done.output
