"""Target xmp: where sidecars lie, whose they are, what exiftool and Exiv2 read in them, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conversions import converted, counts, journal, record
from journals import posix
from xmp_samples import PROGRAMS, darktable, digikam, lightroom

from batchcap.convert import files as writing
from batchcap.convert.target_xmp import LINK, READ_ONLY
from batchcap.convert.xmp_caption import THEIRS
from batchcap.errors import DuplicateKeyError, OptionError, OutputError

needs_exiftool = pytest.mark.skipif(not shutil.which("exiftool"), reason="exiftool is not installed")


def exiftool_tags(file: Path) -> dict[str, Any]:
    command = ["exiftool", "-j", "-a", "-u", "-G1", "-struct", "-XMP:all", str(file)]
    (tags,) = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return {name: value for name, value in tags.items() if name.startswith("XMP")}


def place(folder: Path, *names: str) -> Path:
    """A folder with images of these names: nothing looks into them."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"an image")
    return folder


def test_in_a_mirror_tree(tmp_path: Path) -> None:
    source = journal(tmp_path / "j", [record("a.jpg", "a dog"), record("x/b.png"), record("x/b.jpg")])
    tally = converted(source, tmp_path / "out", "xmp")
    assert (tally.written, tally.exit_code) == (3, 0)
    found = {file.relative_to(tmp_path / "out").as_posix() for file in (tmp_path / "out").rglob("*.xmp")}
    assert found == {"a.jpg.xmp", "x/b.png.xmp", "x/b.jpg.xmp"}
    again = converted(source, tmp_path / "out", "xmp")
    assert (again.written, again.unchanged) == (0, 3)


@needs_exiftool
def test_a_new_sidecar_is_read(tmp_path: Path) -> None:
    source = journal(tmp_path / "j", [record("a.jpg", "two dogs & a <cat> hé 雪")])
    converted(source, tmp_path / "out", "xmp", language="en")
    tags = exiftool_tags(tmp_path / "out/a.jpg.xmp")
    assert tags["XMP-dc:Description"] == {
        "x-default": "two dogs & a <cat> hé 雪",
        "en": "two dogs & a <cat> hé 雪",
    } or (tags["XMP-dc:Description"] == tags["XMP-dc:Description-en"] == "two dogs & a <cat> hé 雪")


def test_exiv2_reads_a_new_and_a_merged_sidecar(tmp_path: Path) -> None:
    """The library that digiKam and darktable read with."""
    pyexiv2 = pytest.importorskip("pyexiv2", reason="pyexiv2 is not installed")
    place(tmp_path / "in", "a.jpg", "b.jpg")
    (tmp_path / "in/b.jpg.xmp").write_bytes(darktable())
    with pyexiv2.Image(str(tmp_path / "in/b.jpg.xmp")) as sidecar:
        before = sidecar.read_xmp()
    records = [record(name, "a dog", tmp_path / "in") for name in ("a.jpg", "b.jpg")]
    converted(journal(tmp_path / "j", records), tmp_path / "in", "xmp")
    for name in ("a", "b"):
        with pyexiv2.Image(str(tmp_path / f"in/{name}.jpg.xmp")) as sidecar:
            tags = sidecar.read_xmp()
        assert tags.pop("Xmp.dc.description") == {'lang="x-default"': "a dog"}
        assert tags.pop("Xmp.batchcap.caption") == "a dog"
        assert tags == (before if name == "b" else {})


@needs_exiftool
@pytest.mark.parametrize("program", PROGRAMS)
def test_merged_sidecars_keep_every_other_tag(tmp_path: Path, program: str) -> None:
    folder = place(tmp_path / "in", "a.jpg")
    sidecar = folder / "a.jpg.xmp"
    sidecar.write_bytes(PROGRAMS[program]())
    before = exiftool_tags(sidecar)
    assert converted(journal(tmp_path / "j", [record("a.jpg", "a dog", folder)]), folder, "xmp").written == 1
    after = exiftool_tags(sidecar)
    assert (after.pop("XMP-dc:Description"), after.pop("XMP-batchcap:Caption")) == ("a dog", "a dog")
    assert after == before


def test_the_sidecar_that_is_there_is_found(tmp_path: Path) -> None:
    folder = place(tmp_path / "in", *(f"{name}.jpg" for name in "abcdef"), "c.CR2", "d.CR2", "f.txt", "e.JPG.xmp.bak")
    names = {
        "a.xmp": lightroom(extension="JPG"),
        "b.xmp": digikam(),
        "c.xmp": lightroom(extension="CR2"),
        "d.xmp": digikam(),
        "e.jpg.XMP": darktable(),
        "e.xmp": digikam(),
        "f.XMP": digikam(),
    }
    for name, document in names.items():
        (folder / name).write_bytes(document)
    records = [record(f"{name}.jpg", "a dog", folder) for name in "abcdef"]
    assert converted(journal(tmp_path / "j", records), folder, "xmp").written == 6
    changed = {file.name for file in folder.iterdir() if b"a dog" in file.read_bytes()}
    assert changed == {"a.xmp", "b.xmp", "c.jpg.xmp", "d.jpg.xmp", "e.jpg.XMP", "f.XMP"}
    assert converted(journal(tmp_path / "j", records), folder, "xmp").unchanged == 6


