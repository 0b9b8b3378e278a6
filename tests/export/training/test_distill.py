"""Distilling for real, from a tiny teacher: it learns, goes on where it stopped, and keeps to its recipe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from colours import write_colours

pytest.importorskip("keras", reason="the export extra is not installed")

import keras

from batchcap.errors import ExportError
from batchcap_export.training import distill
from batchcap_export.training.backbones import load_backbone

OPTIONS = distill.DistillOptions(views=2, extra_views=1, epochs=2, batch_size=8, precision="float32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("distill")
    write_colours(folder, count=24, dev=6)
    keras.utils.set_random_seed(3)
    image = keras.layers.Input((28, 28, 3))
    features = keras.layers.Conv2D(300, 4, strides=4, activation="relu", name="seven")(image)
    keras.Model(image, keras.layers.Conv2D(8, 3, name="five")(features)).save(folder / "teacher.keras")
    return folder


def _folders(folder: Path) -> distill.ImageFolders:
    images = folder / "images"
    return distill.ImageFolders([images, images], [folder / "train.txt"], images, folder / "dev.txt")


def test_it_learns_the_teachers_space_and_can_be_used(folder: Path, tmp_path: Path) -> None:
    said: list[tuple[str, int, int]] = []
    weights = distill.distill_folders(
        folder / "teacher.keras", "seven", _folders(folder), tmp_path, OPTIONS, lambda *step: said.append(step)
    )
    history = msgspec.json.decode((tmp_path / "history.json").read_bytes())
    assert [sorted(row) for row in history] == [["loss", "val_loss"]] * 2
    assert history[1]["loss"] < history[0]["loss"]
    # 18 images with two views, and the same folder again as an extra one without the six held out.
    assert ("teacher's features, train", 18 * 2 + 18, 54) in said
    assert ("teacher's features, held_out", 6, 6) in said
    backbone = load_backbone("small", str(weights))
    features = backbone.model(np.zeros((2, 160, 160, 3), np.float32), training=False).numpy()
    assert features.shape == (2, 7, 7, 256)
    assert np.isfinite(features).all()
    stamp = (tmp_path / "train-pictures.npy").stat().st_mtime_ns
    distill.distill_folders(folder / "teacher.keras", "seven", _folders(folder), tmp_path, OPTIONS, lambda *_: None)
    assert (tmp_path / "train-pictures.npy").stat().st_mtime_ns == stamp
    assert msgspec.json.decode((tmp_path / "history.json").read_bytes()) == history


def test_a_run_folder_belongs_to_one_teacher_and_recipe(folder: Path, tmp_path: Path) -> None:
    teacher = distill.teacher_features(folder / "teacher.keras", "seven")
    distill.claim(tmp_path / "recipe.json", {"options": {"seed": 1}, "data": {"teacher": "another"}})
    files = [folder / "images" / "00.png"]
    with pytest.raises(ExportError, match=r"another recipe \(.*teacher: another there, teacher\.keras"):
        distill.distill(teacher, files, [], files, tmp_path, replace(OPTIONS, seed=1), lambda *_: None)


def test_what_does_not_fit_is_named(folder: Path) -> None:
    with pytest.raises(ExportError, match="no layer named 'six'"):
        distill.teacher_features(folder / "teacher.keras", "six")
    with pytest.raises(ExportError, match=r"'five' gives a map of \(5, 5\), not \(7, 7\)"):
        distill.teacher_features(folder / "teacher.keras", "five")
