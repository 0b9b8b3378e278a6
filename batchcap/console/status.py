"""What a journal holds, as tables on standard output."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from rich.table import Table
from rich.text import Text

from batchcap.console.tables import show_facts
from batchcap.console.terminal import duration, images, out, plain, several

if TYPE_CHECKING:
    from batchcap.journal.status import FailureKind, JournalStatus, MadeWith, Rooted

_MIB: Final = 1024 * 1024
_IN_USE: Final = {True: "a run writes it now", False: "no run holds it now", None: "its file system has no locks"}


def show_status(status: JournalStatus) -> None:
    """What `batchcap status` found."""
    console = out()
    show_facts(console, status.path, _rows(status))
    if status.failure_kinds:
        console.print()
        console.print(_failures(status.failure_kinds))
    if status.made_with:
        console.print()
        console.print(_made_with(status.made_with))


def _rows(status: JournalStatus) -> list[tuple[str, str]]:
    rows = [
        ("images", f"{status.images:,}"),
        ("captions", f"{status.captions:,}" + (f", {status.damaged:,} of damaged images" if status.damaged else "")),
        ("failures", f"{status.failures:,}"),
        ("lines", f"{status.lines:,}" + _superseded(status.superseded)),
        ("size", f"{_size(status.bytes)}, {status.format.upper()}"),
    ]
    if status.torn_bytes:
        why = "it is being written" if status.in_use else "the next run cuts them"
        rows.append(("torn", f"the last {several(status.torn_bytes, 'byte')} are no whole line: {why}"))
    rows += [("root" if len(status.roots) == 1 else "roots", _root(root, len(status.roots))) for root in status.roots]
    rows.append(("last write", f"{_time(status.written)}; {_IN_USE[status.in_use]}"))
    if status.unfinished is not None:
        new = status.unfinished
        what = "is being written" if status.in_use else "the same command with --overwrite goes on with it"
        rows.append(("unfinished", f"{new.path}, {_size(new.bytes)}, {_time(new.written)}: {what}"))
    return rows


def _superseded(count: int) -> str:
    return f"; {count:,} of them replaced by later ones (batchcap compact takes them out)" if count else ""


def _root(rooted: Rooted, of: int) -> str:
    name = "not said (an older version wrote them)" if rooted.root is None else rooted.root
    return name if of == 1 and rooted.root is not None else f"{name}: {images(rooted.images)}"


def _failures(kinds: tuple[FailureKind, ...]) -> Table:
    table = Table(title="Failures", title_justify="left")
    table.add_column("stage", no_wrap=True)
    table.add_column("kind", style="cyan", no_wrap=True)
    table.add_column("images", justify="right", no_wrap=True)
    table.add_column("such as", overflow="fold")
    for kind in kinds:
        examples = Text("\n").join(plain(f"{each.path}: {each.message}") for each in kind.examples)
        table.add_row(kind.stage, plain(kind.kind), f"{kind.images:,}", examples)
    return table


def _made_with(ways: tuple[MadeWith, ...]) -> Table:
    table = Table(title="Made with", title_justify="left")
    table.add_column("model, preprocess, decoding")
    table.add_column("captions", justify="right", no_wrap=True)
    table.add_column("failures", justify="right", no_wrap=True)
    for way in ways:
        how = plain(f"{way.model}, {way.preprocess}, {way.decoding}")
        table.add_row(how, f"{way.captions:,}", f"{way.failures:,}")
    return table


def _size(size: int) -> str:
    return f"{size / _MIB:,.1f} MiB" if size >= _MIB else several(size, "byte")


def _time(when: datetime) -> str:
    """In the local time zone; how long ago, unless the clock was turned back since."""
    ago = (datetime.now(UTC) - when).total_seconds()
    local = when.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return f"{local} ({duration(ago)} ago)" if ago >= 0 else local
