"""`--overwrite`: the old output stays until the new one is whole, and only outputs are replaced."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from journals import (
    FIRST,
    KILLED,
    SECOND,
    both,
    captioned,
    lengthen,
    names,
    posix,
    python,
    read,
    ref,
    rename,
    replace,
    write,
)

from batchcap.errors import BatchcapError, OutputError, OutputLockedError
from batchcap.journal.formats import make_codec
from batchcap.journal.journal import Journal
from batchcap.options.output import Format
from batchcap.roots import Root

# --- Overwrite


@both
def test_overwrite_keeps_the_old_file_until_commit(tmp_path: Path, format: Format) -> None:
    out = tmp_path / "out"
    write(out, [captioned(ref("old"))], format)
    out.chmod(0o640)
    before = out.read_bytes()
    with Journal.open(out, format, SECOND, overwrite=True) as journal:
        assert journal.done == 0
        refs = [ref("old"), ref("new")]
        assert list(journal.pending(refs)) == refs
        journal.append([captioned(image, fingerprint=SECOND) for image in refs])
        assert out.read_bytes() == before
        journal.commit()
    assert [record.path for record in read(out, format)] == ["old", "new"]
    assert out.stat().st_mode & 0o777 == 0o640
    assert names(tmp_path) == ["out"]


def test_a_stopped_overwrite_leaves_the_old_file_and_the_next_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, [captioned(ref("old"))])
    before = out.read_bytes()
    with Journal.open(out, "jsonl", SECOND, overwrite=True) as journal:
        journal.append([captioned(ref("a"), fingerprint=SECOND)])
    assert out.read_bytes() == before
    with Journal.open(out, "jsonl", SECOND, overwrite=True) as journal:
        assert [image.path for image in journal.pending([ref("a"), ref("b")])] == ["b"]
        journal.append([captioned(ref("b"), fingerprint=SECOND)])
        journal.commit()
    assert [record.path for record in read(out)] == ["a", "b"]
    assert names(tmp_path) == ["out"]


def test_the_new_file_of_other_settings_or_another_root_or_that_is_damaged_is_told_and_kept(tmp_path: Path) -> None:
    """One mistyped option must not throw away what a night has made."""
    out, partial = tmp_path / "out", tmp_path / "out.partial"
    ours = make_codec("jsonl").encode([captioned(ref("a")), captioned(ref("b"))])
    ours = ours.replace(b'"model"', b'"root":"/photos","model"')
    for left, why in (
        (ours.replace(b"11111111", b"99999999"), "model was small@99999999 and is now small@11111111"),
        (ours.replace(b"/photos", b"/other"), "its paths are relative to /other"),
        (b'{"path":"x"}\n' + ours, "is not a JSONL output of batchcap: line 1"),
        (ours + b"garbage\n" + ours, r"line 3: this is no JSONL record"),
        (make_codec("csv").header, "holds CSV, not JSONL"),
    ):
        partial.write_bytes(left)
        with pytest.raises(BatchcapError, match=rf"out\.partial.*{why}") as caught:
            Journal.open(out, "jsonl", FIRST, root=Root("/photos", ("/photos",)), overwrite=True)
        if "garbage" not in str(left):
            assert "remove" in caught.value.fix or "--format" in caught.value.fix
        assert partial.read_bytes() == left
        assert names(tmp_path) == ["out.partial"]


@posix
def test_what_is_no_regular_file_is_in_the_way_of_overwrite(tmp_path: Path) -> None:
    out, partial = tmp_path / "out", tmp_path / "out.partial"
    write(tmp_path / "other", [captioned(ref("x"))])
    before = (tmp_path / "other").read_bytes()
    for make in (lambda: os.mkfifo(partial), partial.mkdir, lambda: partial.symlink_to(tmp_path / "other")):
        make()
        with pytest.raises(OutputError, match=r"out\.partial is in the way"):
            Journal.open(out, "jsonl", FIRST, overwrite=True)
        write(out, [captioned(ref("a"))])  # another run has no use for it
        out.unlink()
        partial.rmdir() if partial.is_dir() else partial.unlink()
    assert (tmp_path / "other").read_bytes() == before


@posix
@pytest.mark.parametrize("meddle", [lengthen, replace, rename, Path.unlink])
def test_an_output_that_changed_while_its_successor_was_made_is_not_replaced(
    tmp_path: Path, meddle: Callable[[Path], None]
) -> None:
    out = tmp_path / "out"
    write(out, [captioned(ref("old"))])
    with Journal.open(out, "jsonl", FIRST, overwrite=True) as journal:
        journal.append([captioned(ref("new"))])
        meddle(out)
        left = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        with pytest.raises(OutputError, match=r"out was (replaced|removed|changed)") as caught:
            journal.commit()
        assert "out.partial: the same command puts it in its place" in caught.value.fix
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == left
    write(out, [], overwrite=True)


@posix
def test_the_new_file_has_the_rights_of_the_old_one_from_its_first_byte(tmp_path: Path) -> None:
    out, partial = tmp_path / "out", tmp_path / "out.partial"
    write(out, [captioned(ref("old"))])
    out.chmod(0o600)
    if os.geteuid() == 0:
        os.chown(out, 1234, 1234)
    before = out.stat()
    with Journal.open(out, "jsonl", FIRST, overwrite=True) as journal:
        journal.append([captioned(ref("new"))])
        assert partial.stat().st_mode & 0o777 == 0o600
        journal.commit()
    after = out.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)


def test_a_run_without_overwrite_tells_of_what_a_stopped_one_has_left(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with Journal.open(out, "jsonl", FIRST, overwrite=True) as journal:
        journal.append([captioned(ref("a"))])
    with Journal.open(out, "jsonl", FIRST) as journal:
        assert journal.unfinished == tmp_path / "out.partial"


def test_the_longest_name_that_a_file_can_have_will_do(tmp_path: Path) -> None:
    out = tmp_path / ("x" * 249 + ".jsonl")
    write(out, [captioned(ref("a"))])
    assert [record.path for record in read(out)] == ["a"]


@posix
def test_kill_9_of_an_overwrite_and_the_same_command_keeps_what_was_captioned(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, [captioned(ref("old"))])
    before = out.read_bytes()
    process = python(KILLED.replace("t.FIRST)", "t.FIRST, overwrite=True)"), out, "jsonl")
    assert process.stdout is not None
    for _ in range(5):
        process.stdout.readline()
    with pytest.raises(OutputLockedError):
        Journal.open(out, "jsonl", FIRST)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert out.read_bytes() == before
    with Journal.open(out, "jsonl", FIRST, overwrite=True) as journal:
        assert journal.done >= 35


def test_overwrite_makes_an_output_that_was_not_there_and_replaces_outputs_only(tmp_path: Path) -> None:
    write(tmp_path / "new", [captioned(ref("a"))], overwrite=True)
    assert read(tmp_path / "new") == [captioned(ref("a"))]
    csv = make_codec("csv").header
    for number, ours in enumerate(
        (
            csv,
            csv.replace(b",root", b""),
            b"\xef\xbb\xbf" + csv.replace(b",", b";"),
            b"",
            b'{"path":"a',
            b'{"path":"a","cap',
        )
    ):
        (tmp_path / f"{number}").write_bytes(ours)
        write(tmp_path / f"{number}", [captioned(ref("a"))], overwrite=True)
    photo = tmp_path / "photo.jpg"
    labels = b'{"path":"a.jpg","label":"dog"}\n'
    tables = (b'"path","label"\n"a.jpg","dog"\n', b"path\tlabel\na.jpg\tdog\n", b"path;label\n")
    jpeg = b"\xff\xd8\xff\xe0 a photo of the inputs"
    for foreign in (b"notes", jpeg, b"{}\n", labels, labels[:-1], b'{"path":"b.jpg","tags":[', *tables):
        photo.write_bytes(foreign)
        with pytest.raises(OutputError, match="is no output of batchcap") as caught:
            Journal.open(photo, "jsonl", FIRST, overwrite=True)
        assert "remove this one yourself" in caught.value.fix
        assert photo.read_bytes() == foreign


def test_a_foreign_file_in_the_way_of_overwrite_is_left_alone(tmp_path: Path) -> None:
    for foreign in ("a download", '{"path":"x","label":"mine"}\n'):
        (tmp_path / "out.partial").write_text(foreign)
        with pytest.raises(OutputError, match=r"out\.partial is not a JSONL output of batchcap"):
            Journal.open(tmp_path / "out", "jsonl", FIRST, overwrite=True)
        assert (tmp_path / "out.partial").read_text() == foreign


def test_a_foreign_new_file_as_long_as_a_header_is_not_removed(tmp_path: Path) -> None:
    header = make_codec("csv").header
    partial = tmp_path / "out.partial"
    partial.write_bytes(b"x" * len(header))
    with pytest.raises(OutputError):
        Journal.open(tmp_path / "out", "csv", FIRST, overwrite=True)
    assert partial.read_bytes() == b"x" * len(header)


def test_files_that_are_called_as_ours_could_be_are_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    others = [tmp_path / f"out.{ending}" for ending in ("rewrite", "rewritten", "lock", "decoding", "partial")]
    for other in others:
        write(other, [captioned(ref("theirs"))])
    write(out, [captioned(ref("a"))])
    assert all([record.path for record in read(other)] == ["theirs"] for other in others)
