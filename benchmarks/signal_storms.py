"""Storms of SIGINT, SIGTERM and SIGHUP at random moments: how runs end, how fast, and what their outputs hold.

    python benchmarks/signal_storms.py MODEL PHOTOS FOLDER --times 100 -o FILE

A storm is a mixture of the three, some milliseconds apart: of less than half a second (which counts as one signal), or
of more (so that it holds a second one, which ends a run at once). The same command then goes on, until it completes the
output. With ``--watch`` the last run of each output waits for new images when the storm comes.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from survival import FORMATS, Difference, Proof, chosen, demand, finish, proof_of, random_of, running, whole, write

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STOPPED = {128 + number for number in SIGNALS}
# The system ends a process that has no handlers: Python is still starting, or all is done and it is ending.
BY_THE_SYSTEM = {-number for number in SIGNALS}
ONE = 0.45


@dataclass
class Storms:
    """The figures of one kind of output."""

    storms: int = 0
    signals: int = 0
    codes: Counter[int] = field(default_factory=Counter)
    short_storm_seconds: list[float] = field(default_factory=list)
    """From the first signal to the end of the process."""
    long_storm_seconds: list[float] = field(default_factory=list)
    difference: Difference = field(default_factory=Difference)


def storm(process: subprocess.Popen[str], seconds: float, chance: np.random.Generator) -> int:
    """Send signals for so long, or until the process ends; returns their number."""
    began, sent = time.monotonic(), 0
    while process.poll() is None and (sent == 0 or time.monotonic() - began < seconds):
        process.send_signal(SIGNALS[chance.integers(len(SIGNALS))])
        sent += 1
        time.sleep(float(chance.uniform(0, 0.02)))
    return sent


def storms(proof: Proof, kind: str, times: int, chance: np.random.Generator, *more: str) -> Storms:
    """Stop runs again and again."""
    undisturbed, seconds = proof.undisturbed(f"captions.{kind}")
    output, found = proof.folder / f"captions.{kind}", Storms()
    while found.storms < times:
        before = output.read_bytes() if output.exists() else b""
        with running(proof.command(output, *more)) as process:
            try:
                process.wait(float(chance.uniform(0.05, 1.2 * seconds)))
            except subprocess.TimeoutExpired:
                long = chance.random() < 0.3
                began = time.monotonic()
                found.signals += storm(process, 1.5 if long else float(chance.uniform(0, ONE)), chance)
                ended = finish(process)
                taken = time.monotonic() - began
                (found.long_storm_seconds if long else found.short_storm_seconds).append(round(taken, 2))
                found.storms += 1
                found.codes[ended.code] += 1
            else:
                ended = finish(process)
        demand(ended.code in {0} | STOPPED | BY_THE_SYSTEM, ended)
        content = output.read_bytes() if output.exists() else b""
        lines = undisturbed.read_bytes().count(b"\n")
        complete = ended.code == 0 or content.count(b"\n") == lines
        demand(ended.code not in BY_THE_SYSTEM or content == before or complete, ended)
        demand(content.startswith(before) and content == whole(content), f"{output}: lines are lost or torn")
        if output.exists():
            found.difference.add(output, undisturbed, complete=complete)
        if complete:
            output.unlink()
    return found


def figures_of(found: Storms) -> dict[str, object]:
    """The figures, with seconds summed up."""
    return {
        "storms": found.storms,
        "signals": found.signals,
        "exit_codes": {str(code): count for code, count in sorted(found.codes.items())},
        "seconds_from_the_first_signal_to_the_end": {
            name: {"storms": len(seconds), "median": statistics.median(seconds), "largest": max(seconds)}
            for name, seconds in (("one signal", found.short_storm_seconds), ("two", found.long_storm_seconds))
            if seconds
        },
        "difference": found.difference,
    }


def main() -> None:
    """Storm, compare, print, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--times", type=int, default=100, help="of each format")
    parser.add_argument("--watch", action="store_true", help="also with --watch")
    arguments = chosen(__doc__, parser)
    proof, chance = proof_of(arguments), random_of(arguments)
    figures = {kind: figures_of(storms(proof, kind, arguments.times, chance)) for kind in FORMATS}
    if arguments.watch:
        for kind in FORMATS:
            figures[f"{kind}, --watch"] = figures_of(storms(proof, kind, arguments.times // 2, chance, "--watch"))
    write(arguments, proof, figures, times=arguments.times)


if __name__ == "__main__":
    main()
