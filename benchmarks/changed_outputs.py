"""An output that another program truncates, lengthens, replaces, renames or removes while a run writes it.

    python benchmarks/changed_outputs.py MODEL PHOTOS FOLDER --times 10 -o FILE

The run must end with exit code 1, name the file, and leave what is there as it is. The same command then goes on; a
foreign line in JSONL is refused until it is taken out. In CSV, where it cannot be told from the beginning of a row, it
is cut and shown.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from survival import (
    FORMATS,
    Difference,
    Proof,
    chosen,
    demand,
    finish,
    proof_of,
    random_of,
    running,
    wait_for_lines,
    write,
)
from survival import start as started

FOREIGN = b"a line of another program\n"


def truncate(output: Path) -> None:
    """Empty it."""
    os.truncate(output, 0)


def cut(output: Path) -> None:
    """Take the end of the last line."""
    os.truncate(output, output.stat().st_size - 20)


def lengthen(output: Path) -> None:
    """Write a line of another program behind the others."""
    with output.open("ab") as file:
        file.write(FOREIGN)


def replace(output: Path) -> None:
    """Put a copy in its place, as an editor does that saves."""
    copy = output.with_name("copy")
    shutil.copyfile(output, copy)
    copy.replace(output)


def rename(output: Path) -> None:
    """Move it away, as logrotate does."""
    output.replace(output.with_name("moved"))


def remove(output: Path) -> None:
    """Delete it."""
    output.unlink()


def put_folder(output: Path) -> None:
    """Put a folder in its place."""
    output.replace(output.with_name("moved"))
    output.mkdir()


ACTIONS: tuple[Callable[[Path], None], ...] = (truncate, cut, lengthen, replace, rename, remove, put_folder)


@dataclass
class Changed:
    """The figures of one action."""

    times: int = 0
    batch_written_behind: int = 0
    """How often a run that had just looked wrote a batch behind the change, before it looked again and stopped."""
    said: Counter[str] = field(default_factory=Counter)
    """What the runs said, without the file."""
    difference: Difference = field(default_factory=Difference)
    """Of the outputs that the next runs completed."""


def content(output: Path) -> bytes:
    """What is there now. A run that ends removes an empty file that it made, whoever has emptied it."""
    return output.read_bytes() if output.is_file() else b""


def change(proof: Proof, kind: str, action: Callable[[Path], None], lines: int, changed: Changed) -> None:
    """Change the output of a run that has written so many lines, and let the next run complete it."""
    undisturbed = proof.folder / "undisturbed" / f"captions.{kind}"
    output = proof.folder / f"captions.{kind}"
    with running(proof.command(output)) as process:
        wait_for_lines(output, lines, process)
        action(output)
        left = content(output)
        ended = finish(process)
    demand(ended.code == 1 and str(output) in ended.said, ended)
    now = content(output)
    demand(now.startswith(left), f"{output} was changed after {action.__name__}")
    changed.times += 1
    changed.batch_written_behind += len(now) > len(left)
    changed.said[re.sub(r"[\d,]+", "N", ended.said.splitlines()[-2].replace(str(output), "OUTPUT"))] += 1
    if action is lengthen and kind == "jsonl":
        refused = finish(started(proof.command(output)))
        demand(refused.code == 1 and str(output) in refused.said, refused)
        output.write_bytes(output.read_bytes().replace(FOREIGN, b""))
    if action is put_folder:
        output.rmdir()
    ended = finish(started(proof.command(output)))
    demand(ended.code == 0, ended)
    demand((FOREIGN.decode() in ended.said) == (action is lengthen and kind == "csv"), ended)
    changed.difference.add(output, undisturbed)
    for path in (output, proof.folder / "moved"):
        path.unlink(missing_ok=True)


def main() -> None:
    """Change, compare, print, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--times", type=int, default=10, help="of each action and format")
    arguments = chosen(__doc__, parser)
    proof, chance = proof_of(arguments), random_of(arguments)
    figures: dict[str, dict[str, Changed]] = {}
    for kind in FORMATS:
        undisturbed, _ = proof.undisturbed(f"captions.{kind}")
        # Not so late that the run could end before the change.
        last = undisturbed.read_bytes().count(b"\n") // 2
        figures[kind] = {action.__name__: Changed() for action in ACTIONS}
        for action in ACTIONS:
            for _ in range(arguments.times):
                change(proof, kind, action, int(chance.integers(2, last)), figures[kind][action.__name__])
    write(arguments, proof, figures, times=arguments.times)


if __name__ == "__main__":
    main()
