"""Files of captions: lines of Flickr8k's token format, or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from batchcap.errors import DataError

FORMS = (
    "Captions are read from lines of NAME#0<TAB>CAPTION, as in Flickr8k.token.txt (dog.jpg#0<TAB>A dog runs .), or "
    'from CSV with the columns image and caption, as in the usual download of Flickr8k (dog.jpg,"A dog , running .").'
)


def read_captions(path: Path) -> dict[str, tuple[str, ...]]:
    """Captions by image name, from a file of one of `FORMS`; UTF-8, with or without a byte-order mark, LF or CRLF.

    Raises:
        DataError: no such file, no text, or a line of another form (named by number).
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file of captions.", FORMS)
    text = read_text(path)
    columns = _csv_columns(text)
    pairs = _token_pairs(path, text) if columns is None else _csv_pairs(path, text, columns)
    captions: dict[str, list[str]] = {}
    for number, name, caption in pairs:
        if not caption:
            raise DataError(f"{path}, line {number}: {name} has an empty caption.", "Remove the line, or complete it.")
        captions.setdefault(name, []).append(caption)
    if not captions:
        raise DataError(f"{path}: holds no caption.", FORMS)
    return {name: tuple(texts) for name, texts in captions.items()}


def read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}.") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text (byte {error.start}).", "Save it as UTF-8.") from None


def _token_pairs(path: Path, text: str) -> Iterator[tuple[int, str, str]]:
    """Line, image name and caption of Flickr8k's token format."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            head, tab, caption = line.partition("\t")
            name = head.rpartition("#")[0]
            if not tab or not name:
                raise DataError(f"{path}, line {number}: not of a form that is known: {_shown(line)}", FORMS)
            yield number, name, caption.strip()


def _csv_columns(text: str) -> tuple[int, int] | None:
    """Where a CSV header says that image and caption are; None: this is no such header."""
    first = text.lstrip().split("\n", 1)[0]
    cells = [cell.strip().lower() for cell in next(csv.reader([first]), [])]
    return (cells.index("image"), cells.index("caption")) if {"image", "caption"} <= {*cells} else None


def _csv_pairs(path: Path, text: str, columns: tuple[int, int]) -> Iterator[tuple[int, str, str]]:
    """Line, image name and caption of a CSV file; the first row is its header.

    Where the caption is the last column, commas without quotation marks belong to it.
    """
    rows = csv.reader(io.StringIO(text.lstrip(), newline=""), strict=True)
    width, number = len(next(rows)), 1
    try:
        for row in rows:
            began, number = number + 1, rows.line_num
            if not any(cell.strip() for cell in row):
                continue
            if len(row) > width and columns[1] == width - 1:
                row[width - 1 :] = [",".join(row[width - 1 :])]
            if len(row) != width or not row[columns[0]].strip():
                raise DataError(f"{path}, line {began}: {len(row)} cells where the header has {width}.", FORMS)
            yield began, row[columns[0]].strip(), row[columns[1]].strip()
    except csv.Error as error:
        raise DataError(
            f"{path}, line {number + 1}: is no CSV: {error}.",
            'A caption with quotation marks is quoted, and they are doubled: dog.jpg,"A dog named ""Rex"" .".',
        ) from None


def _shown(line: str) -> str:
    line = line.strip()
    return line if len(line) <= 80 else f"{line[:80]}..."
