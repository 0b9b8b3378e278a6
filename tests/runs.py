"""Whole runs through `pipeline.run`, and what they leave: helpers of the tests of runs."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

from batchcap.options.run import RunOptions
from batchcap.run import pipeline
from batchcap.run.figures import Progress, Summary
from batchcap.run.watching import Report
from batchcap.system.interrupts import InterruptGuard


def run(photos: Path, output: Path, model: Path, report: Report | None = None, **settings: Any) -> Summary:
    decoding = {name: settings.pop(name) for name in ("beam_size", "num_captions") if name in settings}
    options = RunOptions(inputs=(photos,), output=output, model=str(model), device="cpu", **settings)
    with InterruptGuard() as guard:
        return pipeline.run(options, decoding, report, guard=guard)


def reports(photos: Path, output: Path, model: Path, **settings: Any) -> tuple[list[Progress], Summary]:
    """A run with a total, whose first batch waits until the total is there, and every report of it."""
    seen: list[Progress] = []

    def report(progress: Progress) -> None:
        seen.append(progress)
        for thread in threading.enumerate():
            if thread.name == "batchcap-count":
                thread.join(60)

    options = RunOptions(inputs=(photos,), output=output, model=str(model), device="cpu", **settings)
    return seen, pipeline.run(options, {}, report, count_total=True)


def lines(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.read_bytes().splitlines()]
