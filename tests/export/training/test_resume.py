"""A run folder after a kill -9 or a power cut: the same command goes on, whatever its files look like."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from colours import write_colours
from numpy.typing import NDArray
from paths import TESTS

from batchcap_export.training import teacher

pytest.importorskip("tensorflow", reason="the export extra is not installed")

import keras

from batchcap.errors import TrainingError
from batchcap_export.data.views import WHOLE
from batchcap_export.system.replacing import replace
from batchcap_export.training import distill
from batchcap_export.training.backbones import Backbone
from batchcap_export.training.caches import note_done, open_cache, read_done
from batchcap_export.training.features import cached_features
from batchcap_export.training.fitting import Stopping, fit_resumable
from batchcap_export.training.recipes import claim

SIDE, EPOCHS = 16, 3


class Rows(keras.utils.PyDataset):
    """Features and what they shall become, in batches of 16."""

    def __init__(self, features: NDArray[np.float16]) -> None:
        super().__init__()
        self.x = features.reshape(len(features), -1).astype(np.float32)

    def __len__(self) -> int:
        return math.ceil(len(self.x) / 16)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        rows = self.x[index * 16 : index * 16 + 16]
        return rows, rows.sum(1, keepdims=True)


def tiny_training(images: Path, run: Path, report: Any, say: Any = lambda _: None) -> Any:
    """Features of a small network, kept, and a smaller one that learns from them: as `train` does it, in a second."""
    keras.utils.set_random_seed(5)
    pixels = keras.layers.Input((SIDE, SIDE, 3))
    network = keras.Model(pixels, keras.layers.Conv2D(4, 8, strides=8)(keras.layers.Rescaling(1 / 255)(pixels)))
    files = sorted(images.iterdir())
    backbone = Backbone(network, "tiny", SIDE, SIDE, (2, 2), 4)
    features = cached_features(backbone, files, 1, 1, run / "train-features.npy", report)
    layers = [keras.layers.Input((16,)), keras.layers.Dense(8), keras.layers.Dropout(0.5), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile(optimizer=keras.optimizers.Adam(0.01), loss="mse", jit_compile=False)
    rows = Rows(features)
    fit_resumable(model, lambda _: rows, rows, EPOCHS, 1, run, Stopping(EPOCHS), report=report, say=say)
    return model


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80 images: two batches of features."""
    folder = tmp_path_factory.mktemp("data")
    write_colours(folder, count=80, dev=1)
    return folder / "images"


