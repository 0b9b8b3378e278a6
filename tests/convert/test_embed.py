"""--embed: the caption is where programs look, and everything else in the image is what it was."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import tagged_images
from conversions import converted, counts, journal, record
from embeddings import CAPTION, captioned, embedded
from journals import posix
from PIL import Image
from tagged_images import all_kinds, coded_pixels
from xmp_samples import lightroom

from batchcap.convert import embed_jobs, places
from batchcap.convert.packets import look_inside
from batchcap.convert.xmp_caption import THEIRS
from batchcap.errors import OptionError, OutputLockedError
from batchcap.journal.reader import JournalReader
from batchcap.system.locks import open_locked

pytestmark = pytest.mark.skipif(not shutil.which("exiftool"), reason="exiftool is not installed")

# Places of values in the file, sizes and the program that wrote the XMP: what a caption must change.
MOVED = ("System:", "ExifTool:", "SourceFile", "File:FileSize", "File:CurrentIPTCDigest", "Photoshop:IPTCDigest")
OFFSETS = ("Offset", "Offsets", "ImageStart", ":XMPToolkit", "HasExtendedXMP")
# What must come with an IPTC caption, and with the first XMP of a WebP.
COMES_ALONG = {"IPTC:EnvelopeRecordVersion", "IPTC:ApplicationRecordVersion", "RIFF:WebP_Flags", "File:FileType"}
WRITTEN = {"XMP-dc:Description", "XMP-batchcap:Caption", "IFD0:ImageDescription", "IPTC:Caption-Abstract"}


def tags_of(*files: Path) -> dict[str, dict[str, Any]]:
    """Every tag that exiftool knows of files, by their name and then by group and tag, binary ones whole."""
    command = ["exiftool", "-j", "-a", "-G1:4", "-u", "-struct", "-b", "-n", *map(str, files)]
    found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout, parse_int=str, parse_float=str)
    return {
        Path(tags["SourceFile"]).name: {
            name.replace("Copy1:", ""): value
            for name, value in tags.items()
            if not name.startswith(MOVED) and not name.endswith(OFFSETS)
        }
        for tags in found
    }


def iptc_digests(folder: Path) -> dict[str, bool]:
    """Whether the IPTC of each image is the one that its XMP is in step with; for images that say it."""
    command = ["exiftool", "-j", "-IPTCDigest", "-CurrentIPTCDigest", str(folder)]
    found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return {
        tags["SourceFile"]: tags["IPTCDigest"] == tags["CurrentIPTCDigest"] for tags in found if "IPTCDigest" in tags
    }


def pixels_of(file: Path) -> list[np.ndarray]:
    with Image.open(file) as image:
        pages = []
        for page in range(getattr(image, "n_frames", 1)):
            image.seek(page)
            pages.append(np.asarray(image.convert("RGBA")))
        return pages


def test_everything_but_the_caption_stays_and_it_is_where_programs_look(tmp_path: Path) -> None:
    """XMP always; EXIF and IPTC where the image has them."""
    images = all_kinds()
    records = captioned(tmp_path / "in", images)
    tally = converted(journal(tmp_path / "j", records), tmp_path / "out", embed=True)
    assert (tally.written, tally.refused, tally.left_out) == (len(images), {}, {})
    in_step = iptc_digests(tmp_path / "out")
    assert len(in_step) == 2
    before, after = (tags_of(*(tmp_path / folder / name for name in images)) for folder in ("in", "out"))
    for name, data in images.items():
        old, new = tmp_path / "in" / name, tmp_path / "out" / name
        was, tags = before[name], after[name]
        assert old.read_bytes() == data, "a photo was modified"
        fields = {"XMP-dc:Description", "XMP-batchcap:Caption"}
        fields |= {"IPTC:Caption-Abstract"} if name in ("photo.jpg", "depth.jpg") else set()
        fields |= {"IFD0:ImageDescription"} if name not in ("plain.jpg", "plain.png", "plain.webp") else set()
        assert {tag: tags.pop(tag) for tag in WRITTEN & tags.keys()} == dict.fromkeys(fields, CAPTION), name
        changed = {tag for tag in tags.keys() | was.keys() if tags.get(tag) != was.get(tag)}
        assert changed <= COMES_ALONG | {f"RIFF:Image{side}" for side in ("Width", "Height")}, name
        assert coded_pixels(new) == coded_pixels(old), name
        for one, other in zip(pixels_of(new), pixels_of(old), strict=True):
            np.testing.assert_array_equal(one, other)
        assert new.stat().st_mtime_ns == old.stat().st_mtime_ns
        assert in_step.get(str(new), True)
        assert tagged_images.TRAILER in new.read_bytes() or name not in ("photo.jpg", "depth.jpg")


def test_exiv2_reads_the_caption(tmp_path: Path) -> None:
    pyexiv2 = pytest.importorskip("pyexiv2", reason="pyexiv2 is not installed")
    images = all_kinds()
    embedded(tmp_path, images)
    for name in images:
        with pyexiv2.Image(str(tmp_path / "in" / name)) as image:
            xmp, exif, iptc = image.read_xmp(), image.read_exif(), image.read_iptc()
        assert xmp["Xmp.dc.description"] == {'lang="x-default"': CAPTION}
        assert xmp["Xmp.batchcap.caption"] == CAPTION
        assert exif.get("Exif.Image.ImageDescription", CAPTION) == CAPTION
        assert iptc.get("Iptc.Application2.Caption", CAPTION) == CAPTION


@pytest.mark.parametrize(("format", "sha256"), [("jsonl", None), ("csv", "0" * 64)])
def test_in_place_the_journal_knows_the_new_file(tmp_path: Path, format: Any, sha256: str | None) -> None:
    records = captioned(tmp_path / "in", all_kinds(), sha256=sha256)
    source = journal(tmp_path / "j", records, format)
    assert converted(source, tmp_path / "in", embed=True).written == len(records)
    lasting = list(JournalReader(source).last_records())
    assert len(lasting) == len(records)
    for old, new in zip(records, lasting, strict=True):
        file = tmp_path / "in" / old.path
        status = file.stat()
        assert (new.bytes, new.mtime_us) == (status.st_size, status.st_mtime_ns // 1000)
        assert new.mtime_us == old.mtime_us
        assert new.sha256 == (embed_jobs.sha256_of(str(file)) if sha256 else None)
        assert msgspec.structs.replace(new, bytes=old.bytes, sha256=old.sha256) == old
    again = converted(source, tmp_path / "in", embed=True)
    assert (again.written, again.unchanged, again.exit_code) == (0, len(records), 0)


def test_again_touches_only_what_is_new(tmp_path: Path) -> None:
    images = {f"{n}.jpg": tagged_images.jpeg() for n in range(6)}
    records = captioned(tmp_path / "in", images)
    assert converted(journal(tmp_path / "j", records[:4]), tmp_path / "out", embed=True).written == 4
    made = {file.name: file.stat().st_ino for file in (tmp_path / "out").iterdir()}
    tally = converted(journal(tmp_path / "j", records), tmp_path / "out", embed=True)
    assert (tally.written, tally.unchanged) == (2, 4)
    assert made.items() <= {file.name: file.stat().st_ino for file in (tmp_path / "out").iterdir()}.items()
    newer = [msgspec.structs.replace(each, caption="a cat") for each in records]
    assert converted(journal(tmp_path / "j", [*records, *newer]), tmp_path / "out", embed=True).written == 6
    assert tags_of(tmp_path / "out/5.jpg")["5.jpg"]["IPTC:Caption-Abstract"] == "a cat"


def test_a_caption_of_the_photographer_stays(tmp_path: Path) -> None:
    images = {
        "xmp.jpg": tagged_images.jpeg(packet=lightroom("Ana")),
        "german.jpg": tagged_images.jpeg(packet=lightroom("Ana").replace(b"x-default", b"de-DE")),
        "exif.jpg": tagged_images.jpeg(description="Ana"),
        "iptc.jpg": tagged_images.jpeg(caption="Ana"),
        "measured.tif": tagged_images.tiff(description="ImageJ=1.53t"),
    }
    tally = embedded(tmp_path, images)
    assert (tally.written, counts(tally.left_out), tally.exit_code) == (0, {THEIRS: 5}, 0)
    assert {name: (tmp_path / "in" / name).read_bytes() for name in images} == images
    for _ in range(2):  # as it is, and then it is there
        assert counts(embedded(tmp_path, images, "out").left_out) == {THEIRS: 5}
        assert {name: (tmp_path / "out" / name).read_bytes() for name in images} == images
    assert embedded(tmp_path, images, overwrite=True).written == 5
    for tags in tags_of(*(tmp_path / "in" / name for name in images)).values():
        assert {tags[field] for field in WRITTEN & tags.keys()} == {CAPTION}


def test_what_a_camera_writes_is_no_caption(tmp_path: Path) -> None:
    texts = ("OLYMPUS DIGITAL CAMERA         ", "SONY DSC", "   ", "DCIM\\100MEDIA\\DJI_0001.JPG")
    images = {f"{n}.jpg": tagged_images.jpeg(description=text) for n, text in enumerate(texts)}
    assert embedded(tmp_path, images).written == 4
    for tags in tags_of(*(tmp_path / "in").iterdir()).values():
        assert tags["IFD0:ImageDescription"] == CAPTION


def test_an_edit_makes_the_caption_theirs(tmp_path: Path) -> None:
    fields = {"a.jpg": "IPTC:Caption-Abstract", "b.jpg": "XMP-dc:Description", "c.jpg": "IFD0:ImageDescription"}
    embedded(tmp_path, dict.fromkeys(fields, tagged_images.jpeg()))
    for name, field in fields.items():
        file = tmp_path / "in" / name
        subprocess.run(["exiftool", "-q", "-overwrite_original", f"-{field}=Rex", str(file)], check=True)
    before = [(tmp_path / "in" / name).read_bytes() for name in fields]
    tally = embedded(tmp_path, dict.fromkeys(fields, b""), caption="a new caption")
    assert counts(tally.left_out) == {THEIRS: 3}
    assert [(tmp_path / "in" / name).read_bytes() for name in fields] == before


def test_languages_and_odd_captions(tmp_path: Path) -> None:
    captions = ["  spaces \t and\nlines ", "-1", "1.50", "雪 🐕", "\x01 \\n $1 @x", "x" * 3000]
    image = tagged_images.jpeg()
    made = [captioned(tmp_path / "in", {f"{n}.jpg": image}, text)[0] for n, text in enumerate(captions)]
    assert converted(journal(tmp_path / "j", made), tmp_path / "in", embed=True, language="en").written == 6
    tags = tags_of(*(tmp_path / "in" / each.path for each in made))
    for number, caption in enumerate(captions):
        for field in ("XMP-dc:Description", "XMP-dc:Description-en", "IFD0:ImageDescription"):
            assert tags[f"{number}.jpg"][field] == caption.replace("\x01", "\ufffd")
        assert ("IPTC:Caption-Abstract" in tags[f"{number}.jpg"]) == (len(caption) < 2000)
    assert converted(tmp_path / "j", tmp_path / "in", embed=True, language="en").unchanged == 6


def test_what_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    image = tagged_images.jpeg()
    records = captioned(folder, dict.fromkeys(("ok.jpg", "gone.jpg", "newer.jpg", "bitten.jpg"), image))
    records += captioned(
        folder,
        {
            "a.gif": b"GIF89a",
            "b.heic": b"\0\0\0\x18ftypheic",
            "cut.png": tagged_images.png()[:200],
            "big.tif": tagged_images.tiff(big=True),
        },
    )
    (folder / "gone.jpg").unlink()
    os.utime(folder / "newer.jpg")
    (folder / "bitten.jpg").write_bytes(image + b"more")
    records.append(record("z.zip::m.jpg", CAPTION, folder, member="m.jpg"))
    before = {file.name: file.read_bytes() for file in folder.iterdir() if file.name != "ok.jpg"}
    tally = converted(journal(tmp_path / "j", records), folder, embed=True)
    assert (tally.written, tally.exit_code) == (1, 3)
    assert counts(tally.left_out) == {places.IMAGE_GONE: 1, embed_jobs.OTHER_KIND: 2, places.IN_ARCHIVE: 1}
    assert tally.refused.pop(embed_jobs.CHANGED).count == 2
    assert [reason.startswith("exiftool: ") for reason in tally.refused] == [True, True]
    assert {file.name: file.read_bytes() for file in folder.iterdir() if file.name != "ok.jpg"} == before


@posix
def test_links_and_read_only_images_are_left_alone(tmp_path: Path) -> None:
    image = tagged_images.jpeg()
    folder = tmp_path / "in"
    records = captioned(folder, dict.fromkeys(("hard.jpg", "fixed.jpg", "ok.jpg"), image))
    os.link(folder / "hard.jpg", tmp_path / "other name")
    (folder / "fixed.jpg").chmod(0o444)
    (folder / "ok.jpg").chmod(0o640)
    elsewhere = captioned(tmp_path / "elsewhere", {"soft.jpg": image})
    (folder / "soft.jpg").symlink_to(tmp_path / "elsewhere/soft.jpg")
    records.append(msgspec.structs.replace(elsewhere[0], root=str(folder)))
    source = journal(tmp_path / "j", records)
    tally = converted(source, folder, embed=True)
    assert counts(tally.refused) == {
        embed_jobs.HARD_LINKS: 1,
        embed_jobs.READ_ONLY: 1,
        embed_jobs.SYMBOLIC_LINK: 1,
    }
    assert (folder / "soft.jpg").is_symlink()
    for name in ("hard.jpg", "fixed.jpg", "soft.jpg"):
        assert (folder / name).read_bytes() == image
    assert (folder / "ok.jpg").stat().st_mode & 0o777 == 0o640
    assert converted(source, tmp_path / "copies", embed=True).written == 4
    assert not (tmp_path / "copies/soft.jpg").is_symlink()


@posix
def test_odd_names(tmp_path: Path) -> None:
    """One is not UTF-8, one has the ending of another format."""
    names = ["-x.jpg", "a\nb.jpg", "e\u0301 $d @x.jpg", "no ending", "photo.jfif", "png.png", "\udce9.jpg"]
    *records, last = captioned(tmp_path / "in", dict.fromkeys(names, tagged_images.jpeg()))
    shown = {"path": "\ufffd.jpg", "path_b64": base64.b64encode(os.fsencode(last.path)).decode()}
    source = journal(tmp_path / "j", [*records, msgspec.structs.replace(last, **shown)])
    tally = converted(source, tmp_path / "in", embed=True)
    assert (tally.written, tally.refused) == (7, {})
    assert all(b"two dogs" in (look_inside(str(tmp_path / "in" / name)).packet or b"") for name in names)
    assert sorted(each.name for each in (tmp_path / "in").iterdir()) == sorted(names)
    assert converted(source, tmp_path / "out", embed=True).written == 7


def test_a_run_that_holds_the_journal_is_waited_for(tmp_path: Path) -> None:
    source = journal(tmp_path / "j", captioned(tmp_path / "in", {"a.jpg": tagged_images.jpeg()}))
    file, _ = open_locked(source)
    with file, pytest.raises(OutputLockedError):
        converted(source, tmp_path / "in", embed=True)
    with open_locked(source)[0]:
        assert converted(source, tmp_path / "out", embed=True).written == 1


def test_an_unfinished_last_line_is_cut_before_records_follow(tmp_path: Path) -> None:
    source = journal(
        tmp_path / "j", captioned(tmp_path / "in", {"a.jpg": tagged_images.jpeg(), "b.jpg": tagged_images.jpeg()})
    )
    lines = source.read_bytes().splitlines(keepends=True)
    source.write_bytes(lines[0] + lines[1][:40])
    assert converted(source, tmp_path / "in", embed=True).written == 1
    assert [each.path for each in JournalReader(source).records()] == ["a.jpg", "a.jpg"]
    source.write_bytes(b"".join(lines).removesuffix(b"\n"))
    (tmp_path / "in/a.jpg").unlink()
    assert converted(source, tmp_path / "in", embed=True).written == 1
    assert [each.path for each in JournalReader(source).records()] == ["a.jpg", "b.jpg", "b.jpg"]


def test_copies_never_replace_files_of_others(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.jpg").write_bytes(tagged_images.jpeg(keywords=False))
    tally = embedded(tmp_path, {"a.jpg": tagged_images.jpeg()}, "out")
    assert (counts(tally.refused), tally.exit_code) == ({embed_jobs.NOT_OURS: 1}, 3)
    assert embedded(tmp_path, {"a.jpg": b""}, "out", overwrite=True).written == 1


def test_two_targets_are_one_too_many(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="two targets"):
        converted(tmp_path / "j", tmp_path / "out", "xmp", embed=True)
