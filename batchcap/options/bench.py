"""The options of `bench`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from batchcap.options.decoding import BeamSizeOption
from batchcap.options.field import Option, check_ranges
from batchcap.options.precision import PrecisionOption
from batchcap.options.run import DEFAULT_MODEL, BatchSizeOption, DeviceOption, ModelOption, WorkersOption


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """What to measure, and how often."""

    folder: Annotated[
        Path | None,
        Option(
            "Images to measure with. Default: generated JPEGs of 500x375.", metavar="FOLDER", argument=True, env=False
        ),
    ] = None
    model: ModelOption = DEFAULT_MODEL
    images: Annotated[int, Option("How many images. Of a folder, the first ones.", low=1, env=False)] = 512
    repeats: Annotated[int, Option("How often each part is measured. The median counts.", low=1, env=False)] = 3
    beam_size: BeamSizeOption | None = None
    device: DeviceOption = "auto"
    precision: PrecisionOption = "auto"
    batch_size: BatchSizeOption = 32
    workers: WorkersOption = 0

    def __post_init__(self) -> None:
        check_ranges(self)
