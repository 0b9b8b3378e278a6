"""An archive that has moved: `--relocate` writes the new root into every record, and only where it is true."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from archives import NAMES, Run, at, decoded, rows
from journals import FIRST, both, captioned, names, opened, ref
from photos import write_photos

from batchcap.errors import InputNotFoundError, OptionError, RootError
from batchcap.journal.formats import make_codec
from batchcap.journal.journal import Journal
from batchcap.options.output import Format
from batchcap.options.run import RunOptions
from batchcap.records import ImageRef, Record
from batchcap.roots import file_of
from batchcap.system.output_files import own_file

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
    with opened(out, format, root=at(new), relocate=True) as journal:
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
    opened(out, root=at(str(tmp_path)), relocate=True).close()
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
        opened(out, root=at(str(tmp_path)), relocate=True)


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
    opened(out, root=at(str(tmp_path)), relocate=True).close()
    assert [json.loads(line).get("root") for line in out.read_bytes().splitlines()] == [str(tmp_path)] * 2
    assert list(json.loads(out.read_bytes().splitlines()[0]))[-4:] == ["root", "model", "preprocess", "decoding"]
    Journal.open(out, "jsonl", FIRST, root=at(str(tmp_path))).close()


def test_outputs_of_two_archives_that_were_joined_by_hand_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    line = make_codec("jsonl").encode([captioned(ref("a"))])
    out.write_bytes(b"".join(line.replace(b'"model"', b'"root":"/%s","model"' % root) for root in (b"one", b"two")))
    for relocate in (False, True):
        with pytest.raises(RootError, match="different folders: /one and /two"):
            opened(out, root=at("/one"), relocate=relocate)


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
        opened(out, root=at(str(new)), relocate=True)
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
