"""Target ``sqlite``: a database with a row for each image and a full-text index, as Datasette and sqlite-utils read it.

A new database is written beside the output and moved into place. One that is there is updated in one transaction, so
that programs that have it open see all of it or nothing, and a kill leaves it as it was.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

from batchcap import __version__
from batchcap.convert.files import check_ours, new_file
from batchcap.convert.hashes import Hashes
from batchcap.convert.journal_mark import JournalMark, mark
from batchcap.convert.sqlite_schema import FORMAT_VERSION, INDEXES, INSERT, TABLES, UPSERT, row
from batchcap.convert.work import Work
from batchcap.errors import OutputError, OutputLockedError
from batchcap.records import Record, key_of
from batchcap.system.output_files import check_place

_MAGIC: Final = b"SQLite format 3\0"
_BATCH: Final = 10_000
_WAIT_SECONDS: Final = 30.0
_BESIDE: Final = ("-journal", "-wal")
_LOCKED: Final = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_VALUES: Final = {
    "model": "SELECT DISTINCT model FROM captions",
    "decoding": "SELECT DISTINCT decoding FROM captions",
    "root": "SELECT DISTINCT root FROM captions",
}
_DAMAGED: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def convert(work: Work) -> None:
    """Write a row for each record, failures too; see `work.Target`."""
    output = Path(os.path.realpath(work.output))  # SQLite has its other files beside the real one
    check_place(output)
    now = mark(work.options.journal, work.reader.size)
    with _explained(output):
        if _is_ours(output):
            _update(work, output, now)
            return
        check_ours(output, work.options.overwrite)
        for ending in _BESIDE:
            left = output.with_name(output.name + ending)
            if left.exists():  # SQLite would take it for a part of the new database
                raise OutputError(
                    f"{left} belongs to another database.", "Close the programs that use it, or remove it."
                )
        _create(work, output, now)


@dataclass(slots=True)
class _Seen:
    """What the records of one conversion say besides their rows."""

    values: dict[str, set[str]] = field(default_factory=lambda: {"model": set(), "decoding": set(), "root": set()})
    keys: Hashes = field(default_factory=Hashes)

    def add(self, record: Record) -> None:
        self.values["model"].add(record.model)
        self.values["decoding"].add(record.decoding)
        if record.root is not None:
            self.values["root"].add(record.root)
        self.keys.add(record.key)


def _create(work: Work, output: Path, now: JournalMark) -> None:
    seen, tally = _Seen(), work.tally
    with (
        new_file(output, work.options.overwrite) as new,
        closing(sqlite3.connect(new.path, isolation_level=None)) as database,
    ):
        # Until it is moved into place nobody reads it, and after a kill it is written anew.
        database.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")
        database.executescript(TABLES)
        database.execute("BEGIN")
        for batch in _batches(work.records()):
            database.executemany(INSERT, list(map(row, batch)))
            tally.count(batch)
            for record in batch:
                seen.add(record)
        _remember(database, now, seen)
        database.execute("COMMIT")
        database.executescript(INDEXES)


def _update(work: Work, output: Path, now: JournalMark) -> None:
    """Bring an older database up to date, and touch the rows alone that change."""
    with closing(sqlite3.connect(output, timeout=_WAIT_SECONDS, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        meta = dict(database.execute("SELECT key, value FROM batchcap_meta"))
        _check_version(output, meta)
        known = JournalMark(int(meta["journal_bytes"]), int(meta["journal_lines"]), meta["journal_hash"])
        goes_on = not work.options.overwrite and known.fits(work.options.journal, work.reader.size)
        records = (
            work.reported(work.reader.last_records(known.lines, known.bytes), "converting")
            if goes_on
            else work.records()
        )
        seen, changed = _Seen(), 0
        for batch in _batches(records):
            changed += _upsert(database, work, batch)
            for record in batch:
                seen.add(record)
        removed = 0 if goes_on else _remove_others(database, seen)
        if removed:
            work.tally.notes.append(f"{removed:,} rows are removed: their images are not in the journal any more.")
        captions, rows = database.execute("SELECT count(caption), count(*) FROM captions").fetchone()
        work.tally.unchanged = captions - work.tally.written
        work.tally.failures = rows - captions
        if not (changed or removed) and known == now:
            database.execute("ROLLBACK")
            return
        if goes_on:
            for name, values in seen.values.items():
                values.update(json.loads(meta[f"{name}s"]))
                if len(values) > 1:  # an older one may stand in no row any more
                    values.intersection_update(value for (value,) in database.execute(_VALUES[name]))
        _remember(database, now, seen)
        database.execute("COMMIT")


def _upsert(database: sqlite3.Connection, work: Work, batch: list[Record]) -> int:
    """Write the records that are new or changed; how many."""
    captioned = [row(record) for record in batch if record.caption is not None]
    failed = [row(record) for record in batch if record.caption is None]
    written = database.executemany(UPSERT, captioned).rowcount if captioned else 0
    work.tally.written += written
    return written + (database.executemany(UPSERT, failed).rowcount if failed else 0)


def _remove_others(database: sqlite3.Connection, seen: _Seen) -> int:
    """Delete the rows of images that the journal does not have; how many."""
    (count,) = database.execute("SELECT count(*) FROM captions").fetchone()
    if count == len(seen.keys):
        return 0
    found = database.execute("SELECT id, path, member, path_b64 FROM captions")
    gone = [(number,) for number, path, member, b64 in found if key_of(path, b64, member) not in seen.keys]
    database.executemany("DELETE FROM captions WHERE id = ?", gone)
    return len(gone)


def _remember(database: sqlite3.Connection, now: JournalMark, seen: _Seen) -> None:
    """Write what the database was made of."""
    meta = {
        "format_version": FORMAT_VERSION,
        "batchcap": __version__,
        "journal_bytes": str(now.bytes),
        "journal_lines": str(now.lines),
        "journal_hash": now.hash,
        "models": json.dumps(sorted(seen.values["model"])),
        "decodings": json.dumps(sorted(seen.values["decoding"])),
        "roots": json.dumps(sorted(seen.values["root"])),
    }
    database.executemany("INSERT OR REPLACE INTO batchcap_meta VALUES (?, ?)", meta.items())


def _batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    rest = iter(records)
    while batch := list(islice(rest, _BATCH)):
        yield batch


def _is_ours(output: Path) -> bool:
    """Whether a database is there that an earlier conversion made; it may hold tables of others too."""
    if not output.exists():
        return False
    with output.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            return False
    with closing(sqlite3.connect(output, timeout=_WAIT_SECONDS)) as database:
        wanted = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name IN ('batchcap_meta', 'captions')"
        return bool(database.execute(wanted).fetchone()[0] == 2)


def _check_version(output: Path, meta: dict[str, str]) -> None:
    version = meta.get("format_version")
    if version != FORMAT_VERSION:
        raise OutputError(
            f"{output} has the tables of another version of batchcap (format {version}, not {FORMAT_VERSION}).",
            "Name another file.",
        )


@contextmanager
def _explained(output: Path) -> Iterator[None]:
    """Turn SQLite's errors into `OutputError`, with the file and the fix."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _LOCKED:
            raise OutputLockedError(
                f"Another program uses {output}: {error}.", "Wait until it ends, or close it, and run again."
            ) from error
        kept = "the database is as it was"
        if code == sqlite3.SQLITE_FULL:
            fix = f"Free some space and run again: {kept}."
        elif code in _DAMAGED:
            fix = "It is damaged: name another file, or remove it."
        elif "fts5" in str(error):
            fix = "This Python has an SQLite without FTS5: use another build of Python."
        else:
            fix = f"Give yourself the right to write the file and its folder, or name another; {kept}."
        raise OutputError(f"{output} cannot be written: {error}.", fix) from error
