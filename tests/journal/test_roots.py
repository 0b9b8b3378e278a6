"""Which folder the paths of an output are relative to: two archives never share one output by accident."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from journals import FIRST, FORMATS, both, captioned, names, ref
from photos import write_photos

from batchcap.errors import InputNotFoundError, OptionError, RootError
from batchcap.journal.formats import make_codec
from batchcap.journal.journal import Journal
from batchcap.options.output import Format
from batchcap.options.run import RunOptions
from batchcap.records import ImageRef, Record
from batchcap.roots import Root, file_of, root_folder, root_text
from batchcap.run import pipeline
from batchcap.run.figures import Summary
from batchcap.system.output_files import own_file

Run = Callable[..., Summary]
NAMES = ["0000.jpg", "0001.jpg", "sub/0002.jpg"]
"""What `write_photos` makes of three."""


@pytest.fixture(params=FORMATS)
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"out.{request.param}"


@pytest.fixture
def run(output: Path, tiny_bundle: Path) -> Run:
    """Caption inputs into the output, with the settings of a `RunOptions`."""

    def go(*inputs: Path, **settings: Any) -> Summary:
        name: Format = "csv" if output.suffix == ".csv" else "jsonl"
        chosen = {"output": output, "format": name, "model": str(tiny_bundle), "device": "cpu"}
        return pipeline.run(RunOptions(inputs=inputs, **chosen | settings))

    return go


def rows(output: Path) -> list[dict[str, Any]]:
    if output.suffix == ".csv":
        with output.open(newline="") as file:
            return list(csv.DictReader(file))
    return [json.loads(line) for line in output.read_bytes().splitlines()]


def decoded(output: Path) -> list[Record]:
    codec = make_codec("csv" if output.suffix == ".csv" else "jsonl")
    return [codec.decode(line) for line in output.read_bytes().removeprefix(codec.header).splitlines()]


@pytest.fixture
def archives(tmp_path: Path) -> tuple[Path, Path]:
    """Two folders with files of the same names, sizes and times, and different pixels."""
    one, other = tmp_path / "one", tmp_path / "other"
    write_photos(one, 3)
    shutil.copytree(one, other)
    return one, other


def at(folder: str) -> Root:
    """A run over a folder."""
    return Root(folder, (folder,))


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


# --- An archive that has moved


def test_a_moved_archive_goes_on_with_one_option_said_once(
    run: Run, output: Path, tmp_path: Path, archives: tuple[Path, Path]
) -> None:
    one, _ = archives
    run(one)
    output.chmod(0o640)
    before = rows(output)
    moved = tmp_path / "mnt"
    one.rename(moved)
    with pytest.raises(RootError):
        run(moved)
    assert run(moved, relocate=True).skipped == 3
    assert rows(output) == [row | {"root": str(moved)} for row in before]
    assert output.stat().st_mode & 0o777 == 0o640
    assert [file_of(record) for record in decoded(output)] == [str(moved / row["path"]) for row in before]
    summary = run(moved)  # not said again
    assert (summary.captioned, summary.skipped) == (0, 3)
    write_photos(moved / "new", 1)
    assert run(moved).captioned == 1
    assert names(tmp_path) == ["mnt", "other", output.name]


@both
def test_relocating_changes_nothing_but_the_root(tmp_path: Path, format: Format) -> None:
    out = tmp_path / "out"
    codec = make_codec(format)
    absolute = captioned(ref("/far/b.jpg"), 'a "quoted"\nline')
    lines = [captioned(ref("a\n.jpg"), "x"), absolute, captioned(ref("=1+1.jpg"), "-y")]
    rooted = [Record(**{name: getattr(r, name) for name in r.__struct_fields__} | {"root": "/old"}) for r in lines]
    out.write_bytes(codec.header + codec.encode(rooted))
    new = str(tmp_path)
    for name in ("a\n.jpg", "=1+1.jpg"):
        (tmp_path / name).write_text("1")  # of the size that the record says
    with Journal.open(out, format, FIRST, root=at(new), relocate=True) as journal:
        assert journal.root == new
        assert list(journal.pending([ref("a\n.jpg"), ref("/far/b.jpg"), ref("=1+1.jpg")])) == []
        journal.commit()
    assert out.read_bytes() == (codec.header + codec.encode(rooted)).replace(b"/old", new.encode())


def test_relocating_keeps_fields_of_a_later_version(tmp_path: Path) -> None:
    out = tmp_path / "out"
    line = b'{"path":"a","caption":"x","log_prob":-1.5,"region":[1,2.5],"root":"/old","model":"small@11111111",'
    line += b'"preprocess":"exact","decoding":"beam3-lp0.7#aaaaaaaa","later":{"x":1}}\n'
    out.write_bytes(line)
    (tmp_path / "a").write_text("1")
    Journal.open(out, "jsonl", FIRST, root=at(str(tmp_path)), relocate=True).close()
    assert out.read_bytes() == line.replace(b"/old", str(tmp_path).encode())


def test_images_that_have_not_moved_there_are_not_relocated(
    run: Run, output: Path, tmp_path: Path, archives: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = archives
    run(one)
    before = output.read_bytes()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        RootError, match=f"of 3 of its images .*, 0 are in {tmp_path} with the size .* The first: 0000.jpg"
    ):
        run(one, other, relocate=True)
    assert output.read_bytes() == before


def test_another_archive_with_the_same_names_is_no_archive_that_moved(
    run: Run, output: Path, archives: tuple[Path, Path]
) -> None:
    one, other = archives
    run(one)
    before = output.read_bytes()
    for name in NAMES[1:]:
        with (other / name).open("ab") as file:
            file.write(b" ")
    with pytest.raises(RootError, match="of 3 of its images that were looked for, 1 are in"):
        run(other, relocate=True)
    assert output.read_bytes() == before


def test_images_that_lay_outside_and_are_inside_after_a_move_keep_one_name(
    run: Run, output: Path, archives: tuple[Path, Path]
) -> None:
    one, other = archives
    (other / "0000.jpg").rename(other / "9.jpg")
    for name in NAMES[1:]:
        (other / name).unlink()
    run(one, other, root=one)
    assert [row["path"] for row in rows(output)] == [*NAMES, str(other / "9.jpg")]
    for name in ("0000.jpg", "0001.jpg", "sub"):
        (one / name).rename(other / name) if name != "sub" else (one / "sub" / "0002.jpg").rename(other / NAMES[2])
    assert (summary := run(other, relocate=True)).captioned == 0
    assert summary.skipped == 4
    assert [row["path"] for row in rows(output)] == [*NAMES, "9.jpg"]


def test_names_that_are_not_utf8_keep_one_name_after_a_move(
    run: Run, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd, other, far = tmp_path / "ph\udcff", tmp_path / "other", tmp_path / "far"
    write_photos(odd, 3)
    write_photos(other, 1)
    far.mkdir()
    monkeypatch.chdir(far)
    run(odd, other)
    assert run(odd, relocate=True).captioned == 0
    for record in decoded(output):
        assert Path(file_of(record) or "").exists()
    assert [(record.path, record.path_b64) for record in decoded(output)][:3] == [(name, None) for name in NAMES]


def test_an_archive_whose_images_were_changed_since_has_moved_all_the_same(
    run: Run, output: Path, archives: tuple[Path, Path], tmp_path: Path
) -> None:
    one, _ = archives
    for _ in range(3):
        run(one)
        for name in NAMES:
            with (one / name).open("ab") as file:
                file.write(b" ")
    run(one)
    one.rename(tmp_path / "moved")
    summary = run(tmp_path / "moved", relocate=True)
    assert (summary.captioned, summary.skipped) == (0, 3)


def test_records_without_a_root_beside_others_are_not_claimed_unseen(tmp_path: Path) -> None:
    out = tmp_path / "out"
    lines = make_codec("jsonl").encode([captioned(ref("theirs")), captioned(ref("ours"))]).splitlines(keepends=True)
    (tmp_path / "ours").write_text("1")
    out.write_bytes(lines[0] + lines[1].replace(b'"model"', b'"root":"%s","model"' % str(tmp_path).encode()))
    with pytest.raises(RootError, match="of 1 of its images that were looked for, 0 are in"):
        Journal.open(out, "jsonl", FIRST, root=at(str(tmp_path)), relocate=True)


def test_two_spellings_of_one_root_are_one(tmp_path: Path) -> None:
    out, link = tmp_path / "out", tmp_path / "link"
    link.symlink_to(tmp_path)
    line = make_codec("jsonl").encode([captioned(ref("a"))])
    roots = [str(link).encode(), str(tmp_path).encode()]
    out.write_bytes(b"".join(line.replace(b'"model"', b'"root":"%s","model"' % root) for root in roots))
    with Journal.open(out, "jsonl", FIRST, root=at(str(tmp_path))) as journal:
        assert journal.root == str(link)


def test_one_file_has_one_path_whatever_link_leads_to_it(
    run: Run, output: Path, archives: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = archives
    link = tmp_path / "link"
    link.symlink_to(one)
    monkeypatch.chdir(link)  # the current folder is then `one`, and a shell calls it `link`
    run(Path())
    assert run(link / "0000.jpg").skipped == 1
    assert run(link / "0000.jpg", root=one).skipped == 1
    monkeypatch.chdir(other)
    with pytest.raises(RootError):
        run(link / "0000.jpg")
    assert len(rows(output)) == 3


def test_a_current_folder_that_is_gone_is_told(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_photos(tmp_path / "photos", 1)
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(InputNotFoundError, match="current folder is no longer there"):
        run(tmp_path / "photos" / "0000.jpg")
    assert run(tmp_path / "photos").captioned == 1


def test_an_output_of_before_roots_were_recorded_is_adopted_once(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (tmp_path / "a").write_text("1")
    lines = [captioned(ref("a")), captioned(ref("/far/b"))]
    out.write_bytes(make_codec("jsonl").encode(lines))
    before = out.read_bytes()
    with pytest.raises(RootError, match=r"2 of its records do not say which folder") as caught:
        Journal.open(out, "jsonl", FIRST, root=at("/photos"))
    assert "--relocate" in caught.value.fix
    assert out.read_bytes() == before
    Journal.open(out, "jsonl", FIRST, root=at(str(tmp_path)), relocate=True).close()
    assert [json.loads(line).get("root") for line in out.read_bytes().splitlines()] == [str(tmp_path)] * 2
    assert list(json.loads(out.read_bytes().splitlines()[0]))[-4:] == ["root", "model", "preprocess", "decoding"]
    Journal.open(out, "jsonl", FIRST, root=at(str(tmp_path))).close()


def test_outputs_of_two_archives_that_were_joined_by_hand_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    line = make_codec("jsonl").encode([captioned(ref("a"))])
    out.write_bytes(b"".join(line.replace(b'"model"', b'"root":"/%s","model"' % root) for root in (b"one", b"two")))
    for relocate in (False, True):
        with pytest.raises(RootError, match="different folders: /one and /two"):
            Journal.open(out, "jsonl", FIRST, root=at("/one"), relocate=relocate)


def test_a_kill_while_relocating_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    (new := tmp_path / "new").mkdir()
    (new / "a").write_text("1")
    with Journal.open(out, "jsonl", FIRST, root=at("/old")) as journal:
        journal.append([Record(**{**_fields(captioned(ref("a"))), "root": "/old"})])
        journal.commit()
    before = out.read_bytes()

    def killed(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", killed)
        Journal.open(out, "jsonl", FIRST, root=at(str(new)), relocate=True)
    assert out.read_bytes() == before
    # A real kill leaves the copy; the next run removes it.
    copy = own_file(out, "rewritten")
    copy.write_bytes(before[:40])
    Journal.open(out, "jsonl", FIRST, root=at("/old")).close()
    assert names(tmp_path) == ["new", "out"]
    assert out.read_bytes() == before


def _fields(record: Record) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__struct_fields__}


def test_a_record_of_another_root_is_refused(tmp_path: Path) -> None:
    with (
        Journal.open(tmp_path / "out", "jsonl", FIRST, root=at("/a")) as journal,
        pytest.raises(ValueError, match="root"),
    ):
        journal.append([Record(**{**_fields(captioned(ref("x"))), "root": "/b"})])


def test_relocate_needs_an_output_that_stays(tmp_path: Path) -> None:
    for settings in ({"output": None}, {"output": tmp_path / "o.jsonl", "overwrite": True}):
        with pytest.raises(OptionError, match="--relocate"):
            RunOptions(inputs=(tmp_path,), relocate=True, **settings)  # type: ignore[arg-type]


def test_the_root_of_an_input_named_by_a_link_is_the_link(run: Run, output: Path, tmp_path: Path) -> None:
    write_photos(tmp_path / "disk-2024", 2)
    (tmp_path / "photos").symlink_to(tmp_path / "disk-2024")
    run(tmp_path / "photos")
    (tmp_path / "photos").unlink()
    (tmp_path / "disk-2024").rename(tmp_path / "disk-2025")
    (tmp_path / "photos").symlink_to(tmp_path / "disk-2025")
    assert run(tmp_path / "photos").skipped == 2


def test_an_image_outside_the_root_that_failed_has_its_record(run: Run, output: Path, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 1)
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    summary = run(tmp_path / "photos", tmp_path / "broken.jpg", root=tmp_path / "photos")
    assert summary.failed == 1
    assert [Path(file_of(record) or "").exists() for record in decoded(output)] == [True, True]


def test_pending_takes_references_of_any_kind(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "out", "jsonl", FIRST, root=at("/a")) as journal:
        assert len(list(journal.pending([ImageRef("/x/y", "/x/y", 1, 1), ref("y")]))) == 2
