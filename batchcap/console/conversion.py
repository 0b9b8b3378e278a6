"""The closing lines of a conversion."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from batchcap.console.terminal import say

if TYPE_CHECKING:
    from batchcap.convert.work import Reason, Tally


def show_conversion(tally: Tally, journal: Path, output: Path, target: str) -> None:
    """What became of the records: a line for each outcome, with its count and the first names."""
    say(f"{journal} to {target}: {output}")
    rows = list(_rows(tally))
    width = max(len(f"{count:,}") for count, _, _ in rows)
    for count, what, names in rows:
        say(f"  {count:>{width},} {what}{names}")
    for note in tally.notes:
        say(f"  {note}")


def _rows(tally: Tally) -> Iterator[tuple[int, str, str]]:
    yield tally.written, "caption written" if tally.written == 1 else "captions written", ""
    if tally.unchanged:
        yield tally.unchanged, "unchanged", ""
    if tally.failures:
        yield tally.failures, "without a caption: the image failed, and its record says why", ""
    for reason, found in tally.left_out.items():
        yield found.count, f"left out: {reason}", _names(found)
    for reason, found in tally.refused.items():
        yield found.count, f"not written: {reason}", _names(found)


def _names(found: Reason) -> str:
    more = ", ..." if found.count > len(found.examples) else ""
    return f": {', '.join(found.examples)}{more}"
