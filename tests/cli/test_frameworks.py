"""What the commands of the export stage print when a signal stops them."""

from __future__ import annotations

import subprocess
import sys

INCOMPLETE = """
from contextlib import nullcontext
from batchcap.cli import frameworks
from batchcap.system import process
from batchcap.system.interrupts import Interrupted

class Incomplete:
    def __del__(self):
        raise AttributeError("not made yet")

process.take_over()
frameworks._loaded = lambda verbosity: nullcontext()  # the real one loads TensorFlow
try:
    with frameworks.tensorflow_loaded(0, "Stopped: nothing is left."):
        incomplete = Incomplete()
        raise Interrupted(15)
except Interrupted:
    del incomplete
"""


def test_nothing_is_printed_after_the_line_that_says_stopped() -> None:
    """A signal while TensorFlow loads a part of itself left an object whose removal printed a traceback."""
    done = subprocess.run([sys.executable, "-c", INCOMPLETE], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    assert done.stderr == "Stopped: nothing is left.\n"
