"""Target parquet: typed columns, read back with the libraries of its users."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from conversions import ROOT, best_of, converted, failure, journal, record
from journals import AWKWARD, FORMATS, SECOND

from batchcap.convert import target_parquet
from batchcap.errors import OutputError
from batchcap.options.output import Format

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "captions.parquet"


def rows(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    return found


@pytest.mark.parametrize("format", FORMATS)
def test_every_record_is_a_row(tmp_path: Path, out: Path, format: Format) -> None:
    records = [
        record("a.jpg", "old"),
        record("trip.zip::b.jpg", "two cats", member="b.jpg", mtime_us=1_732_142_000_123_456, damaged="cut"),
        record("IMG_\ufffd.jpg", "one", path_b64="SU1HX/8uanBn"),
        failure("bad.jpg"),
        record("a.jpg", "a brown dog", sha256="ab" * 32),
    ]
    tally = converted(journal(tmp_path / "j", records, format), out)
    assert (tally.written, tally.failures) == (3, 1)
    found = rows(out)
    assert [each["caption"] for each in found] == ["two cats", "one", None, "a brown dog"]
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=1_732_142_000_123_456)
    assert (found[0]["mtime"], found[0]["member"], found[0]["damaged"]) == (moment, "b.jpg", "cut")
    assert (found[1]["path_b64"], found[1]["root"]) == ("SU1HX/8uanBn", ROOT)
    assert [found[2][f"error_{part}"] for part in ("stage", "kind", "message")] == ["decode", "corrupt", "no"]
    assert (found[3]["sha256"], found[3]["score"]) == ("ab" * 32, records[0].score)


def test_awkward_texts_survive(tmp_path: Path, out: Path) -> None:
    converted(journal(tmp_path / "j", AWKWARD), out)
    assert [(each["path"], each["caption"]) for each in rows(out)] == [(each.path, each.caption) for each in AWKWARD]


def test_columns_have_types(tmp_path: Path, out: Path) -> None:
    other = msgspec.structs.replace(record("b.jpg"), model=SECOND.model, decoding=SECOND.decoding)
    converted(journal(tmp_path / "j", [best_of("a.jpg", "a dog", "two dogs"), other]), out)
    schema = parquet.read_schema(out)
    types = {field.name: str(field.type) for field in schema}
    assert types["mtime"] == "timestamp[us, tz=UTC]"
    assert (types["score"], types["width"], types["bytes"]) == ("double", "int32", "int64")
    for name in ("model", "decoding", "preprocess", "root", "error_stage", "error_kind"):
        assert types[name] == "dictionary<values=string, indices=int32, ordered=0>"
    assert rows(out)[0]["captions"] == [
        {"caption": "a dog", "log_prob": -8.0, "score": -1.0},
        {"caption": "two dogs", "log_prob": -9.0, "score": -1.1},
    ]
    assert rows(out)[1]["captions"] is None
    said = parquet.read_metadata(out).metadata
    assert json.loads(said[b"batchcap.models"]) == sorted([SECOND.model, record("a.jpg").model])
    assert json.loads(said[b"batchcap.decodings"]) == sorted([SECOND.decoding, record("a.jpg").decoding])
    assert json.loads(said[b"batchcap.roots"]) == [ROOT]


def test_row_groups_and_compression(tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target_parquet, "_GROUP", 3)
    records = [record(f"{n}.jpg", f"dog {n}") for n in range(7)] + [failure("bad.jpg")]
    converted(journal(tmp_path / "j", records), out)
    said = parquet.read_metadata(out)
    assert [said.row_group(n).num_rows for n in range(said.num_row_groups)] == [3, 3, 2]
    assert said.row_group(0).column(3).compression == "ZSTD"
    assert [each["path"] for each in rows(out)] == [each.path for each in records]


def test_pandas_reads_it(tmp_path: Path, out: Path) -> None:
    pandas = pytest.importorskip("pandas")
    converted(journal(tmp_path / "j", [record("a.jpg", "a dog"), failure("bad.jpg")]), out)
    table = pandas.read_parquet(out)
    assert str(table["mtime"].dtype) == "datetime64[us, UTC]"
    assert str(table["model"].dtype) == "category"
    assert table[table["caption"].notna()]["path"].tolist() == ["a.jpg"]


def test_duckdb_reads_it(tmp_path: Path, out: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    converted(journal(tmp_path / "j", [best_of("a.jpg", "a dog", "two dogs"), failure("bad.jpg")]), out)
    sql = f"SELECT path, captions[2].caption, epoch_us(mtime) FROM '{out}' WHERE error_kind IS NULL"
    assert duckdb.sql(sql).fetchall() == [("a.jpg", "two dogs", 1)]


def test_hugging_face_datasets_reads_it(tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process of its own, which takes the place of its cache from the environment."""
    converted(journal(tmp_path / "j", [best_of("a.jpg", "a dog", "two dogs"), failure("bad.jpg")]), out)
    code = (
        "import sys, datasets\n"
        "found = datasets.load_dataset('parquet', data_files=sys.argv[1], split='train', cache_dir=sys.argv[2])\n"
        "print([(each['path'], each['caption'], each['model'], len(each['captions'] or [])) for each in found])\n"
    )
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    pytest.importorskip("datasets")
    done = subprocess.run(
        [sys.executable, "-c", code, out, tmp_path / "cache"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    model = record("a.jpg").model
    assert done.stdout.splitlines()[-1] == str([("a.jpg", "a dog", model, 2), ("bad.jpg", None, model, 0)])


def test_again_and_more(tmp_path: Path, out: Path) -> None:
    source = journal(tmp_path / "j", [record("a.jpg"), failure("bad.jpg")])
    converted(source, out)
    state = out.stat()
    tally = converted(source, out)
    assert (tally.written, tally.unchanged, tally.failures) == (0, 1, 1)
    assert (out.stat().st_ino, out.stat().st_mtime_ns) == (state.st_ino, state.st_mtime_ns)
    journal(source, [record("a.jpg"), record("b.jpg")])
    assert converted(source, out).written == 2
    assert [each["path"] for each in rows(out)] == ["a.jpg", "b.jpg"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["captions.parquet", "j"]


def test_an_empty_journal_is_an_empty_table(tmp_path: Path, out: Path) -> None:
    converted(journal(tmp_path / "j", []), out)
    assert parquet.read_table(out).num_rows == 0
    assert "caption" in parquet.read_schema(out).names


def test_a_table_of_others_stays(tmp_path: Path, out: Path) -> None:
    source = journal(tmp_path / "j", [record("a.jpg")])
    parquet.write_table(pa.table({"mine": [1]}), out)
    text = tmp_path / "text.parquet"
    text.write_text("no table")
    for path in (out, text):
        before = path.read_bytes()
        with pytest.raises(OutputError, match="did not write it"):
            converted(source, path)
        assert path.read_bytes() == before
        converted(source, path, overwrite=True)
        assert [each["path"] for each in rows(path)] == ["a.jpg"]


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, out: Path) -> None:
    source = journal(tmp_path / "j", [record("a.jpg")])
    code = "import sys; sys.modules['pyarrow'] = None; from batchcap.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "convert", source, out], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "Optional part not installed" in done.stderr
    assert "pip install 'batchcap[parquet]'" in done.stderr
    assert not out.exists()
