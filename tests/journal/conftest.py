"""Two archives, and runs over them into an output of each format."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from archives import Run
from journals import FORMATS
from photos import write_photos

from batchcap.options.output import Format
from batchcap.options.run import RunOptions
from batchcap.run import pipeline
from batchcap.run.figures import Summary


@pytest.fixture(params=FORMATS)
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"out.{request.param}"


@pytest.fixture
def run(output: Path, tiny_bundle: Path) -> Run:
    """Caption inputs into the output, with the settings of a `RunOptions`."""

    def go(*inputs: Path, **settings: Any) -> Summary:
        name: Format = "csv" if output.suffix == ".csv" else "jsonl"
        chosen = {"output": output, "format": name, "model": str(tiny_bundle), "device": "cpu"}
        return pipeline.run(RunOptions(inputs=inputs, **chosen | settings))

    return go


@pytest.fixture
def archives(tmp_path: Path) -> tuple[Path, Path]:
    """Two folders with files of the same names, sizes and times, and different pixels."""
    one, other = tmp_path / "one", tmp_path / "other"
    write_photos(one, 3)
    shutil.copytree(one, other)
    return one, other
