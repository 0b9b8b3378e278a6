"""Target txt: what is written where, what is left as it is, and what never happens."""

from __future__ import annotations

import base64
import os
import unicodedata
from pathlib import Path

import pytest
from conversions import ROOT, best_of, converted, counts, failure, files, journal, record
from journals import FORMATS, posix

from batchcap.convert import files as writing
from batchcap.convert.convert import convert
from batchcap.convert.places import FOLDER_GONE, IMAGE_GONE, IN_ARCHIVE, LINK_OUT, OUTSIDE
from batchcap.convert.target_txt import NOT_OURS
from batchcap.errors import BatchcapError, DuplicateKeyError, OptionError, OutputError, OutputLockedError
from batchcap.options.convert import ConvertOptions
from batchcap.options.output import Format
from batchcap.system.locks import locked_folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def kohya(image: str, folder: Path) -> str | None:
    """The caption that kohya_ss finds: the first line of the file with the stem's name (train_util.read_caption)."""
    path = Path(os.path.splitext(folder / image)[0] + ".txt")  # noqa: PTH122 - as it does
    return path.read_text("utf-8").splitlines()[0].strip() if path.is_file() else None


def onetrainer(image: str, folder: Path) -> list[str]:
    """The prompts that OneTrainer finds: every line that is not empty (mgds LoadMultipleTexts)."""
    path = Path(os.path.splitext(folder / image)[0] + ".txt")  # noqa: PTH122 - as it does
    return [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]


def taggui(image: str, folder: Path) -> list[str]:
    """The tags that taggui shows (ImageListModel.load_directory), with its usual separator."""
    text = (folder / image).with_suffix(".txt").read_text(encoding="utf-8", errors="replace")
    return [tag.strip() for tag in text.split(",") if tag.strip()]


@pytest.mark.parametrize("format", FORMATS)
def test_programs_find_each_caption(tmp_path: Path, out: Path, format: Format) -> None:
    records = [record("a.jpg", "a dog"), record("2019/b.c.png", "two cats"), failure("bad.jpg")]
    tally = converted(journal(tmp_path / "j", records, format), out, "txt")
    assert (tally.written, tally.failures, tally.exit_code) == (2, 1, 0)
    for image, text in {"a.jpg": "a dog", "2019/b.c.png": "two cats"}.items():
        assert kohya(image, out) == text
        assert onetrainer(image, out) == taggui(image, out) == [text]
    assert set(files(out)) == {"a.txt", "2019/b.c.txt"}


def test_the_full_name(tmp_path: Path, out: Path) -> None:
    converted(journal(tmp_path / "j", [record("a.jpg"), record("a.png")]), out, "txt", sidecar_name="full")
    assert set(files(out)) == {"a.jpg.txt", "a.png.txt"}


def test_all_captions_are_lines(tmp_path: Path, out: Path) -> None:
    source = journal(tmp_path / "j", [best_of("a.jpg", "a dog", "a brown dog"), record("b.jpg", "one\nline")])
    converted(source, out, "txt")
    assert files(out) == {"a.txt": "a dog\n", "b.txt": "one line\n"}
    assert converted(source, out, "txt", all_captions=True).written == 1
    assert onetrainer("a.jpg", out) == ["a dog", "a brown dog"]
    assert converted(source, out, "txt").refused == {}  # either is a text of ours
    assert files(out)["a.txt"] == "a dog\n"


def test_again_touches_only_what_is_new(tmp_path: Path, out: Path) -> None:
    records = [record(f"{n}.jpg") for n in range(20)]
    converted(journal(tmp_path / "j", records[:10]), out, "txt")
    for file in out.iterdir():
        os.utime(file, ns=(1, 1))
    tally = converted(journal(tmp_path / "j", records), out, "txt")
    assert (tally.written, tally.unchanged) == (10, 10)
    assert sum(file.stat().st_mtime_ns == 1 for file in out.iterdir()) == 10


def test_a_new_caption_replaces_the_old_one_of_the_journal(tmp_path: Path, out: Path) -> None:
    first = [record("a.jpg", "a dog"), record("b.jpg", "a cat")]
    converted(journal(tmp_path / "j", first), out, "txt")
    source = journal(tmp_path / "j", [*first, record("a.jpg", "a brown dog"), failure("b.jpg")])
    tally = converted(source, out, "txt")
    assert files(out) == {"a.txt": "a brown dog\n", "b.txt": "a cat\n"}
    assert (tally.written, tally.failures, tally.exit_code) == (1, 1, 0)


