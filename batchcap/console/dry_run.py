"""What a run would do, as a table on standard output. Its lines have no end of spaces, and are never cut in a pipe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Self

from batchcap.console.summary import unread_lines
from batchcap.console.terminal import duration, err, out, print_line, speed

if TYPE_CHECKING:
    from batchcap.run.dry_run import DryRun


class Looking:
    """Shows on a terminal what is being done: a context, and the callback of `dry_run`."""

    def __init__(self, *, shown: bool) -> None:
        self._status = err().status("looking at images") if shown and err().is_interactive else None

    def __enter__(self) -> Self:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def __call__(self, text: str) -> None:
        """Take in what is being done."""
        if self._status is not None:
            self._status.update(text)


def show_dry_run(found: DryRun, verbosity: int = 0) -> None:
    """What a run would do; ``verbosity`` as of `summary.show_summary`."""
    console = out()
    where = "standard output" if found.output is None else str(found.output)
    shard = f", shard {found.shard}," if found.shard else ""
    print_line(
        console, f"Nothing was written. A run into {where}{shard} with {found.model} on {found.device} would do this:"
    )
    rows = list(_rows(found))
    names, counts = (max(len(row[place]) for row in rows) for place in (0, 1))
    for name, count, note in rows:
        print_line(console, f"  {name:<{names}}  {count:>{counts}}  {note}".rstrip())
    for line in unread_lines(found.unread, verbosity):
        print_line(console, line)
    print_line(console, f"  {_time(found)}")


def _rows(found: DryRun) -> Iterator[tuple[str, str, str]]:
    """What becomes of the images, the number of them, and why; what is everyday is there with 0 too."""
    yield "to caption", f"{found.to_do:,}", "" if found.limit is None else "as many as the limit allows"
    yield "  new", f"{found.new:,}", ""
    yield "  changed", f"{found.changed:,}", ""
    if found.retried:
        yield "  failed before", f"{found.retried:,}", "tried again"
    yield "done", f"{found.captioned:,}", "skipped"
    if found.failed:
        yield (
            "failed before",
            f"{found.failed:,}",
            "skipped; --retry-errors tries those again that could not be decoded",
        )
    if unreadable := found.unreadable.total():
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in found.unreadable.most_common())
        yield "cannot be read", f"{unreadable:,}", f"{kinds}; tried again by every run"
    if found.shard:
        yield "in other shards", f"{found.elsewhere:,}", ""


def _time(found: DryRun) -> str:
    if found.to_do == 0:
        return "There is nothing to do."
    if found.sample is None or found.seconds is None:
        return "Too few images to estimate the time."
    sample = found.sample
    parts = [f"{sample.failed:,} failed"] if sample.failed else []
    if sample.known:
        parts.append(f"{sample.known:,} need no caption, as their content has one")
    notes = f" ({', '.join(parts)})" if parts else ""
    return (
        f"It takes about {duration(found.seconds)}: {speed(sample.rate)}, measured on {sample.images:,} of the "
        f"images{notes}, and {duration(sample.loading)} to load the model."
    )
