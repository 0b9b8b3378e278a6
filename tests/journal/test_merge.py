"""Merging journals: one record for each image that one of them holds."""

from __future__ import annotations

import base64
import os
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from commands import invoke
from journals import AWKWARD, FIRST, SECOND, captioned, failed, names, ref

from batchcap.errors import InputNotFoundError, OutputError, OutputLockedError, RootError
from batchcap.journal.format_csv import Csv
from batchcap.journal.formats import make_codec
from batchcap.journal.journal import Journal
from batchcap.journal.merge import merge, plan
from batchcap.journal.reader import JournalReader
from batchcap.records import Caption, Record
from batchcap.roots import root_text

A, B, C = (captioned(ref(name), f"a dog {name}") for name in "abc")


def rooted(record: Record, root: str | None) -> Record:
    return msgspec.structs.replace(record, root=root)


def journal(path: Path, *records: Record) -> Path:
    codec = make_codec("csv" if path.suffix == ".csv" else "jsonl")
    path.write_bytes(codec.header + codec.encode(records))
    return path


def read(path: Path) -> list[Record]:
    return list(JournalReader(path).records())


@pytest.mark.parametrize("out", ["out.jsonl", "out.csv"])
@pytest.mark.parametrize("ends", [("jsonl", "jsonl"), ("csv", "jsonl"), ("csv", "csv")])
def test_formats_may_be_mixed(tmp_path: Path, out: str, ends: tuple[str, str]) -> None:
    member = captioned(replace(ref("z.zip::a"), member="a", path_b64="eg=="))
    one = journal(tmp_path / f"one.{ends[0]}", *AWKWARD, failed(ref("a")), member)
    two = journal(tmp_path / f"two.{ends[1]}", B, A, C)
    output = tmp_path / out
    done = merge([one, two], output, "csv" if out.endswith("csv") else "jsonl")
    assert [(each.records, each.kept) for each in done.inputs] == [(5, 4), (3, 3)]
    assert read(output) == [*AWKWARD, member, B, A, C]
    assert (done.records, done.captions, done.shared, done.conflicts) == (7, 6, 1, 0)


def test_the_last_caption_wins_and_beats_every_error(tmp_path: Path) -> None:
    changed = captioned(ref("a", size=2), "another dog")
    one = journal(tmp_path / "1.jsonl", changed, A, B, failed(ref("c")), failed(ref("d"), message="first"))
    two = journal(tmp_path / "2.jsonl", failed(ref("b"), "read"), C, failed(ref("d"), message="second"), changed)
    out = tmp_path / "out.jsonl"
    done = merge([one, two], out, "jsonl")
    assert read(out) == [B, C, failed(ref("d"), message="second"), changed]
    assert (done.shared, done.conflicts, done.rescued) == (4, 1, 1)
    assert [(each.path, each.record) for each in done.examples[0]] == [(one, A), (two, changed)]
    merge([two, one], tmp_path / "other.jsonl", "jsonl")
    assert {record.path: record for record in read(tmp_path / "other.jsonl")} == {
        "a": A,
        "b": B,
        "c": C,
        "d": failed(ref("d"), message="first"),
    }


def test_captions_made_in_another_way_are_conflicts_and_equal_ones_are_not(tmp_path: Path) -> None:
    again = msgspec.structs.replace(A, log_prob=-8.3)
    other = captioned(ref("b"), "a dog b", SECOND)
    done = merge(
        [journal(tmp_path / "1.jsonl", A, B), journal(tmp_path / "2.jsonl", again, other)],
        tmp_path / "out.jsonl",
        "jsonl",
    )
    assert (done.shared, done.conflicts, done.ways) == (2, 1, 2)
    assert [version.record.path for version in done.examples[0]] == ["b", "b"]
    assert read(tmp_path / "out.jsonl") == [again, other]


