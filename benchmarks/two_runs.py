"""Two runs that are started together: one works, the other ends with exit code 75 or waits, and nothing is there twice.

    python benchmarks/two_runs.py MODEL PHOTOS FOLDER --times 50 -o FILE

The second one starts up to 0.3 s after the first. With ``--wait`` it waits, and finds nothing left to do.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from survival import FORMATS, Difference, Proof, chosen, demand, finish, proof_of, random_of, running, write

HELD, NOTHING = 75, "Nothing new"


@dataclass
class Two:
    """The figures of one kind of output."""

    times: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    """How the two ended, as ``0 and 75``; what each did is checked besides."""
    first_worked: int = 0
    """How often it was the one that was started first."""
    difference: Difference = field(default_factory=Difference)


def together(proof: Proof, kind: str, times: int, chance: np.random.Generator, *more: str) -> Two:
    """Start two runs, again and again."""
    undisturbed, _ = proof.undisturbed(f"captions.{kind}")
    output, two = proof.folder / f"captions.{kind}", Two()
    for _ in range(times):
        output.unlink(missing_ok=True)
        with running(proof.command(output, *more)) as first:
            time.sleep(float(chance.uniform(0, 0.3)))
            with running(proof.command(output, *more)) as second:
                ended = [finish(process) for process in (first, second)]
        codes = [each.code for each in ended]
        worked = [code == 0 and NOTHING not in each.said for code, each in zip(codes, ended, strict=True)]
        demand(sum(worked) == 1, ended)
        demand(sorted(codes) == ([0, 0] if more else [0, HELD]), ended)
        two.times += 1
        two.ended[" and ".join(map(str, codes))] += 1
        two.first_worked += worked[0]
        two.difference.add(output, undisturbed)
    return two


def main() -> None:
    """Start, compare, print, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--times", type=int, default=50, help="of each format")
    arguments = chosen(__doc__, parser)
    proof, chance = proof_of(arguments), random_of(arguments)
    figures = {kind: together(proof, kind, arguments.times, chance) for kind in FORMATS}
    for kind in FORMATS:
        figures[f"{kind}, --wait 60"] = together(proof, kind, arguments.times // 2, chance, "--wait", "60")
    write(arguments, proof, figures, times=arguments.times)


if __name__ == "__main__":
    main()
