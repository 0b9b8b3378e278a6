"""Target ``imagefolder``: ``metadata.jsonl`` for ``load_dataset("imagefolder")`` of Hugging Face datasets.

A line is an image: ``file_name``, relative to the folder of this file, and columns. An image of a line that is not
there ends the loading, and so does a path that leads out of the folder.
"""

# ruff: noqa: PTH120
from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from batchcap.convert.files import check_not_journal, is_same, new_file
from batchcap.convert.image_files import ImageFiles
from batchcap.convert.json_files import ENCODER, captions_of, found
from batchcap.convert.work import Work
from batchcap.errors import OutputError
from batchcap.roots import spelled_in

NOT_BELOW: Final = "the image does not lie below the folder of metadata.jsonl"
NO_FILE_NAME: Final = "datasets takes such a name for a URL"

_NAME: Final = "metadata.jsonl"
# What load_dataset reads as well.
_OTHERS: Final = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
# Without the columns that others add.
_OURS: Final = re.compile(
    rb'\{"file_name":"(?:[^"\\]|\\.)*","text":"(?:[^"\\]|\\.)*"(?:,"(?:log_prob|score|width|height)":[^,"{}]*){4}'
    rb'(?:,"captions":\[|\}\n)'
)
# Names that load_dataset takes for splits, where it is not told the files (its data_files.py); metadata.jsonl is then
# in none of them, and the captions are missing without a word.
_SPLIT: Final = re.compile(
    r"(?:\A|[-._ 0-9/])(?:train(?:ing)?|valid(?:ation)?|val|dev|test(?:ing)?|eval(?:uation)?)(?:[-._ 0-9/]|\Z)"
)
_MOST_NOTES: Final = 5


def convert(work: Work) -> None:
    """Write a line for each caption; see `work.Target`."""
    output = work.output
    if output.is_dir():
        output /= _NAME
        check_not_journal(output, work.options.journal)
    elif output.name != _NAME:
        raise OutputError(
            f"{output}: datasets knows the file by the name {_NAME} alone.",
            f"Name the folder that the images lie below, or {_NAME} in it.",
        )
    with new_file(output, work.options.overwrite, _OURS) as new:
        new.file.writelines(_lines(work, output))
    work.tally.settle(new.changed)


def _lines(work: Work, output: Path) -> Iterator[bytes]:
    folder = os.path.abspath(output.parent)  # noqa: PTH100
    last, split = folder, ""
    for record, file in found(work, ImageFiles()):
        file_name = os.path.relpath(spelled_in(file, folder), folder)
        if file_name.startswith(f"{os.pardir}{os.sep}") or os.path.isabs(file_name):  # noqa: PTH117 - another drive
            work.tally.refuse(NOT_BELOW, record.path)
            continue
        if "://" in file_name:
            work.tally.refuse(NO_FILE_NAME, record.path)
            continue
        if os.path.dirname(file) != last:
            last = os.path.dirname(file)
            _note_others(work, last, output)
        split = split or (file_name if _SPLIT.search(file_name) else "")
        work.tally.written += 1
        texts = captions_of(record, work.options.all_captions)
        # The same columns in every line: their types are read from the first lines.
        line = {
            "file_name": file_name.replace(os.sep, "/"),
            "text": texts[0],
            "log_prob": record.log_prob,
            "score": record.score,
            "width": record.width,
            "height": record.height,
        }
        yield ENCODER.encode(line | ({"captions": texts} if work.options.all_captions else {})) + b"\n"
    if split:
        work.tally.notes.append(
            f"load_dataset takes names such as {split} for splits: tell it data_files={{'train': ['FOLDER/**']}}."
        )


def _note_others(work: Work, folder: str, output: Path) -> None:
    """Say which other metadata files load_dataset will find; images stand in the data set once for each."""
    for name in _OTHERS:
        other = Path(folder, name)
        if len(work.tally.notes) < _MOST_NOTES and other.exists() and not is_same(other, output):
            work.tally.notes.append(f"load_dataset reads {other} too: its images come beside these.")
