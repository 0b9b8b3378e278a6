"""`--shard`: parts of the inputs that have nothing in common and are everything together, on every machine alike."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from commands import invoke
from hypothesis import given
from hypothesis import strategies as st
from runs import lines

from batchcap.errors import NoImagesError, OutputError
from batchcap.options.operation import OperationOptions, Shard
from batchcap.options.run import RunOptions
from batchcap.records import Key
from batchcap.run import pipeline
from batchcap.run.figures import Progress, Summary
from batchcap.run.shards import holds

names = st.text(st.characters(exclude_categories=("Cs",)), min_size=1)
keys = st.tuples(names, st.none() | names)


def sharded(photos: Path, output: Path | None, model: Path, shard: str, **settings: Any) -> Summary:
    options = RunOptions(inputs=(photos,), output=output, model=model, device="cpu", **settings)
    return pipeline.run(options, operation=OperationOptions(shard=shard))


@given(keys, st.integers(1, 40))
def test_every_image_is_in_one_shard(key: Key, count: int) -> None:
    assert [holds(Shard(index, count), key) for index in range(1, count + 1)].count(True) == 1


@given(st.text(names.map(lambda name: name[0]) | st.sampled_from("éüがñ"), min_size=1), st.integers(2, 9))
def test_a_name_in_another_unicode_form_is_in_the_same_shard(name: str, count: int) -> None:
    import unicodedata

    forms = [(unicodedata.normalize(form, name), None) for form in ("NFC", "NFD")]
    found = [[holds(Shard(index, count), key) for index in range(1, count + 1)] for key in forms]
    assert found[0] == found[1]


def test_shards_have_about_the_same_size_and_never_change() -> None:
    """In another version an image must be where it was: two hosts may not have the same one."""
    keys = [(f"2019/trip {day}/IMG_{number:04}.jpg", None) for day in range(20) for number in range(500)]
    sizes = Counter(next(index for index in range(1, 8) if holds(Shard(index, 7), key)) for key in keys)
    assert sum(sizes.values()) == 10_000
    assert all(abs(size - 10_000 / 7) < 5 * (10_000 / 7) ** 0.5 for size in sizes.values())
    recorded = {("a.jpg", None): 4, ("2019/é.jpg", None): 3, ("x.zip", "a.jpg"): 4, ("/abs/b.jpg", None): 2}
    assert {key: next(index for index in range(1, 5) if holds(Shard(index, 4), key)) for key in recorded} == recorded


def test_shards_of_a_folder_on_two_hosts_are_all_of_it(
    photos: Path, tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mounted elsewhere, named differently, another order of inputs: the same paths, so the same shards."""
    (photos / "gone.jpg").symlink_to(photos / "nowhere.jpg")
    elsewhere = tmp_path / "mnt" / "other"
    shutil.copytree(photos, elsewhere, symlinks=True)
    monkeypatch.chdir(elsewhere)
    whole = RunOptions(inputs=(photos,), output=tmp_path / "whole.jsonl", model=tiny_bundle, device="cpu")
    pipeline.run(whole)
    found = []
    for index in (1, 2, 3):
        output = tmp_path / f"{index}.jsonl"
        if index == 2:
            inputs = (elsewhere / "sub", elsewhere, elsewhere / "0001.jpg")
            options = RunOptions(inputs=inputs, root=Path(), output=output, model=tiny_bundle, device="cpu")
            summary = pipeline.run(options, operation=OperationOptions(shard="2/3"))
        else:
            summary = sharded(photos, output, tiny_bundle, f"{index}/3")
        assert summary.shard == f"{index}/3"
        found += [record["path"] for record in lines(output)]
    assert sorted(found) == sorted(record["path"] for record in lines(tmp_path / "whole.jsonl"))
    assert len(found) == len(set(found)) == 11


