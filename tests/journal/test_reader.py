"""Reading a journal: every record, the last of each key, while a run writes it, and what is no journal."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from journals import FIRST, FORMATS, SECOND, both, captioned, failed, read, ref, write

from batchcap.errors import InputNotFoundError, OutputError
from batchcap.journal.format_csv import Csv
from batchcap.journal.formats import make_codec
from batchcap.journal.journal import Journal
from batchcap.journal.reader import JournalReader
from batchcap.options.output import Format
from batchcap.records import Caption, Record

RECORDS = [
    captioned(ref("été/naïve 😀.jpg"), 'a "quoted" dog,\nover two\r\nlines \\n'),
    failed(ref("b.jpg"), "read"),
    captioned(replace(ref("x\ufffd.jpg"), path_b64="eP8uanBn"), "one"),
    captioned(ref("b.jpg"), "a cat", SECOND),
    captioned(replace(ref("z.zip::a.jpg"), member="a.jpg"), "two"),
    captioned(ref("été/naïve 😀.jpg"), ""),
]
LAST = [RECORDS[2], RECORDS[3], RECORDS[4], RECORDS[5]]


@pytest.fixture
def out(tmp_path: Path, format: Format) -> Path:
    path = tmp_path / f"it's out.{format}"
    codec = make_codec(format)
    path.write_bytes(codec.header + codec.encode(RECORDS))
    return path


@both
def test_every_record_and_the_last_of_each_key(out: Path, format: Format) -> None:
    reader = JournalReader(out)
    assert reader.format == format
    assert list(reader.records()) == RECORDS
    assert list(reader.last_records()) == LAST
    assert (reader.superseded, reader.torn) == (2, 0)


@both
def test_lines_are_given_as_they_are(out: Path) -> None:
    lines = out.read_bytes().splitlines(keepends=True)
    numbered = list(JournalReader(out).last_lines())
    assert all(lines[number - 1] == line for number, line in numbered)
    assert len(numbered) == len(LAST)


@both
def test_a_cut_at_any_byte_leaves_whole_records_and_counts_the_rest(out: Path, format: Format) -> None:
    whole, header = out.read_bytes(), make_codec(format).header
    for size in range(len(whole)):
        out.write_bytes(whole[:size])
        reader = JournalReader(out)
        ended = whole[:size].count(b"\n") - bool(header)
        lacks_only_its_end = whole[size : size + 1] == b"\n" and size > len(header)
        assert list(reader.records()) == RECORDS[: max(0, ended) + lacks_only_its_end], size
        assert reader.torn == (0 if lacks_only_its_end else size - whole[:size].rfind(b"\n") - 1), size


@pytest.mark.parametrize(
    ("format", "tail"), [(name, bytes(4096)) for name in FORMATS] + [("jsonl", b'{"path":"a'), ("csv", b"a.jpg,,")]
)
def test_a_torn_tail_is_left_out_of_both_ways_to_read(out: Path, format: Format, tail: bytes) -> None:
    with out.open("ab") as file:
        file.write(tail)
    reader = JournalReader(out)
    assert list(reader.last_records()) == LAST
    assert reader.torn == len(tail)
    assert list(reader.records()) == RECORDS


@both
def test_a_damaged_line_is_named_with_what_repairs_it(out: Path) -> None:
    lines = out.read_bytes().splitlines(keepends=True)
    lines.insert(3, b"\0\0\0 a note\n")
    out.write_bytes(b"".join(lines))
    for read_all in (JournalReader(out).records, JournalReader(out).last_records):
        with pytest.raises(OutputError, match=r"out\.\w+, line 4: ") as caught:
            list(read_all())
        assert f"batchcap repair {shlex.quote(str(out))}" in caught.value.fix


def test_csv_files_that_were_joined_are_told(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    write(out, [captioned(ref("a"))], "csv")
    out.write_bytes(out.read_bytes() * 2)
    for read_all in (JournalReader(out).records, JournalReader(out).last_records):
        with pytest.raises(OutputError, match=r"line 3: .* it is the header once more"):
            list(read_all())


@pytest.mark.parametrize("count", [1, 2, 5])
def test_csv_of_any_number_of_captions_is_known_by_its_header(tmp_path: Path, count: int) -> None:
    out = tmp_path / "out.csv"
    ranked = tuple(Caption(f"dog {rank}", -8.0 - rank, -1.0 - rank) for rank in range(count))
    best = ranked[0]
    records = [
        msgspec.structs.replace(
            captioned(ref(name), best.caption),
            log_prob=best.log_prob,
            score=best.score,
            captions=ranked if count > 1 else None,
        )
        for name in "ab"
    ]
    out.write_bytes(Csv(count).header + Csv(count).encode(records))
    assert list(JournalReader(out).last_records()) == records
    for size in range(len(Csv(count).header)):  # torn in the header
        out.write_bytes(Csv(count).header[:size])
        reader = JournalReader(out)
        assert list(reader.records()) == []
        assert reader.torn == size


@both
def test_what_a_run_appends_meanwhile_is_not_seen_and_disturbs_nothing(tmp_path: Path, format: Format) -> None:
    out = tmp_path / f"out.{format}"
    with Journal.open(out, format, FIRST) as journal:
        journal.append([captioned(ref(name)) for name in "abc"])
        reader = JournalReader(out)
        journal.append([captioned(ref("a"), "another dog")])
        records = reader.last_records()
        found = [next(records)]
        journal.append([captioned(ref("d"))])
        found += records
        assert [(record.path, record.caption) for record in found] == [(name, "a dog") for name in "abc"]
        assert [record.path for record in JournalReader(out).last_records()] == ["b", "c", "a", "d"]
        journal.commit()
    assert len(read(out, format)) == 5


@both
def test_a_journal_that_is_replaced_between_the_passes_is_read_as_it_was(out: Path) -> None:
    records = JournalReader(out).last_records()
    found = [next(records)]
    new = out.with_name("new")
    new.write_bytes(b"")
    new.replace(out)
    assert [*found, *records] == LAST


@both
def test_an_empty_file_and_a_header_alone_hold_no_record(tmp_path: Path, format: Format) -> None:
    out = tmp_path / f"out.{format}"
    for content in (b"", make_codec(format).header):
        out.write_bytes(content)
        reader = JournalReader(out)
        assert list(reader.last_records()) == []
        assert (reader.format, reader.torn, reader.superseded) == (format, 0, 0)


@pytest.mark.parametrize(
    "content",
    [b"a list of things\nto do\n", b'{"images": [', b"\x89PNG\r\n\x1a\n" + bytes(100), b"\n", b"path,caption\na,b\n"],
)
def test_what_is_no_journal_is_an_error(tmp_path: Path, content: bytes) -> None:
    out = tmp_path / "notes.txt"
    out.write_bytes(content)
    with pytest.raises(OutputError, match=r"notes\.txt is not a JSONL output of batchcap: line 1") as caught:
        list(JournalReader(out).records())
    assert "Name a file that `batchcap run` has written." in caught.value.fix
    assert "remove" not in caught.value.fix  # it was only to be read, and may be a photo


def test_nothing_a_folder_and_a_pipe_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(InputNotFoundError, match=r"There is no journal .*nowhere\.jsonl"):
        JournalReader(tmp_path / "nowhere.jsonl")
    with pytest.raises(OutputError, match="is a folder"):
        JournalReader(tmp_path)
    with pytest.raises(OutputError, match="is a device or pipe"):
        JournalReader(Path("/dev/null"))


@both
def test_a_record_is_read_with_all_its_fields(out: Path, format: Format) -> None:
    record = Record(
        path="a", caption="b", damaged="cut", width=1, height=2, bytes=3, mtime_us=4, root="/r", model="m@1",
        preprocess="exact", decoding="beam3#00000000", log_prob=-1.5, score=-0.5,
    )  # fmt: skip
    codec = make_codec(format)
    out.write_bytes(codec.header + codec.encode([record]))
    assert list(JournalReader(out).last_records()) == [record]