@pytest.fixture(scope="module")
def whole(images: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """The run that nothing disturbed, and its weights."""
    run = tmp_path_factory.mktemp("whole")
    return run, tiny_training(images, run, lambda *_: None).get_weights()


def history(run: Path) -> list[dict[str, float]]:
    return msgspec.json.decode((run / "history.json").read_bytes())


def assert_same(model: Any, run: Path, whole: tuple[Path, list[Any]]) -> None:
    assert [row["val_loss"] for row in history(run)] == pytest.approx(
        [row["val_loss"] for row in history(whole[0])], rel=1e-5
    )
    np.testing.assert_array_equal(np.load(run / "train-features.npy"), np.load(whole[0] / "train-features.npy"))
    for ours, theirs in zip(model.get_weights(), whole[1], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    assert not list(run.glob("new-*"))


# Trains until the report named by argument, and is killed in it: nothing of Python runs any more.
KILLED = """
import os, signal, sys
from pathlib import Path
from test_resume import tiny_training

def report(what, done, total, note=""):
    if (what, str(done)) == (sys.argv[2], sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

tiny_training(Path(sys.argv[1]), Path.cwd(), report)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no process can be killed in this way here")
def test_a_killed_training_goes_on_as_if_nothing_had_happened(
    images: Path, whole: tuple[Path, list[Any]], tmp_path: Path
) -> None:
    """Killed between two batches of features, then in the middle of the second epoch: one folder, three commands."""
    path = os.pathsep.join([str(TESTS), str(Path(__file__).parent), *filter(None, sys.path)])
    for what, done in (("features of tiny, train-features", "64"), (f"epoch 2 of {EPOCHS}", "3")):
        command = [sys.executable, "-c", KILLED, str(images), what, done]
        environment = {**os.environ, "PYTHONPATH": path}
        killed = subprocess.run(command, cwd=tmp_path, env=environment, check=False, timeout=600, capture_output=True)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(history(tmp_path)) == 1
    said: list[str] = []
    reports: list[str] = []
    model = tiny_training(images, tmp_path, lambda what, *_: reports.append(what), said.append)
    assert said[0].startswith(f"goes on after epoch 1 of {EPOCHS}, whose dev loss was ")
    assert [*dict.fromkeys(reports)] == [f"epoch {n} of {EPOCHS}" for n in (2, 3)]
    assert_same(model, tmp_path, whole)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train-features.done", b""),
        ("train-features.done", b"6\xff"),
        ("train-features.done", b"-3"),
        ("train-features.done", b"999999"),
        ("train-features.npy", None),
        ("train-features.npy", b""),
        ("history.json", b""),
        ("history.json", b'[{"loss": 3.'),
        ("after-3.weights.h5", None),
        ("after-3.weights.h5", b""),
    ],
)
def test_what_is_torn_is_made_again(
    images: Path, whole: tuple[Path, list[Any]], tmp_path: Path, name: str, content: bytes | None
) -> None:
    """Empty, garbage, or (None) cut in the middle, as older versions and disks that lie leave them."""
    run = Path(shutil.copytree(whole[0], tmp_path / "run"))
    torn = run / name
    before = torn.read_bytes()
    torn.write_bytes(before[: len(before) // 2] if content is None else content)
    said: list[str] = []
    model = tiny_training(images, run, lambda *_: None, said.append)
    assert_same(model, run, whole)
    if not name.startswith("train-features"):
        assert "training begins again with the first" in said[0]


@pytest.fixture
def distilled(images: Path, tmp_path: Path) -> Any:
    """A function that makes what a distillation keeps: views and targets, and the principal components."""
    network = keras.Sequential([keras.layers.Input((28, 28, 3)), keras.layers.Conv2D(300, 4, strides=4)])
    files = sorted(images.iterdir())[:8]

    def make() -> list[Any]:
        forward = lambda pixels: network(pixels, training=False)  # noqa: E731
        mean, components, variance = teacher.principal_components(forward, files, 28, tmp_path, 1)
        project = teacher.projection(forward, mean, components)
        cache = distill._cache(project, [(p, WHOLE) for p in files], 28, tmp_path, "train", lambda *_: None)
        return [mean.copy(), components.copy(), variance.copy(), np.array(cache.images), np.array(cache.targets)]

    return make


def test_what_is_torn_of_a_distillation_is_made_again(distilled: Any, tmp_path: Path) -> None:
    before = distilled()
    for name in ("train-done.txt", "pca.npz", "train-targets.npy", "train-pictures.npy"):
        for cut in (0, 2):
            torn = tmp_path / name
            data = torn.read_bytes()
            torn.write_bytes(data[: len(data) // cut] if cut else b"")
            for now, then in zip(distilled(), before, strict=True):
                np.testing.assert_allclose(now, then, rtol=1e-5, err_msg=name)


def test_a_marker_is_whole_or_absent(tmp_path: Path) -> None:
    marker = tmp_path / "x.done"
    assert read_done(marker, 9) == 0
    note_done(marker, 7)
    assert (read_done(marker, 9), read_done(marker, 7), read_done(marker, 6)) == (7, 7, 0)

    def cut(beside: Path) -> None:
        beside.write_text("")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace(marker, cut)
    assert read_done(marker, 9) == 7


def test_a_cache_of_something_else_is_named(tmp_path: Path) -> None:
    open_cache(tmp_path / "x.npy", (4, 2), np.float16, 0)
    _, done = open_cache(tmp_path / "x.npy", (4, 2), np.float16, 3)
    assert done == 3
    for shape, dtype in (((5, 2), np.float16), ((4, 2), np.uint8)):
        with pytest.raises(TrainingError, match=r"x\.npy: holds float16 of shape \(4, 2\), not"):
            open_cache(tmp_path / "x.npy", shape, dtype, 3)


def test_a_folder_is_claimed_once(tmp_path: Path) -> None:
    recipe: dict[str, dict[str, object]] = {"options": {"units": 3, "images": Path("here")}}
    claim(tmp_path / "run" / "recipe.json", recipe)
    claim(tmp_path / "run" / "recipe.json", recipe)
    with pytest.raises(TrainingError, match="units: 3 there, 4 here"):
        claim(tmp_path / "run" / "recipe.json", {"options": {"units": 4}})


def test_a_torn_recipe_is_named(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_bytes(b"")
    with pytest.raises(TrainingError, match=r"recipe\.json: is damaged: .*use a new run folder"):
        claim(tmp_path / "recipe.json", {"options": {"units": 4}})
