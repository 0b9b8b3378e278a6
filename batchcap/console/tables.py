"""What a bundle is, what was checked, what was measured: tables on standard output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from rich.table import Table
from rich.text import Text

from batchcap.console.terminal import out, plain, print_line, several

if TYPE_CHECKING:
    from rich.console import Console

    from batchcap.bundle.bundle import Bundle
    from batchcap.bundle.manifest import Manifest, Metric, Variant
    from batchcap.tools.bench import BenchReport
    from batchcap.tools.doctor import Diagnosis
    from batchcap.tools.verify import Check

_MIB: Final = 1024 * 1024


def show_captions(rows: Sequence[tuple[str, str, float | None]], title: str) -> None:
    """Images, their captions, and p = exp(log_prob) of each; None where there is no caption."""
    from batchcap.journal.scores import probability

    table = Table(title=plain(title), title_justify="left")
    table.add_column("image", style="cyan", no_wrap=True)
    table.add_column("caption")
    table.add_column("p", justify="right", no_wrap=True)
    for image, caption, log_prob in rows:
        table.add_row(plain(image), plain(caption), probability(log_prob, digits=3))
    out().print(table)


def show_facts(console: Console, title: str, rows: Sequence[tuple[str, str]]) -> None:
    """Names and values under a title, without lines. Elsewhere than on a terminal a value is not cut in two."""
    if not console.is_terminal:
        width = max(len(name) for name, _ in rows)
        for line in (title, *(f"  {name:<{width}}    {value}" for name, value in rows)):
            console.print(plain(line), soft_wrap=True)
        return
    table = Table(title=plain(title), title_justify="left", show_header=False, box=None, padding=(0, 2))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(plain(name), plain(value))
    console.print(table)


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
    console = out()
    show_facts(console, f"{manifest.name} {manifest.version}", rows)
    if bundle.variants:
        console.print(_variants(bundle.variants))
    if manifest.provenance.metrics:
        console.print(_scores(manifest.provenance.metrics))
    files = Table("file", "MiB", "SHA-256", title="Files", title_justify="left")
    for name, entry in manifest.files.items():
        files.add_row(plain(name), f"{entry.bytes / _MIB:.2f}", entry.sha256[:16])
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
        table.add_row(name, changed, cider, "yes" if variant.equivalent else "no", plain(variant.signature))
    return table


def _scores(metrics: Sequence[Metric]) -> Table:
    """Figures that were measured alike share a row: the settings are long."""
    table = Table(title="Scores", title_justify="left", show_lines=True)
    table.add_column("figures", no_wrap=True)
    table.add_column("measured how", overflow="fold")
    for signature in dict.fromkeys(metric.signature for metric in metrics):
        rows = [f"{metric.name} {metric.value:.4g}" for metric in metrics if metric.signature == signature]
        table.add_row(Text("\n").join(map(plain, rows)), plain(signature))
    return table


def show_diagnosis(diagnosis: Diagnosis) -> None:
    """What `batchcap doctor` found."""
    console = out()
    show_facts(console, "Versions", diagnosis.versions)
    console.print()
    rows = [
        (check.device, check.result if check.works else f"does not work: {check.result}") for check in diagnosis.devices
    ]
    show_facts(console, "Devices, each tried with one image", rows)
    console.print()
    print_line(console, diagnosis.gpu)
    if diagnosis.clash:
        console.print()
        print_line(console, diagnosis.clash)


def show_check(check: Check) -> None:
    """One line of `batchcap verify`."""
    mark = Text("ok    ", "green") if check.passed else Text("FAILED", "bold red")
    name, result, console = plain(f"{check.name:<18}"), plain(check.result), out()
    if console.is_terminal:  # a long result goes on in its own column
        line = Table.grid("", "", "", padding=(0, 1))
        line.add_row(mark, name, result)
        console.print(line)
    else:
        console.print(mark, name, result, soft_wrap=True)


def show_verdict(failed: Sequence[str]) -> None:
    """The last line of `batchcap verify`."""
    names = ", ".join(dict.fromkeys(failed))
    out().print(plain(f"{several(len(failed), 'check')} failed: {names}." if failed else "All holds."))


def _figure(value: float) -> str:
    return f"{value:,.1f}" if value >= 10 else f"{value:.3g}"


def show_bench(report: BenchReport) -> None:
    """The figures of `batchcap bench`."""
    table = Table(title=plain(report.title), title_justify="left")
    table.add_column("part")
    table.add_column("median", justify="right")
    table.add_column("unit")
    table.add_column("runs")
    for part in report.parts:
        table.add_row(plain(part.name), _figure(part.median), part.unit, ", ".join(map(_figure, part.runs)))
    out().print(table)