def test_chosen_names(tmp_path: Path) -> None:
    folder = place(tmp_path / "in", "a.jpg")
    (folder / "a.xmp").write_bytes(digikam("by hand"))
    source = journal(tmp_path / "j", [record("a.jpg", "a dog", folder)])
    assert counts(converted(source, folder, "xmp").left_out) == {THEIRS: 1}
    assert converted(source, folder, "xmp", sidecar_name="full").written == 1
    assert (folder / "a.jpg.xmp").exists()
    assert counts(converted(source, folder, "xmp", sidecar_name="stem").left_out) == {THEIRS: 1}
    assert (folder / "a.xmp").read_bytes() == digikam("by hand")


def test_clashing_stems_stop_before_anything_is_written(tmp_path: Path) -> None:
    source = journal(tmp_path / "j", [record("a.jpg"), record("a.png")])
    with pytest.raises(DuplicateKeyError, match=r"a\.jpg, a\.png"):
        converted(source, tmp_path / "out", "xmp", sidecar_name="stem")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_caption_of_somebody_else_is_no_error(tmp_path: Path) -> None:
    folder = place(tmp_path / "in", "a.jpg")
    (folder / "a.jpg.xmp").write_bytes(lightroom("Ana"))
    source = journal(tmp_path / "j", [record("a.jpg", "a dog", folder)])
    tally = converted(source, folder, "xmp")
    assert (tally.exit_code, counts(tally.left_out)) == (0, {THEIRS: 1})
    assert (folder / "a.jpg.xmp").read_bytes() == lightroom("Ana")
    assert converted(source, folder, "xmp", overwrite=True).written == 1
    newer = journal(tmp_path / "j", [record("a.jpg", "a dog", folder), record("a.jpg", "a brown dog", folder)])
    assert converted(newer, folder, "xmp").written == 1
    assert b"a brown dog" in (folder / "a.jpg.xmp").read_bytes()


def test_a_broken_sidecar_is_named_and_stays(tmp_path: Path) -> None:
    folder = place(tmp_path / "in", "a.jpg", "b.jpg", "c.jpg")
    broken = lightroom()[:-9]
    (folder / "a.jpg.xmp").write_bytes(broken)
    (folder / "c.jpg.xmp").mkdir()
    records = [record(name, "a dog", folder) for name in ("a.jpg", "b.jpg", "c.jpg")]
    tally = converted(journal(tmp_path / "j", records), folder, "xmp")
    assert (tally.written, tally.exit_code) == (1, 3)
    reasons = {reason: found.examples for reason, found in tally.refused.items()}
    assert [name for reason, name in reasons.items() if "not well-formed" in reason] == [[str(folder / "a.jpg.xmp")]]
    assert (folder / "a.jpg.xmp").read_bytes() == broken


@posix
def test_rights_stay_and_links_are_left_alone(tmp_path: Path) -> None:
    folder = place(tmp_path / "in", "a.jpg", "b.jpg", "c.jpg", "d.jpg")
    (folder / "a.jpg.xmp").write_bytes(digikam())
    (folder / "a.jpg.xmp").chmod(0o640)
    (folder / "b.jpg.xmp").write_bytes(digikam())
    (folder / "b.jpg.xmp").chmod(0o444)
    (tmp_path / "elsewhere").write_bytes(digikam())
    (folder / "c.jpg.xmp").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(folder / "d.jpg.xmp")
    records = [record(name, "a dog", folder) for name in ("a.jpg", "b.jpg", "c.jpg", "d.jpg")]
    tally = converted(journal(tmp_path / "j", records), folder, "xmp")
    assert counts(tally.refused) == {READ_ONLY: 1, LINK: 2}
    assert (folder / "a.jpg.xmp").stat().st_mode & 0o777 == 0o640
    assert (folder / "c.jpg.xmp").is_symlink()
    assert (tmp_path / "elsewhere").read_bytes() == digikam()


@pytest.mark.parametrize("language", ["", "en_US", "x-default\n", "<b>"])
def test_a_language_that_is_none(tmp_path: Path, language: str) -> None:
    source = journal(tmp_path / "j", [record("a.jpg")])
    with pytest.raises(OptionError, match="no language code"):
        converted(source, tmp_path / "out", "xmp", language=language)


def test_the_language_says_nothing_to_other_targets(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="says nothing to the target txt"):
        converted(tmp_path / "j", tmp_path / "out", "txt", language="en")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_stops_a_conversion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open
    monkeypatch.setattr(
        writing.os, "open", lambda name, *rest: opened("/dev/full" if str(name).endswith(".new") else name, *rest)
    )
    source = journal(tmp_path / "j", [record("a.jpg"), record("b.jpg")])
    with pytest.raises(OutputError, match=r"a\.jpg\.xmp cannot be written: No space left on device.*Free some space"):
        converted(source, tmp_path / "out", "xmp")


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="the system does not list open files")  # noqa: PTH112
def test_folders_with_the_names_of_sidecars_leave_no_file_open(tmp_path: Path) -> None:
    folder = place(tmp_path / "in", *(f"{number}.jpg" for number in range(20)))
    for number in range(20):
        (folder / f"{number}.jpg.xmp").mkdir()
    source = journal(tmp_path / "j", [record(f"{number}.jpg", root=folder) for number in range(20)])
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    assert counts(converted(source, folder, "xmp").refused) == {LINK: 20}
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