def test_shards_join_to_what_one_run_would_have_written(tmp_path: Path) -> None:
    every = [captioned(ref(f"{number:03}"), f"dog {number}") for number in range(300)]
    shards = [journal(tmp_path / f"{part}.jsonl", *every[part::7]) for part in range(7)]
    done = merge(shards, tmp_path / "out.jsonl", "jsonl")
    assert sorted(read(tmp_path / "out.jsonl"), key=lambda record: record.path) == every
    assert (done.shared, [each.kept for each in done.inputs]) == (0, [43, 43, 43, 43, 43, 43, 42])


def test_an_input_may_be_the_output(tmp_path: Path) -> None:
    one, two = journal(tmp_path / "1.jsonl", A, A, B), journal(tmp_path / "2.jsonl", C)
    one.chmod(0o640)
    with pytest.raises(OutputError, match=r"1\.jsonl is there already"):
        merge([one, two], one, "jsonl")
    assert read(one) == [A, A, B]
    merge([one, two], one, "jsonl", overwrite=True)
    assert read(one) == [A, B, C]
    assert one.stat().st_mode & 0o777 == 0o640
    assert names(tmp_path) == ["1.jsonl", "2.jsonl"]


def test_fields_that_batchcap_does_not_know_stay_where_the_line_does(tmp_path: Path) -> None:
    one = journal(tmp_path / "1.jsonl", A)
    one.write_bytes(one.read_bytes().replace(b"}\n", b',"mine":1}\n'))
    merge([one], tmp_path / "out.jsonl", "jsonl")
    assert (tmp_path / "out.jsonl").read_bytes() == one.read_bytes()


def test_n_best_in_csv_has_columns_for_the_most_captions(tmp_path: Path) -> None:
    def ranked(record: Record, count: int) -> Record:
        others = (Caption(f"dog {n}", -8.31, -1.17) for n in range(1, count))
        best = Caption(record.caption or "", -8.31, -1.17)
        return msgspec.structs.replace(record, captions=(best, *others))

    one = journal(tmp_path / "1.jsonl", ranked(A, 2))
    two = tmp_path / "2.csv"
    two.write_bytes(Csv(3).header + Csv(3).encode([ranked(B, 3)]))
    merge([one, two], tmp_path / "out.csv", "csv")
    assert (tmp_path / "out.csv").read_bytes().startswith(Csv(3).header)
    assert read(tmp_path / "out.csv") == [ranked(A, 2), ranked(B, 3)]


# --- Roots


def test_roots_that_differ_are_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    one = journal(tmp_path / "1.jsonl", rooted(A, "/mnt/a"))
    two = journal(tmp_path / "2.jsonl", rooted(B, "/srv/b"))
    three = journal(tmp_path / "3.jsonl", C)
    with pytest.raises(RootError, match=r"2\.jsonl and .*1\.jsonl .*: /srv/b and /mnt/a") as caught:
        merge([one, two], tmp_path / "out.jsonl", "jsonl")
    assert "--root /srv/b" in caught.value.fix
    with pytest.raises(RootError, match=r"\(not said\) and /mnt/a"):
        merge([one, three], tmp_path / "out.jsonl", "jsonl")
    assert names(tmp_path) == ["1.jsonl", "2.jsonl", "3.jsonl"]
    assert merge([three, three], tmp_path / "out.jsonl", "jsonl").records == 1


def test_one_folder_with_several_names_gets_one(tmp_path: Path) -> None:
    outside = captioned(ref("/data/photos/x.jpg"))
    one = journal(tmp_path / "1.jsonl", rooted(A, "/mnt/nas/photos"), rooted(outside, "/mnt/nas/photos"))
    two = journal(tmp_path / "2.jsonl", rooted(B, "/data/photos"), rooted(A, "/data/photos"))
    done = merge([one, two], tmp_path / "out.jsonl", "jsonl", root="/data/photos")
    expected = [msgspec.structs.replace(outside, path="x.jpg"), B, A]
    assert read(tmp_path / "out.jsonl") == [rooted(record, "/data/photos") for record in expected]
    assert (done.shared, done.conflicts, done.moved) == (1, 0, {"/mnt/nas/photos": 2})


