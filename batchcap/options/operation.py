"""The options of how a run is operated: by cron, on several machines, watched by a script."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Final

from batchcap.errors import OptionError
from batchcap.options.field import OPERATION, Option, check_ranges, take_types

_SHARD: Final = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")


@dataclass(frozen=True, slots=True)
class Shard:
    """A part of the inputs: one of several that have no image in common."""

    index: int
    """From 1 to ``count``."""
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationOptions:
    """How a run is operated. Everything is checked when it is made."""

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
            "Wait up to so many seconds while another run writes the output; then, or with 0 at once, end with code "
            "75.",
            metavar="SECONDS",
            low=0,
            panel=OPERATION,
        ),
    ] = 0.0

    def __post_init__(self) -> None:
        take_types(self)
        check_ranges(self)
        _ = self.part

    @property
    def part(self) -> Shard | None:
        """The shard; None: all images."""
        return None if self.shard is None else _parsed_shard(self.shard)


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
