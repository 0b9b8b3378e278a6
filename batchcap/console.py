"""Everything a person sees in the terminal: progress, summaries, tables, errors. The only file that uses rich."""

from __future__ import annotations

import re
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Self

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from batchcap.errors import BatchcapError

if TYPE_CHECKING:
    from batchcap.bench import BenchReport
    from batchcap.bundle import Bundle, Manifest, Metric, Variant
    from batchcap.doctor import Diagnosis
    from batchcap.progress import Progress, Summary
    from batchcap.records import Record
    from batchcap.verify import Check

LINE_SECONDS: Final = 30.0
_MIB: Final = 1024 * 1024
# What a terminal would obey instead of showing it, what turns the direction of writing, and what UTF-8 cannot hold.
_INVISIBLE: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def _err() -> Console:
    """A console on today's standard error: tests and callers may have replaced it."""
    return Console(stderr=True, highlight=False)


def _out() -> Console:
    return Console(highlight=False)


def visible(text: str) -> str:
    """The text with a backslash escape for every control character but tab and line feed.

    File names may hold anything; all text of others passes here on its way to the terminal.
    """
    return _INVISIBLE.sub(lambda match: match.group().encode("unicode_escape").decode(), text)


def _text(text: str, style: str = "") -> Text:
    """Text without markup."""
    return Text(visible(text), style)


# Errors


def show_error(error: BatchcapError, verbosity: int = 0) -> None:
    """One panel, or plain lines where nobody watches: what is wrong, where, and the fix."""
    console = _err()
    if verbosity > 1:
        _show_traceback(error)
    if console.is_terminal:
        body = _text(error.message)
        if error.fix:
            body.append_text(_text(f"\n{error.fix}", "green"))
        console.print(Panel(body, title=escape(error.title), title_align="left", border_style="red"))
        return
    sys.stderr.write(visible(f"{error.title}: {error.message}\n"))
    if error.fix:
        sys.stderr.write(visible(f"{error.fix}\n"))


def show_bug(error: Exception, verbosity: int = 0) -> None:
    """An error nobody foresaw."""
    if verbosity > 1:
        _show_traceback(error)
        return
    text = f"{type(error).__name__}: {error}".rstrip(": ")
    unforeseen = BatchcapError(text, "Nothing that was written is lost. Run again with -vv and report what it shows.")
    unforeseen.title = "This is a bug in batchcap"
    show_error(unforeseen)


def _show_traceback(error: BaseException) -> None:
    sys.stderr.write(visible("".join(traceback.format_exception(error))))


def say(text: str) -> None:
    """One plain line on standard error."""
    _err().print(_text(text), soft_wrap=True)


# Progress


