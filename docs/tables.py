"""Writes the tables of these pages that the code knows better: `make docs`.

`<!-- options: run -->` is followed by all options of that command, `<!-- options: decoding -->` by those that choose
captions, and `<!-- rooms: batchcap -->` by the rooms of that package; `<!-- end -->` ends each.
A test compares the pages with what this file would write.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import Any

import typer

from batchcap.options.decoding import chosen_fields
from batchcap.options.table import markdown, options_table

DOCS = Path(__file__).parent
ROOT = DOCS.parent
TABLE = re.compile(r"(<!-- (rooms|options): (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def command(name: str) -> Any:
    """A command as the command line has it."""
    from batchcap.cli.app import app

    group = typer.main.get_command(app)
    return group.get_command(typer.Context(group), name)


def options(name: str) -> str:
    """The options of a command, or of the decoding, as a table."""
    fields = chosen_fields() if name == "decoding" else command(name).callback.options.values()
    return markdown(options_table(field for field in fields if not field.option.argument))


def cell(text: str) -> str:
    return re.sub(r"``?([^`]+)``?|(<\S+>)", lambda part: f"`{part[1] or part[2]}`", " ".join(text.split())).replace(
        "|", r"\|"
    )


def rooms(package: str) -> str:
    """Every room of a package from the ground up: what it is, and which rooms of the package it may import."""
    sys.path.insert(0, str(ROOT / "tests"))
    try:
        from test_imports import GROUND, PACKAGES, ROOMS
    finally:
        sys.path.remove(str(ROOT / "tests"))
    lines = ["| room | what it is | may import |\n|---|---|---|\n"]
    for name, may in ROOMS[package].items():
        ground = ["the ground"] if may >= GROUND else []
        above = [f"`{other}`" for other in ROOMS[package] if other in may - GROUND]
        shown = ", ".join(ground + above) or "nothing"
        lines.append(f"| `{name}` | {about(PACKAGES[package].joinpath(*name.split('.')))} | {shown} |\n")
    return "".join(lines)


def about(room: Path) -> str:
    """The first paragraph of a room's docstring; a room may be a file."""
    file = room / "__init__.py" if room.is_dir() else room.with_suffix(".py")
    return cell((ast.get_docstring(ast.parse(file.read_bytes())) or "").split("\n\n")[0])


MAKERS = {"options": options, "rooms": rooms}


def rewritten(page: str) -> str:
    """A page with all its tables as they should be."""

    def table(match: re.Match[str]) -> str:
        return f"{match[1]}\n{MAKERS[match[2]](match[3])}\n{match[4]}"

    return TABLE.sub(table, page)


if __name__ == "__main__":
    for path in sorted(DOCS.glob("*.md")):
        page = path.read_text("utf-8")
        if page != rewritten(page):
            path.write_text(rewritten(page), "utf-8")
            print(f"{path.relative_to(ROOT)}: tables written")
