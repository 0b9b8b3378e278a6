"""Target ``csv``: a table for spreadsheet programs: no cell is run as a formula, and none loses digits.

RFC 4180 with a byte-order mark, without which spreadsheet programs do not read UTF-8. Cells that begin like a formula
get an apostrophe before them (OWASP, "CSV Injection").
"""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, datetime
from typing import Final

from batchcap.convert.files import new_file
from batchcap.convert.work import Work
from batchcap.journal.format_csv import FORMULAS
from batchcap.journal.scores import probability
from batchcap.records import Caption, Record

_BOM: Final = "\ufeff"
_FIRST: Final = ("path", "caption", "probability", "log_prob", "score")
_LAST: Final = ("error", "damaged", "width", "height", "bytes", "modified", "model", "decoding")
# Without the columns that others add.
_OURS: Final = re.compile(rf"{_BOM}{','.join(_FIRST)},(?:caption_\d+,probability_\d+,)*{','.join(_LAST)}\r\n".encode())
_RUN: Final = (*FORMULAS, "\r", "\n")
_MOST_ROWS: Final = 1_048_576


def convert(work: Work) -> None:
    """Write a row for each image, failed ones too; see `work.Target`."""
    ranks = max((len(record.captions or ()) for record in work.records("counting captions")), default=1)
    with new_file(work.output, work.options.overwrite, _OURS) as new:
        new.file.write(_BOM.encode())
        text = io.TextIOWrapper(new.file, "utf-8", newline="")
        rows = csv.writer(text, lineterminator="\r\n")
        rows.writerow(_header(ranks))
        for record in work.records():
            rows.writerow(_row(record, ranks))
            work.tally.count([record])
        text.detach()
    count = 1 + work.tally.written + work.tally.failures
    work.tally.settle(new.changed)
    if count > _MOST_ROWS:
        work.tally.notes.append(f"{count:,} rows: Excel and LibreOffice show the first {_MOST_ROWS:,} only.")


def _header(ranks: int) -> list[str]:
    more = [f"{name}_{rank}" for rank in range(2, ranks + 1) for name in ("caption", "probability")]
    return [*_FIRST, *more, *_LAST]


def _row(record: Record, ranks: int) -> list[str]:
    more: list[str] = []
    captions = record.captions or ()
    for rank in range(1, ranks):
        more += _ranked(captions[rank]) if rank < len(captions) else ("", "")
    error = "" if record.error is None else f"{record.error.stage}, {record.error.kind}: {record.error.message}"
    return [
        *(_safe(record.path), _safe(record.caption), probability(record.log_prob)),
        *(_number(record.log_prob), _number(record.score)),
        *more,
        *(_safe(error), _safe(record.damaged)),
        *(_number(record.width), _number(record.height), _number(record.bytes), _date(record.mtime_us)),
        *(_safe(record.model), _safe(record.decoding)),
    ]


def _ranked(caption: Caption) -> tuple[str, str]:
    return _safe(caption.caption), probability(caption.log_prob)


def _safe(text: str | None) -> str:
    return f"'{text}" if text is not None and text.startswith(_RUN) else text or ""


def _number(value: float | None) -> str:
    return "" if value is None else repr(value)


def _date(mtime_us: int | None) -> str:
    """``2024-11-21 02:33:20`` in UTC, which spreadsheet programs know as a date; they round the microseconds."""
    if mtime_us is None:
        return ""
    try:
        return datetime.fromtimestamp(mtime_us // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):  # no date that a file can have
        return ""