@pytest.mark.parametrize("text", ["by hand", "", "an image of b.jpg\n", "an image of a.jpg\nand more\n"])
def test_a_text_of_others_stays(tmp_path: Path, out: Path, text: str) -> None:
    """An empty one too: to kohya_ss it is an empty caption; and a caption of another image."""
    out.mkdir()
    (out / "a.txt").write_text(text)
    source = journal(tmp_path / "j", [record("a.jpg"), record("b.jpg")])
    tally = converted(source, out, "txt")
    assert (out / "a.txt").read_text() == text
    assert (tally.written, counts(tally.refused), tally.exit_code) == (1, {NOT_OURS: 1}, 3)
    assert converted(source, out, "txt", overwrite=True).exit_code == 0
    assert (out / "a.txt").read_text() == "an image of a.jpg\n"


@pytest.mark.parametrize("end", ["", "\r\n"])
def test_the_same_text_is_not_written_again(tmp_path: Path, out: Path, end: str) -> None:
    out.mkdir()
    (out / "a.txt").write_bytes(f"a dog{end}".encode())
    assert converted(journal(tmp_path / "j", [record("a.jpg", "a dog")]), out, "txt").unchanged == 1
    assert (out / "a.txt").read_bytes() == f"a dog{end}".encode()


def test_clashing_names_are_told_before_anything_is_written(tmp_path: Path, out: Path) -> None:
    paths = ["a.jpg", "x/b.jpg", "x/b.png", "x/b.webp", "a.png", "c.jpg"]
    source = journal(tmp_path / "j", [*map(record, paths), failure("c.png")])
    said: list[str] = []
    with pytest.raises(DuplicateKeyError, match=r"2 names stand for several images.*--sidecar-name full"):
        convert(ConvertOptions(journal=source, output=out, to="txt"), say=said.append)
    assert [line.split(": ")[-1] for line in said] == ["a.jpg, a.png", "x/b.jpg, x/b.png, x/b.webp"]
    assert files(out) == {}


# Places


