"""The memory of a long run over many tiny images, as a series.

    python benchmarks/flat_memory.py MODEL PHOTOS FOLDER --images 200000 -o FILE

PHOTOS is made where it is not there: JPEGs of 8x8, of a colour each, 1,000 a folder. After the run comes a second one,
which finds nothing new. Sampled are the resident memory of the process and the bytes of its output.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import simplejpeg
from survival import Proof, chosen, demand, proof_of, start, write

A_FOLDER = 1000
BUDGET = 200
"""Bytes that a finished record may take."""


@dataclass(frozen=True)
class Sample:
    """The process at one moment."""

    seconds: float
    records: int
    mib: float


def make_images(folder: Path, count: int) -> None:
    """Write the images, unless they are there."""
    if folder.exists():
        return
    folder.mkdir(parents=True)
    for number in range(count):
        path = folder / f"{number // A_FOLDER:04}" / f"{number:07}.jpg"
        path.parent.mkdir(exist_ok=True)
        colour = np.random.default_rng(number).integers(0, 256, 3, np.uint8)
        levels = np.ascontiguousarray(np.broadcast_to(colour, (8, 8, 3)))
        path.write_bytes(simplejpeg.encode_jpeg(levels, quality=85))


def resident(pid: int) -> float | None:
    """MiB in memory; None where the process has ended."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
    except OSError:
        return None
    return int(pages[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def sampled(command: list[str], output: Path, every: float) -> tuple[list[Sample], int]:
    """Run a command to its end; its samples, and its peak in KiB."""
    process: subprocess.Popen[str] = start(command)
    began, samples, position, records = time.monotonic(), [], 0, 0
    while True:
        mib = resident(process.pid)
        with output.open("rb") if output.exists() else Path(os.devnull).open("rb") as file:
            file.seek(position)
            new = file.read()
        position, records = position + len(new), records + new.count(b"\n")
        if mib:
            samples.append(Sample(round(time.monotonic() - began, 1), records, round(mib, 1)))
        pid, status, used = os.wait4(process.pid, os.WNOHANG)
        if pid:
            demand(os.waitstatus_to_exitcode(status) == 0, process.stderr and process.stderr.read())
            process.returncode = 0
            return samples, used.ru_maxrss
        time.sleep(every)


def figures_of(samples: list[Sample], peak: int, images: int) -> dict[str, object]:
    """The series, and how memory grew after the first tenth."""
    steady = [sample for sample in samples if images / 10 <= sample.records < images] or samples
    records, mib = [sample.records for sample in steady], [sample.mib for sample in steady]
    grown = np.polyfit(records, mib, 1)[0] if len(set(records)) > 1 else 0.0
    series = samples[:: max(1, len(samples) // 60)]
    return {
        "peak_mib": round(peak / 1024, 1),
        "mib_after_a_tenth": mib[0],
        "mib_at_the_end": mib[-1],
        "bytes_a_record_after_the_first_tenth": round(float(grown) * 2**20, 1),
        "seconds": samples[-1].seconds,
        "series": [[sample.seconds, sample.records, sample.mib] for sample in series],
    }


def main() -> None:
    """Make images, run, print, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--format", choices=("jsonl", "csv"), default="jsonl")
    arguments = chosen(__doc__, parser)
    make_images(arguments.photos, arguments.images)
    proof: Proof = proof_of(arguments, batch_size=64)
    output = proof.folder / f"captions.{arguments.format}"
    figures = {}
    for name, every in (("the run", 1.0), ("a run that finds nothing new", 0.1)):
        samples, peak = sampled(proof.command(output), output, every)
        figures[name] = figures_of(samples, peak, arguments.images)
    grown = figures["the run"]["bytes_a_record_after_the_first_tenth"]
    demand(isinstance(grown, float) and grown <= BUDGET, f"{grown} bytes a record")
    write(arguments, proof, figures, columns_of_series=["seconds", "records", "MiB"])


if __name__ == "__main__":
    main()
