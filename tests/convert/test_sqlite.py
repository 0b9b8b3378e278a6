"""Target sqlite: read with sqlite-utils and Datasette; only what changed is touched."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlite_utils
from conversions import ROOT, best_of, converted, failure, journal, record
from datasette.app import Datasette
from journals import AWKWARD, FORMATS, SECOND
from sqlite_files import check, found, query, touched

from batchcap.convert import target_sqlite
from batchcap.options.output import Format


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "captions.db"


@pytest.mark.parametrize("format", FORMATS)
def test_every_record_is_a_row(tmp_path: Path, out: Path, format: Format) -> None:
    odd = "IMG_\ufffd.jpg"
    records = [
        record("a.jpg", "a dog", sha256="ab" * 32, damaged="the file ends early"),
        record("trip.zip::b.jpg", "two cats", member="b.jpg"),
        record(odd, "one", path_b64="SU1HX/8uanBn"),
        record(odd, "other", path_b64="SU1HX/4uanBn"),
        failure("bad.jpg"),
        record("a.jpg", "a brown dog"),
    ]
    tally = converted(journal(tmp_path / "j", records, format), out)
    assert (tally.written, tally.failures, tally.unchanged) == (4, 1, 0)
    check(out)
    kinds = query(
        out, "SELECT caption, typeof(score), typeof(width), typeof(mtime_us), root FROM captions WHERE id = 1"
    )
    assert query(out, "SELECT path, caption FROM captions WHERE path_b64 = 'SU1HX/4uanBn'") == [(odd, "other")]
    assert kinds == [("two cats", "real", "integer", "integer", ROOT)]
    assert query(out, "SELECT count(*) FROM captions WHERE path = 'a.jpg' AND caption = 'a brown dog'") == [(1,)]
    assert query(out, "SELECT path, error_stage, error_kind, error_message FROM failures") == [
        ("bad.jpg", "decode", "corrupt", "no")
    ]
    assert query(out, "SELECT * FROM failure_kinds") == [("decode", "corrupt", 1, "bad.jpg")]
    meta = dict(query(out, "SELECT * FROM batchcap_meta"))
    assert json.loads(meta["models"]) == [records[0].model]
    assert json.loads(meta["roots"]) == [ROOT]
    assert json.loads(meta["decodings"]) == [records[0].decoding]


def test_awkward_texts_survive(tmp_path: Path, out: Path) -> None:
    converted(journal(tmp_path / "j", AWKWARD), out)
    wanted = [(each.path, each.caption, each.error and each.error.message) for each in AWKWARD]
    assert query(out, "SELECT path, caption, error_message FROM captions ORDER BY id") == wanted


def test_all_captions_are_rows_of_a_view(tmp_path: Path, out: Path) -> None:
    converted(journal(tmp_path / "j", [best_of("a.jpg", "a dog", "two dogs"), record("b.jpg")]), out)
    assert query(out, "SELECT path, rank, caption, log_prob, score FROM n_best ORDER BY rank") == [
        ("a.jpg", 1, "a dog", -8.0, -1.0),
        ("a.jpg", 2, "two dogs", -9.0, -1.1),
    ]


# The programs of its users


def test_sqlite_utils_finds_a_caption(tmp_path: Path, out: Path) -> None:
    converted(journal(tmp_path / "j", [record("a.jpg", "two dogs play"), record("b.jpg", "a cat")]), out)
    database = sqlite_utils.Database(out)
    table = database.table("captions")
    assert table.detect_fts() == "captions_fts"
    assert [each["path"] for each in table.search("dog")] == ["a.jpg"]
    assert table.has_counts_triggers is False
    assert {index.name for index in table.indexes} == {"captions_key"}
    done = subprocess.run(
        [sys.executable, "-m", "sqlite_utils", "search", out, "captions", "cats", "-c", "path"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == [{"path": "b.jpg"}]
    database.close()


def datasette(out: Path, *paths: str) -> list[Any]:
    """What Datasette answers, without a network."""

    async def ask() -> list[Any]:
        application = Datasette([str(out)])
        await application.invoke_startup()
        answers = [await application.client.get(path) for path in paths]
        assert [answer.status_code for answer in answers] == [200] * len(paths)
        return [answer.json() if ".json" in path else answer.text for path, answer in zip(paths, answers, strict=True)]

    return asyncio.run(ask())


def test_datasette_finds_a_caption(tmp_path: Path, out: Path) -> None:
    records = [
        record("a.jpg", "two dogs play"),
        record("b.jpg", "a cat"),
        failure("bad.jpg"),
        best_of("c.jpg", "a", "b"),
    ]
    converted(journal(tmp_path / "j", records), out)
    found, kinds, page, best = datasette(
        out,
        "/captions/captions.json?_search=dog&_shape=array",
        "/captions/failures.json?_shape=array",
        "/captions/captions?_facet=model",
        "/captions/n_best.json?_shape=array",
    )
    assert [(each["path"], each["caption"]) for each in found] == [("a.jpg", "two dogs play")]
    assert [each["error_kind"] for each in kinds] == ["corrupt"]
    assert 'name="_search"' in page
    assert "small@11111111" in page
    assert [each["rank"] for each in best] == [1, 2]


# Again


@pytest.mark.parametrize("format", FORMATS)
def test_ten_new_images_touch_ten_rows(
    format: Format, tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = [record(f"{n:03}.jpg", f"dog number {n}") for n in range(100)] + [failure("x.jpg")]
    source = journal(tmp_path / "j", first, format)
    converted(source, out)
    before = out.read_bytes()
    tally = converted(source, out)
    assert (tally.written, tally.unchanged, tally.failures) == (0, 100, 1)
    assert out.read_bytes() == before
    names = touched(out)
    next(names)
    new = [record(f"new{n}.jpg", f"cat number {n}") for n in range(8)]
    new += [record("007.jpg", "a better dog"), record("x.jpg", "it works now")]
    journal(source, first + new, format)
    # Only what is new is read.
    monkeypatch.setattr(target_sqlite.Work, "records", lambda *_: pytest.fail("all records are read"))
    tally = converted(source, out)
    assert (tally.written, tally.unchanged, tally.failures) == (10, 99, 0)
    assert sorted(names) == sorted(each.path for each in new)
    assert found(out, "better") == {"007.jpg"}
    assert found(out, "7") == {"new7.jpg"}
    check(out)
    monkeypatch.undo()
    fresh = tmp_path / "fresh.db"
    converted(source, fresh)
    without_id = "SELECT path, caption, score, error_kind, model FROM captions ORDER BY path"
    assert query(out, without_id) == query(fresh, without_id)


def test_a_compacted_journal_is_compared_as_a_whole(tmp_path: Path, out: Path) -> None:
    """Rows that changed are written, and rows whose image is gone are removed; the others stay."""
    source = journal(
        tmp_path / "j",
        [record("a.jpg", "old"), record("b.jpg"), record("gone.jpg", "a zebra"), record("a.jpg", "a dog")],
    )
    converted(source, out)
    names = touched(out)
    next(names)
    journal(source, [record("b.jpg"), record("a.jpg", "a horse"), failure("c.jpg")])
    tally = converted(source, out)
    assert (tally.written, tally.unchanged, tally.failures) == (1, 1, 1)
    assert tally.notes == ["1 rows are removed: their images are not in the journal any more."]
    assert list(names) == ["a.jpg", "c.jpg"]
    assert found(out, "zebra OR dog") == set()
    assert found(out, "horse") == {"a.jpg"}
    check(out)


def test_a_torn_line_is_taken_when_it_is_whole(tmp_path: Path, out: Path) -> None:
    source = journal(tmp_path / "j", [record("a.jpg"), record("b.jpg")])
    whole = source.read_bytes()
    source.write_bytes(whole[:-20])
    assert converted(source, out).written == 1
    source.write_bytes(whole.removesuffix(b"\n"))
    assert converted(source, out).written == 1
    source.write_bytes(whole + journal(tmp_path / "k", [record("c.jpg")]).read_bytes())
    assert converted(source, out).written == 1
    assert [path for (path,) in query(out, "SELECT path FROM captions ORDER BY id")] == ["a.jpg", "b.jpg", "c.jpg"]


def test_what_is_remembered_grows_with_the_journal(tmp_path: Path, out: Path) -> None:
    source = journal(tmp_path / "j", [record("a.jpg")])
    converted(source, out)
    other = msgspec.structs.replace(record("b.jpg"), model=SECOND.model, decoding=SECOND.decoding)
    journal(source, [record("a.jpg"), other])
    converted(source, out)
    meta = dict(query(out, "SELECT * FROM batchcap_meta"))
    assert json.loads(meta["models"]) == sorted([record("a.jpg").model, SECOND.model])
    assert int(meta["journal_bytes"]) == source.stat().st_size


def test_an_image_that_was_captioned_often_counts_once(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lines come in several batches. What was made otherwise before stands in no row any more."""
    monkeypatch.setattr(target_sqlite, "_BATCH", 3)
    old = [record(f"{n}.jpg") for n in range(4)]
    source = journal(tmp_path / "j", old)
    converted(source, out)
    newer = [msgspec.structs.replace(each, caption=text, model=text) for text in ("b", "c") for each in old[:3]]
    tally = converted(journal(source, [*old, *newer]), out)
    assert (tally.written, tally.unchanged, tally.failures) == (3, 1, 0)
    assert query(out, "SELECT caption FROM captions ORDER BY id") == [("c",), ("c",), ("c",), (old[3].caption,)]
    meta = dict(query(out, "SELECT * FROM batchcap_meta"))
    assert json.loads(meta["models"]) == sorted(["c", old[3].model])
    check(out)


def test_tables_and_columns_of_others_stay(tmp_path: Path, out: Path) -> None:
    source = journal(tmp_path / "j", [record("a.jpg"), record("b.jpg")])
    converted(source, out)
    with closing(sqlite3.connect(out)) as database:
        database.executescript(
            "CREATE TABLE albums (name TEXT); INSERT INTO albums VALUES ('2019');"
            "ALTER TABLE captions ADD COLUMN stars INTEGER; UPDATE captions SET stars = 5 WHERE path = 'a.jpg'"
        )
    journal(source, [record("a.jpg", "a better one"), record("b.jpg")])
    for overwrite in (False, True):
        converted(source, out, overwrite=overwrite)
        assert query(out, "SELECT name FROM albums") == [("2019",)]
        assert query(out, "SELECT caption, stars FROM captions ORDER BY path")[0] == ("a better one", 5)
    check(out)
