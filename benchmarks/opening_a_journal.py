"""What an output of a million records costs a run that has nothing to do: processor seconds and memory.

    python benchmarks/opening_a_journal.py FOLDER [--records 1000000] [-o results.json]

Three journals of the same records are made in FOLDER: JSONL, CSV, and JSONL whose records have a ``sha256``. A new
process opens each, and asks `pending` for every image, which all are done; the images are made before the clock starts.
One record in a hundred is an error; one caption in twenty has a comma, which CSV quotes (of 1,000 captions of the
embedded model none has). The baseline is the memory of a process that has imported what a journal needs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from batchcap.journal.formats import make_codec
from batchcap.journal.journal import Journal
from batchcap.options.output import Format
from batchcap.records import Failure, Fingerprint, ImageRef, Record
from batchcap.tools.machine import machine

OURS: Final = Fingerprint("flickr8k-small@3f9a0c12", "exact", "beam4-lp0.8#48080786")
ROOT: Final = "/srv/archive/photos"
CAPTIONS: Final = (
    "a young boy wearing a red shirt is walking on a sidewalk",
    "two dogs play in the snow",
    "a man in a black shirt and a woman in a white dress",
    "a group of people are standing in front of a building",
)
CASES: Final[dict[str, tuple[Format, bool]]] = {
    "jsonl": ("jsonl", False),
    "csv": ("csv", False),
    "jsonl with sha256": ("jsonl", True),
}
_BATCH: Final = 1000


def path_of(number: int) -> str:
    return f"{2001 + number // 50_000}/{number // 500 % 100:02d} évènement/IMG_{number:07d}.jpg"


def record(number: int, *, hashed: bool) -> Record:
    fields: dict[str, Any] = {"bytes": 2_000_000 + number, "mtime_us": 1_732_142_000_123_456 + number, "root": ROOT}
    made = Record(path_of(number), **fields, model=OURS.model, preprocess=OURS.preprocess, decoding=OURS.decoding)
    if number % 100 == 0:
        why = Failure("decode", "truncated", "the file ends before the image does")
        return msgspec.structs.replace(made, error=why)
    return msgspec.structs.replace(
        made,
        caption=CAPTIONS[number % len(CAPTIONS)] + (" , outdoors" if number % 20 == 1 else ""),
        log_prob=-13.9714,
        score=-1.7951,
        width=4032,
        height=3024,
        sha256=hashlib.sha256(str(number).encode()).hexdigest() if hashed else None,
    )


def make(path: Path, count: int, format: Format, *, hashed: bool) -> None:
    codec = make_codec(format)
    with path.open("wb") as file:
        file.write(codec.header)
        for start in range(0, count, _BATCH):
            numbers = range(start, min(start + _BATCH, count))
            file.write(codec.encode([record(number, hashed=hashed) for number in numbers]))


def images(count: int) -> Iterator[ImageRef]:
    for number in range(count):
        yield ImageRef(path_of(number), "", 2_000_000 + number, 1_732_142_000_123_456 + number)


def megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(path: Path, format: Format, count: int) -> dict[str, float]:
    """Runs in a process of its own."""
    started = time.process_time()
    walked = sum(1 for _ in images(count))
    walking = time.process_time() - started
    baseline = megabytes()
    started = time.process_time()
    with Journal.open(path, format, OURS) as journal:
        opened = time.process_time()
        todo = sum(1 for _ in journal.pending(images(count)))
        asked = time.process_time()
        assert (walked, todo, journal.done) == (count, 0, count)
    return {
        "open, CPU seconds": opened - started,
        "ask for every image, CPU seconds": asked - opened - walking,
        "memory, MB": megabytes(),
        "memory above the baseline, MB": megabytes() - baseline,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--case", help="measure one case here, and print it")
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    if given.case:
        path = given.folder / given.case.replace(" ", "-")
        print(json.dumps(measure(path, CASES[given.case][0], given.records)))
        return
    cases: dict[str, Any] = {}
    for case, (name, hashed) in CASES.items():
        path = given.folder / case.replace(" ", "-")
        if not path.exists():
            make(path, given.records, name, hashed=hashed)
        command = [sys.executable, __file__, str(given.folder), "--records", str(given.records), "--case", case]
        runs = [json.loads(subprocess.check_output(command)) for _ in range(given.repeats)]  # noqa: S603 - this script
        medians = {figure: statistics.median(run[figure] for run in runs) for figure in runs[0]}
        cases[case] = {"bytes": path.stat().st_size, "median": medians, "runs": runs}
        print(case, medians)
    if given.output:
        results = {
            "settings": {"records": given.records, "repeats": given.repeats},
            "machine": machine(),
            "cases": cases,
        }
        given.output.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
