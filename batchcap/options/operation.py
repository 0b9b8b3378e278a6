"""The options of how a run is operated: by cron, on several machines, watched by a script."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from batchcap.errors import OptionError
from batchcap.options.field import OPERATION, Option, check_ranges, take_types

FailOn = Literal["any", "new", "none"]

SHARE_IMAGES: Final = 100
"""Images of a run after which the share of failed ones counts."""
_MAX_FAILURES: Final = re.compile(r"([0-9]{1,9})|([0-9]{1,3}(?:\.[0-9]{1,6})?)%")
_SHARD: Final = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")


@dataclass(frozen=True, slots=True)
class Shard:
    """A part of the inputs: one of several that have no image in common."""

    index: int
    """From 1 to ``count``."""
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


@dataclass(frozen=True, slots=True)
class MaxFailures:
    """How many images may fail."""

    count: int | None = None
    percent: float | None = None

    def __str__(self) -> str:
        return str(self.count) if self.percent is None else f"{self.percent:g}%"

    def is_exceeded(self, failed: int, done: int) -> bool:
        """Whether ``failed`` images of ``done`` are too many; a share counts from `SHARE_IMAGES` images on."""
        if self.percent is not None:
            return done >= SHARE_IMAGES and failed * 100 > self.percent * done
        return self.count is not None and failed > self.count


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationOptions:
    """How a run is operated. Everything is checked when it is made."""

    dry_run: Annotated[
        bool,
        Option(
            "Only say what the run would do, and about how long that takes: a few images are captioned for it. Nothing "
            "is written.",
            panel=OPERATION,
        ),
    ] = False
    shard: Annotated[
        str | None,
        Option(
            "Caption only the images of shard I of N. The shards together are all images, on every machine the same "
            "ones. Each needs an output of its own.",
            metavar="I/N",
            valid="I/N, I from 1 to N",
            panel=OPERATION,
        ),
    ] = None
    """See `part`."""
    wait: Annotated[
        float,
        Option(
            "Wait so long for another run that writes the output, then end with code 75. 0: do not wait.",
            metavar="SECONDS",
            low=0,
            panel=OPERATION,
        ),
    ] = 0.0

    fail_on: Annotated[
        FailOn,
        Option(
            "What makes the exit code 3. any: an image of the inputs has no caption. new: one failed in this run that "
            "had not failed in the same way before. none: no failed image does.",
            panel=OPERATION,
        ),
    ] = "any"
    max_failures: Annotated[
        str | None,
        Option(
            "Stop with code 1 when more than N images fail in this run, or more than P% of its images, after the first "
            f"{SHARE_IMAGES}.",
            metavar="N|P%",
            valid="a number N, or a percentage P%",
            unset="no limit",
            panel=OPERATION,
        ),
    ] = None
    """See `failure_limit`."""

    def __post_init__(self) -> None:
        take_types(self)
        check_ranges(self)
        _ = self.part, self.failure_limit

    @property
    def part(self) -> Shard | None:
        """The shard; None: all images."""
        return None if self.shard is None else _parsed_shard(self.shard)

    @property
    def failure_limit(self) -> MaxFailures | None:
        """How many images may fail; None: all."""
        if self.max_failures is None:
            return None
        match = _MAX_FAILURES.fullmatch(self.max_failures)
        if match is None or float(match[2] or 0) > 100:
            raise OptionError(
                f"--max-failures {self.max_failures}: must be a number of images, or a percentage of them.",
                "Write 500, or 5%.",
            )
        return MaxFailures(count=int(match[1])) if match[1] else MaxFailures(percent=float(match[2]))


def _parsed_shard(text: str) -> Shard:
    match = _SHARD.fullmatch(text)
    if match is None or int(match[2]) == 0:
        raise OptionError(f"--shard {text}: must be I/N.", "For the second of four shards write 2/4.")
    shard = Shard(int(match[1]), int(match[2]))
    if not 1 <= shard.index <= shard.count:
        fix = f"Shards are numbered from 1/{shard.count} to {shard.count}/{shard.count}."
        if shard.index == 0:
            fix += " Where the number of a job begins at 0, add 1 to it."
        raise OptionError(f"--shard {text}: there is no shard {shard.index} of {shard.count}.", fix)
    return shard
