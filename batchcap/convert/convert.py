"""`batchcap convert`: from a journal into one target."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from batchcap.convert import (
    target_coco,
    target_csv,
    target_embed,
    target_imagefolder,
    target_kohya,
    target_parquet,
    target_sqlite,
    target_txt,
    target_webdataset,
    target_xmp,
)
from batchcap.convert.files import check_not_journal
from batchcap.convert.work import Tally, Target, Work
from batchcap.options.convert import AnyTarget, ConvertOptions
from batchcap.reporting import Report, no_report

TARGETS: Final[dict[AnyTarget, Target]] = {
    "embed": target_embed,
    "txt": target_txt,
    "xmp": target_xmp,
    "csv": target_csv,
    "coco": target_coco,
    "kohya": target_kohya,
    "imagefolder": target_imagefolder,
    "webdataset": target_webdataset,
    "sqlite": target_sqlite,
    "parquet": target_parquet,
}


def convert(options: ConvertOptions, report: Report = no_report, say: Callable[[str], object] = no_report) -> Tally:
    """Write the captions of a journal into its target.

    Args:
        options: which journal, where, and what.
        report: gets the progress.
        say: gets lines that a person should see before the end.

    Returns:
        What became of the records.

    Raises:
        InputNotFoundError, OutputError: the journal cannot be read, or the target cannot be written.
        OutputLockedError: another conversion writes the same place.
        MissingExtraError: a library that the target needs is not installed.
    """
    work = Work(options, report, say)
    check_not_journal(options.output, options.journal)
    TARGETS[options.target].convert(work)
    if work.reader.torn:
        work.tally.notes.append(
            f"The last line of {options.journal} is not whole (a run writes it now, or was killed): it is left out."
        )
    return work.tally
