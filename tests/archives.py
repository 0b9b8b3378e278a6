"""Two archives of the same names, and what an output says of them: helpers of the tests of roots."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from batchcap.journal.formats import make_codec
from batchcap.records import Record
from batchcap.roots import Root
from batchcap.run.figures import Summary

Run = Callable[..., Summary]
NAMES = ["0000.jpg", "0001.jpg", "sub/0002.jpg"]
"""What `write_photos` makes of three."""


def rows(output: Path) -> list[dict[str, Any]]:
    if output.suffix == ".csv":
        with output.open(newline="") as file:
            return list(csv.DictReader(file))
    return [json.loads(line) for line in output.read_bytes().splitlines()]


def decoded(output: Path) -> list[Record]:
    codec = make_codec("csv" if output.suffix == ".csv" else "jsonl")
    return [codec.decode(line) for line in output.read_bytes().removeprefix(codec.header).splitlines()]


def at(folder: str) -> Root:
    """A run over a folder."""
    return Root(folder, (folder,))
