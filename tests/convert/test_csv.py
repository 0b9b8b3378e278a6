"""Target csv: what spreadsheet programs and pandas read of it."""

from __future__ import annotations

import csv
import gzip
import math
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import pytest
from conversions import best_of, converted, failure, journal, record
from journals import names, posix

from batchcap.convert import target_csv
from batchcap.convert.files import new_file
from batchcap.errors import OutputError, OutputLockedError
from batchcap.records import Record
from batchcap.system.output_files import own_file


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.csv"


def rows(file: Path) -> list[dict[str, str]]:
    """As RFC 4180 has it, with the mark that spreadsheet programs want."""
    data = file.read_bytes()
    assert data.startswith(b"\xef\xbb\xbf")
    assert data.endswith(b"\r\n")
    with file.open(encoding="utf-8-sig", newline="") as lines:
        return list(csv.DictReader(lines, strict=True))


def test_a_row_for_every_image(tmp_path: Path, out: Path) -> None:
    source = journal(tmp_path / "j", [record("a.jpg", 'a dog, two "cats"\nand é'), failure("b.jpg")])
    tally = converted(source, out)
    assert (tally.written, tally.failures) == (1, 1)
    dog, failed = rows(out)
    assert (dog["path"], dog["caption"], dog["width"], dog["bytes"]) == (
        "a.jpg",
        'a dog, two "cats"\nand é',
        "640",
        "1",
    )
    assert math.isclose(float(dog["probability"]), math.exp(float(dog["log_prob"])), rel_tol=1e-5)
    assert (failed["caption"], failed["probability"], failed["error"]) == ("", "", "decode, corrupt: no")
    assert b'"a dog, two ""cats""\nand \xc3\xa9"' in out.read_bytes()


def test_all_captions_have_columns(tmp_path: Path, out: Path) -> None:
    converted(journal(tmp_path / "j", [record("a.jpg"), best_of("b.jpg", "one", "two", "three")]), out)
    one, several = rows(out)
    assert (one["caption_2"], one["probability_3"]) == ("", "")
    assert [several["caption"], several["caption_2"], several["caption_3"]] == ["one", "two", "three"]
    assert several["probability_2"] == f"{math.exp(-9):.9f}"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋"])
def test_no_cell_is_a_formula(tmp_path: Path, out: Path, start: str) -> None:
    evil = f'{start}HYPERLINK("x")'
    broken = failure(f"{evil}.jpg")
    named = record(evil, evil, damaged=evil, model=evil, decoding=f"{evil}#aaaaaaaa")
    converted(journal(tmp_path / "j", [named, broken]), out)
    for row in rows(out):
        for name, cell in row.items():
            if name not in ("log_prob", "score"):  # numbers, which may be negative
                assert not cell.startswith(start), name
    assert rows(out)[0]["caption"] == f"'{evil}"


def test_a_spreadsheet_program_runs_nothing(tmp_path: Path, out: Path) -> None:
    """Gnumeric, without a window; the same table without apostrophes has formulas."""
    if shutil.which("ssconvert") is None:
        pytest.skip("Gnumeric is not installed")
    made = [record("=1+2.jpg", "=1+2"), record("b.jpg", "+1+1"), record("c.jpg", 'two\nlines, "é"')]
    converted(journal(tmp_path / "j", made), out)
    plain = tmp_path / "plain.csv"
    plain.write_bytes(out.read_bytes().replace(b"'=", b"=").replace(b"'+", b"+"))
    cells = [cells_in_gnumeric(file) for file in (out, plain)]
    assert [sum(formula for formula, _ in each) for each in cells] == [
        0,
        1,
    ]  # the name of the image is no whole formula
    assert {"=1+2", "+1+1", 'two\nlines, "é"'} <= {text for _, text in cells[0]}


def cells_in_gnumeric(file: Path) -> list[tuple[bool, str]]:
    """Whether a cell is a formula, and its text."""
    saved = file.with_suffix(".gnumeric")
    subprocess.run(["ssconvert", file, saved], check=True, capture_output=True, timeout=60)
    tree = ET.fromstring(gzip.decompress(saved.read_bytes()))
    return [("ValueType" not in cell.attrib, cell.text or "") for cell in tree.findall(".//{*}Cell")]


