"""What the commands for journals cost at a million records: processor seconds, seconds, and memory.

    python benchmarks/journal_commands.py FOLDER [--records 1000000] [-o results.json]

The journals are made in FOLDER, of the records of `opening_a_journal.py`. A fifth of the lines of those to be compacted
are superseded. Four shards of a quarter of the records each are merged. One line of those to be repaired is cut in the
middle of the file. Each command is a process of its own, with the start of Python in it; memory is its largest
resident size.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any, Final

from costs import cost
from opening_a_journal import make, record

from batchcap.journal.formats import make_codec
from batchcap.options.output import Format
from batchcap.tools.machine import machine

FORMATS: Final[tuple[Format, ...]] = ("jsonl", "csv")
_SHARDS: Final = 4
_BATCH: Final = 1000


def make_all(folder: Path, format: Format, count: int) -> None:
    """The journals of one format."""
    whole = folder / f"whole.{format}"
    make(whole, count * 4 // 5, format, hashed=False)
    header = len(make_codec(format).header)
    make(folder / "again", count // 5, format, hashed=False)
    with whole.open("ab") as file, (folder / "again").open("rb") as again:
        again.seek(header)
        shutil.copyfileobj(again, file)
    (folder / "again").unlink()
    with whole.open("rb") as source, (folder / f"damaged.{format}").open("wb") as target:
        source.seek(whole.stat().st_size // 2)
        source.readline()
        middle = source.tell() + 10
        source.seek(0)
        while source.tell() < middle:
            target.write(source.read(min(1 << 20, middle - source.tell())))
        source.seek(middle + 50)
        shutil.copyfileobj(source, target)
    codec = make_codec(format)
    for shard in range(_SHARDS):
        with (folder / f"shard{shard}.{format}").open("wb") as file:
            file.write(codec.header)
            numbers = range(shard, count, _SHARDS)
            for start in range(0, len(numbers), _BATCH):
                batch = numbers[start : start + _BATCH]
                file.write(codec.encode([record(number, hashed=False) for number in batch]))


def run(*arguments: str) -> dict[str, Any]:
    """What a command costs, and its first line."""
    found = cost(*arguments)
    return {**found, "said": found["said"][0]}


def measure(folder: Path, format: Format) -> dict[str, Any]:
    """Every command on journals of one format."""
    copies = {name: str(folder / f"{name}-copy.{format}") for name in ("whole", "damaged")}
    for name, copy in copies.items():
        shutil.copyfile(folder / f"{name}.{format}", copy)
    shards = [str(folder / f"shard{shard}.{format}") for shard in range(_SHARDS)]
    results = {"status": run("status", copies["whole"]), "compact": run("compact", copies["whole"])}
    results["repair"] = run("repair", copies["damaged"])
    for other in FORMATS:
        results[f"merge to {other}"] = run("merge", *shards, "-o", str(folder / f"all.{other}"), "--overwrite")
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    results: dict[str, Any] = {}
    for name in FORMATS:
        make_all(given.folder, name, given.records)
        results[name] = measure(given.folder, name)
        print(name, json.dumps(results[name], indent=2))
    if given.output:
        settings = {"records": given.records, "shards": _SHARDS, "superseded": given.records // 5}
        text = json.dumps({"settings": settings, "machine": machine(), "results": results}, indent=2)
        given.output.write_text(text.replace(str(given.folder), "FOLDER") + "\n")


if __name__ == "__main__":
    main()
