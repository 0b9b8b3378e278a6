"""The tables of docs/operations.md name every field and every metric."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
from paths import ROOT
from typer.testing import Result

from batchcap.reports.log import Event
from batchcap.reports.metrics_text import METRICS

pytestmark = pytest.mark.usefixtures("plain_environment")


def first_cells(heading: str) -> set[str]:
    """The names in the first column of the table below a heading."""
    page = (ROOT / "docs" / "operations.md").read_text("utf-8")
    section = page.partition(f"### {heading}\n")[2].partition("\n### ")[0]
    cells = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


def test_every_metric_is_described() -> None:
    assert first_cells("Metrics for Prometheus") == {f"batchcap_{name}" for name in METRICS}


def test_every_field_of_a_summary_is_described(call: Callable[..., Result], tmp_path: Path) -> None:
    call("--summary", tmp_path / "run.json")
    assert first_cells("A summary of the run") == set(json.loads((tmp_path / "run.json").read_bytes()))


def test_every_field_of_each_line_is_described(call: Callable[..., Result], tmp_path: Path) -> None:
    call("--log-file", tmp_path / "log", "--log-format", "json")
    lines = [json.loads(line) for line in (tmp_path / "log").read_text("utf-8").splitlines()]
    assert first_cells("Logs") - {"details"} == set(lines[0]) & set(lines[-1])


def test_every_event_of_a_log_is_described() -> None:
    (row,) = re.findall(r"^\| `event` \|(.*)\|$", (ROOT / "docs" / "operations.md").read_text("utf-8"), re.MULTILINE)
    assert set(re.findall(r'"(\w+)"', row)) == set(get_args(Event))
