"""Repairing a journal: damage of every kind goes aside, and no whole record is ever lost."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import msgspec
import pytest
from journals import AWKWARD, FIRST, both, captioned, names, opened, ref, write

from batchcap.errors import InputNotFoundError, OutputError, OutputLockedError
from batchcap.journal.damage import Damage
from batchcap.journal.format_csv import Csv
from batchcap.journal.formats import make_codec
from batchcap.journal.journal import Journal
from batchcap.journal.reader import JournalReader
from batchcap.journal.repair import examine, repair
from batchcap.options.output import Format
from batchcap.records import Caption, Record

RECORDS = [*AWKWARD, *(captioned(ref(f"{name}.jpg")) for name in "defg")]


def content(format: Format, records: list[Record] | None = None) -> bytes:
    codec = make_codec(format)
    return codec.header + codec.encode(RECORDS if records is None else records)


def mended(out: Path, damaged: bytes) -> tuple[Damage, list[Record]]:
    """Repair a file, and check what holds for every repair."""
    out.write_bytes(damaged)
    foreseen = examine(out)
    assert out.read_bytes() == damaged
    found = repair(out)
    assert (foreseen.records, foreseen.lines, foreseen.lost) == (found.records, found.lines, found.lost)
    if not found.is_sound:
        assert found.backup is not None
        assert found.backup.read_bytes() == damaged
        found.backup.unlink()
    codec = JournalReader(out).codec
    settings = {"num_captions": getattr(codec, "num_captions", 1), "on_mismatch": "keep"}
    with opened(out, codec.name, **settings) as journal:
        assert journal.cut == 0
    records = list(JournalReader(out).records())
    assert len(records) == found.records
    assert repair(out).is_sound
    return found, records


@both
@pytest.mark.parametrize("tail", [b"", bytes(100), bytes(100) + b"\n"])
def test_a_cut_at_any_byte_with_another_batch_behind_it(tmp_path: Path, format: Format, tail: bytes) -> None:
    """Torn, filled with zeros, and continued by a program that did not look: everything whole is there afterwards."""
    out = tmp_path / f"out.{format}"
    codec = make_codec(format)
    first, other = RECORDS[:3], RECORDS[3:]
    whole = codec.header + codec.encode(first)
    for size in range(0, len(whole) + 1, 3 if not tail else 23):
        found, records = mended(out, whole[:size] + tail + codec.encode(other))
        kept = max(0, whole[:size].count(b"\n") - bool(codec.header))
        if whole[size : size + 1] == b"\n" and size > len(codec.header):
            kept += 1  # only its end was missing
        torn = not whole[:size].endswith(b"\n") and whole[size : size + 1] != b"\n" and size > 0
        if format == "jsonl" or tail or not torn:
            assert records == first[:kept] + other, size
        else:  # where the torn line ends and the next one begins nobody can tell in CSV: that one is lost or renamed
            assert records[:kept] == first[:kept], size
            assert records[-len(other) + 1 :] == other[1:], size
        assert found.lines <= 2


@both
def test_foreign_lines_and_garbage_go_aside(tmp_path: Path, format: Format) -> None:
    out = tmp_path / f"out.{format}"
    lines = content(format).splitlines(keepends=True)
    garbage = [b"# my own note\n", b"\x89PNG \xff\xfe\n", b"\n", bytes(3000) + b"\n", b'{"path":"x"}\n', b"a,b,c,d,e\n"]
    for at, line in zip((6, 5, 4, 3, 2, 1), garbage, strict=True):
        lines.insert(at, line)
    found, records = mended(out, b"".join(lines))
    assert records == RECORDS
    assert found.lines == len(garbage)
    assert found.rejects == out.with_name(out.name + ".rejected")
    aside = found.rejects.read_bytes()
    assert aside == b"".join(sorted((garbage[5], garbage[4], garbage[1], garbage[0]), key=lines.index))
    assert found.lost == (["x"] if format == "jsonl" else [])


@both
def test_every_bit_pattern_in_one_place_costs_at_most_the_record_it_is_in(tmp_path: Path, format: Format) -> None:
    out = tmp_path / f"out.{format}"
    whole = content(format)
    begin = len(make_codec(format).header)
    for place in range(begin, len(whole), 37):
        for byte in (0, 10, 34, 44, 255):
            damaged = whole[:place] + bytes([byte]) + whole[place + 1 :]
            out.write_bytes(damaged)
            repair(out)
            records = list(JournalReader(out).records())
            # A line end that is gone joins two records, of which CSV can give back both only behind a label.
            hit = whole[:place].count(b"\n") - bool(begin)
            expected = RECORDS[:hit] + RECORDS[hit + 1 :]
            assert [r for r in records if r in expected] == expected or whole[place] == 10, (place, byte)
            for name in names(tmp_path):
                (tmp_path / name).unlink()


@both
def test_images_that_are_captioned_again_are_told(tmp_path: Path, format: Format) -> None:
    out = tmp_path / f"out.{format}"
    lines = content(format, [captioned(ref(name)) for name in ("a", "a,b", "c", "a")]).splitlines(keepends=True)
    at = len(lines) - 4
    for index in (at, at + 1):  # the first record of a, which has another one, and the only one of "a,b"
        lines[index] = lines[index][:-30] + b"\n"
    found, records = mended(out, b"".join(lines))
    assert [record.path for record in records] == ["c", "a"]
    assert (found.lost, found.lost_count, found.kept_count, found.unnamed) == (["a,b"], 1, 1, 0)
    with Journal.open(out, format, FIRST) as journal:
        assert [image.path for image in journal.pending(map(ref, ["a", "a,b", "c"]))] == ["a,b"]


@both
def test_nothing_to_do_leaves_the_file_alone(tmp_path: Path, format: Format) -> None:
    out = tmp_path / f"out.{format}"
    whole = content(format)
    for sound in (whole, whole[:-1], b"", make_codec(format).header):  # the second: an editor took the last line end
        out.write_bytes(sound)
        before = out.stat()
        assert repair(out).is_sound
        assert out.read_bytes() == sound
        assert (out.stat().st_ino, out.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert names(tmp_path) == [out.name]


@pytest.mark.parametrize("count", [1, 3])
def test_csv_files_that_were_joined_and_headers_that_are_gone(tmp_path: Path, count: int) -> None:
    out = tmp_path / "out.csv"
    codec = Csv(count)
    ranked = tuple(Caption(text, -8.31, -1.17) for text in ("a dog", "zwei\nHunde, gelb", "犬")[:count])
    records = [
        msgspec.structs.replace(captioned(ref(name)), captions=ranked if count > 1 else None) for name in ("a", "b,c")
    ]
    rows = codec.encode(records)
    found, read = mended(out, (codec.header + rows) * 2)
    assert (read, found.lines, found.header) == (records * 2, 1, False)
    assert found.rejects is not None
    assert found.rejects.read_bytes() == codec.header
    for damaged in (rows, b"\0" * 9 + b"\n" + rows, codec.header.replace(b"caption", b"capion") + rows):
        found, read = mended(out, damaged)
        assert (read, found.header) == (records, True)


@both
def test_what_a_spreadsheet_or_an_editor_saved_is_mended(tmp_path: Path, format: Format) -> None:
    out = tmp_path / f"out.{format}"
    found, records = mended(out, b"\xef\xbb\xbf" + content(format).replace(b"\n", b"\r\n"))
    assert records == RECORDS
    assert found.rejects is None
    assert names(tmp_path) == [out.name]


@both
def test_a_gap_of_many_zeros_costs_nothing(tmp_path: Path, format: Format) -> None:
    out = tmp_path / f"out.{format}"
    codec = make_codec(format)
    found, records = mended(out, content(format) + bytes(20 << 20) + codec.encode(RECORDS))
    assert records == RECORDS * 2
    assert (found.lines, found.rejected) == (1, 0)


def test_what_was_moved_aside_and_backed_up_before_stays(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    for note in (b"one\n", b"two\n", b"three\n"):
        out.write_bytes(content("jsonl") + note + content("jsonl"))
        repair(out)
    assert out.with_name("out.jsonl.rejected").read_bytes() == b"one\ntwo\nthree\n"
    assert names(tmp_path) == sorted(
        f"out.jsonl{end}" for end in ("", ".rejected", ".backup", ".backup.2", ".backup.3")
    )
    assert b"one\n" in out.with_name("out.jsonl.backup").read_bytes()
    assert b"three\n" in out.with_name("out.jsonl.backup.3").read_bytes()


def test_a_name_that_is_taken_is_told(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    out.write_bytes(content("jsonl") + b"garbage\n")
    before = out.read_bytes()
    for make in (Path.mkdir, os.mkfifo) if hasattr(os, "mkfifo") else (Path.mkdir,):
        rejected = tmp_path / "out.jsonl.rejected"
        make(rejected)
        with pytest.raises(OutputError, match=r"out\.jsonl\.rejected is in the way"):
            repair(out)
        assert out.read_bytes() == before
        assert names(tmp_path) == ["out.jsonl", "out.jsonl.rejected"]
        rejected.rmdir() if rejected.is_dir() else rejected.unlink()


def test_rights_are_kept_and_a_link_stays_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real.jsonl", tmp_path / "link.jsonl"
    real.write_bytes(content("jsonl") + b"note\n")
    real.chmod(0o640)
    link.symlink_to(real)
    repair(link)
    assert link.is_symlink()
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in names(tmp_path)} == {0o640}
    assert names(tmp_path) == ["link.jsonl", "real.jsonl", "real.jsonl.backup", "real.jsonl.rejected"]


def test_a_journal_that_a_run_holds_is_not_touched(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    write(out, RECORDS)
    with Journal.open(out, "jsonl", FIRST), pytest.raises(OutputLockedError):
        repair(out)
    assert names(tmp_path) == [out.name]


@pytest.mark.parametrize("foreign", [b"a list of things\nto do\n", b'{"images": [\n', b"\x89PNG" + bytes(100), b"\n"])
def test_what_holds_no_record_is_left_alone(tmp_path: Path, foreign: bytes) -> None:
    out = tmp_path / "notes.txt"
    out.write_bytes(foreign)
    for act in (examine, repair):
        with pytest.raises(OutputError, match="holds no record"):
            act(out)
    assert out.read_bytes() == foreign
    assert names(tmp_path) == [out.name]
    with pytest.raises(InputNotFoundError):
        repair(tmp_path / "nowhere")
    assert names(tmp_path) == [out.name]


def test_a_full_disk_leaves_everything_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out.jsonl"
    damaged = content("jsonl") + b"note\n"
    real = os.fsync
    left = 0

    def full(descriptor: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    for before in range(3):  # it is full at the backup, at what is moved aside, at the journal
        out.write_bytes(damaged)
        left = before
        with pytest.raises(OutputError, match="cannot be repaired: No space left on device"):
            repair(out)
        assert out.read_bytes() == damaged
        assert names(tmp_path) == [out.name]
