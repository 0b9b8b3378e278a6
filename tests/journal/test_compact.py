"""Compacting a journal: the last line of each image stays, and captions of a disk that is away stay too."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from journals import FIRST, both, captioned, failed, names, ref, write

from batchcap.errors import OptionError, OutputError, OutputLockedError
from batchcap.journal.compact import compact, plan
from batchcap.journal.formats import make_codec
from batchcap.journal.journal import Journal
from batchcap.journal.reader import JournalReader
from batchcap.options.output import Format
from batchcap.records import Record
from batchcap.roots import record_path

RECORDS = [
    captioned(ref("a"), "first"),
    failed(ref("b"), "read"),
    captioned(ref("c,\n")),
    captioned(ref("b"), "second"),
    captioned(replace(ref("a"), member="x")),
    captioned(ref("a"), "third"),
]


def journal(path: Path, records: list[Record]) -> Path:
    codec = make_codec("csv" if path.suffix == ".csv" else "jsonl")
    path.write_bytes(codec.header + codec.encode(records))
    return path


@both
def test_the_last_line_of_each_image_stays_in_its_place(tmp_path: Path, format: Format) -> None:
    out = journal(tmp_path / f"out.{format}", RECORDS)
    with out.open("ab") as file:
        file.write(b'{"path":"torn' if format == "jsonl" else b"torn,")
    foreseen = plan(out)
    done = compact(out)
    assert list(JournalReader(out).records()) == RECORDS[2:]
    assert (done.records, done.superseded, done.pruned) == (4, 2, 0)
    assert done.bytes_after == out.stat().st_size == foreseen.bytes_after
    assert names(tmp_path) == [out.name]
    with Journal.open(out, format, FIRST) as again:
        assert (again.cut, again.done) == (0, 4)


def test_lines_stay_byte_for_byte_with_fields_that_batchcap_does_not_know(tmp_path: Path) -> None:
    out = journal(tmp_path / "out.jsonl", RECORDS)
    lines = [line.replace(b"}\n", b',"mine":[1.50]}\n') for line in out.read_bytes().splitlines(keepends=True)]
    out.write_bytes(b"".join(lines))
    compact(out)
    assert out.read_bytes() == b"".join(lines[2:])


@both
def test_nothing_to_leave_out_leaves_the_file_alone(tmp_path: Path, format: Format) -> None:
    out = journal(tmp_path / f"out.{format}", RECORDS[2:])
    before = out.read_bytes(), out.stat().st_ino, out.stat().st_mtime_ns
    assert not compact(out).is_needed
    assert (out.read_bytes(), out.stat().st_ino, out.stat().st_mtime_ns) == before


def test_a_run_that_holds_the_journal_a_link_and_rights(tmp_path: Path) -> None:
    out, link = journal(tmp_path / "out.jsonl", RECORDS), tmp_path / "link.jsonl"
    out.chmod(0o604)
    link.symlink_to(out)
    with Journal.open(out, "jsonl", FIRST), pytest.raises(OutputLockedError):
        compact(link)
    compact(link)
    assert link.is_symlink()
    assert stat.S_IMODE(out.stat().st_mode) == 0o604


def test_a_full_disk_leaves_the_old_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = journal(tmp_path / "out.jsonl", RECORDS)
    before = out.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="cannot be compacted: No space left on device"):
        compact(out)
    assert out.read_bytes() == before
    assert names(tmp_path) == [out.name]


# --- Images that are no longer there


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Folders with files, also on what could be a disk of its own."""
    root = tmp_path / "photos"
    for name in ("a.jpg", "2019/b.jpg", "2019/c.jpg", "disk/d.jpg", "disk/2020/e.jpg", "trip.zip"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    os.close(os.open(bytes(root / "\udcff.jpg"), os.O_CREAT | os.O_WRONLY))
    return root


@pytest.fixture
def out(tmp_path: Path, photos: Path) -> Path:
    outside = tmp_path / "outside.jpg"
    outside.touch()
    files = sorted(str(path) for path in (*photos.rglob("*.jpg"), outside))
    records = []
    for file in files:
        path, path_b64 = record_path(file, str(photos))
        records.append(replace(ref(path), path_b64=path_b64))
    records += [replace(ref(f"trip.zip::{name}"), member=name) for name in ("x.jpg", "y.jpg")]
    rooted = [msgspec.structs.replace(captioned(each), root=str(photos)) for each in records]
    return journal(tmp_path / "out.jsonl", rooted)


def left_out(out: Path) -> set[str]:
    before = {record.path for record in JournalReader(out).records()}
    compact(out, prune=True)
    return before - {record.path for record in JournalReader(out).records()}


def test_images_that_were_deleted_are_left_out(out: Path, photos: Path, tmp_path: Path) -> None:
    assert left_out(out) == set()
    (photos / "2019" / "b.jpg").unlink()
    (tmp_path / "outside.jpg").unlink()
    (photos / "\udcff.jpg").unlink()
    assert left_out(out) == {"2019/b.jpg", str(tmp_path / "outside.jpg"), "\ufffd.jpg"}
    (photos / "trip.zip").unlink()
    shutil.rmtree(photos / "2019")
    assert left_out(out) == {"trip.zip::x.jpg", "trip.zip::y.jpg", "2019/c.jpg"}


def test_a_disk_that_is_not_mounted_costs_no_caption(out: Path, photos: Path) -> None:
    shutil.rmtree(photos / "disk")
    (photos / "disk").mkdir()  # what is left of a mount point
    found = plan(out, prune=True)
    assert (found.pruned, found.away, found.away_folder) == (0, 2, str(photos / "disk"))
    assert left_out(out) == set()
    (photos / "disk").rmdir()
    (photos / "disk").symlink_to("/mnt/no/such/disk")
    assert left_out(out) == set()
    (photos / "disk").unlink()
    assert left_out(out) == {"disk/d.jpg", "disk/2020/e.jpg"}


def test_a_root_that_is_not_there_or_empty_is_an_error(out: Path, photos: Path) -> None:
    before = out.read_bytes()
    shutil.rmtree(photos)
    for _ in range(2):
        with pytest.raises(OutputError, match=r"photos, is not there or empty, so nothing was left out"):
            compact(out, prune=True, force=True)
        assert out.read_bytes() == before
        photos.mkdir(exist_ok=True)


def test_nearly_all_gone_is_an_error_that_only_force_overrules(out: Path, photos: Path, tmp_path: Path) -> None:
    shutil.rmtree(photos)
    (tmp_path / "outside.jpg").unlink()
    (photos / "lost+found").mkdir(parents=True)
    with pytest.raises(OutputError, match="9 of its 9 images are not there, so nothing was left out") as caught:
        compact(out, prune=True)
    assert "--force" in caught.value.fix
    assert compact(out, prune=True, force=True).pruned == 9
    with pytest.raises(OptionError):
        compact(out, force=True)


def test_what_cannot_be_looked_at_is_not_gone(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.stat

    def stale(file: str | Path, **settings: bool) -> os.stat_result:
        if str(file).endswith(".jpg"):
            raise OSError(errno.ESTALE, "Stale file handle")
        return real(file, **settings)

    monkeypatch.setattr(os, "stat", stale)
    assert plan(out, prune=True).pruned == 0


def test_records_of_several_roots_and_of_none(tmp_path: Path) -> None:
    for name in ("one/a.jpg", "two/b.jpg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    rooted = [
        msgspec.structs.replace(captioned(ref(name)), root=root and str(tmp_path / root))
        for name, root in (("a.jpg", "one"), ("b.jpg", "two"), ("c.jpg", "two"), ("d.jpg", None))
    ]
    out = journal(tmp_path / "out.jsonl", rooted)
    assert left_out(out) == {"c.jpg"}  # where d.jpg is nobody knows


def test_compacting_again_and_again_while_runs_append(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    for number in range(5):
        write(out, [captioned(ref(name), f"dog {number}") for name in "abc"], "csv")
        assert compact(out).records == 3
    assert [record.caption for record in JournalReader(out).records()] == ["dog 4"] * 3
