"""What the proofs of survival share: runs as real processes, and what must be in an output after them.

Outputs are read with the json and csv modules, not with batchcap's own reader.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from batchcap.tools.machine import machine

Row = dict[str, object]
FORMATS = ("jsonl", "csv")
NUMBERS = ("log_prob", "score", "p")
# How far numbers may be apart: one in the last digit that is written.
APART = 0.001000001
PATIENCE = 300.0


class BrokenPromiseError(AssertionError):
    """A run did not keep what it promises. The files are left as they are."""


def demand(kept: bool, what: object) -> None:
    """Stop where a promise was not kept."""
    if not kept:
        raise BrokenPromiseError(what)


@dataclass(frozen=True)
class Proof:
    """What a proof runs on."""

    model: str
    photos: Path
    folder: Path
    """Its own, for outputs."""
    batch_size: int = 4

    def command(self, output: Path, *more: str) -> list[str]:
        """A run of the photos into ``output``."""
        chosen = ("--model", self.model, "--device", "cpu", "--batch-size", str(self.batch_size), "--no-progress")
        return [sys.executable, "-m", "batchcap", "run", str(self.photos), "-o", str(output), *chosen, *more]

    def undisturbed(self, name: str, *more: str) -> tuple[Path, float]:
        """An output that nothing has disturbed, and the seconds it took."""
        output = self.folder / "undisturbed" / name
        output.parent.mkdir(exist_ok=True)
        output.unlink(missing_ok=True)
        started = time.monotonic()
        done = finish(start(self.command(output, *more)))
        demand(done.code == 0, done)
        return output, time.monotonic() - started


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    code: int
    said: str


def start(command: list[str], **environment: str) -> subprocess.Popen[str]:
    """A process in a session of its own; what a person has set for batchcap is left out."""
    usual = {name: value for name, value in os.environ.items() if not name.startswith("BATCHCAP_")}
    return subprocess.Popen(  # noqa: S603 - our own command
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=usual | environment
    )


def finish(process: subprocess.Popen[str]) -> Ended:
    """Wait for its end. A traceback is never what a person should see."""
    _, said = process.communicate(timeout=PATIENCE)
    demand("Traceback" not in said, said)
    return Ended(process.returncode, said)


@contextmanager
def running(command: list[str], **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A process that does not outlive the block."""
    process = start(command, **environment)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def wait_for_lines(output: Path, lines: int, process: subprocess.Popen[str]) -> None:
    """Return when the output has so many lines, or the process has ended."""
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and (not output.exists() or output.read_bytes().count(b"\n") < lines):
        demand(time.monotonic() < deadline, f"{output} has no {lines} lines after {PATIENCE} s")
        time.sleep(0.002)


def whole(content: bytes) -> bytes:
    """The content up to its last line end."""
    return content[: content.rfind(b"\n") + 1]


def rows(content: bytes, kind: str) -> list[Row]:
    """The records of whole lines; raises where a line is none."""
    if kind == "csv":
        return [dict(row) for row in csv.DictReader(io.StringIO(content.decode(), newline=""), strict=True)]
    return [json.loads(line) for line in content.splitlines()]


@dataclass
class Difference:
    """How outputs differ from those of undisturbed runs; all but numbers must be equal, or a proof stops."""

    outputs: int = 0
    records: int = 0
    records_with_other_numbers: int = 0
    """By one in the last digit."""
    examples: list[str] = field(default_factory=list)

    def add(self, output: Path, undisturbed: Path, *, complete: bool = True) -> None:
        """Compare an output.

        Args:
            output: of disturbed runs.
            undisturbed: of the same images.
            complete: every image must be there; else what is there must be right.
        """
        kind = undisturbed.suffix[1:]
        expected = {row["path"]: row for row in rows(undisturbed.read_bytes(), kind)}
        content = output.read_bytes()
        demand(not complete or content.endswith(b"\n"), f"{output} ends within a line")
        found = rows(whole(content), kind)
        paths = [row["path"] for row in found]
        demand(len(paths) == len(set(paths)), f"{output}: an image is there twice")
        demand(not complete or set(paths) == set(expected), f"{output}: {len(paths)} of {len(expected)} images")
        self.outputs += complete
        for row in found:
            self._row(row, expected[row["path"]])

    def _row(self, row: Row, expected: Row) -> None:
        self.records += 1
        if row == expected:
            return
        rest = [{name: value for name, value in each.items() if name not in NUMBERS} for each in (row, expected)]
        demand(rest[0] == rest[1], f"{row}\ninstead of\n{expected}")
        apart = [abs(float(str(row[name])) - float(str(expected[name]))) for name in ("log_prob", "score")]
        demand(max(apart) <= APART, f"{row}\ninstead of\n{expected}")
        self.records_with_other_numbers += 1
        self.examples = [*self.examples, f"{row['path']}: {row['log_prob']}, not {expected['log_prob']}"][:5]


def chosen(description: str | None, parser: argparse.ArgumentParser | None = None) -> argparse.Namespace:
    """The arguments that all proofs have."""
    parser = parser or argparse.ArgumentParser()
    parser.description, parser.formatter_class = description, argparse.RawDescriptionHelpFormatter
    parser.add_argument("model", help="a bundle or its name")
    parser.add_argument("photos", type=Path, help="a folder of small photos: a run should take some seconds")
    parser.add_argument("folder", type=Path, help="for outputs; what is in it is removed")
    parser.add_argument("-o", "--output", type=Path, help="the figures as JSON")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def random_of(arguments: argparse.Namespace) -> np.random.Generator:
    """Chance, which the seed decides."""
    return np.random.default_rng(arguments.seed)


def proof_of(arguments: argparse.Namespace, batch_size: int = 4) -> Proof:
    """An empty folder to work in."""
    shutil.rmtree(arguments.folder, ignore_errors=True)
    arguments.folder.mkdir(parents=True)
    return Proof(arguments.model, arguments.photos.resolve(), arguments.folder.resolve(), batch_size)


def write(arguments: argparse.Namespace, proof: Proof, figures: object, **settings: object) -> None:
    """Print the figures and write them with the settings behind them."""
    about = {
        "model": Path(proof.model).name,
        "images": sum(path.is_file() for path in proof.photos.rglob("*")),
        "batch_size": proof.batch_size,
        "seed": arguments.seed,
    }
    report = {"settings": about | settings, "machine": machine(), "figures": figures}
    encoded = msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"
    sys.stdout.write(encoded.decode())
    if arguments.output is not None:
        arguments.output.write_bytes(encoded)
