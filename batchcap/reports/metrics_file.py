"""The metrics of a run, and what they go on from: the counters and the last success of the file that was there."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

from batchcap.reports.ending import Ending
from batchcap.reports.metrics_text import METRICS, Samples, read_samples
from batchcap.reports.summary_file import kinds_without_caption, shown, stage_seconds, versions
from batchcap.run.figures import Summary
from batchcap.system.replaced_file import replace_file

# What is of earlier runs until this one has ended; counters besides.
_OF_LAST_RUN: Final = (
    "last_run_timestamp_seconds",
    "last_run_exit_code",
    "last_success_timestamp_seconds",
    "images_without_caption",
)
_KEPT: Final = (*_OF_LAST_RUN, *(name for name, metric in METRICS.items() if metric.kind == "counter"))


class MetricsFile:
    """The file of one run; every `write` replaces it whole."""

    def __init__(self, path: Path, summary: Summary, started: float) -> None:
        """Nothing is read or written yet.

        Args:
            path: the file.
            summary: counted into by the run.
            started: when the run began, in seconds since 1970.
        """
        self._path = path
        self._summary = summary
        self._started = started
        self._output = "-" if summary.output is None else shown(summary.output)
        self._versions = versions()
        self._earlier: Samples | None = None

    @property
    def is_due(self) -> bool:
        """Whether this run holds the output: until then the file may be that of another run."""
        return self._summary.output is None or self._summary.live is not None

    def write(self, now: float, seconds: float, ending: Ending | None = None) -> None:
        """Replace the file.

        Args:
            now: seconds since 1970.
            seconds: how long the run is at work.
            ending: how it has ended; None: it goes on.

        Raises:
            OSError: it cannot be written; the old file is as it was.
        """
        if self._earlier is None:
            self._earlier = self._read()
        samples = Samples(self._output)
        samples.take(self._earlier, _KEPT)
        if self._summary.records is None:
            samples.take(self._earlier, ("output_records",))
        self._set_present(samples, now, seconds)
        self._count(samples, seconds)
        if ending is not None:
            self._set_ended(samples, now, ending)
        replace_file(self._path, samples.text().encode())

    def _read(self) -> Samples:
        try:
            text = self._path.read_bytes().decode("utf-8", "replace")  # `read_text` would change a name with a CR
        except FileNotFoundError:
            return Samples(self._output)
        return read_samples(text, self._output)

    def _set_present(self, samples: Samples, now: float, seconds: float) -> None:
        summary = self._summary
        made_with = summary.fingerprint
        labels = self._versions | {
            "model": made_with.model if made_with else "",
            "decoding": made_with.decoding if made_with else "",
            "device": summary.device,
        }
        samples.set("info", 1, labels)
        samples.set("running", 1)
        samples.set("updated_timestamp_seconds", now)
        samples.set("run_start_timestamp_seconds", self._started)
        samples.set("run_duration_seconds", seconds)
        for state in ("captioned", "found_again", "failed", "skipped"):
            samples.set("run_images", getattr(summary, state), {"state": state})
        if summary.records is not None:
            samples.set("output_records", summary.records)
        file = summary.live or summary.output
        with suppress(OSError):
            if file is not None:
                samples.set("output_bytes", file.stat().st_size)

    def _count(self, samples: Samples, seconds: float) -> None:
        summary = self._summary
        samples.increase("images_captioned_total", summary.captioned)
        for (stage, kind), count in tuple(summary.failed_kinds.items()):
            samples.increase("images_failed_total", count, {"stage": stage, "kind": kind})
        samples.increase("image_bytes_total", summary.bytes)
        samples.increase("run_seconds_total", seconds)
        for stage, spent in stage_seconds(summary).items():
            samples.increase("stage_seconds_total", spent, {"stage": stage})

    def _set_ended(self, samples: Samples, now: float, ending: Ending) -> None:
        samples.set("running", 0)
        samples.set("last_run_timestamp_seconds", now)
        samples.set("last_run_exit_code", ending.exit_code)
        samples.increase("runs_total", 1, {"exit_code": str(ending.exit_code)})
        if ending.exit_code == 0:
            samples.set("last_success_timestamp_seconds", now)
        if ending.outcome == "finished" and not self._summary.limited:
            samples.values.pop("images_without_caption", None)
            for (stage, kind), count in kinds_without_caption(self._summary).items():
                samples.set("images_without_caption", count, {"stage": stage, "kind": kind})
