"""Clocks that jump, and files with odd dates: outputs must be those of a right clock, and nothing is captioned twice.

    python benchmarks/odd_clocks.py MODEL PHOTOS FOLDER --times 20 -o FILE

libfaketime (Debian: libfaketime) gives each run another time of day, which jumps while it runs: hours, days and years,
back and forth. The monotonic clock stays right, as it does where a clock is set. Dates of files: before 1970, far in
the future, and changing to and fro; also of files that arrive where a run watches.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from survival import (
    FORMATS,
    Difference,
    Proof,
    chosen,
    demand,
    finish,
    proof_of,
    random_of,
    rows,
    running,
    start,
    wait_for_lines,
    write,
)

LIBRARY = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
OFFSETS = ("+0", "-1h", "+1h", "-3d", "+400d", "-20y", "+60y", "-60y")
YEAR = 365 * 24 * 3600
# Seconds since 1970.
DATES = (-1, -YEAR, -60 * YEAR, 0, 1, 2**31, 60 * YEAR, 130 * YEAR)


@dataclass
class Clocks:
    """The figures of one kind of output."""

    runs: int = 0
    jumps: int = 0
    nothing_new: int = 0
    """Runs after the others, at another time, that found nothing to do."""
    difference: Difference = field(default_factory=Difference)


def fake(offset: Path) -> dict[str, str]:
    """The environment of a process whose time of day is that of a file, looked at again at every call."""
    return {
        "LD_PRELOAD": str(LIBRARY),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }


def jumping(proof: Proof, kind: str, times: int, chance: np.random.Generator) -> Clocks:
    """Runs during which the clock jumps, each followed by one that must find nothing new."""
    undisturbed, _ = proof.undisturbed(f"captions.{kind}")
    output, offset, found = proof.folder / f"captions.{kind}", proof.folder / "offset", Clocks()
    for _ in range(times):
        output.unlink(missing_ok=True)
        jump(offset, chance)
        with running(proof.command(output), **fake(offset)) as process:
            while process.poll() is None:
                jump(offset, chance)
                found.jumps += 1
                time.sleep(float(chance.uniform(0, 0.1)))
            ended = finish(process)
        demand(ended.code == 0, ended)
        found.difference.add(output, undisturbed)
        found.runs += 1
        content = output.read_bytes()
        ended = finish(start(proof.command(output), **fake(offset)))
        demand(ended.code == 0 and "Nothing new" in ended.said and output.read_bytes() == content, ended)
        found.nothing_new += 1
    return found


def jump(offset: Path, chance: np.random.Generator) -> None:
    """Another time of day; moved into place, so that no process reads half of it."""
    new = offset.with_name("new")
    new.write_text(OFFSETS[chance.integers(len(OFFSETS))] + "\n", encoding="ascii")
    new.replace(offset)


def dated(proof: Proof, kind: str) -> dict[str, int]:
    """Files with odd dates: captioned once, and again only when their date changes, to an earlier one too."""
    photos = proof.folder / f"dated-{kind}"
    photos.mkdir()
    source = min(path for path in proof.photos.rglob("*") if path.is_file())
    for number, date in enumerate(DATES):
        shutil.copyfile(source, photos / f"{number}.jpg")
        os.utime(photos / f"{number}.jpg", ns=(0, date * 10**9 + 123_456_789))
    own = Proof(proof.model, photos, proof.folder)
    output = proof.folder / f"dated.{kind}"
    demand(finish(start(own.command(output))).code == 0, "a run over odd dates")
    found = rows(output.read_bytes(), kind)
    dates = [int(str(row["mtime_us"])) for row in found]
    demand(dates == [date * 10**6 + 123_456 for date in DATES], dates)
    demand("Nothing new" in finish(start(own.command(output))).said, "a second run over odd dates")
    for number, date in enumerate(DATES):
        os.utime(photos / f"{number}.jpg", ns=(0, (date - 1) * 10**9))
    demand(finish(start(own.command(output))).code == 0, "a run over earlier dates")
    again = rows(output.read_bytes(), kind)[len(found) :]
    demand([row["path"] for row in again] == [row["path"] for row in found], again)
    return {"dates": len(DATES), "captioned_again_when_earlier": len(again)}


def watched(proof: Proof, kind: str, chance: np.random.Generator) -> dict[str, object]:
    """Files that arrive, with odd dates and while the clock jumps, in a folder that a run watches."""
    photos, offset = proof.folder / f"watched-{kind}", proof.folder / "offset"
    photos.mkdir()
    source = min(path for path in proof.photos.rglob("*") if path.is_file())
    shutil.copyfile(source, photos / "first.jpg")
    own = Proof(proof.model, photos, proof.folder)
    output, first, seconds = proof.folder / f"watched.{kind}", 1 + (kind == "csv"), []
    jump(offset, chance)
    with running(own.command(output, "--watch", "--settle", "0.5"), **fake(offset)) as process:
        wait_for_lines(output, first, process)
        for number, date in enumerate(DATES):
            jump(offset, chance)
            shutil.copyfile(source, photos / f"{number}.jpg")
            os.utime(photos / f"{number}.jpg", ns=(0, date * 10**9))
            began = time.monotonic()
            wait_for_lines(output, first + number + 1, process)
            seconds.append(round(time.monotonic() - began, 1))
        process.send_signal(signal.SIGTERM)
        demand(finish(process).code == 128 + signal.SIGTERM, "the end of a watching run")
    paths = [row["path"] for row in rows(output.read_bytes(), kind)]
    demand(len(paths) == len(set(paths)) == 1 + len(DATES), paths)
    return {"arrived": len(DATES), "seconds_until_written": seconds}


def check_faked(proof: Proof) -> None:
    """Stop where the library fakes nothing, or the monotonic clock too."""
    offset = proof.folder / "offset"
    offset.write_text("-20y\n", encoding="ascii")
    code = "import sys, time; sys.exit(f'{time.time()} {time.monotonic()}')"
    faked, monotonic = map(float, finish(start([sys.executable, "-c", code], **fake(offset))).said.split())
    demand(19 * YEAR < time.time() - faked < 21 * YEAR, "the time of day is not faked")
    demand(abs(time.monotonic() - monotonic) < YEAR / 365, "the monotonic clock is faked")


def main() -> None:
    """Run at odd times, compare, print, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--times", type=int, default=20, help="of each format")
    arguments = chosen(__doc__, parser)
    demand(LIBRARY.exists(), f"{LIBRARY} is not there: install libfaketime")
    proof, chance = proof_of(arguments), random_of(arguments)
    check_faked(proof)
    figures: dict[str, object] = {kind: jumping(proof, kind, arguments.times, chance) for kind in FORMATS}
    figures |= {f"{kind}, dates of files": dated(proof, kind) for kind in FORMATS}
    figures |= {f"{kind}, --watch": watched(proof, kind, chance) for kind in FORMATS}
    write(arguments, proof, figures, times=arguments.times, offsets=OFFSETS)


if __name__ == "__main__":
    main()
