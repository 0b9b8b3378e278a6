"""The closing lines of a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from batchcap.console.terminal import duration, failure_line, images, say, several, speed
from batchcap.images.kinds import advice, is_noteworthy

if TYPE_CHECKING:
    from pathlib import Path

    from batchcap.images.walk import Unread
    from batchcap.run.figures import Summary


def show_summary(summary: Summary, verbosity: int = 0) -> None:
    """Show the closing lines of a run."""
    for line in closing_lines(summary, verbosity):
        say(line)


def closing_lines(summary: Summary, verbosity: int = 0) -> list[str]:
    """What a run has come to, in lines; 1 and more says why there is no GPU in it."""
    where = "standard output" if summary.output is None else str(summary.output)
    if summary.interrupted is not None:
        return [_stopped_text(summary, where)]
    if summary.done == 0:
        nothing = f"Nothing new: {_known(summary, where)}."
        return [nothing, *unread_lines(summary.unread, verbosity), *_output_lines(summary, where)]
    return list(_summary_lines(summary, where, verbosity))


def show_end_at_once(output: Path | None) -> None:
    """The only closing line of a run that a signal ends where it hangs, or a second signal."""
    if output is None:
        say("Stopped at once: the last line on standard output may not be whole.")
    else:
        say(f"Stopped at once: what was written to {output} is safe; the same command goes on.")


def _known(summary: Summary, where: str) -> str:
    if not summary.skipped:
        return f"there is no image in shard {summary.shard}" if summary.shard else "there is no image"
    if summary.skipped_failures:
        return (
            f"{images(summary.skipped)} have their record in {where}, {summary.skipped_failures:,} of them without a "
            "caption (the record says why; --retry-errors tries again)"
        )
    of = f" of shard {summary.shard}" if summary.shard else ""
    are = f"the image{of} is" if summary.skipped == 1 else f"all {images(summary.skipped)}{of} are"
    return f"{are} already in {where}"


def unread_lines(unread: Unread, verbosity: int) -> Iterable[str]:
    """What lies in the folders and is not read: what may hold images; other files are named with ``-v``."""
    notable = [(kind, count) for kind, count in unread.kinds.most_common() if is_noteworthy(kind)]
    others = [(kind, count) for kind, count in unread.kinds.most_common() if not is_noteworthy(kind)]
    total = sum(count for _, count in others)
    if notable:
        count = sum(count for _, count in notable)
        verb = "was" if count == 1 else "were"
        beside = f"; {several(total, 'other file')}" if total else ""
        yield f"  {several(count, 'file')} {verb} not read: {_listed(notable, verbosity)}{beside}."
    elif total:
        yield f"  {several(total, 'other file')} in the folders."
    if verbosity:
        yield from (f"    {line}" for line in advice(kind for kind, _ in notable))
        if others:
            yield f"    other files: {_listed(others, verbosity)}"
        if unread.links:
            yield f"  {several(unread.links, 'link')} left out: what they lead to comes under another name."


def _listed(kinds: Sequence[tuple[str, int]], verbosity: int) -> str:
    shown = kinds if verbosity else kinds[:6]
    rest = sum(count for _, count in kinds[len(shown) :])
    return ", ".join(f"{count:,} {kind}" for kind, count in shown) + (f", and {rest:,} more" if rest else "")


def _output_lines(summary: Summary, where: str) -> Iterable[str]:
    """Lines about the output itself."""
    if summary.cut:
        yield f"  The last line of {where} was torn: {summary.cut:,} bytes were cut: {summary.cut_text}"
    if summary.relocated:
        yield f"  All records of {where} have the root {summary.relocated} now."
    if summary.unfinished is not None:
        yield (
            f"  {summary.unfinished} is what a stopped run with --overwrite has left: that command goes on with it, or "
            "remove it."
        )
    if summary.overwrite and not summary.committed:
        yield f"  {where} is not replaced{_why_not(summary)} {_waiting(summary, where)}"
    elif summary.limited:
        yield "  The limit left images out; the same command goes on."


def _why_not(summary: Summary) -> str:
    if summary.limited:
        return " yet: the limit left images out."
    if summary.unreadable:
        return f": {several(summary.unreadable, 'name')} could not be read."
    return ": there is no image."


def _waiting(summary: Summary, where: str) -> str:
    if not summary.safe:
        return ""
    new = summary.live or f"{where}.partial"
    return f"{several(summary.safe, 'record')} of the new output wait in {new}; the same command goes on."


def _stopped_text(summary: Summary, where: str) -> str:
    if summary.output is None:
        return f"Stopped: {images(summary.done)} written to {where}."
    safe = several(summary.safe, "record")
    if summary.committed:
        return f"Stopped when all was done: {safe} in {where}."
    if summary.overwrite:
        beside = f"; {safe} of the new output in {summary.live or f'{where}.partial'}" if summary.safe else ""
        return f"Stopped: {where} was not touched{beside}; the same command goes on from there."
    if not summary.safe and not summary.done:
        # The output may not be there, or hold records that this run had no time to count.
        return f"Stopped: nothing was written to {where}; the same command starts again."
    return f"Stopped: {safe} safe in {where}; the same command goes on from there."


def _summary_lines(summary: Summary, where: str, verbosity: int) -> Iterable[str]:
    """The counts and the output first; details come with ``-v``."""
    seconds, made_with = summary.seconds, summary.fingerprint
    assert made_with is not None  # something was written
    yield f"Captioned {images(summary.captioned)}: {where}"
    if summary.damaged:
        says = (
            "of them is damaged; its record says how"
            if summary.damaged == 1
            else "of them are damaged; their records say how"
        )
        yield f"  {summary.damaged:,} {says}."
    if summary.found_again:
        yield f"  {images(summary.found_again)} found again by content, with the caption from before."
    if summary.skipped:
        without = f", {summary.skipped_failures:,} of them without a caption" if summary.skipped_failures else ""
        yield f"  {images(summary.skipped)} skipped: already in the output{without}."
    if summary.failed:
        yield f"  {_failed_text(summary)}"
        yield from (f"    {failure_line(record)}" for record in summary.failures)
        if summary.failed > len(summary.failures):
            yield f"    and {summary.failed - len(summary.failures):,} more"
    yield from unread_lines(summary.unread, verbosity)
    yield from _output_lines(summary, where)
    if summary.reduced_batch is not None:
        yield (
            f"  Memory ran out: in the end at most {images(summary.reduced_batch)} went through the model at a time. "
            f"That changes no caption; --batch-size {summary.reduced_batch} saves the tries."
        )
    rate = speed(summary.captioned / summary.wall)
    yield f"  In {duration(summary.wall)} ({rate}) on {summary.device}."
    if verbosity:
        yield f"  model {made_with.model}, decoding {made_with.decoding}"
        yield (
            f"  read+decode {duration(seconds.load)} (all threads), encode {duration(seconds.encode)}, "
            f"search {duration(seconds.search)}, write {duration(seconds.write)}"
        )
        if summary.device_note:
            yield f"  on the CPU because: {summary.device_note}"


def _failed_text(summary: Summary) -> str:
    """``2 images failed, and 1 folder could not be listed:``; the lines below and the records say why."""
    count = summary.failed - summary.folders
    parts = [f"{images(count)} failed"] if count else []
    if summary.folders:
        parts.append(f"{several(summary.folders, 'folder')} could not be listed")
    return f"{', and '.join(parts)}:"