def test_a_shard_has_a_total_and_a_limit_of_its_own(photos: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    import threading

    seen: list[Progress] = []

    def report(progress: Progress) -> None:
        seen.append(progress)
        for thread in threading.enumerate():
            if thread.name == "batchcap-count":
                thread.join(60)

    output = tmp_path / "out.jsonl"
    options = RunOptions(inputs=(photos,), output=output, model=tiny_bundle, device="cpu", batch_size=1)
    whole = pipeline.run(options, {}, report, operation=OperationOptions(shard="1/2"), count_total=True)
    assert 2 < whole.captioned < 9
    assert {each.total for each in seen[1:]} == {whole.captioned}
    output.unlink()
    assert sharded(photos, output, tiny_bundle, "1/2", limit=2).limited
    summary = sharded(photos, output, tiny_bundle, "1/2", limit=100)
    assert (summary.skipped, summary.captioned, summary.limited) == (2, whole.captioned - 2, False)


def test_an_empty_shard_is_no_error_but_empty_inputs_are(photos: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    output = tmp_path / "out.jsonl"
    empty = next(
        index for index in range(1, 100) if not any(holds(Shard(index, 99), (p.name, None)) for p in photos.iterdir())
    )
    for photo in (photos / "sub").iterdir():
        photo.unlink()
    assert sharded(photos, output, tiny_bundle, f"{empty}/99").exit_code == 0
    done = invoke("run", photos, "-o", output, "--model", tiny_bundle, "--device", "cpu", "--shard", f"{empty}/99")
    assert (done.exit_code, done.stderr) == (0, f"Nothing new: there is no image in shard {empty}/99.\n")
    for photo in photos.glob("*.jpg"):
        photo.unlink()
    with pytest.raises(NoImagesError):
        sharded(photos, output, tiny_bundle, f"{empty}/99")


def test_images_of_other_shards_in_the_output_are_left_alone(photos: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    output = tmp_path / "out.jsonl"
    first = sharded(photos, output, tiny_bundle, "1/2")
    before = output.read_bytes()
    second = sharded(photos, output, tiny_bundle, "2/2")
    assert output.read_bytes().startswith(before)
    assert first.captioned + second.captioned == len({line["path"] for line in lines(output)}) == 10
    assert second.skipped == 0


def test_overwriting_a_shard_loses_nothing_of_the_others(photos: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    output = tmp_path / "out.jsonl"
    count = sharded(photos, output, tiny_bundle, "1/2").captioned
    again = sharded(photos, output, tiny_bundle, "1/2", overwrite=True)
    assert (again.captioned, again.committed) == (count, True)
    before = output.read_bytes()
    with pytest.raises(OutputError, match="holds images of other shards than 2/2"):
        sharded(photos, output, tiny_bundle, "2/2", overwrite=True)
    assert output.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "photos"]
    sharded(photos, output, tiny_bundle, "1/2", overwrite=True, limit=1)  # what this leaves is not lost either
    output.unlink()
    partial = (tmp_path / "out.jsonl.partial").read_bytes()
    with pytest.raises(OutputError, match=r"out\.jsonl\.partial holds images of other shards"):
        sharded(photos, output, tiny_bundle, "2/2", overwrite=True)
    assert (tmp_path / "out.jsonl.partial").read_bytes() == partial


def test_a_folder_that_cannot_be_listed_is_in_one_shard(photos: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    (photos / "disk").symlink_to(tmp_path / "not mounted")
    found = []
    for index in (1, 2, 3):
        sharded(photos, tmp_path / f"{index}.jsonl", tiny_bundle, f"{index}/3")
        found += [record for record in lines(tmp_path / f"{index}.jsonl") if "error" in record]
    assert [record["path"] for record in found] == ["disk"]


def test_the_environment_names_the_shard(photos: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    """As in a Slurm array: BATCHCAP_SHARD=$SLURM_ARRAY_TASK_ID/4."""
    arguments = ["run", photos, "-o", tmp_path / "1.jsonl", "--model", tiny_bundle, "--device", "cpu"]
    done = invoke(*arguments, env={"BATCHCAP_SHARD": "1/2"})
    assert done.exit_code == 0, done.stderr
    assert f"Captioning {photos}, shard 1/2, with tiny@" in done.stderr
    assert 0 < len(lines(tmp_path / "1.jsonl")) < 10
    again = invoke(*arguments, env={"BATCHCAP_SHARD": "1/2"})
    assert again.stderr.startswith("Nothing new: all ")
    assert " of shard 1/2 are already in " in again.stderr
    wrong = invoke(*arguments, env={"BATCHCAP_SHARD": "0/2"})
    assert wrong.exit_code == 2
    assert "there is no shard 0 of 2" in wrong.stderr
