"""What is in a database that a conversion wrote: helpers of the tests of target sqlite."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any


def query(path: Path, sql: str, *values: object) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute(sql, values).fetchall()


def found(path: Path, words: str) -> set[str]:
    """The images that the full-text search finds."""
    sql = "SELECT path FROM captions WHERE id IN (SELECT rowid FROM captions_fts WHERE captions_fts MATCH ?)"
    return {each for (each,) in query(path, sql, words)}


def check(path: Path) -> None:
    """The database is whole, and its index of words says what its rows say."""
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        database.execute("INSERT INTO captions_fts (captions_fts, rank) VALUES ('integrity-check', 1)")


def touched(out: Path) -> Iterator[str]:
    """Notes the images whose rows are written from now on."""
    with closing(sqlite3.connect(out)) as database:
        database.execute("CREATE TABLE touched (path TEXT)")
        for event in ("INSERT", "UPDATE"):
            database.execute(
                f"CREATE TRIGGER touched_{event} AFTER {event} ON captions "
                "BEGIN INSERT INTO touched VALUES (new.path); END"
            )
        database.commit()
    yield "ready"
    yield from (path for (path,) in query(out, "SELECT path FROM touched ORDER BY rowid"))
