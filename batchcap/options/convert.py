"""The options of `batchcap convert`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal, get_args

from batchcap.errors import OptionError
from batchcap.options.field import Option, check_ranges, require, take_types

TargetName = Literal["txt", "xmp", "csv", "coco", "kohya", "imagefolder", "webdataset", "sqlite", "parquet"]
AnyTarget = TargetName | Literal["embed"]
"""Embedding is no ``--to``: it alone changes images, and has an option of its own."""
_LANGUAGE: Final = re.compile(r"[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8})*")

SidecarName = Literal["stem", "full"]
ImageKey = Literal["path", "stem"]

TARGETS: Final = "Targets"
"""The group of the options that only some targets have."""

_OF_TARGETS: Final[dict[str, tuple[AnyTarget, ...]]] = {
    "sidecar_name": ("txt", "xmp"),
    "language": ("xmp", "embed"),
    "all_captions": ("txt", "kohya", "imagefolder"),
    "image_key": ("kohya",),
    "image_ids": ("coco",),
    "shard_size": ("webdataset",),
}
"""Options that only these targets have, by their field."""

# What a name of OUT says of the target. JSON files and folders may be several.
_ENDINGS: Final[dict[str, TargetName]] = {
    ".csv": "csv",
    ".tar": "webdataset",
    ".parquet": "parquet",
    ".db": "sqlite",
    ".sqlite": "sqlite",
    ".sqlite3": "sqlite",
}
_NAMES: Final[dict[str, TargetName]] = {"metadata.jsonl": "imagefolder"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertOptions:
    """One `batchcap convert`. Everything is checked when it is made."""

    journal: Annotated[Path, Option("The output of `batchcap run`.", metavar="JOURNAL", argument=True, env=False)]
    output: Annotated[
        Path, Option("A file or a folder, as the target has it.", metavar="OUT", argument=True, env=False)
    ]
    to: Annotated[
        TargetName | None,
        Option("What to write.", short="-t", unset="by the name of OUT where that is clear", env=False),
    ] = None
    embed: Annotated[
        bool,
        Option(
            "Write the captions into the images: into copies of them below OUT, or, where OUT is the folder that the "
            "paths in JOURNAL are relative to, into the images themselves. Needs exiftool.",
            env=False,
        ),
    ] = False
    overwrite: Annotated[bool, Option("Also replace files that this command did not write.", env=False)] = False
    sidecar_name: Annotated[
        SidecarName | None,
        Option(
            "txt, xmp: the sidecar of a.jpg is a.txt (stem) or a.jpg.txt (full).",
            unset="stem; for xmp what is there, else full",
            panel=TARGETS,
            env=False,
        ),
    ] = None
    all_captions: Annotated[
        bool,
        Option(
            "Write all captions where the journal has several for an image. txt, kohya: lines; imagefolder: a list.",
            panel=TARGETS,
            env=False,
        ),
    ] = False
    language: Annotated[
        str | None,
        Option(
            "xmp, --embed: language of the captions, such as en or pt-BR. They are also written as text in this "
            "language, beside the default text, which has none.",
            metavar="LANGUAGE",
            unset="the default text alone",
            panel=TARGETS,
            env=False,
        ),
    ] = None
    image_ids: Annotated[
        Path | None,
        Option(
            "coco: an annotations file, whose images have the ids.",
            unset="the number at the end of each image's name",
            metavar="FILE",
            panel=TARGETS,
            env=False,
        ),
    ] = None
    image_key: Annotated[
        ImageKey | None,
        Option(
            "kohya: name images by their absolute path, or by their path below the root without its ending.",
            unset="path",
            panel=TARGETS,
            env=False,
        ),
    ] = None
    shard_size: Annotated[
        int | None,
        Option("webdataset: images in a shard.", low=1, high=100_000, unset="1000", panel=TARGETS, env=False),
    ] = None

    def __post_init__(self) -> None:
        take_types(self)
        check_ranges(self)
        require(
            self.language is None or _LANGUAGE.fullmatch(self.language) is not None,
            f"--language {self.language}: this is no language code.",
            "Give one such as en, de or pt-BR (RFC 5646).",
        )
        require(str(self.output) != "-", "OUT -: a conversion writes no stream.", "Name a file or a folder.")
        require(not (self.embed and self.to), "--embed and --to name two targets.", "Leave out one of them.")
        for field, targets in _OF_TARGETS.items():
            require(
                getattr(self, field) in (None, False) or self.target in targets,
                f"--{field.replace('_', '-')} says nothing to the target {self.target}.",
                f"Leave it out. It goes with {' or '.join(map(_spelled, targets))}.",
            )

    @property
    def target(self) -> AnyTarget:
        """What is written: ``embed``, ``to``, or what the name of ``output`` says.

        Raises:
            OptionError: neither says it.
        """
        return "embed" if self.embed else self.to or _guessed(self.output)


def _spelled(target: AnyTarget) -> str:
    return "--embed" if target == "embed" else f"--to {target}"


def _guessed(output: Path) -> TargetName:
    found = _NAMES.get(output.name) or _ENDINGS.get(output.suffix.lower())
    if found is None:
        choices = ", ".join(get_args(TargetName))
        raise OptionError(f"{output}: this name does not say what to write.", f"Add --to TARGET: {choices}.")
    return found
