"""Metrics in the text format of Prometheus, version 0.0.4, and what an earlier file of batchcap says.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

PREFIX: Final = "batchcap_"
_SERIES: Final = re.compile(r"(?P<series>(?P<name>batchcap_\w+)\{.*\}) (?P<value>\S+)")
_OURS: Final = ("batchcap_", "# HELP batchcap_", "# TYPE batchcap_")

Labels: TypeAlias = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric as `METRICS` declares it."""

    kind: Literal["counter", "gauge"]
    help: str


METRICS: Final[dict[str, Metric]] = {
    "info": Metric("gauge", "Always 1; its labels are the versions, the model and the device of the run."),
    "running": Metric("gauge", "1 while a run is at work; it stays 1 after a run that was killed."),
    "updated_timestamp_seconds": Metric("gauge", "When this file was written."),
    "run_start_timestamp_seconds": Metric("gauge", "When the present run began, or the last one."),
    "run_duration_seconds": Metric("gauge", "How long the present run is at work, or the last one was."),
    "run_images": Metric("gauge", "Images of the present run, or of the last one, by what became of them."),
    "last_run_timestamp_seconds": Metric("gauge", "When the last run that was not killed ended."),
    "last_run_exit_code": Metric("gauge", "The exit code of that run."),
    "last_success_timestamp_seconds": Metric("gauge", "When the last run with exit code 0 ended."),
    "images_without_caption": Metric(
        "gauge", "Images of the inputs without a caption, by cause; of the last run that came to its end."
    ),
    "output_records": Metric("gauge", "Finished records of the output."),
    "output_bytes": Metric("gauge", "Size of the output."),
    "runs_total": Metric("counter", "Runs that ended, by exit code."),
    "images_captioned_total": Metric("counter", "Images captioned by all runs."),
    "images_failed_total": Metric("counter", "Images without a caption in all runs, by stage and kind."),
    "image_bytes_total": Metric("counter", "Bytes of the image files that all runs have taken in."),
    "stage_seconds_total": Metric("counter", "Where the time of all runs went; load is the sum over all threads."),
    "run_seconds_total": Metric("counter", "How long all runs were at work."),
}
"""Every metric by its name without `PREFIX`. ``docs/operations.md`` explains them."""


@dataclass(slots=True)
class Samples:
    """The values of one file, all with the same first label."""

    output: str
    """The label ``output``."""
    values: dict[str, dict[str, float]] = field(default_factory=dict)
    """By metric, and by series: ``batchcap_running{output="/srv/captions.jsonl"}``."""

    def series(self, name: str, labels: Labels | None = None) -> str:
        """A metric with its labels, as the file has it."""
        pairs = {"output": self.output, **(labels or {})}
        shown = ",".join(f'{key}="{_escaped(text)}"' for key, text in pairs.items())
        return f"{PREFIX}{name}{{{shown}}}"

    def set(self, name: str, value: float, labels: Labels | None = None) -> None:
        """Set the value of one series."""
        self.values.setdefault(name, {})[self.series(name, labels)] = float(value)

    def increase(self, name: str, value: float, labels: Labels | None = None) -> None:
        """Add to the value of one series."""
        self.set(name, self.get(name, labels) + value, labels)

    def get(self, name: str, labels: Labels | None = None) -> float:
        """The value of one series; 0 where there is none."""
        return self.values.get(name, {}).get(self.series(name, labels), 0.0)

    def take(self, earlier: Samples, names: Iterable[str]) -> None:
        """Take over all series of some metrics."""
        for name in names:
            if name in earlier.values:
                self.values[name] = dict(earlier.values[name])

    def text(self) -> str:
        """The file."""
        lines = []
        for name, metric in METRICS.items():
            if found := self.values.get(name):
                lines += [f"# HELP {PREFIX}{name} {metric.help}", f"# TYPE {PREFIX}{name} {metric.kind}"]
                lines += [f"{series} {_number(value)}" for series, value in found.items()]
        return "".join(f"{line}\n" for line in lines)


def read_samples(text: str, output: str) -> Samples:
    """What a file of batchcap says of one output; lines that are not understood are left out."""
    found = Samples(output)
    for line in text.split("\n"):
        match = _SERIES.fullmatch(line)
        if match is None:
            continue
        name, series = match["name"].removeprefix(PREFIX), match["series"]
        start = found.series(name).removesuffix("}")
        if name in METRICS and series.startswith((f"{start},", f"{start}}}")):
            try:
                value = float(match["value"])
            except ValueError:
                continue
            if math.isfinite(value):
                found.values.setdefault(name, {})[series] = value
    return found


def is_metrics(start: bytes) -> bool:
    """Whether a file that begins so holds metrics of batchcap alone."""
    lines = start.decode("utf-8", "replace").split("\n")
    return all(line.startswith(_OURS) for line in lines[:-1])


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)
