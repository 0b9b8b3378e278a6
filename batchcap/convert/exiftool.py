"""exiftool as a separate program: a batch of commands in, what it says of each of them out.

One process a batch, which ends by itself. With ``-stay_open`` it would go on for ever where batchcap was killed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from batchcap.errors import MissingExtraError, OutputError

Command: TypeAlias = Sequence[str]
"""Arguments of one run of exiftool, those of files as the operating system spells them."""

_CONFIG: Final = Path(__file__).with_name("exiftool.config")
_MARK: Final = "=batchcap="
# File names are bytes and stay bytes; on Windows exiftool turns UTF-8 into what the system wants.
_NAMES: Final = ("-charset", "filename=utf8") if os.name == "nt" else ()


class Said(NamedTuple):
    """What exiftool said of one command."""

    out: bytes
    error: str
    """Its errors on one line; empty: there was none."""


def find() -> str:
    """The program.

    Raises:
        MissingExtraError: it is not installed.
    """
    program = shutil.which("exiftool")
    if program is None:
        raise MissingExtraError(
            "exiftool, which writes captions into images, is not installed.",
            "Install it (apt install libimage-exiftool-perl, dnf install perl-Image-ExifTool, brew install exiftool, "
            "or from https://exiftool.org), or write sidecars: --to xmp.",
        )
    return program


def run(program: str, commands: Sequence[Command]) -> list[Said]:
    """Run commands one after the other, in one process; where it dies of one of them, each in a process of its own.

    Args:
        program: see `find`.
        commands: without line ends in any argument.

    Raises:
        OutputError: the program does not run.
    """
    lines: list[str] = []
    for command in commands:
        lines += ("-echo1", _MARK, "-echo4", _MARK, *_NAMES, *command, "-execute")
    script = os.fsencode("\n".join(lines) + "\n")
    try:
        done = subprocess.run(  # noqa: S603 - the program that the user has installed
            [program, "-config", str(_CONFIG), "-@", "-"], input=script, capture_output=True, check=False
        )
    except OSError as error:
        raise OutputError(f"{program} cannot be started: {error.strerror}.", "Install exiftool again.") from error
    mark = f"{_MARK}\n".encode()
    out = done.stdout.replace(b"\r\n", b"\n").split(mark)[1:]
    errors = done.stderr.replace(b"\r\n", b"\n").split(mark)[:-1]
    if len(out) == len(commands) == len(errors):
        return [Said(each, _errors(error)) for each, error in zip(out, errors, strict=True)]
    died = f"it ended with code {done.returncode}"
    if not out:
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise OutputError(f"exiftool does not run: {died}: {''.join(last[-1:])}", "Install exiftool again.")
    if len(commands) == 1:
        return [Said(b"", died)]
    for command in commands:
        if "-o" in command:  # what it has written already is written again
            Path(command[command.index("-o") + 1]).unlink(missing_ok=True)
    return [run(program, [command])[0] for command in commands]


def _errors(text: bytes) -> str:
    """Its errors without the names of files, and without warnings."""
    lines = text.decode("utf-8", "replace").splitlines()
    found = [line.removeprefix("Error: ").split(" - /")[0].strip() for line in lines if line.startswith("Error")]
    return "; ".join(found)


def quoted(text: str) -> str:
    """A text as a value after ``=``, for commands with ``-E``: everything but letters and digits as an entity."""
    return "".join(char if char.isascii() and char.isalnum() else f"&#x{ord(char):x};" for char in text)
