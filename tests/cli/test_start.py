"""Starting up: what is loaded, measured by modules and not by time, which depends on how busy the machine is."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from batchcap import __version__

HEAVY = {"numpy", "onnxruntime", "cv2", "PIL", "simplejpeg", "tensorflow", "msgspec", "pydantic", "batchcap_export"}


def loaded(*arguments: str, **environment: str) -> tuple[str, set[str]]:
    """What a command prints, and every module that it imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "batchcap", *arguments],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | environment,
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return done.stdout, {line.rpartition("|")[2].strip() for line in lines}


def test_help_loads_nothing_that_captions() -> None:
    shown, modules = loaded("--help")
    assert "Usage: batchcap" in shown
    assert "batchcap.cli.app" in modules
    assert not {name.partition(".")[0] for name in modules} & HEAVY
    assert not [name for name in modules if name.startswith(("batchcap.bundle", "batchcap.run", "batchcap.runtime"))]


def test_version_does_not_wait_for_the_command_line() -> None:
    shown, modules = loaded("--version")
    assert shown == f"batchcap {__version__}\n"
    assert not {name.partition(".")[0] for name in modules} & (HEAVY | {"typer", "rich"})


def test_the_help_of_run_loads_no_model_library() -> None:
    _, modules = loaded("run", "--help")
    assert not {name.partition(".")[0] for name in modules} & (HEAVY - {"pydantic"})


@pytest.mark.parametrize("command", ["train", "distill", "export"])
def test_the_help_of_the_export_stage_loads_no_numpy_and_no_framework(command: str) -> None:
    shown, modules = loaded(command, "--help")
    assert f"Usage: batchcap {command}" in shown
    assert not {name.partition(".")[0] for name in modules} & {"numpy", "PIL", "onnxruntime", "tensorflow", "keras"}


# Shell completion


def completed(words: str) -> list[str]:
    """What bash offers for the last word, which may be empty."""
    settings = {
        "_BATCHCAP_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    return loaded(**settings)[0].split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("batchcap d", ["doctor", "distill"]),
        ("batchcap run --se", ["--search", "--seed", "--settle"]),
        ("batchcap run --search ", ["beam", "greedy", "sample", "im2txt"]),
        ("batchcap run --format ", ["jsonl", "csv"]),
        ("batchcap export --precision ", ["fp16", "int8"]),
        ("batchcap run ", []),  # the shell offers files
    ],
)
def test_the_shell_completes_commands_options_and_choices(words: str, offered: list[str]) -> None:
    assert completed(words) == offered


def test_completion_is_offered_in_the_help() -> None:
    shown, _ = loaded("--help")
    assert "--install-completion" in shown
