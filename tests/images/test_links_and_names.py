"""Symbolic links, and names that are not UTF-8: each real file comes out once, under one key."""

from __future__ import annotations

import base64
import itertools
import os
import sys
from pathlib import Path

import pytest
from found import fill, paths
from hypothesis import given
from hypothesis import strategies as st

from batchcap.errors import DuplicateKeyError
from batchcap.images import discovery

BYTE_NAMES = pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names must be Unicode here")


# --- symbolic links ---------------------------------------------------------------------------------------------------


def test_links_are_followed(tmp_path: Path) -> None:
    fill(tmp_path, "in/a.jpg", "elsewhere/x/1.jpg", "elsewhere/2.jpg")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "z.jpg").symlink_to(tmp_path / "elsewhere" / "2.jpg")
    assert paths(tmp_path / "in") == ["a.jpg", "link/2.jpg", "link/x/1.jpg"]
    assert paths(tmp_path / "in" / "link") == ["2.jpg", "x/1.jpg"]


def test_loops_end(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.jpg", "b/2.jpg")
    (tmp_path / "a" / "up").symlink_to("..")
    (tmp_path / "a" / "self").symlink_to(".")
    (tmp_path / "a" / "to_b").symlink_to("../b")
    (tmp_path / "b" / "to_a").symlink_to("../a")
    assert paths(tmp_path) == ["a/1.jpg", "b/2.jpg"]


def test_an_input_reached_through_a_link_comes_out_once(tmp_path: Path) -> None:
    fill(tmp_path, "in/a.jpg", "elsewhere/1.jpg")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "elsewhere")
    inside, elsewhere = tmp_path / "in", tmp_path / "elsewhere"
    assert paths(inside, elsewhere, root=tmp_path) == ["in/a.jpg", "elsewhere/1.jpg"]
    assert paths(elsewhere, inside, root=tmp_path) == ["elsewhere/1.jpg", "in/a.jpg"]
    assert paths(inside, inside / "link", root=tmp_path) == ["in/a.jpg", "in/link/1.jpg"]
    assert paths(elsewhere / "1.jpg", inside, root=tmp_path) == ["elsewhere/1.jpg", "in/a.jpg"]


def test_dots_after_a_link_mean_what_the_system_means(tmp_path: Path) -> None:
    fill(tmp_path, "1.jpg", "far/1.jpg", "far/away/2.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "far" / "away")
    (ref,) = discovery.resolve([tmp_path / "link" / ".." / "1.jpg"], tmp_path).images()
    assert ref.path == "far/1.jpg"
    assert Path(ref.file).read_bytes() == b"far/1.jpg"


# --- names ------------------------------------------------------------------------------------------------------------


@BYTE_NAMES
def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    names = [b"caf\xe9.jpg", b"caf\xe8.jpg", b"\xff/in.jpg", "é.jpg".encode()]
    fill(tmp_path, *map(os.fsdecode, names))
    refs = list(discovery.discover([tmp_path]))
    assert [ref.path for ref in refs] == ["caf\ufffd.jpg", "caf\ufffd.jpg", "é.jpg", "\ufffd/in.jpg"]
    exact = [ref.path_b64 and base64.b64decode(ref.path_b64) for ref in refs]
    assert exact == [b"caf\xe8.jpg", b"caf\xe9.jpg", None, b"\xff/in.jpg"]
    assert len({ref.key for ref in refs}) == 4
    assert [Path(ref.file).read_bytes() for ref in refs] == sorted(names)


@BYTE_NAMES
def test_a_path_that_is_anothers_base64_stops(tmp_path: Path) -> None:
    odd = b"\xe9\xe9.jpg"
    same = base64.b64encode(odd).decode()
    assert "/" not in same
    fill(tmp_path, os.fsdecode(odd), same)
    both = [tmp_path, tmp_path / same]
    for inputs in (both, both[::-1], [tmp_path / os.fsdecode(odd), tmp_path / same]):
        with pytest.raises(DuplicateKeyError, match=rf"xe9.*{same}|{same}.*xe9"):
            list(discovery.resolve(inputs, tmp_path).images())
    assert paths(tmp_path) == ["\ufffd\ufffd.jpg"]


@given(
    st.permutations([b"a.jpg", b"B.jpg", b"a\n.jpg", b"a b.jpg", b"\xc3\xa9.jpg", b"~.jpg", b"\x01.jpg", b"a\\b.jpg"])
)
def test_odd_names_in_the_order_of_their_bytes(tmp_path_factory: pytest.TempPathFactory, names: list[bytes]) -> None:
    folder = fill(tmp_path_factory.mktemp("names"), *map(os.fsdecode, names))
    assert [path.encode() for path in paths(folder)] == sorted(names)


def test_many_inputs_of_one_file_each(tmp_path: Path) -> None:
    """What a shell makes of *.jpg."""
    names = [f"{a}{b}.jpg" for a, b in itertools.product("xyz", "cba")]
    fill(tmp_path, *names)
    assert paths(*(tmp_path / name for name in names), root=tmp_path) == names
