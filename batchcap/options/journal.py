"""The options of the output as the state of a run: what counts as done, and when a record is safe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from batchcap.errors import DecodeErrorKind
from batchcap.options.field import OUTPUT, Option

Fsync = Literal["always", "batch", "never"]
IfChanged = Literal["recaption", "skip"]
RetryKind = Literal["all", DecodeErrorKind]


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalOptions:
    """What a run does with the records that its output has, and how it writes new ones."""

    checksum: Annotated[
        bool,
        Option(
            "Know images by their content: a file that was moved, copied or restored keeps its caption, without "
            "the model. Records get the SHA-256 of the file; files whose records have none are read once.",
            panel=OUTPUT,
        ),
    ] = False
    if_changed: Annotated[
        IfChanged,
        Option(
            "If a captioned file has another size or time than its record says: caption it again, or leave it.",
            panel=OUTPUT,
        ),
    ] = "recaption"
    fsync: Annotated[
        Fsync,
        Option(
            "When records are forced to the disk: after every record, after every batch, or whenever the system does "
            "it. It only matters if the power fails: a killed run loses nothing.",
            panel=OUTPUT,
        ),
    ] = "batch"
