"""kill -9 at random moments: what an output holds in between, and at the end.

    python benchmarks/killed_runs.py MODEL PHOTOS FOLDER --kills 300 -o FILE

Runs are started and killed at a moment between their start and their usual end, again and again; a run that ends by
itself completes an output, which is compared with an undisturbed one, and the next begins anew. After every kill the
lines from before must be there to the last byte, and every new line must be whole and right. After one kill in five
the beginning of a record is written behind the last line, as a power failure can leave it.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import TimeoutExpired

import numpy as np
from survival import FORMATS, Difference, Proof, chosen, demand, finish, proof_of, random_of, running, whole, write


@dataclass
class Killed:
    """The figures of one kind of output."""

    kills: int = 0
    before_the_first_record: int = 0
    while_records_were_written: int = 0
    after_the_last_record: int = 0
    torn_lines_found: int = 0
    """Lines that a kill itself has left torn."""
    torn_lines_made: int = 0
    difference: Difference = field(default_factory=Difference)


def usual(proof: Proof, kind: str, kills: int, chance: np.random.Generator) -> Killed:
    """Kill runs that go on from what is there."""
    undisturbed, seconds = proof.undisturbed(f"captions.{kind}")
    lines = undisturbed.read_bytes().count(b"\n")
    output, killed, before, torn = proof.folder / f"captions.{kind}", Killed(), b"", b""
    while killed.kills < kills:
        ended = ends_by_itself(proof.command(output), chance.uniform(0, 1.2 * seconds))
        content = output.read_bytes() if output.exists() else b""
        demand(content.startswith(before), f"{output}: lines are lost")
        before = whole(content)
        if ended:
            sys.stderr.write(f"{kind}: {killed.kills} kills\n")
            killed.difference.add(output, undisturbed)
            output.unlink()
            before = torn = b""
            continue
        killed.kills += 1
        count_moment(killed, before, kind, lines)
        killed.torn_lines_found += content not in {before, torn}
        if output.exists():
            killed.difference.add(output, undisturbed, complete=False)
        if before and chance.random() < 0.2:
            torn = tear(output, before, chance)
            killed.torn_lines_made += 1
    return killed


def count_moment(killed: Killed, content: bytes, kind: str, lines: int) -> None:
    """How far the run had come."""
    found = content.count(b"\n")
    killed.before_the_first_record += found <= (kind == "csv")
    killed.after_the_last_record += found == lines
    killed.while_records_were_written += (kind == "csv") < found < lines


def ends_by_itself(command: list[str], seconds: float) -> bool:
    """Start a run, and kill it after so many seconds; False: it was killed."""
    with running(command) as process:
        try:
            process.wait(seconds)
        except TimeoutExpired:
            process.kill()
            return finish(process).code == 0  # it may have ended by itself just before
        ended = finish(process)
        demand(ended.code == 0, ended)
        return True


def tear(output: Path, content: bytes, chance: np.random.Generator) -> bytes:
    """Write the beginning of a record behind the others."""
    line = content.splitlines()[-1]
    torn = content + line[: chance.integers(1, len(line) - 1)]
    output.write_bytes(torn)
    return torn


def overwrite(proof: Proof, kind: str, kills: int, chance: np.random.Generator) -> Killed:
    """Kill runs with --overwrite: the output is the old one or the new one, whole, at every moment."""
    old = proof.undisturbed(f"old.{kind}", "--beam-size", "2")[0].read_bytes()
    undisturbed, seconds = proof.undisturbed(f"captions.{kind}")
    output, killed = proof.folder / f"overwritten.{kind}", Killed()
    output.write_bytes(old)
    partial = output.with_name(output.name + ".partial")
    lines = old.count(b"\n")
    while killed.kills < kills:
        ended = ends_by_itself(proof.command(output, "--overwrite"), chance.uniform(0, 1.2 * seconds))
        content = output.read_bytes()
        if ended or content != old:
            killed.difference.add(output, undisturbed)
            demand(not partial.exists() or not ended, f"{partial} is still there")
            output.write_bytes(old)
            partial.unlink(missing_ok=True)
        if not ended:
            killed.kills += 1
            written = partial.read_bytes() if partial.exists() else b""
            count_moment(killed, whole(written) if content == old else content, kind, lines)
            killed.torn_lines_found += whole(written) != written
            if partial.exists():
                killed.difference.add(partial, undisturbed, complete=False)
    return killed


def main() -> None:
    """Kill, compare, print, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=300, help="of each format")
    arguments = chosen(__doc__, parser)
    proof, chance = proof_of(arguments), random_of(arguments)
    figures = {kind: usual(proof, kind, arguments.kills, chance) for kind in FORMATS}
    figures |= {f"{kind}, --overwrite": overwrite(proof, kind, arguments.kills // 6, chance) for kind in FORMATS}
    write(arguments, proof, figures, kills=arguments.kills)


if __name__ == "__main__":
    main()
