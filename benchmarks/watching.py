"""What a run with ``--watch`` costs over a long time: memory, processor time while it waits, seconds to a record.

    python benchmarks/watching.py FOLDER [--rounds 60] [--images 500] [-o results.json]

Made in FOLDER: a bundle with random weights, and images of 24x16. In each round so many images arrive in a new folder,
by a rename, and one image is changed; all folders are looked through every 5 seconds besides. The round is over when
all have their record. Memory is the resident set after each round; the rounds stand for days with fewer arrivals.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from batchcap.tools.machine import machine

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

SETTLE: Final = 0.5
RESCAN: Final = 5
IDLE_SECONDS: Final = 30


def status(pid: int) -> tuple[float, float]:
    """Resident megabytes, and processor seconds so far."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    resident = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return resident / 1024, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Records:
    """Counts the lines of an output as it grows."""

    def __init__(self, output: Path) -> None:
        self._output, self._read, self.count = output, 0, 0

    def until(self, count: int) -> None:
        while self.count < count:
            time.sleep(0.02)
            if self._output.exists():
                with self._output.open("rb") as file:
                    file.seek(self._read)
                    data = file.read()
                self._read += len(data)
                self.count += data.count(b"\n")


def started(folder: Path, rescan: int) -> subprocess.Popen[bytes]:
    """A run that goes on."""
    command = [sys.executable, "-m", "batchcap", "run", folder / "photos", "-o", folder / "captions.jsonl"]
    settings = ["--model", folder / "tiny", "--device", "cpu", "--watch", "--settle", SETTLE, "--rescan", rescan, "-q"]
    return subprocess.Popen([*map(str, command), *map(str, settings)])  # noqa: S603 - our own command


def idle(folder: Path, rescan: int) -> float:
    """Processor seconds of a time in which nothing happens."""
    with started(folder, rescan) as process:
        time.sleep(IDLE_SECONDS)
        before = status(process.pid)[1]
        time.sleep(IDLE_SECONDS)
        spent = status(process.pid)[1] - before
        process.send_signal(signal.SIGTERM)
    return round(spent, 3)


def rounds(folder: Path, count: int, images: int) -> dict[str, Any]:
    """One process over all rounds."""
    from photos import write_photos

    photos, made = folder / "photos", folder / "made"
    write_photos(photos, 1)
    records, seconds, memory = Records(folder / "captions.jsonl"), [], []
    with started(folder, RESCAN) as process:
        records.until(1)
        for number in range(count):
            write_photos(made, images)
            began = time.perf_counter()
            made.rename(photos / f"{number:03}")
            os.utime(photos / "0000.jpg", (number, number))
            records.until(1 + (number + 1) * (images + 1))
            seconds.append(round(time.perf_counter() - began, 2))
            memory.append(round(status(process.pid)[0], 1))
        process.send_signal(signal.SIGTERM)
    return {
        "exit_code": process.returncode,
        "records": records.count,
        "seconds_a_round": seconds,
        "resident_mb_after_each_round": memory,
    }


def main() -> None:
    from bundles import build_bundle

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    given.folder.mkdir(parents=True)
    folder = given.folder.absolute()
    build_bundle(folder / "tiny")
    results = {
        "settings": {"rounds": given.rounds, "images": given.images, "settle": SETTLE, "rescan": RESCAN},
        "machine": machine(),
        **rounds(folder, given.rounds, given.images),
        "processor_seconds_of_30_idle": idle(folder, 3600),
        "processor_seconds_of_30_with_rescans": idle(folder, RESCAN),
    }
    text = json.dumps(results, indent=1)
    if given.output:
        given.output.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
