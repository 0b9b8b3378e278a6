"""The image of a run in README: `python examples/picture.py FOLDER` writes examples/run.svg and examples/run.txt.

The commands run for real, each on a terminal 100 columns wide, with the first 100 photos of the folder; what the
terminal shows in the end is drawn. The image names no font file and no address, so it loads nothing. The text is the
same without colours: the description in the wheel shows it, where no image of the repository can be seen.
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS = 100
PHOTOS = 100
RUN = "batchcap run photos -o captions.jsonl"
COMMANDS = (RUN, "jq -r '[.path, .caption] | @tsv' captions.jsonl | head -n 6", RUN)
IMAGE = Path(__file__).parent / "run.svg"
TEXT = IMAGE.with_suffix(".txt")
# Text; a line end or return; a control sequence: its numbers and its letter.
PART = re.compile(r"[^\x1b\r\n]+|[\r\n]|\x1b\[\??([\d;]*)([A-Za-z])")
SVG = """<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def on_a_terminal(command: str, folder: Path) -> str:
    """Everything that a command in ``folder`` writes to its terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    left_out = ("NO_COLOR", "COLUMNS", "TERMINAL_WIDTH")
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    # This Python's batchcap, whether or not it is on the path.
    line = f'batchcap() {{ "{sys.executable}" -m batchcap "$@"; }}; {command}'
    environment |= {"TERM": "xterm-256color", "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    with subprocess.Popen(  # noqa: S603 - one of COMMANDS
        ["/bin/sh", "-c", line], cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        seen = io.BytesIO()
        try:
            while chunk := os.read(ours, 65536):
                seen.write(chunk)
        except OSError:  # so Linux says that the other side has closed
            pass
    os.close(ours)
    if process.returncode != 0:
        raise SystemExit(f"{command}: exit code {process.returncode}\n{seen.getvalue().decode()}")
    return seen.getvalue().decode()


def in_the_end(written: str) -> list[str]:
    """The lines that are left when the progress bar has erased itself; colours stay in them as they were written.

    Knows the few sequences that rich writes: colours, one line up, erase the line, and the cursor hidden and shown.
    """
    lines, row = [""], 0
    for part in PART.finditer(written):
        number, letter = part.groups()
        if part[0] == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif letter == "A":
            row -= int(number or 1)
        elif letter == "K":
            lines[row] = ""
        elif letter in ("m", None) and part[0] != "\r":
            lines[row] += part[0]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def main(photos: Path) -> None:
    """Run the commands beside a copy of some of the photos, and draw."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "photos").mkdir()
        for photo in sorted(photos.glob("*.jpg"))[:PHOTOS]:
            shutil.copy2(photo, folder / "photos")
        for command in COMMANDS:
            console.print(Text.assemble(("$ ", "green"), (command, "bold")))
            for line in in_the_end(on_a_terminal(command, folder)):
                console.print(Text.from_ansi(line), soft_wrap=True)
    TEXT.write_text(console.export_text(clear=False), encoding="utf-8")
    svg = console.export_svg(title="batchcap", code_format=SVG, unique_id="terminal")
    IMAGE.write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
