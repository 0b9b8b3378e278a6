"""Every image under the inputs comes out once, in a stable order, and what cannot be read is not swallowed."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from found import fill, kinds, paths
from hypothesis import given
from hypothesis import strategies as st

from batchcap.errors import InputNotFoundError, OptionError
from batchcap.images import discovery
from batchcap.records import ImageRef

AS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


# --- what is taken, and in which order --------------------------------------------------------------------------------


def test_folders_depth_first_names_by_bytes(tmp_path: Path) -> None:
    fill(
        tmp_path,
        "b.jpg",
        "a/z.png",
        "a/B/1.gif",
        "a/a.webp",
        "a.jpg",
        "Z.TIF",
        "é.jpg",
        "c/d/e/f.bmp",
        "10.jpe",
        "9.jpeg",
    )
    assert paths(tmp_path) == [
        "10.jpe", "9.jpeg", "Z.TIF", "a/B/1.gif", "a/a.webp", "a/z.png", "a.jpg", "b.jpg", "c/d/e/f.bmp", "é.jpg",
    ]  # fmt: skip


def test_only_images_in_folders_but_any_file_that_is_named(tmp_path: Path) -> None:
    fill(tmp_path, "a.JPG", "b.Tiff", "notes.txt", "jpg", "c.jpg.part", "scan", "d.jpg/e.png")
    assert paths(tmp_path) == ["a.JPG", "b.Tiff", "d.jpg/e.png"]
    assert paths(tmp_path / "scan", tmp_path, root=tmp_path) == ["scan", "a.JPG", "b.Tiff", "d.jpg/e.png"]


def test_hidden_names_are_skipped_unless_they_are_an_input(tmp_path: Path) -> None:
    fill(tmp_path, "._a.jpg", ".b.jpg", ".cache/c.jpg", "d/.e/f.jpg", "g.jpg")
    assert paths(tmp_path) == ["g.jpg"]
    assert paths(tmp_path, tmp_path / ".cache", tmp_path / ".b.jpg", root=tmp_path) == [
        "g.jpg",
        ".cache/c.jpg",
        ".b.jpg",
    ]


def test_size_time_and_file(tmp_path: Path) -> None:
    file = fill(tmp_path, "a/b.jpg") / "a" / "b.jpg"
    os.utime(file, ns=(0, 1_732_142_000_123_456_789))
    (ref,) = discovery.discover([tmp_path])
    assert ref == ImageRef("a/b.jpg", str(file), size=7, mtime_us=1_732_142_000_123_456)


NAMES = st.text(st.sampled_from("aAbé.😀-0 "), min_size=1, max_size=4).filter(lambda name: not name.startswith("."))
TREES = st.recursive(
    st.none(), lambda inner: st.dictionaries(NAMES, inner, max_size=5), max_leaves=25
).filter(lambda tree: tree is not None)  # fmt: skip


def plant(folder: Path, tree: dict[str, dict | None]) -> list[str]:
    """Make the tree; the paths of its images in the order that is promised."""
    made: list[tuple[bytes, list[str]]] = []
    for name, below in tree.items():
        if below is None:
            fill(folder, f"{name}.jpg")
            made.append((os.fsencode(f"{name}.jpg"), [f"{name}.jpg"]))
        else:
            (folder / f"{name}_").mkdir()
            made.append((os.fsencode(f"{name}_"), [f"{name}_/{path}" for path in plant(folder / f"{name}_", below)]))
    return [path for _, below in sorted(made) for path in below]


@given(tree=TREES)
def test_any_tree_comes_out_in_order(tmp_path_factory: pytest.TempPathFactory, tree: dict[str, dict | None]) -> None:
    folder = tmp_path_factory.mktemp("tree")
    expected = plant(folder, tree)
    assert paths(folder) == expected


@given(tree=TREES, seed=st.integers(0, 2**32))
def test_any_inputs_give_each_image_once(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[str, dict | None], seed: int
) -> None:
    """Inputs that repeat, nest and overlap in any order: the union, each once, and none lost."""
    folder = tmp_path_factory.mktemp("tree")
    every = plant(folder, tree)
    draw = random.Random(seed)
    places = [Path(top) for top, _, _ in os.walk(folder)] + [folder / path for path in every]
    chosen = [draw.choice(places) for _ in range(draw.randint(1, 6))]
    reached = {path for path in every for place in chosen if (folder / path).is_relative_to(place)}
    got = paths(*chosen, root=folder)
    assert len(got) == len(reached)
    assert set(got) == reached


def test_the_first_input_that_reaches_an_image_has_it(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.jpg", "b/2.jpg", "b/c/3.jpg")
    b, c, two = tmp_path / "b", tmp_path / "b" / "c", tmp_path / "b" / "2.jpg"
    assert paths(b, c, root=tmp_path) == ["b/2.jpg", "b/c/3.jpg"]
    assert paths(c, b, root=tmp_path) == ["b/c/3.jpg", "b/2.jpg"]
    assert paths(c, two, tmp_path, b, root=tmp_path) == ["b/c/3.jpg", "b/2.jpg", "a/1.jpg"]
    assert paths(two, two) == [two.as_posix()]


def test_one_folder_spelled_in_many_ways_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, "a/1.jpg", "b/2.jpg")
    monkeypatch.chdir(tmp_path / "b")
    assert paths(Path("../a"), tmp_path / "a", Path("../b/../a/."), Path("../a/../a")) == ["1.jpg"]
    assert paths(Path("../a/1.jpg"), Path("../b/../a/1.jpg"), tmp_path / "a" / "1.jpg", root=Path("..")) == ["a/1.jpg"]


def test_discovery_is_lazy(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.jpg", "b/2.jpg")
    refs = discovery.discover([tmp_path])
    assert next(refs).path == "a/1.jpg"
    fill(tmp_path, "b/0.jpg")
    assert [ref.path for ref in refs] == ["b/0.jpg", "b/2.jpg"]


def test_folders_deeper_than_the_recursion_limit(tmp_path: Path) -> None:
    depth = 1050
    here = tmp_path
    for _ in range(depth):  # one at a time: a whole path of this depth is still legal
        here = here / "d"
        here.mkdir()
    fill(here, "x.jpg")
    try:
        assert paths(tmp_path) == ["d/" * depth + "x.jpg"]
    finally:  # pytest's own clean-up is recursive
        (here / "x.jpg").unlink()
        while here != tmp_path:
            here.rmdir()
            here = here.parent


# --- the root ---------------------------------------------------------------------------------------------------------


def test_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, "in/a/1.jpg", "in/b/2.jpg", "out/3.jpg")
    monkeypatch.chdir(tmp_path / "in")
    outside = (tmp_path / "out" / "3.jpg").as_posix()
    assert paths(Path("a")) == ["1.jpg"]
    assert paths(Path("a"), Path("b")) == ["a/1.jpg", "b/2.jpg"]
    assert paths(Path("a/1.jpg")) == ["a/1.jpg"]
    assert paths(Path("a/1.jpg"), tmp_path / "out" / "3.jpg") == ["a/1.jpg", outside]
    # Files beside a folder: all paths have the same beginning, whatever else is named.
    assert paths(Path("a"), tmp_path / "out" / "3.jpg") == ["a/1.jpg", outside]
    assert paths(Path("a/1.jpg"), Path("b")) == ["a/1.jpg", "b/2.jpg"]
    assert paths(Path("a"), Path("../in/a")) == ["1.jpg"]
    assert paths(Path("a"), root=tmp_path) == ["in/a/1.jpg"]
    assert paths(Path("a"), root=Path("..")) == ["in/a/1.jpg"]
    assert paths(Path("a"), tmp_path / "out", root=Path()) == ["a/1.jpg", outside]
    assert paths(tmp_path, root=Path("b")) == [
        *((tmp_path / "in" / "a" / "1.jpg").as_posix(), "2.jpg", outside),
    ]
    # A folder whose name begins like the root's is not inside it.
    fill(tmp_path, "in2/4.jpg")
    other = (tmp_path / "in2" / "4.jpg").as_posix()
    assert paths(tmp_path / "in2", Path("a"), root=tmp_path / "in") == [other, "a/1.jpg"]


def test_a_root_that_holds_none_of_the_inputs_is_a_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, "in/1.jpg", "in2/2.jpg", "other/3.jpg")
    monkeypatch.chdir(tmp_path)
    for inputs in ([Path("in2")], [Path("in2/2.jpg"), Path("other")]):
        with pytest.raises(OptionError) as caught:
            discovery.resolve(inputs, Path("in"))
        assert caught.value.message.startswith("--root in: none of the inputs is in this folder: ")
        assert str(tmp_path / "in2") in caught.value.message
        assert "leave --root out" in caught.value.fix


def test_a_root_that_is_no_folder(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg")
    for wrong in (tmp_path / "nowhere", tmp_path / "a.jpg"):
        with pytest.raises(OptionError, match="--root"):
            discovery.resolve([tmp_path], wrong)


# --- what is missing or cannot be read --------------------------------------------------------------------------------


def test_a_missing_input_is_named_before_anything_comes_out(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg")
    for call in (discovery.discover, discovery.count):
        with pytest.raises(InputNotFoundError, match="nowhere"):
            call([tmp_path, tmp_path / "nowhere"])
    (tmp_path / "dangling").symlink_to("nothing")
    with pytest.raises(InputNotFoundError, match="dangling"):
        discovery.discover([tmp_path / "dangling"])
    with pytest.raises(InputNotFoundError, match=r"a\.jpg"):
        discovery.discover([tmp_path / "a.jpg" / "b.jpg"])


def test_named_pipes_are_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(InputNotFoundError, match=r"pipe\.jpg"):
        discovery.discover([tmp_path / "pipe.jpg"])
    assert kinds(list(discovery.discover([tmp_path]))) == [("pipe.jpg", "io")]


def test_a_file_that_vanished_is_reported(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    refs = discovery.discover([tmp_path])
    first = next(refs)
    (tmp_path / "b.jpg").unlink()
    assert kinds([first, *refs]) == [("a.jpg", None), ("b.jpg", "missing"), ("c.jpg", None)]


def test_a_folder_that_vanished_is_reported(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "b/x.jpg", "c.jpg")
    refs = discovery.discover([tmp_path])
    first = next(refs)
    (tmp_path / "b" / "x.jpg").unlink()
    (tmp_path / "b").rmdir()
    assert kinds([first, *refs]) == [("a.jpg", None), ("b", "missing"), ("c.jpg", None)]


def test_dangling_links(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg")
    (tmp_path / "b.jpg").symlink_to("nothing.jpg")
    (tmp_path / "c.jpg").symlink_to("c.jpg")
    (tmp_path / "disk2").symlink_to("/no/such/disk")
    (tmp_path / "trip.2019").symlink_to("nothing")
    (tmp_path / "notes.txt").symlink_to("nothing")
    (tmp_path / "itself").symlink_to("itself")
    refs = list(discovery.discover([tmp_path]))
    images = [("a.jpg", None), ("b.jpg", "missing"), ("c.jpg", "io")]
    assert kinds(refs) == [*images, ("disk2", "missing"), ("trip.2019", "missing")]
    assert [ref.failure is not None and ref.failure.of_folder for ref in refs] == [False, False, False, True, True]
    assert discovery.count([tmp_path]) == 5


def test_a_folder_too_deep_is_a_folder(tmp_path: Path) -> None:
    """A path longer than the system takes; the folders are made from within."""
    fill(tmp_path, "a.jpg")
    here = Path.cwd()
    os.chdir(tmp_path)
    try:
        for _ in range(20):
            Path("d" * 250).mkdir()
            os.chdir("d" * 250)
        Path("lost.jpg").write_bytes(b"")
    finally:
        os.chdir(here)
    found = list(discovery.discover([tmp_path]))
    assert kinds(found)[0] == ("a.jpg", None)
    assert len(found) == 2
    assert found[1].failure is not None
    assert found[1].failure.of_folder
    assert "too long" in found[1].failure.message


@pytest.mark.skipif(AS_ROOT, reason="root may read everything")
def test_a_folder_without_permission_is_reported(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "b/x.jpg", "c.jpg")
    (tmp_path / "b").chmod(0)
    try:
        refs = list(discovery.discover([tmp_path]))
    finally:
        (tmp_path / "b").chmod(0o700)
    assert kinds(refs) == [("a.jpg", None), ("b", "permission"), ("c.jpg", None)]


def test_a_folder_that_cannot_be_listed_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for users whom no permission stops: the system's call itself refuses."""
    fill(tmp_path, "a.jpg", "b/x.jpg", "c.jpg")
    scandir = os.scandir

    def refuse(folder: str) -> object:
        if os.path.basename(folder) == "b":  # noqa: PTH119 - the caller's own spelling
            raise PermissionError(13, "Permission denied", folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    refs = list(discovery.discover([tmp_path]))
    assert kinds(refs) == [("a.jpg", None), ("b", "permission"), ("c.jpg", None)]
    assert refs[1].failure is not None
    assert refs[1].failure.stage == "read"
    monkeypatch.setattr(os, "scandir", lambda folder: refuse("b"))
    assert kinds(list(discovery.discover([tmp_path]))) == [(".", "permission")]
