"""Which folder the paths of an output are relative to: two archives never share one output by accident."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from archives import NAMES, Run, decoded, rows
from photos import write_photos

from batchcap.errors import RootError
from batchcap.options.run import RunOptions
from batchcap.records import Record
from batchcap.roots import file_of, root_folder, root_text
from batchcap.run import pipeline

# --- The root is in the output


def test_every_record_names_the_folder_and_leads_back_to_its_file(run: Run, output: Path, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 2)
    run(tmp_path / "photos")
    for row, record in zip(rows(output), decoded(output), strict=True):
        assert row["root"] == str(tmp_path / "photos")
        assert file_of(record) == str(tmp_path / "photos" / row["path"])
        assert Path(file_of(record) or "").exists()


def test_an_absolute_path_leads_to_its_file_whatever_the_root(
    run: Run, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_photos(tmp_path / "photos", 2)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    run(*sorted((tmp_path / "photos").glob("*.jpg")))
    assert {row["root"] for row in rows(output)} == {str(tmp_path / "elsewhere")}
    assert [file_of(record) for record in decoded(output)] == [record.path for record in decoded(output)]


def test_a_stream_carries_the_root_too(
    tmp_path: Path, tiny_bundle: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    write_photos(tmp_path / "photos", 2)
    pipeline.run(RunOptions(inputs=(tmp_path / "photos",), output=None, model=str(tiny_bundle), device="cpu"))
    lines = capfdbinary.readouterr().out.splitlines()
    assert [json.loads(line)["root"] for line in lines] == [str(tmp_path / "photos")] * 2


def test_a_root_that_is_not_utf8_comes_back_exactly() -> None:
    folder = "/photos/caf\udce9 100%"
    assert root_text(folder) == "file:///photos/caf%E9%20100%25"
    assert root_folder(root_text(folder)) == folder
    for plain in ("/photos/café 100%", "/file:/a"):
        assert root_text(plain) == root_folder(plain) == plain


def test_a_name_that_is_not_utf8_leads_back_to_its_file() -> None:
    record = Record("\ufffd.jpg", path_b64="/y5qcGc=", root="/photos")
    assert file_of(record) == "/photos/\udcff.jpg"
    assert file_of(Record("a.jpg")) is None
    assert file_of(Record("trip.zip::a.jpg", member="a.jpg", root="/photos")) == "/photos/trip.zip"


# --- Another root stops the run


def test_another_folder_with_the_same_names_stops_before_anything_is_written(
    run: Run, output: Path, archives: tuple[Path, Path]
) -> None:
    one, other = archives
    run(one)
    before = output.read_bytes()
    with pytest.raises(RootError) as caught:
        run(other)
    assert f"relative to {one}, and those of this run would be relative to {other}" in caught.value.message
    assert f"--root {one}." in caught.value.fix
    assert "--relocate" in caught.value.fix
    assert caught.value.exit_code == 1
    assert output.read_bytes() == before


def test_the_fix_that_the_error_names_captions_both(run: Run, output: Path, archives: tuple[Path, Path]) -> None:
    one, other = archives
    run(one)
    assert run(one, other, root=one).captioned == 3
    paths = [row["path"] for row in rows(output)]
    assert paths == [*NAMES, *(str(other / name) for name in NAMES)]
    assert (run(one).skipped, run(one, other, root=one).skipped) == (3, 6)


def test_one_folder_and_then_two_do_not_get_new_names(
    run: Run, output: Path, archives: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = archives
    run(one)
    monkeypatch.chdir(one.parent)
    with pytest.raises(RootError, match=f"would be relative to {one.parent}"):
        run(one, other)
    assert run(one, other, root=one).captioned == 3
    assert len(rows(output)) == 6


def test_files_and_a_folder_are_relative_to_the_current_folder(
    run: Run, output: Path, archives: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = archives
    monkeypatch.chdir(one.parent)
    run(Path("one/0000.jpg"), Path("other"))
    assert [row["path"] for row in rows(output)] == ["one/0000.jpg", *(f"other/{name}" for name in NAMES)]
    assert {row["root"] for row in rows(output)} == {str(one.parent)}


def test_the_same_file_name_from_another_current_folder_stops(
    run: Run, archives: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in archives[:1]:
        monkeypatch.chdir(folder)
        run(Path("0000.jpg"))
    monkeypatch.chdir(archives[1])
    with pytest.raises(RootError):
        run(Path("0000.jpg"))


def test_absolute_paths_go_with_any_root(
    run: Run, output: Path, archives: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files far from every current folder have absolute paths, which no root can mix up."""
    one, other = archives
    for cwd in ("first", "second"):
        (tmp_path / cwd).mkdir()
        monkeypatch.chdir(tmp_path / cwd)
        run(one / "0000.jpg", other / "0000.jpg")
    assert [row["path"] for row in rows(output)] == [str(one / "0000.jpg"), str(other / "0000.jpg")]
    assert {row["root"] for row in rows(output)} == {str(tmp_path / "first")}


def test_a_current_folder_above_the_images_gives_no_second_names(
    run: Run, output: Path, archives: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From far away their paths are absolute, from above relative: the same images under other names, either way."""
    one, other = archives
    (tmp_path / "far").mkdir()
    for first, second in ((tmp_path / "far", tmp_path), (tmp_path, tmp_path / "far")):
        monkeypatch.chdir(first)
        run(one, other)
        monkeypatch.chdir(second)
        with pytest.raises(RootError):
            run(one, other)
        assert len(rows(output)) == 6
        output.unlink()


def test_another_way_to_the_same_folder_is_no_other_root(run: Run, output: Path, archives: tuple[Path, Path]) -> None:
    one, other = archives
    run(one / "0000.jpg", root=one)
    shutil.rmtree(other)
    other.symlink_to(one)
    assert run(other).captioned == 2
    assert {row["root"] for row in rows(output)} == {str(one)}