def test_beside_the_images(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    (photos / "2019").mkdir(parents=True)
    for name in ("a.jpg", "2019/b.jpg"):
        (photos / name).touch()
    listed = ["a.jpg", "2019/b.jpg", "gone.jpg", "2018/c.jpg"]
    archived = record("trip.zip::d.jpg", root=photos, member="d.jpg")
    source = journal(tmp_path / "j", [*(record(path, root=photos) for path in listed), archived])
    (tmp_path / "link").symlink_to(photos)
    tally = converted(source, tmp_path / "link", "txt")
    assert tally.notes == []
    assert set(files(photos)) == {"a.jpg", "a.txt", "2019/b.jpg", "2019/b.txt"}
    assert counts(tally.left_out) == {IMAGE_GONE: 1, FOLDER_GONE: 1, IN_ARCHIVE: 1}
    assert tally.exit_code == 0


def test_an_archive_is_a_folder_of_a_mirror_tree(tmp_path: Path, out: Path) -> None:
    converted(journal(tmp_path / "j", [record("trip.zip::x/d.jpg", member="x/d.jpg")]), out, "txt")
    assert set(files(out)) == {"trip.zip/x/d.txt"}


@pytest.mark.parametrize("path", ["/elsewhere/a.jpg", "../a.jpg", "x/../../a.jpg", "./a.jpg", "x//a.jpg"])
def test_nothing_is_written_outside(tmp_path: Path, out: Path, path: str) -> None:
    hostile = record(f"t.zip::{path}", member=path)
    tally = converted(journal(tmp_path / "j", [record(path), hostile]), out, "txt")
    assert (tally.written, counts(tally.refused), tally.exit_code) == (0, {OUTSIDE: 2}, 3)
    assert {each.name for each in tmp_path.iterdir()} == {"j", "out"}


@posix
def test_links_in_the_tree(tmp_path: Path, out: Path) -> None:
    """A link to a folder inside is followed; out of OUT it is not, and a link is no text of ours."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "note.txt").write_text("a note")
    (out / "inside").mkdir(parents=True)
    (out / "x").symlink_to(elsewhere)
    (out / "y").symlink_to(out / "inside")
    (out / "c.txt").symlink_to(elsewhere / "note.txt")
    source = journal(tmp_path / "j", [record("x/a.jpg"), record("y/b.jpg"), record("c.jpg")])
    tally = converted(source, out, "txt")
    assert counts(tally.refused) == {LINK_OUT: 1, NOT_OURS: 1}
    assert files(elsewhere) == {"note.txt": "a note"}
    assert (out / "inside" / "b.txt").exists()
    assert counts(converted(source, out, "txt", overwrite=True).refused) == {LINK_OUT: 1}
    assert files(elsewhere) == {"note.txt": "a note"}
    assert not (out / "c.txt").is_symlink()


@posix
def test_odd_names(tmp_path: Path, out: Path) -> None:
    latin = os.fsdecode(b"caf\xe9.jpg")
    exact = record("caf\ufffd.jpg", "coffee", path_b64=base64.b64encode(b"caf\xe9.jpg").decode())
    names = ["a b.jpg", "two\nlines.jpg", unicodedata.normalize("NFD", "é.jpg"), "-x.jpg", "ending", ".jpg.jpg"]
    tally = converted(journal(tmp_path / "j", [exact, *map(record, names)]), out, "txt")
    assert tally.written == 7
    for name in names:
        assert kohya(name, out) == " ".join(f"an image of {name}".splitlines())
    assert kohya(latin, out) == "coffee"


# What goes wrong


@posix
def test_one_name_that_cannot_be_written_stops_nothing(tmp_path: Path, out: Path) -> None:
    (out / "a.txt").mkdir(parents=True)
    (out / "x").write_text("no folder")
    long = "l" * 253
    source = journal(tmp_path / "j", [record("a.jpg"), record("x/b.jpg"), record(f"{long}.j"), record("d.jpg")])
    tally = converted(source, out, "txt")
    assert (tally.written, tally.exit_code) == (1, 3)
    assert sorted(counts(tally.refused)) == [
        "a file has the name of the folder",
        NOT_OURS,
        "the name is too long with its ending",
    ]


def test_a_full_disk_is_named(tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no device that is always full")
    opened = os.open
    monkeypatch.setattr(
        writing.os, "open", lambda name, *rest: opened("/dev/full" if str(name).endswith(".new") else name, *rest)
    )
    with pytest.raises(OutputError, match=r"a\.txt cannot be written: No space left on device.*Free some space"):
        converted(journal(tmp_path / "j", [record("a.jpg")]), out, "txt")
    assert files(out) == {}


def test_a_journal_is_never_written(tmp_path: Path, out: Path) -> None:
    out.mkdir()
    source = journal(out / "a.txt", [record("a.jpg")])
    before = source.read_bytes()
    tally = converted(source, out, "txt", overwrite=True)
    assert counts(tally.refused) == {"the journal has this name": 1}
    os.link(source, tmp_path / "other")
    for same in (source, tmp_path / "other"):
        with pytest.raises(OutputError, match="is the journal itself"):
            converted(source, same, "txt")
    assert source.read_bytes() == before


def test_wrong_places(tmp_path: Path, out: Path) -> None:
    source = journal(tmp_path / "j", [record("a.jpg")])
    with pytest.raises(OutputError, match="there is no folder"):
        converted(source, tmp_path / "no" / "out", "txt")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="is a file"):
        converted(source, tmp_path / "file", "txt")
    with pytest.raises(OptionError, match="does not say what to write"):
        converted(source, out)


@posix
def test_two_conversions_do_not_write_into_one_folder(tmp_path: Path, out: Path) -> None:
    out.mkdir()
    with locked_folder(out), pytest.raises(OutputLockedError) as caught:
        converted(journal(tmp_path / "j", [record("a.jpg")]), out, "txt")
    assert isinstance(caught.value, BatchcapError)
    assert caught.value.exit_code == 75


def test_a_torn_line_is_told(tmp_path: Path, out: Path) -> None:
    source = journal(tmp_path / "j", [record("a.jpg")])
    with source.open("ab") as file:
        file.write(b'{"path":"b.jpg","cap')
    tally = converted(source, out, "txt")
    assert tally.written == 1
    assert "not whole" in tally.notes[-1]
    assert ROOT not in tally.notes[-1]
