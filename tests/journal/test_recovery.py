"""Opening a journal that was cut anywhere: a torn tail is cut, and no more."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from journals import AWKWARD, FIRST, both, captioned, failed, ref, todo, write

from batchcap.errors import OutputError
from batchcap.journal.formats import make_codec
from batchcap.journal.journal import Journal
from batchcap.options.output import Format
from batchcap.records import Caption, Failure

# --- A torn tail


@both
def test_recovery_at_every_byte(tmp_path: Path, format: Format) -> None:
    codec = make_codec(format)
    out = tmp_path / "out"
    whole = codec.header + codec.encode(AWKWARD)
    refs = [ref(record.path, record.bytes or 0, record.mtime_us or 0) for record in AWKWARD]
    for size in range(len(whole) + 1):
        out.write_bytes(whole[:size])
        kept = max(0, whole[:size].count(b"\n") - bool(codec.header))
        # Where only the line end is missing, the record is there.
        whole_record = whole[size : size + 1] == b"\n" and size > len(codec.header)
        kept += whole_record
        with Journal.open(out, format, FIRST) as journal:
            assert journal.cut == (0 if whole_record else size - whole[:size].rfind(b"\n") - 1)
            done = {record.path for record in AWKWARD[:kept] if record.error is None}
            assert [image.path for image in journal.pending(refs)] == [r.path for r in refs if r.path not in done]
            journal.append(AWKWARD[kept:])
        assert out.read_bytes() == whole, size


def test_recovery_at_every_byte_of_n_best_csv(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    ranked = tuple(Caption(text, -8.31, -1.17) for text in ("a dog", "zwei\nHunde", "犬"))
    records = [msgspec.structs.replace(captioned(ref("a"), "a dog"), captions=ranked)]
    codec = make_codec("csv", 3)
    whole = codec.header + codec.encode(records)
    for size in range(len(whole) + 1):
        out.write_bytes(whole[:size])
        kept = max(0, whole[:size].count(b"\n") - 1) + (size == len(whole) - 1)
        with Journal.open(out, "csv", FIRST, num_captions=3) as journal:
            assert journal.done == kept
            journal.append(records[kept:])
        assert out.read_bytes() == whole, size


@both
def test_a_torn_line_to_which_an_editor_gave_an_end_is_cut(tmp_path: Path, format: Format) -> None:
    out = tmp_path / "out"
    write(out, AWKWARD[:1], format)
    whole = out.read_bytes()
    torn = make_codec(format).encode(AWKWARD[1:2])[:20]
    out.write_bytes(whole + torn + b"\n")
    with Journal.open(out, format, FIRST):
        assert out.read_bytes() == whole


def test_a_tear_in_the_last_column_of_csv_to_which_an_editor_gave_an_end_is_cut(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, AWKWARD[:1], "csv")
    whole = out.read_bytes()
    line = make_codec("csv").encode(AWKWARD[1:2])[:-1]
    for cut in range(1, len("beam3-lp0.7#aaaaaaaa") + 1):
        out.write_bytes(whole + line[:-cut] + b"\n")
        with Journal.open(out, "csv", FIRST) as journal:
            assert journal.done == 1
        assert out.read_bytes() == whole
        out.write_bytes(whole + line[:-cut] + b"\n" + line + b"\n")  # in the middle it is damage, not a tear
        with pytest.raises(OutputError, match=r"line 3: .* its last column is cut off"):
            Journal.open(out, "csv", FIRST)


def test_what_a_spreadsheet_saved_can_be_mended_as_the_error_says(tmp_path: Path) -> None:
    out = tmp_path / "it's out.csv"
    write(out, AWKWARD, "csv")
    whole = out.read_bytes()
    out.write_bytes(b"\xef\xbb\xbf" + whole.replace(b"\n", b"\r\n"))
    with pytest.raises(OutputError, match="a byte-order mark and Windows line ends") as caught:
        Journal.open(out, "csv", FIRST)
    if sys.platform == "linux":
        command = re.search(r"sed .*?(?=\. Or)", caught.value.fix)
        assert command is not None
        subprocess.run(["sh", "-c", command.group()], check=True)
        assert out.read_bytes() == whole


def test_numbers_that_a_spreadsheet_rounded_are_named(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    write(out, [captioned(ref("a", mtime_us=1732142000123456))], "csv")
    out.write_bytes(out.read_bytes().replace(b"1732142000123456", b"1.73214E+15"))
    with pytest.raises(OutputError, match=r"line 2: .*1\.73214E\+15 is no whole number \(a spreadsheet program rounds"):
        Journal.open(out, "csv", FIRST)


@both
def test_a_last_record_that_lost_its_line_end_is_kept(tmp_path: Path, format: Format) -> None:
    out = tmp_path / "out"
    write(out, AWKWARD, format)
    whole = out.read_bytes()
    out.write_bytes(whole[:-1])
    with Journal.open(out, format, FIRST) as journal:
        assert (journal.cut, journal.done) == (0, 2)
        journal.append([captioned(ref("new"))])
    assert out.read_bytes() == whole + make_codec(format).encode([captioned(ref("new"))])


def test_a_torn_line_is_told_with_what_it_said(tmp_path: Path) -> None:
    """In CSV it may have been a note: two cells tell no more."""
    out = tmp_path / "out"
    write(out, AWKWARD, "csv")
    with out.open("ab") as file:
        file.write(b"my own note, keep this")
    with Journal.open(out, "csv", FIRST) as journal:
        assert (journal.cut, journal.cut_text) == (22, "my own note, keep this")


def test_a_record_that_was_joined_to_a_torn_one_is_no_torn_line(tmp_path: Path) -> None:
    out = tmp_path / "out"
    one, other = (make_codec("jsonl").encode([captioned(ref(name))]) for name in "ab")
    out.write_bytes(one + one[:80] + other)
    with pytest.raises(OutputError, match="line 2"):
        Journal.open(out, "jsonl", FIRST)
    assert out.read_bytes() == one + one[:80] + other


@pytest.mark.parametrize("end", [b"", b"]" * 200_000 + b"}\n"])
def test_a_line_that_is_nested_without_end_is_an_error_that_names_it(tmp_path: Path, end: bytes) -> None:
    out = tmp_path / "out"
    write(out, AWKWARD[:1])
    with out.open("ab") as file:
        file.write(b'{"path":"x","caption":"y","a":' + b"[" * 200_000 + end)
    with pytest.raises(OutputError, match="line 2"):
        Journal.open(out, "jsonl", FIRST)


def test_records_without_caption_and_error_are_no_records(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, [captioned(ref("a")), captioned(ref("b"))])
    out.write_bytes(out.read_bytes().replace(b'"caption":"a dog",', b""))
    with pytest.raises(OutputError, match="line 1: it has neither caption nor error"):
        Journal.open(out, "jsonl", FIRST)


def test_two_csv_files_that_were_joined_are_told(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, [captioned(ref("a"))], "csv")
    out.write_bytes(out.read_bytes() * 2)
    with pytest.raises(OutputError, match=r"line 3: .* it is the header once more \(were two files joined\?\)"):
        Journal.open(out, "csv", FIRST)


# --- A disk that is away for a while


@both
def test_an_image_that_cannot_be_read_just_now_keeps_its_caption(tmp_path: Path, format: Format) -> None:
    out = tmp_path / "out"
    write(out, [captioned(ref("a")), captioned(ref("b")), failed(ref("c"))], format)
    before = out.read_bytes()
    away = [ref(name, 0, 0, failure=Failure("read", "missing", "no")) for name in "abc"]
    with Journal.open(out, format, FIRST) as journal:
        assert list(journal.pending(away)) == away
        # One could not be looked at, one could and not be read; what had no caption has now another error.
        errors = [failed(away[0], "read"), failed(ref("b"), "read"), failed(away[2], "read")]
        journal.append(errors)
        assert journal.done == 3
        journal.commit()
    assert out.read_bytes() == before + make_codec(format).encode(errors[2:])
    assert todo(out, [ref("a"), ref("b")], format) == []
    write(out, [failed(ref("a", size=2), "read")], format)  # another file: its caption is not this one's
    assert todo(out, [ref("a", size=2)], format) == ["a"]


@both
def test_zeros_at_the_end_after_a_power_failure_are_cut(tmp_path: Path, format: Format) -> None:
    out = tmp_path / "out"
    write(out, AWKWARD, format)
    whole = out.read_bytes()
    out.write_bytes(whole + bytes(4096))
    with Journal.open(out, format, FIRST) as journal:
        assert out.read_bytes() == whole
        assert journal.done == 2


@both
def test_zeros_before_a_record_are_no_part_of_its_path(tmp_path: Path, format: Format) -> None:
    """A power failure left them, and another program wrote on."""
    out = tmp_path / "out"
    write(out, AWKWARD, format)
    record = make_codec(format).encode([captioned(ref("d"))])
    out.write_bytes(out.read_bytes() + bytes(40) + record * 2)
    with pytest.raises(OutputError, match=f"line {4 + (format == 'csv')}: "):
        Journal.open(out, format, FIRST)
