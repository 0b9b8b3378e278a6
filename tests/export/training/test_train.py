"""Training for real on a small made-up data set: it learns, it can be cut and resumed, and a seed repeats it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from colours import write_colours

pytest.importorskip("tensorflow", reason="the export extra is not installed")
pytest.importorskip("pycocoevalcap", reason="the eval extra is not installed")

import msgspec
import tensorflow as tf

from batchcap.errors import ExportError
from batchcap_export.options.training import TrainOptions
from batchcap_export.training.batches import Batches
from batchcap_export.training.finished_run import load_run
from batchcap_export.training.losses import MaskedCrossEntropy
from batchcap_export.training.train import train


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> TrainOptions:
    folder = tmp_path_factory.mktemp("colours")
    write_colours(folder)
    return TrainOptions(
        images=folder / "images",
        captions=folder / "captions.txt",
        train_split=folder / "train.txt",
        dev_split=folder / "dev.txt",
        weights="random",
        min_count=1,
        units=32,
        views=2,
        epochs=10,
        patience=10,
        batch_size=16,
        learning_rate=1e-2,
        tied=True,
        deterministic=True,
    )


def _losses(run: Path, name: str = "loss") -> list[float]:
    return [row[name] for row in msgspec.json.decode((run / "history.json").read_bytes())]


def test_a_seed_repeats_the_loss_curve_and_the_run_can_be_loaded(options: TrainOptions, tmp_path: Path) -> None:
    said: list[tuple[str, int, int]] = []
    scores = train(options, tmp_path / "one", lambda *step: said.append(step))
    train(options, tmp_path / "two", lambda *step: said.append(step))
    first = _losses(tmp_path / "one")
    assert first == _losses(tmp_path / "two")
    assert first[-1] < first[0] * 0.8
    assert ("features of small, train-features", 36, 36) in said
    captions = (tmp_path / "one" / "dev-captions.txt").read_text().splitlines()
    assert len(captions) == 12
    assert scores.bleu[0] > 0.2
    assert "beam3" in scores.signature
    captioner, read, recipe = load_run(tmp_path / "one")
    assert read == options
    assert recipe.scores["cider"] == scores.cider
    assert captioner.vocabulary.words[:4] == ("<pad>", "<start>", "<end>", "<unk>")
    assert captioner.backbone.features == 256


class _PowerCutError(Exception):
    pass


@pytest.mark.parametrize(("architecture", "cut"), [("show-and-tell", False), ("show-attend-tell", True)])
def test_each_architecture_learns_and_goes_on_where_it_was_cut(
    options: TrainOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str, cut: bool
) -> None:
    own = replace(options, architecture=architecture, tied=False, epochs=8, dropout=(0.1, 0.1, 0.1))
    scores = train(own, tmp_path / "whole", lambda *_: None)
    held_out = _losses(tmp_path / "whole", "val_loss")
    assert held_out[-1] < held_out[0] * 0.7
    assert scores.bleu[0] > 0.4
    if cut:
        _cut_and_resume(own, tmp_path, monkeypatch)
        assert _losses(tmp_path / "cut") == _losses(tmp_path / "whole")
        whole, resumed = (load_run(tmp_path / name)[0].decoder for name in ("whole", "cut"))
        for a, b in zip(whole.get_weights(), resumed.get_weights(), strict=True):  # type: ignore[attr-defined]
            np.testing.assert_array_equal(a, b)


def _cut_and_resume(options: TrainOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train in ``cut``, stopped in the fourth epoch and begun again."""

    class Cut(Batches):
        def __getitem__(self, index: int) -> Any:
            if index == 1 and self._epoch == 3:
                raise _PowerCutError
            return super().__getitem__(index)

        def __init__(self, *given: Any) -> None:
            self._epoch = given[-1]
            super().__init__(*given)

    with monkeypatch.context() as patched:
        patched.setattr("batchcap_export.training.train.Batches", Cut)
        with pytest.raises(_PowerCutError):
            train(options, tmp_path / "cut", lambda *_: None)
    with pytest.raises(ExportError, match="has not finished"):
        load_run(tmp_path / "cut")
    train(options, tmp_path / "cut", lambda *_: None)


def test_a_finished_run_says_its_scores_again_without_training(options: TrainOptions, tmp_path: Path) -> None:
    one = train(options, tmp_path, lambda *_: None)
    (latest,) = tmp_path.glob("after-*.weights.h5")
    stamp = latest.stat().st_mtime_ns
    again = train(options, tmp_path, lambda *_: None)
    assert again == one
    assert latest.stat().st_mtime_ns == stamp


def test_a_run_folder_belongs_to_one_recipe(options: TrainOptions, tmp_path: Path) -> None:
    train(replace(options, epochs=1), tmp_path, lambda *_: None)
    with pytest.raises(ExportError, match=r"another recipe \(units: 32 there, 48 here\)"):
        train(replace(options, epochs=1, units=48), tmp_path, lambda *_: None)


def test_what_is_no_finished_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"recipe\.json is missing"):
        load_run(tmp_path)
    (tmp_path / "recipe.json").write_text("{}")
    with pytest.raises(ExportError, match="has not finished"):
        load_run(tmp_path)


def test_padding_does_not_count() -> None:
    random = np.random.default_rng(0)
    logits = random.standard_normal((2, 5, 7)).astype(np.float32)
    words = np.array([[3, 4, 0, 0, 0], [5, 6, 2, 1, 0]])
    log_prob = tf.nn.log_softmax(logits).numpy()
    real = [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (1, 3)]
    expected = -np.mean([log_prob[b, t, words[b, t]] for b, t in real])
    given = tf.constant(words), tf.constant(logits)
    assert float(MaskedCrossEntropy().call(*given)) == pytest.approx(expected, rel=1e-6)
    smooth = -np.mean([0.9 * log_prob[b, t, words[b, t]] + 0.1 * log_prob[b, t].mean() for b, t in real])
    assert float(MaskedCrossEntropy(0.1).call(*given)) == pytest.approx(smooth, rel=1e-6)
