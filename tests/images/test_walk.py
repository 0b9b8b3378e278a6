"""Each real image once, whatever links lead to it, under a name that does not depend on them; the rest is counted."""

from __future__ import annotations

import os
import random
import sys
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from batchcap.cli.app import app
from batchcap.images import discovery
from batchcap.images.decode import decode_image
from batchcap.images.walk import SUFFIXES, Unread

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(name.encode())
    return folder


def paths(*inputs: Path, root: Path | None = None, unread: Unread | None = None) -> list[str]:
    found = [ref.path for ref in discovery.resolve(inputs, root).images(unread)]
    assert discovery.count(inputs) == len(found)
    return found


# --- links ------------------------------------------------------------------------------------------------------------


def test_twelve_levels_of_diamonds_are_one_image(tmp_path: Path) -> None:
    """Two links at each level: 4,096 ways to one file."""
    fill(tmp_path, "store/12/a.jpg")
    for level in range(12):
        folder = tmp_path / "store" / str(level)
        folder.mkdir()
        for side in ("left", "right"):
            (folder / side).symlink_to(Path("..") / str(level + 1))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "store" / "0")
    assert paths(tmp_path / "in") == ["link/" + "left/" * 12 + "a.jpg"]
    assert paths(tmp_path / "store") == ["12/a.jpg"]


def test_the_real_name_wins_wherever_the_link_stands(tmp_path: Path) -> None:
    fill(tmp_path, "m/1.jpg", "m/2.jpg")
    for name in ("a", "z"):
        (tmp_path / name).symlink_to("m")
        (tmp_path / f"{name}.jpg").symlink_to("m/1.jpg")
    unread = Unread()
    assert paths(tmp_path, unread=unread) == ["m/1.jpg", "m/2.jpg"]
    assert unread.links == 4


def test_two_links_to_a_folder_elsewhere_are_one(tmp_path: Path) -> None:
    fill(tmp_path, "far/1.jpg", "far/sub/2.jpg", "in/3.jpg")
    (tmp_path / "in" / "b").symlink_to(tmp_path / "far")
    (tmp_path / "in" / "c").symlink_to(tmp_path / "far")
    (tmp_path / "in" / "a").symlink_to(tmp_path / "far" / "sub")
    assert paths(tmp_path / "in") == ["3.jpg", "a/2.jpg", "b/1.jpg"]
    # Inputs of their own keep their names, whichever comes first.
    far, inside = tmp_path / "far", tmp_path / "in"
    assert set(paths(far, inside, root=tmp_path)) == {"far/1.jpg", "far/sub/2.jpg", "in/3.jpg"}
    assert set(paths(inside, far, root=tmp_path)) == {"far/1.jpg", "far/sub/2.jpg", "in/3.jpg"}


def test_a_link_to_what_the_walk_does_not_come_to_is_followed(tmp_path: Path) -> None:
    """Stores of contents, as those of git-annex and of download caches: hidden, or with names that tell nothing."""
    fill(tmp_path, ".git/annex/1.jpg", "blobs/0123abcd")
    (tmp_path / "a.jpg").symlink_to(".git/annex/1.jpg")
    (tmp_path / "again.jpg").symlink_to(".git/annex/1.jpg")
    (tmp_path / "b.jpg").symlink_to("blobs/0123abcd")
    (tmp_path / "c").symlink_to(".git/annex")
    assert paths(tmp_path) == ["a.jpg", "b.jpg"]
    assert paths(tmp_path, tmp_path / ".git", root=tmp_path) == ["b.jpg", ".git/annex/1.jpg"]


def test_a_link_upwards_meets_no_image_twice(tmp_path: Path) -> None:
    fill(tmp_path, "in/1.jpg", "beside/2.jpg")
    (tmp_path / "in" / "up").symlink_to("..")
    assert paths(tmp_path / "in") == ["1.jpg", "up/beside/2.jpg"]


def test_files_named_beside_links_to_them(tmp_path: Path) -> None:
    fill(tmp_path, "in/1.jpg", "far/2.jpg")
    (tmp_path / "one.jpg").symlink_to("in/1.jpg")
    (tmp_path / "two.jpg").symlink_to("far/2.jpg")
    one, two, inside = tmp_path / "one.jpg", tmp_path / "two.jpg", tmp_path / "in"
    assert paths(one, inside, root=tmp_path) == paths(inside, one, root=tmp_path) == ["in/1.jpg"]
    assert paths(one, two, root=tmp_path) == ["one.jpg", "two.jpg"]
    assert paths(two, tmp_path / "far" / "2.jpg", root=tmp_path) == ["far/2.jpg"]


def test_hard_links_are_names_of_one_image(tmp_path: Path) -> None:
    """Backups that share unchanged files: the first name in the order of the walk has the record."""
    fill(tmp_path, "daily.0/a.jpg", "daily.0/b.jpg")
    (tmp_path / "daily.1").mkdir()
    os.link(tmp_path / "daily.0" / "a.jpg", tmp_path / "daily.1" / "a.jpg")
    fill(tmp_path, "daily.1/b.jpg")
    unread = Unread()
    assert paths(tmp_path, unread=unread) == ["daily.0/a.jpg", "daily.0/b.jpg", "daily.1/b.jpg"]
    assert unread.links == 1


