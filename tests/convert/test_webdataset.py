"""Target webdataset: shards that the library reads, and that stay as they are."""

from __future__ import annotations

import gc
import os
import tarfile
import warnings
from pathlib import Path
from typing import Any

import msgspec
import pytest
from conversions import best_of, converted, counts, failure, journal, pictured, record
from journals import FORMATS, posix

from batchcap.convert import target_webdataset
from batchcap.convert.image_files import CHANGED
from batchcap.convert.places import IMAGE_GONE, IN_ARCHIVE
from batchcap.convert.target_webdataset import STALE, UNREADABLE
from batchcap.errors import InputNotFoundError, OutputError
from batchcap.options.output import Format
from batchcap.records import Record


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return tmp_path / "photos"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def samples(out: Path) -> list[dict[str, Any]]:
    """What the library of the format reads, pixels too."""
    webdataset = pytest.importorskip("webdataset")
    shards = sorted(map(str, out.glob("*.tar")))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves its files open
        found = list(webdataset.WebDataset(shards, shardshuffle=False).decode("pil"))
        gc.collect()
    return found


def stamps(out: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_mtime_ns, path.stat().st_ino) for path in out.glob("*.tar")}


NAMES = ("a/b.c.jpg", "a.jpg", "a.png", "x y/é.jpg", "json.txt.jpg")


@pytest.mark.parametrize("format", FORMATS)
def test_the_library_reads_every_sample(tmp_path: Path, photos: Path, out: Path, format: Format) -> None:
    records = pictured(photos, *NAMES)
    source = journal(tmp_path / "j", [*records[:2], failure("bad.jpg", photos), *records[2:]], format)
    tally = converted(source, out / "set.tar", shard_size=2)
    assert (tally.written, tally.failures, tally.exit_code) == (5, 1, 0)
    assert sorted(path.name for path in out.iterdir()) == [f"set-{n:06}.tar" for n in range(3)]
    found = samples(out)
    assert [each["txt"] for each in found] == [each.caption for each in records]
    assert [each["json"]["path"] for each in found] == list(NAMES)
    assert [each["__key__"] for each in found] == [f"{n:08}" for n in (0, 1, 3, 4, 5)]
    for each, name in zip(found, NAMES, strict=True):
        assert each[name.rpartition(".")[2]].size == (8, 6)
    assert "root" not in found[0]["json"]


