"""What it costs to convert a journal of a million records: processor seconds, memory, and how much is written again.

    python benchmarks/conversions.py FOLDER [--images 1000000] [--targets csv coco ...] [-o results.json]

FOLDER gets as many images of one byte and their journal, with one caption replaced in a hundred and one failure in a
thousand. Every target is written by `batchcap convert` in a process of its own: first anew; again, when nothing has
changed; and after ten new images. FOLDER on a tmpfs keeps the disk out of it.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
from costs import cost

from batchcap.journal.formats import make_codec
from batchcap.records import Failure, Record
from batchcap.tools.machine import machine

# OUT of each target, and its options.
TARGETS: Final[dict[str, tuple[str, ...]]] = {
    "txt": ("mirror", "--to", "txt"),
    "csv": ("captions.csv",),
    "coco": ("results.json", "--to", "coco"),
    "kohya": ("metadata.json", "--to", "kohya"),
    "imagefolder": ("photos", "--to", "imagefolder"),
    "webdataset": ("set.tar",),
}
NEW: Final = 10
_BATCH: Final = 1000


def path_of(number: int) -> str:
    return f"{number // 1000:04d} évènement/{number:012d}.jpg"


def make_images(folder: Path, numbers: range) -> None:
    for number in numbers:
        file = folder / path_of(number)
        if number % 1000 == 0:
            file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")


def record(folder: Path, number: int, caption: str) -> Record:
    made = Record(
        path=path_of(number),
        bytes=1,
        mtime_us=(folder / path_of(number)).stat().st_mtime_ns // 1000,
        root=str(folder),
        model="flickr8k-small@3f9a0c12",
        preprocess="exact",
        decoding="beam4-lp0.8#48080786",
    )
    if number % 1000 == 999:
        return msgspec.structs.replace(
            made, error=Failure("decode", "truncated", "the file ends before the image does")
        )
    numbers = {"log_prob": -13.971, "score": -1.795, "width": 4032, "height": 3024}
    return msgspec.structs.replace(made, caption=caption, **numbers)


def records(folder: Path, count: int) -> Iterator[Record]:
    for number in range(count):
        yield record(folder, number, f"two dogs play in the snow near a lake, with {number % 97} people")
    for number in range(0, count, 100):
        yield record(folder, number, "a young boy wearing a red shirt is walking on a sidewalk")


def append(journal: Path, lines: Iterator[Record]) -> None:
    codec, batch = make_codec("jsonl"), []
    with journal.open("ab") as file:
        for each in lines:
            batch.append(each)
            if len(batch) == _BATCH:
                file.write(codec.encode(batch))
                batch.clear()
        file.write(codec.encode(batch))


def measured(folder: Path, target: str) -> dict[str, Any]:
    """One conversion in a process of its own."""
    out, *options = TARGETS[target]
    found = cost("convert", folder / "j.jsonl", folder / out, *options, "--no-progress")
    return {**found, "said": found["said"][1:]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--targets", nargs="+", default=[*TARGETS], choices=TARGETS)
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    folder: Path = given.folder.absolute()
    photos, journal = folder / "photos", folder / "j.jsonl"
    make_images(photos, range(given.images + NEW))
    append(journal, records(photos, given.images))
    append(folder / "new.jsonl", (record(photos, given.images + new, "a new image") for new in range(NEW)))
    old = journal.stat().st_size
    cases: dict[str, Any] = {}
    for target in given.targets:
        cases[target] = {"anew": measured(folder, target), "again": measured(folder, target)}
        with journal.open("ab") as file:
            file.write((folder / "new.jsonl").read_bytes())
        cases[target]["ten new"] = measured(folder, target)
        os.truncate(journal, old)
        print(target, msgspec.json.encode(cases[target]).decode(), flush=True)
        out = folder / TARGETS[target][0]
        if out.is_dir() and out != photos:
            shutil.rmtree(out)
    settings = {"images": given.images, "lines": given.images + given.images // 100, "journal, bytes": old}
    report = {"settings": settings, "machine": machine(), "cases": cases}
    if given.output:
        given.output.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")


if __name__ == "__main__":
    main()