def test_folders_inside_one_folder_can_stand_side_by_side(tmp_path: Path) -> None:
    odd = captioned(replace(ref("\ufffd.jpg"), path_b64=base64.b64encode(b"\xff.jpg").decode()))
    member = captioned(replace(ref("z.zip::x"), member="x"))
    latin = root_text(os.fsdecode(b"/p/\xe9t\xe9"))
    one = journal(tmp_path / "1.jsonl", rooted(A, "/p/2019"), rooted(odd, "/p/2019"), rooted(member, "/p/2019"))
    two = journal(tmp_path / "2.csv", rooted(A, "/p/2020"), rooted(B, latin))
    merge([one, two], tmp_path / "out.jsonl", "jsonl", root="/p")
    found = read(tmp_path / "out.jsonl")
    assert [record.path for record in found] == [
        *("2019/a", "2019/\ufffd.jpg", "2019/z.zip::x", "2020/a", "\ufffdt\ufffd/b"),
    ]
    assert base64.b64decode(found[1].path_b64 or "") == b"2019/\xff.jpg"
    assert base64.b64decode(found[4].path_b64 or "") == b"\xe9t\xe9/b"
    assert {record.root for record in found} == {"/p"}


# --- What stops a merge


def test_an_output_without_a_known_ending_is_wrong_usage_and_the_fix_works(tmp_path: Path) -> None:
    done = invoke("merge", journal(tmp_path / "1.jsonl", A), "-o", tmp_path / "out.txt")
    assert done.exit_code == 2
    assert "Name a .jsonl or .csv file." in done.stderr
    assert "--format" not in done.stderr  # merge has no such option


def test_a_damaged_input_a_missing_one_and_a_foreign_output(tmp_path: Path) -> None:
    one = journal(tmp_path / "1.jsonl", A, B)
    out = tmp_path / "out.jsonl"
    broken = tmp_path / "2.jsonl"
    broken.write_bytes(b"".join([one.read_bytes(), b"note\n", one.read_bytes()]))
    with pytest.raises(OutputError, match=r"2\.jsonl, line 3"):
        merge([one, broken], out, "jsonl")
    with pytest.raises(InputNotFoundError):
        merge([one, tmp_path / "nowhere"], out, "jsonl")
    out.write_text("my notes\n")
    with pytest.raises(OutputError, match="is no output of batchcap"):
        merge([one], out, "jsonl", overwrite=True)
    assert out.read_text() == "my notes\n"
    assert names(tmp_path) == ["1.jsonl", "2.jsonl", "out.jsonl"]


def test_a_run_may_write_an_input_but_not_the_output(tmp_path: Path) -> None:
    one, two, out = (tmp_path / name for name in ("1.jsonl", "2.jsonl", "out.jsonl"))
    journal(two, C)
    with Journal.open(one, "jsonl", FIRST) as running:
        running.append([A])
        done = merge([one, two], out, "jsonl")
        assert [each.in_use for each in done.inputs] == [True, False]
        running.append([B])
        with pytest.raises(OutputLockedError):
            merge([one, two], one, "jsonl", overwrite=True)
    assert read(out) == [A, C]
    assert read(one) == [A, B]


def test_a_torn_line_is_left_out_and_told(tmp_path: Path) -> None:
    one = journal(tmp_path / "1.jsonl", A, B)
    one.write_bytes(one.read_bytes()[:-9])
    done = merge([one], tmp_path / "out.jsonl", "jsonl")
    assert read(tmp_path / "out.jsonl") == [A]
    assert done.inputs[0].torn > 0


def test_a_plan_writes_nothing_and_empty_inputs_make_an_empty_output(tmp_path: Path) -> None:
    one, two = journal(tmp_path / "1.jsonl", A, B), tmp_path / "2.jsonl"
    two.touch()
    assert plan([one, two], tmp_path / "out.csv", "csv").records == 2
    assert names(tmp_path) == ["1.jsonl", "2.jsonl"]
    assert merge([two, two], tmp_path / "out.jsonl", "jsonl").records == 0
    assert (tmp_path / "out.jsonl").read_bytes() == b""
    merge([two], tmp_path / "out.csv", "csv")
    assert (tmp_path / "out.csv").read_bytes() == Csv().header