def test_endings(tmp_path: Path, photos: Path, out: Path) -> None:
    """What is decoded by its ending has that; no image is taken for a caption."""
    records = pictured(photos, "A.JPG", "b.jfif", "c.webp", "d.mpo")
    for name in ("e.txt", "f", "g.é", "h.cls", "i.pickle"):
        (photos / name).write_bytes((photos / "A.JPG").read_bytes())
        state = (photos / name).stat()
        records.append(record(name, root=photos, bytes=state.st_size, mtime_us=state.st_mtime_ns // 1000))
    converted(journal(tmp_path / "j", records), out, "webdataset")
    endings = [each.keys() - {"__key__", "__url__", "__local_path__", "json", "txt"} for each in samples(out)]
    assert endings == [{"jpg"}, {"jpg"}, {"webp"}, {"jpg"}, *[{"img"}] * 5]
    assert {samples(out)[place]["jpg"].size for place in (0, 1, 3)} == {(8, 6)}
    assert samples(out)[2]["webp"].size == (8, 6)


def test_the_record_keeps_all_captions(tmp_path: Path, photos: Path, out: Path) -> None:
    [real] = pictured(photos, "a.jpg")
    several = best_of("a.jpg", "a dog", "a brown dog", root=photos)
    several = msgspec.structs.replace(several, bytes=real.bytes, mtime_us=real.mtime_us)
    converted(journal(tmp_path / "j", [several]), out, "webdataset")
    [sample] = samples(out)
    assert [each["caption"] for each in sample["json"]["captions"]] == ["a dog", "a brown dog"]
    assert list(stamps(out)) == ["captions-000000.tar"]


def test_shards_are_the_same_wherever_they_are_written(tmp_path: Path, photos: Path, out: Path) -> None:
    source = journal(tmp_path / "j", pictured(photos, *NAMES))
    (tmp_path / "other").mkdir()
    converted(source, out, "webdataset")
    umask = os.umask(0o077)
    try:
        converted(source, tmp_path / "other", "webdataset")
    finally:
        os.umask(umask)
    name = "captions-000000.tar"
    assert (out / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_only_shards_that_change_are_written(tmp_path: Path, photos: Path, out: Path) -> None:
    records = pictured(photos, *(f"{n}.jpg" for n in range(10)))
    converted(journal(tmp_path / "j", records[:7]), out, "webdataset", shard_size=2)
    before = stamps(out)
    tally = converted(journal(tmp_path / "j", records), out, "webdataset", shard_size=2)
    assert (tally.written, tally.unchanged) == (4, 6)  # the fourth shard is full now
    changed = {name for name, stamp in stamps(out).items() if before.get(name) != stamp}
    assert changed == {"captions-000003.tar", "captions-000004.tar"}


def test_a_new_caption_changes_its_shard_alone(tmp_path: Path, photos: Path, out: Path) -> None:
    """Its line is the last of the journal, its place is that of the first."""
    records = pictured(photos, *(f"{n}.jpg" for n in range(6)))
    converted(journal(tmp_path / "j", records), out, "webdataset", shard_size=2)
    before = stamps(out)
    again = msgspec.structs.replace(records[2], caption="another")
    tally = converted(journal(tmp_path / "j", [*records, again]), out, "webdataset", shard_size=2)
    assert (tally.written, tally.unchanged) == (2, 4)
    assert {name for name, stamp in stamps(out).items() if before[name] != stamp} == {"captions-000001.tar"}
    assert [each["txt"] for each in samples(out)][2] == "another"


def test_images_that_are_not_those_of_the_record(tmp_path: Path, photos: Path, out: Path) -> None:
    records = pictured(photos, "a.jpg", "b.jpg", "c.jpg", "d.jpg")
    (photos / "a.jpg").unlink()
    (photos / "b.jpg").write_bytes(b"\0" * (records[1].bytes or 0))
    os.utime(photos / "c.jpg", ns=(0, 0))
    archived = record("t.zip::a.jpg", root=photos, member="a.jpg")
    tally = converted(journal(tmp_path / "j", [*records, archived]), out, "webdataset")
    assert counts(tally.left_out) == {IMAGE_GONE: 1, CHANGED: 2, IN_ARCHIVE: 1}
    assert [each["json"]["path"] for each in samples(out)] == ["d.jpg"]
    assert tally.exit_code == 0


@posix
def test_an_image_that_cannot_be_read(tmp_path: Path, photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = pictured(photos, "a.jpg", "b.jpg")
    copy = target_webdataset._copy

    class Failing:
        def read(self, _: int) -> bytes:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(
        target_webdataset,
        "_copy",
        lambda image, tar, sample: copy(Failing() if sample.record.path == "a.jpg" else image, tar, sample),
    )
    tally = converted(journal(tmp_path / "j", records), out, "webdataset")
    assert (counts(tally.refused), tally.exit_code) == ({UNREADABLE: 1}, 3)
    assert [each["json"]["path"] for each in samples(out)] == ["b.jpg"]


def test_an_image_that_is_cut_while_it_is_copied(
    tmp_path: Path, photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = pictured(photos, "a.jpg", "b.jpg")
    copy = target_webdataset._copy

    def cut(image: Any, tar: Any, sample: Any) -> str:
        if sample.record.path == "a.jpg":
            os.truncate(photos / "a.jpg", 100)
        return copy(image, tar, sample)

    monkeypatch.setattr(target_webdataset, "_copy", cut)
    tally = converted(journal(tmp_path / "j", records), out, "webdataset")
    assert counts(tally.left_out) == {CHANGED: 1}
    assert [each["json"]["path"] for each in samples(out)] == ["b.jpg"]


def test_shards_of_before_are_named(tmp_path: Path, photos: Path, out: Path) -> None:
    source = journal(tmp_path / "j", pictured(photos, *NAMES))
    converted(source, out, "webdataset", shard_size=2)
    tally = converted(source, out, "webdataset", shard_size=10)
    assert (counts(tally.refused), tally.exit_code) == ({STALE: 2}, 3)
    for path in tally.refused[STALE].examples:
        Path(path).unlink()
    assert converted(source, out, "webdataset", shard_size=10).exit_code == 0
    assert len(samples(out)) == 5


def test_a_tar_of_others_stays(tmp_path: Path, photos: Path, out: Path) -> None:
    source = journal(tmp_path / "j", pictured(photos, "a.jpg"))
    with tarfile.open(out / "captions-000000.tar", "w") as tar:
        tar.add(photos / "a.jpg", "a.jpg")
    before = stamps(out)
    with pytest.raises(OutputError, match="did not write it"):
        converted(source, out, "webdataset")
    assert stamps(out) == before
    assert converted(source, out, "webdataset", overwrite=True).written == 1


@pytest.mark.parametrize("size", [0, 100, 512, 3000, -1])
def test_a_shard_that_was_cut_is_written_again(tmp_path: Path, photos: Path, out: Path, size: int) -> None:
    source = journal(tmp_path / "j", pictured(photos, *NAMES))
    shard = out / "captions-000000.tar"
    converted(source, out, "webdataset")
    whole = shard.read_bytes()
    shard.write_bytes(whole[:size])
    converted(source, out, "webdataset", overwrite=size == 100)  # too short to be known as ours
    assert len(samples(out)) == 5
    assert shard.read_bytes() == whole or size == -1  # the zeros at the end are not looked at


def test_a_disk_that_is_away_empties_no_shard(tmp_path: Path, photos: Path, out: Path) -> None:
    source = journal(tmp_path / "j", pictured(photos, "a.jpg"))
    converted(source, out, "webdataset")
    before = stamps(out)
    photos.rename(tmp_path / "away")
    for _ in range(2):
        with pytest.raises(InputNotFoundError, match="Is a disk away"):
            converted(source, out, "webdataset")
        assert stamps(out) == before
        photos.mkdir(exist_ok=True)  # the place of a disk that is not mounted


def test_an_empty_journal(tmp_path: Path, out: Path) -> None:
    empty: list[Record] = []
    assert converted(journal(tmp_path / "j.jsonl", empty), out, "webdataset").exit_code == 0
    assert list(out.iterdir()) == []
