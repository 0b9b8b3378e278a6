"""What a command of batchcap costs, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any


def cost(*arguments: object) -> dict[str, Any]:
    """Run a command, which must end with 0.

    Returns:
        Its time, its peak memory, and the lines that it said. That memory is never less than what this process has.
    """
    command = [sys.executable, "-m", "batchcap", *map(str, arguments)]
    started = time.perf_counter()
    with subprocess.Popen(  # noqa: S603 - our own command
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, said
    return {
        "seconds": round(time.perf_counter() - started, 2),
        "CPU seconds": round(used.ru_utime + used.ru_stime, 2),
        "peak memory, MB": round(used.ru_maxrss / 1024, 1),
        "said": [line.strip() for line in said.splitlines() if line.strip()],
    }