class Display:
    """Shows how far a run is; the object is the callback that `pipeline.run` calls, and a context to run it in.

    Args:
        shown: False shows only what ``verbosity`` asks for.
        verbosity: 1 and more names every image that failed, when it fails.
        clock: seconds, monotonic.
    """

    def __init__(self, shown: bool = True, verbosity: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = _err()
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
                self._console.print(_text(_failure_line(record), "yellow"), soft_wrap=True)
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
            self._console.print(_text(_progress_text(progress, now - self._started)), soft_wrap=True)


class Steps:
    """Shows how far long jobs are, one after the other; the object is a callback (what, done, total), and a context."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = _err()
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
    parts = [f"{seen:,} images" if progress.total is None else f"{seen:,} of {progress.total:,} images", _rate(rate)]
    if progress.total is not None and rate > 0:
        parts.append(f"{duration(max(0, progress.total - seen) / rate)} left")
    if progress.failed:
        parts.append(f"{progress.failed:,} failed")
    return ", ".join(parts)


def _failure_line(record: Record) -> str:
    error = record.error
    reason = f"{error.stage}, {error.kind}: {error.message}" if error is not None else "no reason was noted"
    return f"failed: {record.path}: {reason}"


def _rate(rate: float) -> str:
    return f"{rate:,.0f} images/s" if rate >= 10 else f"{rate:.1f} images/s"


def duration(seconds: float) -> str:
    """``0.8 s``, ``42 s``, ``5 min 10 s``, ``3 h 20 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, whole = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{whole} s"
    hours, minutes_left = divmod(minutes, 60)
    return f"{minutes} min {whole} s" if hours == 0 else f"{hours} h {minutes_left} min"


def _several(count: int, thing: str) -> str:
    return f"1 {thing}" if count == 1 else f"{count:,} {thing}s"


def _images(count: int) -> str:
    return _several(count, "image")


# Summaries


def show_summary(summary: Summary, verbosity: int = 0) -> None:
    """The closing lines of a run; 1 and more says why there is no GPU in it."""
    where = "standard output" if summary.output is None else str(summary.output)
    if summary.interrupted is not None:
        return say(_stopped_text(summary, where))
    done = summary.captioned + summary.failed
    if done == 0:
        known = f"all {_images(summary.skipped)} are already in {where}" if summary.skipped else "there is no image"
        return say(f"Nothing new: {known}.")
    for line in _summary_lines(summary, where):
        say(line)
    if verbosity and summary.device_note:
        say(f"  on the CPU because: {summary.device_note}")
    return None


def _stopped_text(summary: Summary, where: str) -> str:
    if summary.output is None:
        return f"Stopped: {_images(summary.captioned + summary.failed)} written to {where}."
    safe = _several(summary.safe, "record")
    if summary.committed:
        return f"Stopped when all was done: {safe} in {where}."
    if summary.overwrite:
        beside = f"; {safe} of the new output in {where}.partial" if summary.safe else ""
        return f"Stopped: {where} was not touched{beside}."
    return f"Stopped: {safe} safe in {where}; the same command goes on from there."


def _summary_lines(summary: Summary, where: str) -> Iterable[str]:
    seconds, made_with = summary.seconds, summary.fingerprint
    assert made_with is not None  # something was captioned
    rate = _rate(summary.captioned / summary.wall)
    yield (
        f"Captioned {_images(summary.captioned)} in {duration(summary.wall)} ({rate}) "
        f"on {summary.device} with {made_with.model}, {made_with.decoding}."
    )
    yield (
        f"  read+decode {duration(seconds.load)} (summed over threads), encode {duration(seconds.encode)}, "
        f"search {duration(seconds.search)}, write {duration(seconds.write)}"
    )
    if summary.skipped:
        yield f"  {_images(summary.skipped)} skipped: already in the output."
    if summary.failed:
        whose = "its record says" if summary.failed == 1 else "their records say"
        yield f"  {_images(summary.failed)} failed; {whose} why:"
        yield from (f"    {_failure_line(record)}" for record in summary.failures)
        if summary.failed > len(summary.failures):
            yield f"    and {summary.failed - len(summary.failures):,} more"
    yield f"  {where}"


# Tables


def show_captions(rows: Sequence[tuple[str, str, float | None]], title: str) -> None:
    """Pictures, their captions, and p = exp(log_prob) of each; None where there is no caption."""
    from batchcap.formats import probability

    table = Table(title=_text(title), title_justify="left")
    table.add_column("picture", style="cyan", no_wrap=True)
    table.add_column("caption")
    table.add_column("p", justify="right", no_wrap=True)
    for picture, caption, log_prob in rows:
        table.add_row(_text(picture), _text(caption), probability(log_prob, digits=3))
    _out().print(table)


def _facts(title: str, rows: Iterable[tuple[str, str]]) -> Table:
    table = Table(title=_text(title), title_justify="left", show_header=False, box=None, padding=(0, 2))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(_text(name), _text(value))
    return table


def show_bundle(bundle: Bundle) -> None:
    """What a bundle is and expects."""
    manifest = bundle.manifest
    how, tokens, generation = manifest.preprocess, manifest.tokens, manifest.generation
    grid = manifest.attention_grid
    resize = f"{how.method} to {how.resize_height}x{how.resize_width}, {how.fit}, {how.pixels}"
    special = ", ".join(f"{bundle.vocabulary.words[i]} {i}" for i in (tokens.start, tokens.end))
    rows = [
        ("label", bundle.label),
        ("folder", str(bundle.folder)),
        ("architecture", manifest.provenance.architecture),
        ("input", f"{how.height}x{how.width} RGB; {resize}"),
        ("vocabulary", f"{manifest.vocabulary_size:,} words; {special}"),
        ("attention", f"{grid[0]}x{grid[1]} regions" if grid else "none"),
        (
            "decoding",
            f"{generation.method}, up to {generation.max_length} words, penalty {generation.length_penalty:g}",
        ),
        ("text", _written(manifest)),
        ("trained on", manifest.provenance.data),
        ("terms", manifest.provenance.terms),
        ("opset", str(manifest.opset)),
        ("made with", ", ".join(f"{tool} {version}" for tool, version in manifest.tools.items())),
    ]
    console = _out()
    console.print(_facts(f"{manifest.name} {manifest.version}", rows))
    if bundle.variants:
        console.print(_variants(bundle.variants))
    if manifest.provenance.metrics:
        console.print(_scores(manifest.provenance.metrics))
    files = Table("file", "MiB", "SHA-256", title="Files", title_justify="left")
    for name, entry in manifest.files.items():
        files.add_row(_text(name), f"{entry.bytes / _MIB:.2f}", entry.sha256[:16])
    console.print(files)


def _written(manifest: Manifest) -> str:
    text = manifest.text
    attached = {*text.no_space_before, *text.no_space_after}
    counts = {"without a space": len(attached), "contractions": len(text.contractions)}
    return ", ".join([text.subwords or "whole words", *(f"{count} {what}" for what, count in counts.items() if count)])


def _variants(variants: Mapping[Any, Variant]) -> Table:
    """What the bundle has beside fp32, and what each costs."""
    title = "Precisions beside fp32"
    table = Table("precision", "captions changed", "CIDEr", "equivalent", title=title, title_justify="left")
    table.add_column("measured how", overflow="fold")
    for name, variant in variants.items():
        cider = "" if variant.cider is None else f"{variant.cider:.4f} (fp32 {variant.cider_fp32:.4f})"
        changed = f"{variant.changed:,} of {variant.images:,} ({variant.share:.1%})"
        table.add_row(name, changed, cider, "yes" if variant.equivalent else "no", _text(variant.signature))
    return table


def _scores(metrics: Sequence[Metric]) -> Table:
    """Figures that were measured alike share a row: the settings are long."""
    table = Table("figures", "measured how", title="Scores", title_justify="left", show_lines=True)
    for signature in dict.fromkeys(metric.signature for metric in metrics):
        rows = [f"{metric.name} {metric.value:.4g}" for metric in metrics if metric.signature == signature]
        table.add_row(_text("\n".join(rows)), _text(signature))
    return table


def show_diagnosis(diagnosis: Diagnosis) -> None:
    """What `batchcap doctor` found."""
    console = _out()
    console.print(_facts("Versions", diagnosis.versions))
    console.print()
    rows = [
        (check.device, check.result if check.works else f"does not work: {check.result}") for check in diagnosis.devices
    ]
    console.print(_facts("Devices, each tried with one image", rows))
    console.print()
    console.print(_text(diagnosis.gpu), soft_wrap=True)


def show_check(check: Check) -> None:
    """One line of `batchcap verify`."""
    mark = Text("ok    ", "green") if check.passed else Text("FAILED", "bold red")
    name, result, console = _text(f"{check.name:<18}"), _text(check.result), _out()
    if console.is_terminal:  # a long result goes on in its own column
        line = Table.grid("", "", "", padding=(0, 1))
        line.add_row(mark, name, result)
        console.print(line)
    else:
        console.print(mark, name, result, soft_wrap=True)


def show_verdict(failed: Sequence[str]) -> None:
    """The last line of `batchcap verify`."""
    names = ", ".join(dict.fromkeys(failed))
    _out().print(_text(f"{_several(len(failed), 'check')} failed: {names}." if failed else "All holds."))


def _figure(value: float) -> str:
    return f"{value:,.1f}" if value >= 10 else f"{value:.3g}"


def show_bench(report: BenchReport) -> None:
    """The figures of `batchcap bench`."""
    table = Table(title=_text(report.title), title_justify="left")
    table.add_column("part")
    table.add_column("median", justify="right")
    table.add_column("unit")
    table.add_column("runs")
    for part in report.parts:
        table.add_row(_text(part.name), _figure(part.median), part.unit, ", ".join(map(_figure, part.runs)))
    _out().print(table)
