"""Runs in processes of their own, as a user starts them: helpers of the tests that stop and kill them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

PATIENCE = 60.0


def command(photos: Path, output: Path, model: Path, *more: str) -> list[str]:
    arguments = [str(photos), "-o", str(output), "--model", str(model), "--device", "cpu", "--workers", "1", *more]
    return [sys.executable, "-m", "batchcap", "run", *arguments]


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("BATCHCAP_")}


@contextmanager
def running(arguments: list[str], output: Path, lines: int = 20) -> Iterator[subprocess.Popen[str]]:
    """A real process that has written at least ``lines`` records and is still at work."""
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, env=environment())
    try:
        deadline = time.monotonic() + PATIENCE
        while count(output) < lines:
            assert time.monotonic() < deadline, "no record was written"
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.01)
                raise AssertionError(f"it ended too early: {process.communicate()[1]}")
        yield process
    finally:
        process.kill()
        process.communicate()


def count(output: Path) -> int:
    return output.read_bytes().count(b"\n") if output.exists() else 0


def records(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.read_bytes().splitlines()]


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
