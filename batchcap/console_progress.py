"""How far a run or a training is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Self

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn
from rich.progress import Progress as Bar

from batchcap.console import duration, err, failure_line, plain, say, speed

if TYPE_CHECKING:
    from batchcap.progress import Progress

LINE_SECONDS: Final = 30.0


class Display:
    """Shows how far a run is; the object is the callback that `pipeline.run` calls, and a context to run it in.

    Args:
        shown: False shows only what ``verbosity`` asks for.
        verbosity: 1 and more names every image that failed, when it fails.
        clock: seconds, monotonic.
    """

    def __init__(self, shown: bool = True, verbosity: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = err()
        self._verbosity = verbosity
        self._clock = clock
        self._started = self._spoke = clock()
        self._bar = _bar(self._console) if shown and self._console.is_terminal else None
        self._task = self._bar.add_task("starting", total=None, note="") if self._bar else None
        self._lines = shown and self._bar is None

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, progress: Progress) -> None:
        """Take in one report of the pipeline."""
        if self._verbosity:
            for record in progress.failures:
                self._console.print(plain(failure_line(record), "yellow"), soft_wrap=True)
        now = self._clock()
        if self._bar is not None and self._task is not None:
            self._bar.update(
                self._task,
                description="captioning",
                completed=progress.done + progress.skipped,
                total=progress.total,
                note=_progress_text(progress, now - self._started),
            )
        elif self._lines and now - self._spoke >= LINE_SECONDS:
            self._spoke = now
            self._console.print(plain(_progress_text(progress, now - self._started)), soft_wrap=True)


class Steps:
    """Shows how far long jobs are, one after the other; the object is a callback (what, done, total), and a context."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = err()
        self._clock = clock
        self._spoke = clock()
        self._bar = _bar(self._console) if self._console.is_terminal else None
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Take in how far ``what`` is; its last report is always shown."""
        text = f"{done:,} of {total:,}"
        if self._bar is None:
            now = self._clock()
            if done >= total or now - self._spoke >= LINE_SECONDS:
                self._spoke = now
                say(f"{what}: {text}")
            return
        if what not in self._tasks:
            # Only while something is under way: Keras draws bars of its own in between.
            self._bar.start()
            self._tasks[what] = self._bar.add_task(what, total=total, note="")
        self._bar.update(self._tasks[what], completed=done, note=text)
        if done >= total:
            self._bar.stop()
            self._bar.remove_task(self._tasks.pop(what))
            say(f"{what}: {text}")


def _bar(console: Console) -> Bar:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[note]}"),
    )
    return Bar(*columns, console=console, transient=True)


def _progress_text(progress: Progress, elapsed: float) -> str:
    """``96 of 113 images, 210 images/s, 1 s left, 2 failed``."""
    seen = progress.done + progress.skipped
    rate = progress.done / elapsed if elapsed > 0 else 0.0
    parts = [f"{seen:,} images" if progress.total is None else f"{seen:,} of {progress.total:,} images", speed(rate)]
    if progress.total is not None and rate > 0:
        parts.append(f"{duration(max(0, progress.total - seen) / rate)} left")
    if progress.failed:
        parts.append(f"{progress.failed:,} failed")
    return ", ".join(parts)
