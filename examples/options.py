"""What each option of `batchcap run` does to the caption of a real photo: a table in Markdown.

    python examples/options.py PHOTO [PHOTO ...]

Every row is a run of the command as it stands there. An option is shown on the first photo whose caption it changes.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from batchcap.records import Record

WORDS = Path("words.txt")


def captions(photos: list[str], options: str, folder: Path) -> dict[str, str]:
    """The captions of each photo as one text, best first, made by the command in ``folder``."""
    command = [sys.executable, "-m", "batchcap", "run", *photos, "-o", "-", "--device", "cpu", "--quiet"]
    done = subprocess.run([*command, *shlex.split(options)], cwd=folder, stdout=subprocess.PIPE, check=False)  # noqa: S603 - it is ours
    if done.returncode:
        raise SystemExit(done.returncode)
    records = [msgspec.json.decode(line, type=Record) for line in done.stdout.splitlines()]
    several = {record.path: [each.caption for each in record.captions or ()] for record in records}
    return {record.path: "; ".join(several[record.path] or [record.caption or ""]) for record in records}


def examples(plain: str, folder: Path) -> list[str]:
    """Options to show; the banned words are the longest ones of the caption that comes without them."""
    longest = sorted(dict.fromkeys(plain.split()), key=len, reverse=True)
    (folder / WORDS).write_text("".join(f"{word}\n" for word in longest[:2]), encoding="utf-8")
    return [
        "--search greedy",
        "--beam-size 8",
        "--num-captions 3",
        "--max-length 8",
        "--min-length 15",
        "--length-penalty 0",
        "--length-penalty 1.5",
        f"--ban {longest[0]}",
        f"--ban-file {WORDS}",
        "--no-repeat-ngram 2",
        '--prefix "a photo of"',
        "--search sample",
        "--search sample --seed 1",
        "--search sample --temperature 0.5",
        "--search sample --top-k 10",
        "--search sample --top-p 0.9",
        "--search sample --seed 11 --allow-unknown",
        "--search im2txt",
        "--style sentence",
    ]


def main() -> None:
    """Copy the photos, run every option on all of them, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="+", type=Path, metavar="PHOTO")
    chosen = parser.parse_args()
    names = [photo.name for photo in chosen.photos]
    with tempfile.TemporaryDirectory(prefix="batchcap-options-") as temporary:
        # In a folder of their own their paths in the output are their names, which decide what is sampled.
        folder = Path(temporary)
        for photo in chosen.photos:
            shutil.copy(photo, folder)
        plain = captions(names, "", folder)
        rows = [("", name, plain[name]) for name in names]
        for options in examples(plain[names[0]], folder):
            found = captions(names, options, folder)
            name = next((name for name in names if found[name] != plain[name]), names[0])
            rows.append((f"`{options}`", name, found[name]))
        words = ", ".join((folder / WORDS).read_text(encoding="utf-8").split())
    for number, name in enumerate(names, 1):
        print(f"Photo {number}: `{name}`.", end=" ")
    print(f"`{WORDS}`: {words}.\n")
    print("| option | photo | caption |\n|---|---|---|")
    for option, name, caption in rows:
        shown = caption.replace("<", "\\<")  # Markdown would take <unk> for a tag
        print(f"| {option} | {names.index(name) + 1} | {shown} |")


if __name__ == "__main__":
    main()
