"""Target sqlite: files of others stay, a kill or a full disk leaves a whole database, and readers are not disturbed."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from conversions import converted, failure, journal, record
from journals import posix
from sqlite_files import check, query

from batchcap.convert import target_sqlite
from batchcap.errors import OutputError, OutputLockedError
from batchcap.records import Record


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "captions.db"


def test_a_file_of_others_stays(tmp_path: Path, out: Path) -> None:
    source = journal(tmp_path / "j", [record("a.jpg")])
    with closing(sqlite3.connect(out)) as database:
        database.execute("CREATE TABLE captions (mine TEXT)")
    text = tmp_path / "text.db"
    text.write_text("no database")
    for path in (out, text):
        before = path.read_bytes()
        with pytest.raises(OutputError, match="did not write it"):
            converted(source, path)
        assert path.read_bytes() == before
        assert converted(source, path, overwrite=True).written == 1
        assert len(query(path, "SELECT * FROM captions")) == 1


def test_a_database_of_another_version_stays(tmp_path: Path, out: Path) -> None:
    source = journal(tmp_path / "j", [record("a.jpg")])
    converted(source, out)
    with closing(sqlite3.connect(out)) as database, database:
        database.execute("UPDATE batchcap_meta SET value = '9' WHERE key = 'format_version'")
    with pytest.raises(OutputError, match="another version of batchcap"):
        converted(source, out)


def test_what_is_left_of_another_database_is_not_taken_in(tmp_path: Path, out: Path) -> None:
    source = journal(tmp_path / "j", [record("a.jpg")])
    (tmp_path / "captions.db-journal").write_bytes(b"old")
    with pytest.raises(OutputError, match=r"captions\.db-journal belongs to another database"):
        converted(source, out)
    assert not out.exists()


def test_a_damaged_database_is_named(tmp_path: Path, out: Path) -> None:
    source = journal(tmp_path / "j", [record(f"{n}.jpg") for n in range(500)])
    converted(source, out)
    data = bytearray(out.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    out.write_bytes(data)
    with pytest.raises(OutputError, match=r"captions\.db cannot be written: .*malformed"):
        converted(journal(source, [record("new.jpg")]), out)


def test_a_reader_does_not_disturb(tmp_path: Path, out: Path) -> None:
    """As Datasette has it open: in rollback and in WAL mode."""
    source = journal(tmp_path / "j", [record("a.jpg")])
    converted(source, out)
    for mode in ("delete", "wal"):
        with closing(sqlite3.connect(f"file:{out}?mode=ro", uri=True)) as reader:
            with closing(sqlite3.connect(out)) as database:
                assert database.execute(f"PRAGMA journal_mode = {mode}").fetchone() == (mode,)
            assert reader.execute("SELECT count(*) FROM captions").fetchone()[0] >= 1
            journal(source, [record("a.jpg"), record(f"{mode}.jpg")])
            assert converted(source, out).written == 1
            assert reader.execute("SELECT path FROM captions WHERE path LIKE ?", (f"{mode}%",)).fetchall()
        check(out)


def test_a_writer_makes_it_wait_and_then_give_up(tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = journal(tmp_path / "j", [record("a.jpg")])
    converted(source, out)
    journal(source, [record("a.jpg"), record("b.jpg")])
    with closing(sqlite3.connect(out, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        monkeypatch.setattr(target_sqlite, "_WAIT_SECONDS", 0.01)
        with pytest.raises(OutputLockedError, match="Another program uses") as caught:
            converted(source, out)
        assert caught.value.exit_code == 75
        monkeypatch.undo()
        free = threading.Timer(0.05, other.execute, ("ROLLBACK",))
        free.start()
        assert converted(source, out).written == 1
        free.join()


@posix
def test_kill_9_leaves_a_whole_database(tmp_path: Path, out: Path) -> None:
    """In the middle of an update: what the last conversion wrote is there, and the next one goes on."""
    first = [record(f"{n}.jpg", f"dog {n}") for n in range(3000)]
    source = journal(tmp_path / "j", first)
    converted(source, out)
    journal(source, [record(f"{n}.jpg", f"cat {n}") for n in range(3000)] + [failure("x.jpg")])
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from batchcap.convert import target_sqlite as t\n"
        "from batchcap.convert.convert import convert\n"
        "from batchcap.options.convert import ConvertOptions\n"
        "t._BATCH = 500\n"
        "real, calls = t._upsert, []\n"
        "def upsert(database, *rest):\n"
        "    database.execute('PRAGMA cache_size = 1')\n"  # so that pages are in the file before the end
        "    calls.append(real(database, *rest))\n"
        "    if len(calls) == 5: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return calls[-1]\n"
        "t._upsert = upsert\n"
        "convert(ConvertOptions(journal=Path(sys.argv[1]), output=Path(sys.argv[2])))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, source, out], check=False)
    assert done.returncode == -signal.SIGKILL
    assert out.with_name("captions.db-journal").exists()  # it was in the middle
    assert query(out, "SELECT count(*) FROM captions WHERE caption LIKE 'dog%'") == [(3000,)]
    check(out)
    assert converted(source, out).written == 3000
    assert query(out, "SELECT count(*) FROM captions WHERE caption LIKE 'dog%'") == [(0,)]
    check(out)


@pytest.mark.skipif(sys.platform != "linux", reason="a limit on the size of files")
def test_a_full_disk_leaves_the_old_database(tmp_path: Path, out: Path) -> None:
    source = journal(tmp_path / "j", [record("a.jpg", "a dog")])
    converted(source, out)
    many: list[Record] = [record(f"{n}.jpg", "a dog " * 20) for n in range(3000)]
    journal(source, many)
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200000, 200000))\n"
        "from batchcap.__main__ import main; main()\n"
    )
    for place in (out, tmp_path / "new.db"):
        command = [sys.executable, "-c", code, "convert", source, place]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"COLUMNS": "200"})
        assert done.returncode == 1, done.stderr
        assert f"{place} cannot be written: " in done.stderr
    assert query(out, "SELECT caption FROM captions") == [("a dog",)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["captions.db", "j"]
