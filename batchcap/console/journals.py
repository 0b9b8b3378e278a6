"""What commands found in journals and did to them, on standard output."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from batchcap.console.terminal import images, out, print_line, several

if TYPE_CHECKING:
    from batchcap.journal.compact import Compacted
    from batchcap.journal.damage import Damage
    from batchcap.journal.merge import Merged, Version

_SHOWN_TEXT: Final = 60
_UNCHANGED: Final = "  Nothing was changed (--dry-run)."


def show_damage(damage: Damage, *, dry_run: bool) -> None:
    """What `batchcap repair` found, and what it did, or would do."""
    console = out()
    for line in _damage_lines(damage, dry_run):
        print_line(console, line)


def _damage_lines(damage: Damage, dry_run: bool) -> Iterator[str]:
    if damage.is_sound:
        yield f"{damage.path} is sound: {several(damage.records, 'record')}, nothing to repair."
        return
    yield f"{damage.path}: {several(damage.lines, 'damaged line')}; {several(damage.records, 'record')} stay."
    if damage.header:
        yield "  The header is missing or damaged: it is written anew."
    if damage.saved:
        yield f"  Saved out of damaged lines: {several(damage.saved, 'whole record')}."
    for number, part in damage.examples:
        text = part.text[:_SHOWN_TEXT].decode("utf-8", "backslashreplace")
        yield f"  line {number}: {part.wrong}: {text}"
    if damage.rejected > len(damage.examples):
        yield f"  ... and {damage.rejected - len(damage.examples):,} more."
    yield from _image_lines(damage)
    if damage.rejects is not None:
        yield f"  What is no record was moved to the end of {damage.rejects}"
    if damage.backup is not None:
        yield f"  The file as it was: {damage.backup}"
    if dry_run:
        yield _UNCHANGED


def _image_lines(damage: Damage) -> Iterator[str]:
    if damage.lost_count:
        yield f"  The next run captions {images(damage.lost_count)} again: {_named(damage.lost, damage.lost_count)}"
    if damage.kept_count:
        yield f"  {images(damage.kept_count)} with a damaged line have another, whole record, which stays."
    if damage.unnamed:
        yield f"  {several(damage.unnamed, 'part')} of damaged lines do not say which image they were about."


def _named(first: list[str], count: int) -> str:
    """``a.jpg, b.jpg and 8 more``."""
    more = count - len(first)
    return ", ".join(first) + (f" and {more:,} more" if more else "")


def show_compacted(done: Compacted, *, dry_run: bool) -> None:
    """What `batchcap compact` did, or would do."""
    console = out()
    for line in _compacted_lines(done, dry_run):
        print_line(console, line)


def _compacted_lines(done: Compacted, dry_run: bool) -> Iterator[str]:
    if not done.is_needed:
        yield f"{done.path}: {several(done.records, 'record')}, nothing to leave out."
    else:
        sizes = f"{done.bytes_after:,} bytes in place of {done.bytes_before:,}"
        yield f"{done.path}: {several(done.records, 'record')} stay, {sizes}."
    if done.superseded:
        yield f"  Left out: {several(done.superseded, 'line')} that a later line of the same image replaces."
    if done.pruned:
        yield f"  Left out: {images(done.pruned)} no longer there: {_named(done.examples, done.pruned)}"
    if done.away:
        yield (
            f"  Not there, but they stay, because a disk may be missing: {images(done.away)}. "
            f"{done.away_folder} is empty or away; remove that folder if they were deleted."
        )
    if dry_run:
        yield _UNCHANGED


def show_merged(merged: Merged, *, dry_run: bool) -> None:
    """What `batchcap merge` did, or would do."""
    console = out()
    for line in _merged_lines(merged, dry_run):
        print_line(console, line)


def _merged_lines(merged: Merged, dry_run: bool) -> Iterator[str]:
    failures = merged.records - merged.captions
    yield f"{merged.output}: {images(merged.records)}, {merged.captions:,} with a caption, {failures:,} without."
    for each in merged.inputs:
        notes = f"; its last {several(each.torn, 'byte')} are no whole line" if each.torn else ""
        if each.in_use:
            notes += "; a run is writing it: what it writes from now on is not in the merged output"
        yield f"  {each.path}: {images(each.records)}, {each.kept:,} of them from here{notes}"
    for root, count in merged.moved.most_common():
        yield f"  {several(count, 'line')} had the root {root or '(not said)'}"
    if merged.shared:
        yield f"  In several inputs: {images(merged.shared)}; conflicts: {merged.conflicts:,}."
    for versions in merged.examples:
        yield f"  conflict: {versions[0].record.path}: {'; '.join(map(_version, versions))}"
    if merged.conflicts:
        yield "  Of each the last caption in the order of the inputs was kept."
    if merged.rescued:
        yield f"  Kept a caption where a later input has an error: {images(merged.rescued)}."
    if merged.ways > 1:
        yield f"  Made in {merged.ways} ways (model, preprocess, decoding): `batchcap status` shows them."
    if dry_run:
        yield _UNCHANGED


def _version(version: Version) -> str:
    record = version.record
    said = "an error" if record.error is not None else f'"{record.caption}"'
    return f"{said} ({version.path.name}, {record.model}, {record.decoding})"
