"""How far a run or a training is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Self

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn
from rich.progress import Progress as Bar

from batchcap.console.pace import LINE_SECONDS, Pace
from batchcap.console.terminal import duration, err, failure_line, images, print_line, say, speed

if TYPE_CHECKING:
    from batchcap.run.figures import Progress, Start

# Words in the terms of models whose use is restricted.
_LIMITED_USE: Final = re.compile(r"non.?commercial|\bresearch\b|\bNC\b", re.IGNORECASE)


class Display:
    """Shows how far a run is: a context to run it in, and the two callbacks of `pipeline.run`, `begin` and itself.

    Args:
        shown: False shows no progress.
        quiet: not even the model's terms are shown.
        verbosity: 1 and more names every image that failed, when it fails.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        shown: bool = True,
        *,
        quiet: bool = False,
        verbosity: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = err()
        self._quiet = quiet
        self._verbosity = verbosity
        self._pace = Pace(clock)
        # A terminal that cannot move its cursor (TERM=dumb) gets lines as well.
        described = not _is_narrow(self._console)
        self._bar = _bar(self._console, described) if shown and self._console.is_interactive else None
        self._task = self._bar.add_task("starting", total=None, note="") if self._bar else None
        self._lines = shown and self._bar is None

    @property
    def counts(self) -> bool:
        """Whether a total would be shown."""
        return self._bar is not None or self._lines

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, start: Start) -> None:
        """Before the first report: show the model's terms for a new output and, without a bar, what is captioned."""
        self._pace.begin()
        if self._lines:
            print_line(self._console, start_text(start))
        if start.fresh and not self._quiet and _LIMITED_USE.search(start.terms):
            print_line(self._console, f"Terms of {start.model.partition('@')[0]}: {' '.join(start.terms.split())}")

    def say(self, text: str) -> None:
        """Show one line, above a bar."""
        if not self._quiet:
            print_line(self._console, text)

    def __call__(self, progress: Progress) -> None:
        """Take in one report of the pipeline."""
        if self._verbosity and not self._quiet:
            for record in progress.failures:
                print_line(self._console, failure_line(record), "yellow")
        if self._pace.is_reduced(progress) and not self._quiet:
            print_line(self._console, reduced_text(progress), "yellow")
        is_due = self._pace.is_due(progress)
        if self._bar is not None and self._task is not None:
            text = progress_text(progress, self._pace.elapsed, short=_is_narrow(self._console))
            self._bar.update(
                self._task,
                description="waiting" if progress.waiting else "captioning",
                completed=progress.done + progress.skipped,
                total=progress.total,
                note=text,
            )
        elif self._lines and is_due:
            print_line(self._console, progress_text(progress, self._pace.elapsed))


def reduced_text(progress: Progress) -> str:
    """Said when memory has run out."""
    return f"Memory ran out: from here on at most {images(progress.reduced_batch or 0)} at a time."


def start_text(start: Start) -> str:
    """``Captioning photos with small@1f2e3d4c on CPU, 2 cores, into out.jsonl.``."""
    names = ", ".join(map(str, start.inputs[:3])) + (", ..." if len(start.inputs) > 3 else "")
    where = "standard output" if start.output is None else str(start.output)
    shard = f", shard {start.shard}," if start.shard else ""
    return f"Captioning {names}{shard} with {start.model} on {start.device}, into {where}."


class _Jobs:
    """What `Steps` and `Passes` share: a bar on a terminal, elsewhere a line now and then; a context.

    Args:
        shown: False has no bar.
        clock: seconds, monotonic.
    """

    def __init__(self, shown: bool = True, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = err()
        self._clock = clock
        self._spoke = clock()
        self._bar = _bar(self._console) if shown and self._console.is_interactive else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _is_due(self, at_once: bool = False) -> bool:
        """Whether a line is to be written now, in the place of a bar."""
        now = self._clock()
        due = at_once or now - self._spoke >= LINE_SECONDS
        if due:
            self._spoke = now
        return due


class Steps(_Jobs):
    """Shows how far long jobs are, one after the other; the object is a callback (what, done, total), and a context."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock=clock)
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        """Take in how far ``what`` is; its last report is always shown, by ``note`` where there is one."""
        text = note or f"{done:,} of {total:,}"
        if self._bar is None:
            if self._is_due(at_once=done >= total):
                say(f"{what}: {text}")
            return
        if what not in self._tasks:
            # Only while something is under way: other lines come in between.
            self._bar.start()
            self._tasks[what] = self._bar.add_task(what, total=total, note="")
        self._bar.update(self._tasks[what], completed=done, note=text)
        if done >= total:
            self._bar.stop()
            self._bar.remove_task(self._tasks.pop(what))
            say(f"{what}: {text}")


class Passes(_Jobs):
    """Shows how far a job is that passes over its input several times: the present pass alone.

    The object is a callback (what, done, total), and a context.

    Args:
        shown: False shows no progress.
        clock: seconds, monotonic.
    """

    def __init__(self, shown: bool = True, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(shown, clock)
        self._task = self._bar.add_task("reading", total=None, note="") if self._bar else None
        self._what = "reading"
        self._lines = shown and self._bar is None

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        """Take in how far the pass ``what`` is."""
        text = note or f"{done:,} of {total:,}"
        if self._bar is not None and self._task is not None:
            if what != self._what:  # a short pass is shown too: the bar draws itself only now and then
                self._bar.refresh()
                self._what = what
            self._bar.update(self._task, description=what, completed=done, total=total, note=text)
        elif self._lines and self._is_due():
            print_line(self._console, f"{what}: {text}")

    def say(self, text: str) -> None:
        """One line; above the bar where there is one."""
        print_line(self._console, text)


def _is_narrow(console: Console) -> bool:
    """Whether millions of images, their speed, what is left and what failed need all of a line."""
    return console.width < 110


def _bar(console: Console, described: bool = True) -> Bar:
    width = 10 if _is_narrow(console) else 24
    columns = (
        SpinnerColumn(),
        *([TextColumn("{task.description}", markup=False)] if described else []),
        # Red, rich's own colour, is for errors.
        BarColumn(bar_width=width, complete_style="cyan", finished_style="green", pulse_style="cyan"),
        TextColumn("{task.fields[note]}", markup=False),
    )
    return Bar(*columns, console=console, transient=True)


def progress_text(progress: Progress, elapsed: float | None, short: bool = False) -> str:
    """``96 of 113 images, 210 images/s, 1 s left, 2 failed``; short: ``210/s``; without seconds: no speed."""
    seen = progress.done + progress.skipped
    rate = progress.done / elapsed if elapsed else 0.0
    parts = [images(seen) if progress.total is None else f"{seen:,} of {progress.total:,} images"]
    if elapsed is not None:
        parts.append(speed(rate).replace(" images", "") if short else speed(rate))
    if progress.total is not None and rate > 0:
        parts.append(f"{duration(max(0, progress.total - seen) / rate)} left")
    if progress.failed:
        parts.append(f"{progress.failed:,} failed")
    if progress.waiting:
        parts.append("waiting for more")
    return ", ".join(parts)
