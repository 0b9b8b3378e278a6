"""The output as the command line names it: a file whose ending names the format, or standard output."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Literal

from batchcap.errors import OptionError
from batchcap.options.field import require

Format = Literal["jsonl", "csv"]

_FORMATS: Final[dict[str, Format]] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv"}


def format_of_ending(path: Path) -> Format | None:
    """The format that the ending of a file name stands for."""
    return _FORMATS.get(path.suffix.lower())


def parse_output(output: str, format: Format | None = None, *, choosable: bool = True) -> tuple[Path | None, Format]:
    """The file and its format: ``-`` is standard output (None), and without a format the suffix decides.

    ``choosable``: the command has ``--format``.

    Raises:
        OptionError: it is a folder, or the suffix names no format and none was given.
    """
    if output == "-":
        return None, format or "jsonl"
    require(bool(output), "-o: the name is empty.", "Name a .jsonl or .csv file, or - for standard output.")
    path = Path(output)
    if os.path.isdir(path):  # noqa: PTH112 - False where it cannot be looked at: the journal explains that
        raise OptionError(f"-o {output}: this is a folder.", f"Name a file in it, such as {path / 'captions.jsonl'}.")
    if format is None and path.suffix.lower() not in _FORMATS:
        ending = f"the ending {path.suffix}" if path.suffix else "a name without an ending"
        raise OptionError(
            f"-o {output}: {ending} is the ending of no format.",
            "Name a .jsonl or .csv file" + (", or add --format jsonl or --format csv." if choosable else "."),
        )
    return path, format or _FORMATS[path.suffix.lower()]
