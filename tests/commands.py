"""The command line as tests call it: in this process, or in one of its own on a real terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from io import BytesIO
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from batchcap.cli.app import app

COUNT = 6
"""Photos in the folder of the tests of the command line."""


def records(text: str | Path) -> list[dict[str, Any]]:
    """The records of a JSONL text or file."""
    lines = (text.read_text() if isinstance(text, Path) else text).splitlines()
    return [json.loads(line) for line in lines]


def invoke(*arguments: str | Path, env: dict[str, str] | None = None) -> Result:
    """One command in this process; its output is no terminal."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env=env)


def on_a_terminal(
    *arguments: str | Path, stdout: bool = False, columns: int = 200, term: str = "xterm", color: bool = True
) -> tuple[int, str]:
    """Exit code and everything that a real terminal of standard error saw, and of standard output if it is one too."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    left_out = {"NO_COLOR", "COLUMNS", "TERMINAL_WIDTH"}
    environment = {name: value for name, value in os.environ.items() if name not in left_out} | {"TERM": term}
    if not color:
        environment["NO_COLOR"] = "1"
    command = [sys.executable, "-m", "batchcap", *map(str, arguments)]
    out = theirs if stdout else subprocess.DEVNULL
    with subprocess.Popen(command, stdin=theirs, stdout=out, stderr=theirs, env=environment) as process:
        os.close(theirs)
        seen = BytesIO()
        while True:
            try:
                chunk = os.read(ours, 65536)
            except OSError:  # Linux says so when the other side has closed
                break
            if not chunk:
                break
            seen.write(chunk)
    os.close(ours)
    return process.returncode, seen.getvalue().decode()
