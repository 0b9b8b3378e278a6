"""The closing lines of a run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from batchcap.console import duration, failure_line, images, say, several, speed

if TYPE_CHECKING:
    from batchcap.progress import Summary


def show_summary(summary: Summary, verbosity: int = 0) -> None:
    """The closing lines of a run; 1 and more says why there is no GPU in it."""
    where = "standard output" if summary.output is None else str(summary.output)
    if summary.interrupted is not None:
        return say(_stopped_text(summary, where))
    done = summary.captioned + summary.failed
    if done == 0:
        known = f"all {images(summary.skipped)} are already in {where}" if summary.skipped else "there is no image"
        return say(f"Nothing new: {known}.")
    for line in _summary_lines(summary, where):
        say(line)
    if verbosity and summary.device_note:
        say(f"  on the CPU because: {summary.device_note}")
    return None


def _stopped_text(summary: Summary, where: str) -> str:
    if summary.output is None:
        return f"Stopped: {images(summary.captioned + summary.failed)} written to {where}."
    safe = several(summary.safe, "record")
    if summary.committed:
        return f"Stopped when all was done: {safe} in {where}."
    if summary.overwrite:
        beside = f"; {safe} of the new output in {where}.partial" if summary.safe else ""
        return f"Stopped: {where} was not touched{beside}."
    return f"Stopped: {safe} safe in {where}; the same command goes on from there."


def _summary_lines(summary: Summary, where: str) -> Iterable[str]:
    seconds, made_with = summary.seconds, summary.fingerprint
    assert made_with is not None  # something was captioned
    rate = speed(summary.captioned / summary.wall)
    yield (
        f"Captioned {images(summary.captioned)} in {duration(summary.wall)} ({rate}) "
        f"on {summary.device} with {made_with.model}, {made_with.decoding}."
    )
    yield (
        f"  read+decode {duration(seconds.load)} (summed over threads), encode {duration(seconds.encode)}, "
        f"search {duration(seconds.search)}, write {duration(seconds.write)}"
    )
    if summary.skipped:
        yield f"  {images(summary.skipped)} skipped: already in the output."
    if summary.failed:
        whose = "its record says" if summary.failed == 1 else "their records say"
        yield f"  {images(summary.failed)} failed; {whose} why:"
        yield from (f"    {failure_line(record)}" for record in summary.failures)
        if summary.failed > len(summary.failures):
            yield f"    and {summary.failed - len(summary.failures):,} more"
    yield f"  {where}"
