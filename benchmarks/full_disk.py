"""A disk that is full: what runs, repairs and conversions leave, and that they go on when there is space again.

    python benchmarks/full_disk.py MODEL PHOTOS FOLDER -o FILE

The disk is a small tmpfs in a mount namespace of its own (Linux; `unshare` makes it, with or without root). Each
command gets some free pages, runs into the end of them, and must end with exit code 1 and say why. Every file must then
be the one from before, or the one that the command makes, whole; an output that grows must hold whole lines. Then the
disk grows, and the same command must end as on a large disk.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from survival import (
    FORMATS,
    BrokenPromiseError,
    Difference,
    Proof,
    chosen,
    demand,
    finish,
    proof_of,
    start,
    whole,
    write,
)

INSIDE = "FULL_DISK_IS_INSIDE"
FREE_KIB = (0, 4, 8, 16, 24)
USAGE = 2
# The system, and SQLite.
FULL = ("No space left on device", "disk is full")
Files = dict[str, bytes]


@dataclass(frozen=True)
class Case:
    """A command, and what is on the disk before it."""

    name: str
    prepare: Callable[[Path], None]
    command: Callable[[Path], list[str]]
    grows: tuple[str, ...] = ()
    """Outputs of runs, which grow batch by batch."""


@dataclass
class Full:
    """The figures of one command."""

    full: int = 0
    """How often the disk was full."""
    fitted: int = 0
    """How often the free pages were enough."""
    files_left: list[int] = field(default_factory=list)
    """New files after each failure."""
    lines_left: list[int] = field(default_factory=list)
    """Lines of outputs that grow, after each failure."""
    equal: str = ""
    """How the files of the end were compared with those of a large disk."""
    difference: Difference = field(default_factory=Difference)


def files(folder: Path) -> Files:
    """Everything below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def batchcap(*arguments: object) -> list[str]:
    """A command."""
    return [sys.executable, "-m", "batchcap", *map(str, arguments)]


