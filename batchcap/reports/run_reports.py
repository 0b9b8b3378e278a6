"""All reports of one run: begun before it, told what happens, and written at its end however it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from batchcap import __version__
from batchcap.console.pace import Pace
from batchcap.console.progress import progress_text, reduced_text, start_text
from batchcap.console.summary import closing_lines
from batchcap.console.terminal import failure_line, say
from batchcap.errors import OutputLockedError
from batchcap.options.reports import ReportOptions
from batchcap.reports.ending import Ending
from batchcap.reports.log import RunLog
from batchcap.reports.places import check_places, explained
from batchcap.reports.summary_file import Finished, error_fields, failure_fields, image_counts, shown, write_summary
from batchcap.run.figures import Summary

if TYPE_CHECKING:
    from batchcap.reports.metrics_file import MetricsFile
    from batchcap.run.figures import Progress, Start

# Between two looks whether the run holds its output, and then between two files of metrics.
_POLL_SECONDS: Final = 1.0
_METRICS_SECONDS: Final = 15.0


class RunReports:
    """A context around a run; the object takes in its progress. What cannot be reported never stops the run.

    Attributes:
        exit_code: of the run; known at the end.
        summary: that the run counts into.
        on_stderr: the log stands on standard error, in place of what the terminal shows.
    """

    def __init__(
        self,
        options: ReportOptions,
        summary: Summary,
        inputs: Sequence[Path],
        *,
        quiet: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Check that every report can be written, and open the log.

        Args:
            options: which reports are wanted.
            summary: that the run counts into.
            inputs: of the run.
            quiet: a log on standard error has errors alone.
            clock: seconds, monotonic.

        Raises:
            OutputError: a report cannot be written, is the output or another report, or holds something else.
        """
        check_places(options, summary.output)
        self.exit_code = 0
        self.on_stderr = options.log_on_stderr
        self._options = options
        self.summary = summary
        self._inputs = tuple(inputs)
        self._clock, self._began = clock, clock()
        self._started = time.time()
        self._pace = Pace(clock)
        self._problems: dict[str, str] = {}
        with explained("--log-file", options.log_file or Path()):
            self._log = RunLog(options, self._log_failed, quiet=quiet)
        self._metrics = self._metrics_file()
        self._over = threading.Event()
        self._writing = threading.Lock()
        """Held while metrics or the summary are written: by the run, the thread, or what ends a run that hangs."""
        self._writer = threading.Thread(target=self._write_now_and_then, name="batchcap-metrics", daemon=True)

    def _metrics_file(self) -> MetricsFile | None:
        if self._options.metrics is None:
            return None
        from batchcap.reports.metrics_file import MetricsFile

        return MetricsFile(self._options.metrics, self.summary, self._started)

    def __enter__(self) -> Self:
        inputs = [shown(path) for path in self._inputs]
        output = None if self.summary.output is None else shown(self.summary.output)
        self._log.info("started", f"batchcap {__version__} begins.", version=__version__, inputs=inputs, output=output)
        if self._metrics is not None:
            self._writer.start()
        return self

    def begin(self, start: Start) -> None:
        """There is an image to caption."""
        self._pace.begin()
        self._log.info("captioning", start_text(start), model=start.model, device=start.device, terms=start.terms)

    def say(self, line: str) -> None:
        """A line for a person, such as that the run waits."""
        self._log.info("note", line)

    def __call__(self, progress: Progress) -> None:
        """A batch is written."""
        for record in progress.failures:
            failure = failure_fields(record)
            failure["reason"] = failure.pop("message")
            self._log.warning("image_failed", failure_line(record), **failure)
        if self._pace.is_reduced(progress):
            self._log.warning("memory", reduced_text(progress), reduced_batch=progress.reduced_batch)
        if self._pace.is_due(progress):
            self._log.info(
                "waiting" if progress.waiting else "progress",
                progress_text(progress, self._pace.elapsed),
                done=progress.done,
                failed=progress.failed,
                skipped=progress.skipped,
                total=progress.total,
                seconds=round(self._clock() - self._began, 3),
            )

    def __exit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> bool:
        """Write what is to be written.

        Returns:
            True where the log has told the error on standard error, so that it is not told again.
        """
        ending = Ending.of(error, self.summary)
        self.exit_code = ending.exit_code
        self._log_end(ending)
        self._over.set()
        if self._writer.is_alive():
            self._writer.join()
        self._write_end(ending)
        self._log.close()
        return self.on_stderr and isinstance(error, Exception) and not isinstance(error, BrokenPipeError)

    def end_at_once(self, number: int) -> None:
        """A signal ends a run that hangs: write what is to be written, in another thread than the run's."""
        ending = Ending(exit_code=128 + number, outcome="stopped", signal=number)
        self.summary.end(number)
        self._log_end(ending)
        self._over.set()
        self._write_end(ending)

    def _write_end(self, ending: Ending) -> None:
        ended = time.time()
        with self._writing:
            if self._metrics is not None and ending.exit_code != OutputLockedError.exit_code:
                self._write_metrics(self._metrics, ended, ending)
            if self._options.summary is not None:
                self._write_summary(self._options.summary, ended, ending)

    def _log_end(self, ending: Ending) -> None:
        if ending.error:
            details = (*([ending.fix] if ending.fix else []), *ending.traceback.splitlines())
            fields = error_fields(ending)
            message = fields.pop("message")
            self._log.error("error", f"{ending.title}: {message}", details, **fields, exit_code=ending.exit_code)
            return
        first, *others = closing_lines(self.summary)
        self._log.info(
            "ended",
            first,
            tuple(line.strip() for line in others),
            exit_code=ending.exit_code,
            outcome=ending.outcome,
            **image_counts(self.summary),
            seconds=round(self.summary.wall, 3),
        )

    def _write_now_and_then(self) -> None:
        metrics = self._metrics
        assert metrics is not None
        wait = _POLL_SECONDS
        while not self._over.wait(wait):
            with self._writing:
                if metrics.is_due and not self._over.is_set():
                    self._write_metrics(metrics, time.time(), None)
                    wait = _METRICS_SECONDS

    def _write_metrics(self, metrics: MetricsFile, now: float, ending: Ending | None) -> None:
        try:
            metrics.write(now, self._clock() - self._began, ending)
        except OSError as error:
            self._problem(f"--metrics {self._options.metrics}", error)

    def _write_summary(self, path: Path, ended: float, ending: Ending) -> None:
        run = Finished(
            summary=self.summary,
            ending=ending,
            inputs=self._inputs,
            started=self._started,
            ended=ended,
            problems=tuple(self._problems.values()),
        )
        try:
            write_summary(path, run)
        except OSError as error:
            self._problem(f"--summary {path}", error)

    def _log_failed(self, error: OSError) -> None:
        self._problem(f"--log-file {self._options.log_file}", error)

    def _problem(self, what: str, error: OSError) -> None:
        """Tell once that a report could not be written."""
        if what in self._problems:
            return
        text = f"{what} could not be written: {error.strerror or error}. The run goes on without it."
        self._problems[what] = text
        if self.on_stderr:
            self._log.warning("report_failed", text)
        else:
            say(text)