def test_numbers_and_dates_survive_a_spreadsheet(tmp_path: Path, out: Path) -> None:
    """These round numbers of over 15 digits, so the time is a date."""
    old = record("b.jpg", mtime_us=-(2**62))
    converted(journal(tmp_path / "j", [record("a.jpg", mtime_us=1732142000123456), old]), out)
    first, second = rows(out)
    assert (first["modified"], second["modified"]) == ("2024-11-20 22:33:20", "")
    assert not any(cell.isdigit() and len(cell) > 15 for row in (first, second) for cell in row.values())


def test_pandas_reads_it(tmp_path: Path, out: Path) -> None:
    pandas = pytest.importorskip("pandas")
    converted(journal(tmp_path / "j", [record("a.jpg", "one\r\ntwo"), record("b.jpg")]), out)
    table = pandas.read_csv(out)
    assert list(table["path"]) == ["a.jpg", "b.jpg"]
    assert table["caption"][0] == "one\r\ntwo"
    assert table["log_prob"].dtype == float


def test_again_and_more(tmp_path: Path, out: Path) -> None:
    records: list[Record] = [record(f"{n}.jpg") for n in range(3)]
    source = journal(tmp_path / "j", records)
    converted(source, out)
    out.chmod(0o600)
    before = out.stat()
    tally = converted(source, out)
    assert (tally.written, tally.unchanged) == (0, 3)
    assert (out.stat().st_mtime_ns, out.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    changed = msgspec.structs.replace(records[0], caption="another")
    assert converted(journal(source, [*records, changed]), out).written == 3
    assert [row["caption"] for row in rows(out)][-1] == "another"
    assert out.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_table_of_others_stays(tmp_path: Path, out: Path) -> None:
    source = journal(tmp_path / "j", [record("a.jpg")])
    out.write_text("path,caption\r\n")
    with pytest.raises(OutputError, match="did not write it"):
        converted(source, out)
    assert out.read_text() == "path,caption\n"
    assert converted(source, out, overwrite=True).written == 1


def test_a_journal_of_the_same_kind_is_not_written_over(tmp_path: Path, out: Path) -> None:
    source = journal(out, [record("a.jpg")], "csv")
    other = journal(tmp_path / "other.csv", [record("a.jpg")], "csv")
    with pytest.raises(OutputError, match="is the journal itself"):
        converted(source, out, overwrite=True)
    with pytest.raises(OutputError, match="a conversion would lose it"):
        converted(source, other)


def test_more_rows_than_a_spreadsheet_shows(tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target_csv, "_MOST_ROWS", 2)
    tally = converted(journal(tmp_path / "j", [record("a.jpg"), record("b.jpg")]), out)
    assert "3 rows" in tally.notes[0]


@posix
def test_a_disk_that_takes_no_more_leaves_the_old_table(tmp_path: Path, out: Path) -> None:
    import resource

    source = journal(tmp_path / "j", [record("a.jpg")])
    converted(source, out)
    before = out.read_bytes()
    journal(source, [record("b.jpg")])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"out\.csv cannot be written: File too large.*Raise the size limit"):
            converted(source, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert out.read_bytes() == before
    assert names(tmp_path) == ["j", "out.csv"]


@posix
def test_the_temporary_file_is_no_way_elsewhere(tmp_path: Path, out: Path) -> None:
    """Another user of a shared folder may have put a link there."""
    (tmp_path / "theirs").write_text("theirs")
    own_file(out, "new").symlink_to(tmp_path / "theirs")
    with pytest.raises(OutputError, match="is in the way"):
        converted(journal(tmp_path / "j", [record("a.jpg")]), out)
    assert (tmp_path / "theirs").read_text() == "theirs"


def test_a_link_is_followed(tmp_path: Path, out: Path) -> None:
    (tmp_path / "real").mkdir()
    out.symlink_to(tmp_path / "real" / "table.csv")
    converted(journal(tmp_path / "j", [record("a.jpg")]), out)
    assert out.is_symlink()
    assert names(tmp_path / "real") == ["table.csv"]


def test_two_conversions_into_one_file(tmp_path: Path, out: Path) -> None:
    with (
        new_file(out, overwrite=False),
        pytest.raises(OutputLockedError, match=r"conversion writes .*out\.csv"),
    ):
        converted(journal(tmp_path / "j", [record("a.jpg")]), out)


def test_a_file_that_a_kill_has_left_is_used_again(tmp_path: Path, out: Path) -> None:
    own_file(out, "new").write_text("half a table")
    converted(journal(tmp_path / "j", [record("a.jpg")]), out)
    assert len(rows(out)) == 1
    assert names(tmp_path) == ["j", "out.csv"]
