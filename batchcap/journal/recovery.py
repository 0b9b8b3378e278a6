"""Reading a journal that may have been cut anywhere: whole lines of batchcap, or an error that names the line."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from io import BytesIO
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO, Final

from batchcap.errors import OutputError
from batchcap.journal.codec import Codec
from batchcap.journal.formats import guess_format, make_codec
from batchcap.journal.resume import ResumeIndex

# A file without line ends is not ours: do not read all of it into memory to find out.
LONGEST_LINE: Final = 16 << 20
"""Bytes of a line that are read at most."""
# Bytes of lines that are taken together: then the numbers of a line are made in less time.
_BLOCK: Final = 1 << 16
TWO_HEADERS: Final = "it is the header once more (were two files joined?)"
_NEW_NAME: Final = "Name another output file, or remove this one yourself."
BOM: Final = b"\xef\xbb\xbf"
# The header of a CSV as spreadsheet programs save it.
_TABLE: Final = b"path,caption,probability,"
"""How the table of ``batchcap convert --to csv`` begins, behind its byte-order mark."""
_SAVED: Final = (b"path;member;", b"path\tmember\t", b'"path","member",', b'"path";"member";')


def recover(path: Path, codec: Codec, index: ResumeIndex) -> None:
    """Read a journal into ``index``. What follows ``index.size`` may be cut.

    Raises:
        OutputError: batchcap did not write a line. Only a last line that is the beginning of one is passed over.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        number = 0
        for block in _blocks(file, size):
            if number and (count := _take_all(block, codec, index)):
                number += count
                continue
            for line in BytesIO(block):
                number += 1
                try:
                    _take(line, number, codec, index)
                except (ValueError, RecursionError) as error:
                    if index.size + len(line) == size and codec.is_torn(line, first=number == 1):
                        break
                    raise line_error(path, number, line, codec, error) from None
                index.size += len(line)
    index.seal()


def _blocks(file: BinaryIO, left: int) -> Iterator[bytes]:
    """The first ``left`` bytes as whole lines, many at a time, the first one alone; a last one may have no end.

    A run may append to a file that is only read: what came later is left out.
    """
    rest = file.readline(min(left, LONGEST_LINE))
    left -= len(rest)
    while left and (data := file.read(min(left, _BLOCK))):
        left -= len(data)
        rest += data
        if end := rest.rfind(b"\n") + 1 or (len(rest) > LONGEST_LINE and len(rest)):
            yield rest[:end]
            rest = rest[end:]
    if rest:
        yield rest


def _take_all(block: bytes, codec: Codec, index: ResumeIndex) -> int:
    """Take whole records, none of them the first line, and count them; 0, with nothing taken: one is something else."""
    if not block.endswith(b"\n"):
        return 0
    try:
        lines = codec.scan_all(block)
    except (ValueError, RecursionError):
        return 0
    places: list[int] = []
    if index.contents is not None:
        places = list(accumulate((len(line) + 1 for line in block.split(b"\n")), initial=index.size))[: len(lines)]
    index.add(lines, places)
    index.size += len(block)
    return len(lines)


def looks_like_ours(path: Path) -> bool:
    """Whether a file is an output of batchcap, of any version and also as another program may have saved it."""
    with path.open("rb") as file:
        line = file.readline(LONGEST_LINE)
    text = line.removeprefix(BOM)
    if not text or guess_format(text) == "csv" or text.startswith(_SAVED):
        return True
    codec = make_codec("jsonl")
    try:
        codec.scan(text)
    except (ValueError, RecursionError):
        return not text.endswith(b"\n") and codec.is_torn(text, first=True)
    return True


def _take(line: bytes, number: int, codec: Codec, index: ResumeIndex) -> None:
    if number == 1 and codec.header:
        if line != codec.header:
            raise ValueError(codec.explain_header(line))
    elif line == codec.header:
        raise ValueError(TWO_HEADERS)
    elif line.endswith(b"\n"):
        index.add([codec.scan(line)], [index.size])
    else:  # an editor may have taken the end of the last line; the record is there
        index.add([codec.scan(line + b"\n")], [index.size])
        index.lacks_end = True


def line_error(
    path: Path, number: int, line: bytes, codec: Codec, error: Exception, fix_of_first: str = _NEW_NAME
) -> OutputError:
    """What is wrong with a line that is no record, or with a file whose first line is none.

    Args:
        fix_of_first: what to do where the file is no journal at all.
    """
    name = codec.name.upper()
    if number > 1:
        fix = f"{_repair(path)} moves such lines aside; their images are captioned again by the next run."
        return OutputError(f"{path}, line {number}: this is no {name} record of batchcap: {error}.", fix)
    saved = _saved_elsewhere(path, line)
    if saved is not None:
        return saved
    if line.removeprefix(BOM).startswith(_TABLE):
        return OutputError(f"{path} is a table of `batchcap convert`, not an output of `batchcap run`.", fix_of_first)
    guess = guess_format(line)
    if guess is not None and guess.upper() != name:
        return OutputError(f"{path} holds {guess.upper()}, not {name}.", f"Use --format {guess}, or another output.")
    if written := codec.captions_in_header(line):
        fix = f"Add --num-captions {written}, or name another output file."
        return OutputError(f"{path} cannot be continued: {error}.", fix)
    return OutputError(
        f"{path} is not a {name} output of batchcap: line 1: {error}.",
        f"{fix_of_first} If it was one and is damaged: {_repair(path)}",
    )


def _repair(path: Path) -> str:
    return f"batchcap repair {shlex.quote(str(path))}"


def _saved_elsewhere(path: Path, line: bytes) -> OutputError | None:
    """An output of batchcap that another program has opened and saved."""
    text = line.removeprefix(BOM)
    marks = {"a byte-order mark": text != line, "Windows line ends": text.endswith(b"\r\n")}
    if text.startswith(_SAVED):
        how = "other separators or quotes"
        fix = (
            "Put a copy from before in its place, or start anew with --overwrite; open copies in spreadsheet programs."
        )
    elif guess_format(text) is not None and any(marks.values()):
        how = " and ".join(mark for mark, is_there in marks.items() if is_there)
        command = f"sed -i '1s/^\\xEF\\xBB\\xBF//; s/\\r$//' {shlex.quote(str(path))}"
        fix = f"Take them out: {command}. Or start anew with --overwrite."
    else:
        return None
    return OutputError(f"{path} was saved by another program, such as a spreadsheet, with {how}.", fix)
