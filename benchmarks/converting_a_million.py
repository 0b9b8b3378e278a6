"""What converting a journal of a million records costs: seconds, processor seconds and memory.

    python benchmarks/converting_a_million.py FOLDER [--records 1000000] [--target sqlite ...] [-o results.json]

A JSONL journal is made in FOLDER, with captions of 12 to 15 words; one record in a hundred is an error. Each target is
written by a process of its own (`batchcap convert`): at first; again with nothing new; after ten new records; and after
a record in the middle has gone, as `compact --prune` leaves the journal. Memory is the process's peak.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any, Final

import msgspec
from costs import cost

from batchcap.journal.formats import make_codec
from batchcap.records import Failure, Record
from batchcap.tools.machine import machine

TARGETS: Final = {"sqlite": ".db", "parquet": ".parquet", "csv": ".csv"}
_BATCH: Final = 10_000
_WHO: Final = ("a young boy", "two dogs", "a man and a woman", "a group of people", "an old lady", "three cyclists")
_LOOK: Final = ("red", "blue", "striped", "green", "black and white", "yellow", "torn", "shiny")
_WEAR: Final = ("shirt", "helmet", "jacket", "dress", "uniform", "hat", "scarf", "backpack")
_DOING: Final = ("walking", "running", "jumping", "sitting", "playing", "waiting", "dancing", "resting")
_WHERE: Final = ("on a sidewalk", "in the snow", "at the beach", "near a lake", "by a stone wall", "under a big tree")


def caption(number: int) -> str:
    words = random.Random(number)  # noqa: S311
    who, look, wear = words.choice(_WHO), words.choice(_LOOK), words.choice(_WEAR)
    return f"{who} with a {look} {wear} {words.choice(_DOING)} {words.choice(_WHERE)} and {words.choice(_DOING)}"


def record(number: int) -> Record:
    made = Record(
        f"{2001 + number // 50_000}/{number // 500 % 100:02d} évènement/IMG_{number:07d}.jpg",
        bytes=2_000_000 + number,
        mtime_us=1_732_142_000_123_456 + number,
        root="/srv/archive/photos",
        model="flickr8k-small@3f9a0c12",
        preprocess="exact",
        decoding="beam4-lp0.8#48080786",
    )
    if number % 100 == 0:
        why = Failure("decode", "truncated", "the file ends before the image does")
        return msgspec.structs.replace(made, error=why)
    score = random.Random(number).uniform(-2, -1)  # noqa: S311
    return msgspec.structs.replace(
        made,
        caption=caption(number),
        log_prob=round(9 * score, 4),
        score=round(score, 4),
        width=4032,
        height=3024,
    )


def make(path: Path, count: int) -> None:
    codec = make_codec("jsonl")
    with path.open("wb") as file:
        for start in range(0, count, _BATCH):
            file.write(codec.encode([record(number) for number in range(start, min(start + _BATCH, count))]))


def converted(journal: Path, out: Path, target: str) -> dict[str, Any]:
    """One conversion in a process of its own."""
    found = cost("convert", journal, out, "--to", target, "--quiet")
    return {name: figure for name, figure in found.items() if name != "said"}


def without_a_line(path: Path, number: int) -> None:
    """Line by line: a child's peak memory is never less than that of the process that starts it."""
    shorter = path.with_suffix(".new")
    with path.open("rb") as old, shorter.open("wb") as new:
        new.writelines(line for count, line in enumerate(old) if count != number)
    shorter.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--target", choices=TARGETS, action="append")
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    found: dict[str, Any] = {}
    for target in given.target or ("sqlite", "parquet"):
        journal, out = given.folder / "million.jsonl", given.folder / f"million{TARGETS[target]}"
        make(journal, given.records)
        out.unlink(missing_ok=True)
        steps = {"first": converted(journal, out, target), "nothing new": converted(journal, out, target)}
        with journal.open("ab") as file:
            file.write(make_codec("jsonl").encode([record(given.records + n) for n in range(10)]))
        steps["ten new records"] = converted(journal, out, target)
        without_a_line(journal, given.records // 2)
        steps["a record gone"] = converted(journal, out, target)
        found[target] = {**steps, "journal, MB": round(journal.stat().st_size / 1e6)}
        found[target]["output, MB"] = round(out.stat().st_size / 1e6)
        print(target, json.dumps(found[target], indent=1), flush=True)
    if given.output:
        settings = {"records": given.records, "machine": machine()}
        given.output.write_text(json.dumps({"settings": settings, "targets": found}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