@pytest.mark.parametrize("seed", range(20))
def test_any_tangle_of_links(tmp_path: Path, seed: int) -> None:
    """Every file that can be reached comes out exactly once, and a file below the input under its real name."""
    draw = random.Random(seed)
    folders = [tmp_path / "in"]
    for number in range(12):
        parent = draw.choice([*folders, tmp_path])
        folders.append(parent / f"d{number}")
        folders[-1].mkdir(parents=True, exist_ok=True)
    files = []
    for number in range(15):
        files.append(draw.choice(folders) / f"{number}.jpg")
        fill(files[-1].parent, files[-1].name)
    for number in range(15):
        (draw.choice(folders) / f"l{number}").symlink_to(draw.choice(folders))
        (draw.choice(folders) / f"s{number}.jpg").symlink_to(draw.choice(files))
    reachable = {file.resolve() for file in reached(tmp_path / "in")}
    got = [Path(ref.file) for ref in discovery.discover([tmp_path / "in"])]
    assert Counter(file.resolve() for file in got) == Counter(reachable)
    for file in got:
        real = file.resolve()
        assert not real.is_relative_to(tmp_path / "in") or real == file


def reached(top: Path) -> list[Path]:
    """The images in every folder that can be reached."""
    pending, done, found = [top.resolve()], set(), []
    while pending:
        folder = pending.pop()
        if folder not in done:
            done.add(folder)
            found += [file for file in folder.iterdir() if file.suffix == ".jpg"]
            pending += [below.resolve() for below in folder.iterdir() if below.is_dir()]
    return found


def test_links_cost_little_memory(tmp_path: Path) -> None:
    """The contract is 200 bytes a finished record, of which resuming takes 40, and a second walk counts the total."""
    many = 8_000
    fill(tmp_path, "far/0.jpg")
    for folder in range(20):
        (tmp_path / "in" / str(folder)).mkdir(parents=True)
        for number in range(many // 20):
            name = f"{folder}-{number}"
            (tmp_path / "far" / f"{name}.bin").touch()
            (tmp_path / "in" / str(folder) / f"{name}.jpg").symlink_to(tmp_path / "far" / f"{name}.bin")
    refs = discovery.discover([tmp_path / "in"])
    next(refs)
    tracemalloc.start()
    assert sum(1 for _ in refs) == many - 1
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 80 * many + 500_000
    assert peak < 170 * many


# --- what is not read -------------------------------------------------------------------------------------------------


def test_what_is_not_read_is_counted_by_kind(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "b.HEIC", "c.heic", "d/e.zip", "d/notes.txt", "README", ".hidden.heic", "f.mp4")
    unread = Unread()
    assert paths(tmp_path, unread=unread) == ["a.jpg"]
    assert unread.kinds == {".heic": 2, ".zip": 1, ".txt": 1, ".mp4": 1, "other": 1}


def test_counting_kinds_ends_somewhere(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", *(f"part.{number:04}" for number in range(300)))
    unread = Unread()
    paths(tmp_path, unread=unread)
    assert sum(unread.kinds.values()) == 300
    assert len(unread.kinds) <= 101


@pytest.mark.filterwarnings(r"ignore:::PIL\.")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_that_is_found_is_read(tmp_path: Path, suffix: str) -> None:
    formats = {".jfif": "JPEG", ".jpe": "JPEG", ".jpx": "JPEG2000", ".j2k": "JPEG2000", ".pnm": "PPM", ".pbm": "PPM"}
    formats |= {".mpo": "MPO", ".apng": "PNG", ".avifs": "AVIF", ".jpf": "JPEG2000", ".j2c": "JPEG2000"}
    image = Image.new("1" if suffix == ".pbm" else "RGB", (20, 20), 1)
    image.save(tmp_path / f"a{suffix}", formats.get(suffix), **({"sizes": [(20, 20)]} if suffix == ".ico" else {}))
    (ref,) = discovery.discover([tmp_path])
    assert decode_image(Path(ref.file).read_bytes()).shape == (20, 20, 3)


def said(*arguments: Any) -> str:
    return CliRunner().invoke(app, [str(argument) for argument in ("run", "--device", "cpu", *arguments)]).stderr


def test_the_summary_says_what_was_not_read(tmp_path: Path, tiny_bundle: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (20, 20)).save(photos / "a.jpg")
    fill(photos, "b.heic", "c.heic", "d.zip", "notes.txt")
    (photos / "link.jpg").symlink_to("a.jpg")
    command = (photos, "-o", tmp_path / "o.jsonl", "--model", tiny_bundle)
    for _ in range(2):  # also where nothing is new
        assert "  3 files were not read: 2 .heic, 1 .zip; 1 other file.\n" in said(*command)
    detailed = said(*command, "-v")
    assert "    .heic: HEIC images. Convert it to JPEG" in detailed
    assert "    .zip: archives. Unpack it" in detailed
    assert "    other files: 1 .txt\n" in detailed
    assert "  1 link left out: what they lead to comes under another name.\n" in detailed
    (photos / "d.zip").unlink()
    for name in ("b.heic", "c.heic"):
        (photos / name).unlink()
    assert "  1 other file in the folders.\n" in said(*command)


def test_a_folder_of_other_files_alone(tmp_path: Path, tiny_bundle: Path) -> None:
    fill(tmp_path, "b.heic", "c.heic", "d.zip")
    text = said(tmp_path, "-o", tmp_path / "o.jsonl", "--model", tiny_bundle)
    assert "that is read here: 2 .heic, 1 .zip." in text.replace("\n", " ")
