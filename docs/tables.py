"""Writes the tables of these pages that the code knows better: `make docs`.

`<!-- options: run -->` is followed by all options of that command, `<!-- options: run Captions -->` by those of one
panel of its help, and `<!-- rooms -->` and `<!-- rooms: export -->` by the rooms; `<!-- end -->` ends each.
A test compares the pages with what this file would write.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import Any

import typer

DOCS = Path(__file__).parent
ROOT = DOCS.parent
TABLE = re.compile(r"(<!-- (rooms|rooms: export|options: ([^\n]+)) -->\n).*?(<!-- end -->)", re.DOTALL)
DEFAULT = re.compile(r" *\[dim\]Default: (.*?)\[/dim\]")


def command(name: str) -> Any:
    """A command as the command line has it."""
    from batchcap.cli.app import app

    group = typer.main.get_command(app)
    return group.get_command(typer.Context(group), name)


def options(name: str, panel: str = "") -> str:
    """The options of a command as a table; only those of ``panel`` if one is named."""
    rows = [
        row(option)
        for option in command(name).params
        if option.param_type_name == "option" and panel in ("", option.rich_help_panel)
    ]
    return "".join(["| option | meaning | default |\n|---|---|---|\n", *rows])


def row(option: Any) -> str:
    """``| `--beam-size N` | Captions followed at once. | the model's |``."""
    names = [*(name for name in option.opts if len(name) == 2), *(name for name in option.opts if len(name) > 2)]
    # A bar would end the cell, in code too.
    shown = ", ".join(f"`{name}`" for name in names + option.secondary_opts) + f" {code(option.metavar)}".rstrip()
    told = DEFAULT.search(option.help)
    default = cell(told[1] if told else plain_default(option))
    return f"| {shown} | {cell(DEFAULT.sub('', option.help))} | {default} |\n"


def code(metavar: str) -> str:
    return f"`{metavar}`".replace("|", r"\|") if metavar else ""


def cell(text: str) -> str:
    return re.sub(r"``?([^`]+)``?|(<\S+>)", lambda part: f"`{part[1] or part[2]}`", " ".join(text.split())).replace(
        "|", r"\|"
    )


def plain_default(option: Any) -> str:
    """What is said of a default that the help text does not name."""
    if option.required:
        return "required"
    if isinstance(option.default, tuple):
        return " ".join(map(str, option.default))
    if option.secondary_opts and option.default is not None:
        return str((option.opts if option.default else option.secondary_opts)[0])
    nothing = option.count or option.default is None or option.default is False
    return "" if nothing else str(option.default)


def rooms() -> str:
    """Every room of the runtime from the ground up: what it is, and which rooms it may import."""
    sys.path.insert(0, str(ROOT / "tests"))
    try:
        from test_imports import ROOMS
    finally:
        sys.path.remove(str(ROOT / "tests"))
    lines = ["| room | what it is | may import |\n|---|---|---|\n"]
    for name, may in ROOMS.items():
        shown = ", ".join(f"`{other}`" for other in ROOMS if other in may) or "nothing"
        lines.append(f"| `{name}` | {about(ROOT / 'batchcap' / name)} | {shown} |\n")
    return "".join(lines)


def export_rooms() -> str:
    """Every room of the export stage, by name."""
    folders = sorted(path.parent for path in (ROOT / "export" / "batchcap_export").glob("*/__init__.py"))
    rows = [f"| `{folder.name}` | {about(folder)} |\n" for folder in folders]
    return "".join(["| room | what it is |\n|---|---|\n", *rows])


def about(room: Path) -> str:
    """The first paragraph of a room's docstring; a room may be a file."""
    file = room / "__init__.py" if room.is_dir() else room.with_suffix(".py")
    return cell((ast.get_docstring(ast.parse(file.read_bytes())) or "").split("\n\n")[0])


def rewritten(page: str) -> str:
    """A page with all its tables as they should be."""

    def table(match: re.Match[str]) -> str:
        made = {"rooms": rooms, "rooms: export": export_rooms}.get(match[2])
        what = made() if made else options(*match[3].split(maxsplit=1))
        return f"{match[1]}\n{what}\n{match[4]}"

    return TABLE.sub(table, page)


if __name__ == "__main__":
    for path in sorted(DOCS.glob("*.md")):
        page = path.read_text("utf-8")
        if page != rewritten(page):
            path.write_text(rewritten(page), "utf-8")
            print(f"{path.relative_to(ROOT)}: tables written")