class Disk:
    """A tmpfs whose size can be changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self._mount("mount", "-t", "tmpfs", "-o", "size=64m", "none")

    def _mount(self, *command: str) -> None:
        subprocess.run([*command, str(self.path)], check=True)  # noqa: S603 - our own command

    def empty(self) -> None:
        """Make it large, and empty."""
        self._mount("mount", "-o", "remount,size=64m")
        for path in self.path.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def leave(self, free: int) -> None:
        """Leave so many KiB."""
        used = os.statvfs(self.path)
        kib = (used.f_blocks - used.f_bfree) * used.f_frsize // 1024
        # A size of 0 would be no limit.
        self._mount("mount", "-o", f"remount,size={max(4, kib + free)}k")

    def grow(self) -> None:
        """There is space again."""
        self._mount("mount", "-o", "remount,size=64m")


def on_a_large_disk_and_then_small(case: Case, disk: Disk, proof: Proof) -> Full | str:
    """The figures of a command; a text where this version has none of this name."""
    made = []
    for _ in range(2):
        disk.empty()
        case.prepare(disk.path)
        ended = finish(start(case.command(disk.path)))
        if ended.code == USAGE:
            return ended.said.splitlines()[0]
        demand(ended.code == 0, ended)
        made.append(files(disk.path))
    equal = "bytes" if made[0] == made[1] else "names"
    undisturbed = proof.folder / "undisturbed" / f"captions.{case.name.split(', ')[-1]}"
    return prove(case, disk, made[0], equal, undisturbed)


def prove(case: Case, disk: Disk, expected: Files, equal: str, undisturbed: Path) -> Full:
    """Run into the end of the disk with every number of free pages."""
    found = Full(equal=equal)
    for free in FREE_KIB:
        disk.empty()
        case.prepare(disk.path)
        before = files(disk.path)
        disk.leave(free)
        ended = finish(start(case.command(disk.path)))
        if ended.code == 0:
            found.fitted += 1
            continue
        demand(ended.code == 1 and any(text in ended.said for text in FULL), ended)
        found.full += 1
        left = files(disk.path)
        check_left(case, left, before, expected, found)
        disk.grow()
        ended = finish(start(case.command(disk.path)))
        demand(ended.code == 0, ended)
        now = files(disk.path)
        demand(now.keys() == expected.keys(), f"{case.name}: {sorted(now)} instead of {sorted(expected)}")
        for name in case.grows[:1]:
            found.difference.add(disk.path / name, undisturbed)
        rest = [name for name in now if name not in case.grows]
        demand(equal == "names" or all(now[name] == expected[name] for name in rest), f"{case.name}: files differ")
    return found


def check_left(case: Case, left: Files, before: Files, expected: Files, found: Full) -> None:
    """What a command has left on a full disk."""
    found.files_left.append(len(left.keys() - before.keys()))
    for name, content in left.items():
        if name in case.grows and content != before.get(name):
            demand(content == whole(content), f"{case.name}: {name} ends within a line")
            found.lines_left.append(content.count(b"\n"))
        else:
            made = expected.get(name, b"")
            # Two databases of the same records differ in bytes: of a new one only the length tells whether it is whole.
            alike = found.equal == "names" and name not in before and len(content) == len(made)
            same = content in {before.get(name), made} or alike
            demand(same, f"{case.name}: {name} is neither from before nor whole")
    demand(before.keys() <= left.keys(), f"{case.name}: {before.keys() - left.keys()} lost")


def run_cases(proof: Proof) -> list[Case]:
    """Runs, new and with --overwrite and --relocate."""
    cases = []
    for kind in FORMATS:
        name = f"captions.{kind}"
        proof.undisturbed(name)
        old, _ = proof.undisturbed(f"old.{kind}", "--beam-size", "2")

        def copy_old(disk: Path, name: str = name, old: Path = old) -> None:
            shutil.copyfile(old, disk / name)

        def run(disk: Path, name: str = name) -> list[str]:
            return proof.command(disk / name)

        def overwrite(disk: Path, name: str = name) -> list[str]:
            return proof.command(disk / name, "--overwrite")

        cases.append(Case(f"run, {kind}", lambda _: None, run, (name,)))
        cases.append(Case(f"run --overwrite, {kind}", copy_old, overwrite, (name, f"{name}.partial")))
    return cases


def command_cases(proof: Proof) -> list[Case]:
    """Every other command that this version has, and that writes."""
    journal, _ = proof.undisturbed("captions.jsonl")
    damaged, doubled = proof.folder / "damaged.jsonl", proof.folder / "doubled.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    damaged.write_bytes(b"".join([*lines[:50], b"damaged\n", *lines[50:]]))
    doubled.write_bytes(b"".join([*lines, *lines]))

    def with_journal(source: Path) -> Callable[[Path], None]:
        return lambda disk: shutil.copyfile(source, disk / "captions.jsonl") and None

    def nothing(_: Path) -> None:
        return None

    def with_photos(disk: Path) -> None:
        shutil.copytree(proof.photos, disk / "photos")
        moved = journal.read_bytes().replace(str(proof.photos).encode(), str(disk / "photos").encode())
        (disk / "captions.jsonl").write_bytes(moved)

    cases = [
        Case("repair", with_journal(damaged), lambda disk: batchcap("repair", disk / "captions.jsonl")),
        Case("compact", with_journal(doubled), lambda disk: batchcap("compact", disk / "captions.jsonl")),
        Case("merge", nothing, lambda disk: batchcap("merge", journal, doubled, "-o", disk / "merged.jsonl")),
    ]
    for target in targets():
        out = {"csv": "out.csv", "coco": "out.json", "kohya": "out.json", "sqlite": "out.db", "parquet": "out.parquet"}

        def convert(disk: Path, target: str = target, out: str = out.get(target, "out")) -> list[str]:
            return batchcap("convert", journal, disk / out, "--to", target)

        def into_photos(disk: Path, target: str = target) -> list[str]:
            return batchcap("convert", disk / "captions.jsonl", disk / "photos", "--to", target)

        beside = target == "imagefolder"  # its file lies beside the images
        case = (with_photos, into_photos) if beside else (nothing, convert)
        cases.append(Case(f"convert --to {target}", *case))
    return cases


def targets() -> list[str]:
    """The targets of this version."""
    from batchcap.convert.convert import TARGETS

    return sorted(set(TARGETS) - {"embed"})  # which changes photos, and has no OUT


def main() -> None:
    """Fill disks, compare, print, write."""
    if INSIDE not in os.environ:
        command = ["unshare", "--map-root-user", "--mount", sys.executable, *sys.argv]
        sys.exit(subprocess.run(command, env=os.environ | {INSIDE: "1"}, check=False).returncode)  # noqa: S603
    arguments = chosen(__doc__)
    proof = proof_of(arguments)
    disk = Disk(proof.folder / "disk")
    figures: dict[str, Full | str] = {}
    for case in [*run_cases(proof), *command_cases(proof)]:
        try:
            figures[case.name] = on_a_large_disk_and_then_small(case, disk, proof)
        except BrokenPromiseError as error:
            figures[case.name] = f"BROKEN: {error}"
        sys.stderr.write(f"{case.name}: {figures[case.name]}\n")
    write(arguments, proof, figures, free_kib=FREE_KIB)


if __name__ == "__main__":
    main()
