"""The options of a run, without those of the decoding."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

from batchcap.options.field import OUTPUT, SPEED, Option, check_ranges, field_of, require, take_types
from batchcap.options.journal import JournalOptions, RetryKind
from batchcap.options.output import Format
from batchcap.options.precision import PrecisionOption
from batchcap.options.types import checked

OnMismatch = Literal["stop", "recaption", "keep"]

DEFAULT_MODEL: Final = "flickr8k-small"
_MOST_THREADS: Final = 1024

# Options that other commands have too.
MODEL_HELP: Final = "Name of an embedded bundle, or the folder of a bundle."
ModelOption: TypeAlias = Annotated[str | Path, Option(MODEL_HELP, metavar="NAME|FOLDER")]
DeviceOption: TypeAlias = Annotated[
    str,
    Option(
        "auto, cpu, cuda or cuda:N. A GPU that is named must be there.",
        metavar="DEVICE",
        valid="auto, cpu, cuda or cuda:N",
    ),
]
BatchSizeOption: TypeAlias = Annotated[
    int, Option("Images that go through the model together. Never changes a caption.", low=1, high=4096, panel=SPEED)
]
WorkersOption: TypeAlias = Annotated[
    int,
    Option(
        "Threads that read and decode images; 0: one for each core.",
        low=0,
        high=256,
        valid="from 0 (automatic) to 256",
        panel=SPEED,
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions(JournalOptions):
    """One `batchcap run`, without the decoding. Everything is checked when it is made."""

    inputs: Annotated[
        tuple[Path, ...],
        Option("Folders (with all folders in them) and image files.", metavar="INPUT", argument=True, env=False),
    ]
    """Folders and files, in the order given."""
    output: Annotated[
        Path | None,
        Option("A .jsonl or .csv file, or - for JSON lines on standard output.", short="-o", metavar="FILE", text=True),
    ]
    """The journal; None streams JSONL to standard output."""
    model: ModelOption = DEFAULT_MODEL
    format: Annotated[Format, Option("How records are written.", unset="by the file's ending", panel=OUTPUT)] = "jsonl"
    device: DeviceOption = "auto"
    precision: PrecisionOption = "auto"
    """See `runtime.precision_choice.in_precision`."""
    batch_size: BatchSizeOption = 32
    workers: WorkersOption = 0
    root: Annotated[
        Path | None,
        Option(
            "Write paths relative to this folder.",
            unset="the input if it is one folder alone, else the current folder",
            panel=OUTPUT,
            metavar="FOLDER",
        ),
    ] = None
    relocate: Annotated[
        bool,
        Option(
            "The images have moved: write this run's root into all records of the output, and go on. Needed once.",
            panel=OUTPUT,
        ),
    ] = False
    limit: Annotated[
        int | None,
        Option(
            "Caption at most this many images in this run. Images that could not be read before are tried in addition.",
            low=1,
        ),
    ] = None
    overwrite: Annotated[
        bool,
        Option(
            "Make a new file. The old one stays until the new one is complete. After a stop, the same command goes on."
        ),
    ] = False
    on_mismatch: Annotated[
        OnMismatch,
        Option(
            "If the output was made with another model or other settings: stop, recaption everything, or keep the old "
            "records.",
            panel=OUTPUT,
        ),
    ] = "stop"
    retry_errors: Annotated[
        tuple[RetryKind, ...],
        Option(
            "Try again the images that could not be decoded: all, or those whose error is of this KIND.",
            metavar="[KIND]",
            alone="all",
        ),
    ] = ()
    """Kinds of errors of stage ``decode``; ``all``: every kind."""
    accept_damaged: Annotated[
        bool,
        Option("Caption what can be decoded of truncated and damaged images. Their records say damaged.", panel=OUTPUT),
    ] = False
    allow_empty: Annotated[bool, Option("It is no error if the inputs hold no image.", panel=OUTPUT)] = False

    def __post_init__(self) -> None:
        take_types(self)
        require(len(self.inputs) > 0, "No input was given.", "Name a folder or an image.")
        check_ranges(self)
        require(
            self.output is not None or self.format == "jsonl",
            "-o - streams JSONL.",
            "Leave --format out, or name a file.",
        )
        require(
            self.output is not None or not self.overwrite,
            "--overwrite has nothing to replace with -o -.",
            "Leave it out.",
        )
        require(
            not self.relocate or (self.output is not None and not self.overwrite),
            "--relocate changes the records of an output that is there: it does not go with -o - or --overwrite.",
            "Leave it out.",
        )


def check_batch_size(batch_size: int) -> int:
    """The size as Python has it; raise OptionError for a batch that no model takes."""
    field = field_of(RunOptions, "batch_size")
    plain: int = checked("batch_size", batch_size, int, field.whole_numbers)
    field.check_range(plain)
    return plain


def check_threads(threads: int) -> int:
    """The number as Python has it; raise OptionError for one that no machine has: each thread would be made."""
    valid = f"from 1 to {_MOST_THREADS}, or 0 for one a core"
    plain: int = checked("threads", threads, int, valid)
    require(0 <= plain <= _MOST_THREADS, f"threads={plain}: must be {valid}.")
    return plain
