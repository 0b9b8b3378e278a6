"""``batchcap train``: captioned photographs in; a run folder with weights, vocabulary, recipe and dev scores out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from batchcap.bundle.manifest import Generation, Tokens
from batchcap.bundle.vocabulary import Vocabulary
from batchcap.images.preprocess import Preprocess
from batchcap.options.decoding import DecodingOptions
from batchcap_export.convert.rounding import round_captioner
from batchcap_export.data import datasets
from batchcap_export.exporting.checks import check_training
from batchcap_export.model.captioner import CaptionModel, Say
from batchcap_export.options.training import Recipe, TrainOptions, read_recipe
from batchcap_export.proof.evaluate import Scores, empty_warning, score
from batchcap_export.training.backbones import Backbone, load_backbone
from batchcap_export.training.features import cached_features
from batchcap_export.training.fitting import Report, Stopping, fit_resumable
from batchcap_export.training.runs import claim, write_json
from batchcap_export.training.runs import replace as replace_file
from batchcap_export.training.stepping import KerasDecoder, TrainedCaptioner, parameters

SCORED_BATCH = 64
_BACKBONE = "backbone.weights.h5"


def train(options: TrainOptions, run: Path, report: Report, say: Say = lambda _: None) -> Scores:
    """Train a captioner on a frozen backbone; a second call on the same folder goes on where the first one stopped.

    Args:
        run: folder for ``recipe.json``, ``vocabulary.txt``, ``backbone.weights.h5``, ``decoder.weights.h5``,
            ``history.json``, ``dev-captions.txt`` and the cached features.
        report: hears how far the features and the epochs are.
        say: hears what else a person should know.

    Raises:
        OptionError: no weights are named for the backbone, or some that it cannot have.
        DataError: data that does not fit together.
        TrainingError: a run folder of another recipe, or weights that cannot be had.
    """
    plan = check_training(options, run)
    learn, dev, vocabulary = plan.learn, plan.dev, plan.vocabulary
    if options.deterministic:
        tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(options.seed)
    # First the weights, which may not be had: a folder is claimed by a training that can begin.
    backbone = _frozen_backbone(options, run, say)
    claim(run / "recipe.json", {"options": plan.recipe.options, "data": plan.recipe.data})
    if not (run / _BACKBONE).exists():
        replace_file(run / _BACKBONE, backbone.model.save_weights)
    replace_file(run / "vocabulary.txt", vocabulary.save)
    features = cached_features(backbone, learn.files, options.views, options.seed, run / "train-features.npy", report)
    dev_features = cached_features(backbone, dev.files, 1, options.seed, run / "dev-features.npy", report)
    decoder = build_decoder(options, len(vocabulary), backbone.features)
    sequences = datasets.encode_captions(learn, vocabulary, options.max_length)
    dev_sequences = datasets.encode_captions(dev, vocabulary, options.max_length)
    _compile(decoder, options, len(sequences.tokens))
    fit_resumable(
        decoder,
        lambda epoch: Batches(features, sequences, options, epoch),
        Batches(dev_features, dev_sequences, options, None),
        options.epochs,
        options.seed,
        run,
        Stopping(options.patience),
        report=report,
        say=say,
    )
    replace_file(run / "decoder.weights.h5", decoder.save_weights)
    captioner = TrainedCaptioner(backbone, decoder, vocabulary, preprocessing(backbone))
    scores = _dev_scores(captioner, dev_features[:, 0], dev, options, run, say)
    tools = {name: version(name) for name in ("tensorflow", "keras", "numpy", "pillow")}
    write_json(run / "recipe.json", replace(plan.recipe, tools=tools, scores=asdict(scores)))
    return scores


def build_decoder(options: TrainOptions, vocabulary_size: int, features: int) -> Any:
    """The decoder that ``options`` describe, with fresh weights."""
    decoder = options.decoder(vocabulary_size)
    decoder.build(((None, None, features), (None, None)))
    return decoder


def preprocessing(backbone: Backbone) -> Preprocess:
    """What captioners trained here are fed: the whole image, antialiased, in whole levels."""
    return Preprocess(backbone.height, backbone.width, backbone.height, backbone.width)


def load_run(run: Path) -> tuple[TrainedCaptioner, TrainOptions, Recipe]:
    """The trained captioner of a run folder.

    Raises:
        TrainingError: the folder is no finished run, or one of its files is damaged.
    """
    options, recipe = read_recipe(run)
    backbone = load_backbone(options.backbone, str(run / _BACKBONE), options.size)
    vocabulary = Vocabulary.load(run / "vocabulary.txt")
    decoder = build_decoder(options, len(vocabulary), backbone.features)
    decoder.load_weights(run / "decoder.weights.h5")
    return TrainedCaptioner(backbone, decoder, vocabulary, preprocessing(backbone)), options, recipe


def trained_model(captioner: TrainedCaptioner, options: TrainOptions, recipe: Mapping[str, Any]) -> CaptionModel:
    """A captioner that was trained here, ready to be converted."""
    vocabulary = captioner.vocabulary
    return CaptionModel(
        encode=captioner.encode,
        step=captioner.step,
        vocabulary=vocabulary,
        tokens=Tokens(
            start=vocabulary.id_of(datasets.START),
            end=vocabulary.id_of(datasets.END),
            unknown=vocabulary.id_of(datasets.UNKNOWN),
            padding=vocabulary.id_of(datasets.PADDING),
        ),
        preprocess=captioner.preprocess,
        architecture=options.architecture,
        grid=captioner.backbone.grid if captioner.decoder.attends else None,
        generation=Generation(
            beam_size=options.beam_size, max_length=options.max_length, length_penalty=options.length_penalty
        ),
        parameters=parameters(captioner.backbone.model, captioner.decoder),
        recipe=recipe,
        rounded=lambda storage: trained_model(round_captioner(captioner, storage), options, recipe),
    )


def _frozen_backbone(options: TrainOptions, run: Path, say: Say) -> Backbone:
    """The backbone, kept beside the decoder: a random start too must be the same when the run is exported."""
    if (run / _BACKBONE).exists():
        return load_backbone(options.backbone, str(run / _BACKBONE), options.size)
    if options.weights == "imagenet":
        say(f"--weights imagenet: Keras downloads those of {options.backbone}, unless it has them already")
    return load_backbone(options.backbone, str(options.weights), options.size)


def _compile(decoder: keras.Model, options: TrainOptions, captions: int) -> None:
    steps = math.ceil(captions / options.batch_size) * options.epochs
    rate = keras.optimizers.schedules.CosineDecay(options.learning_rate, steps, alpha=options.final_rate)
    decoder.compile(
        optimizer=keras.optimizers.Adam(rate), loss=MaskedCrossEntropy(options.label_smoothing), jit_compile=False
    )


class MaskedCrossEntropy(keras.losses.Loss):
    """Mean cross-entropy over real words: padding (0) does not count."""

    def __init__(self, smoothing: float = 0.0) -> None:
        super().__init__(name="masked_cross_entropy", reduction=None)
        self.smoothing = smoothing

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Words [B, T], logits [B, T, V] -> scalar."""
        log_prob = tf.nn.log_softmax(tf.cast(y_pred, tf.float32))
        picked = tf.gather(log_prob, tf.cast(y_true, tf.int32), batch_dims=2)
        loss = -picked
        if self.smoothing:
            loss = (1 - self.smoothing) * loss - self.smoothing * tf.reduce_mean(log_prob, axis=-1)
        real = tf.cast(y_true != 0, tf.float32)
        return tf.reduce_sum(loss * real) / tf.reduce_sum(real)


class Batches(keras.utils.PyDataset):
    """Captions with a view of their image each. ``epoch`` decides order and views; None takes each once, in order."""

    def __init__(
        self, features: NDArray[np.float16], sequences: datasets.Sequences, options: TrainOptions, epoch: int | None
    ) -> None:
        super().__init__(workers=1, use_multiprocessing=False, max_queue_size=4)
        self._features, self._sequences, self._size = features, sequences, options.batch_size
        captions = len(sequences.tokens)
        random = np.random.default_rng([options.seed, epoch or 0])
        self._order = np.arange(captions) if epoch is None else random.permutation(captions)
        self._view = np.zeros(captions, int) if epoch is None else random.integers(features.shape[1], size=captions)

    def __len__(self) -> int:
        return math.ceil(len(self._order) / self._size)

    def __getitem__(self, index: int) -> tuple[tuple[NDArray[np.float32], NDArray[np.int32]], NDArray[np.int32]]:
        rows = self._order[index * self._size : (index + 1) * self._size]
        features = self._features[self._sequences.image[rows], self._view[rows]].astype(np.float32)
        tokens = self._sequences.tokens[rows]
        return (features, tokens[:, :-1]), tokens[:, 1:]


def caption_features(
    captioner: TrainedCaptioner, features: NDArray[np.float16], decoding: DecodingOptions
) -> list[str]:
    """The best caption of each image from its features [N, R, F], by the runtime's search over the Keras decoder."""
    from batchcap.decoding.driver import search
    from batchcap.decoding.request import SearchRequest

    ids = {word: i for i, word in enumerate(captioner.vocabulary.words)}
    banned = [ids[word] for word in (datasets.PADDING, datasets.START, datasets.UNKNOWN)]
    decoder = KerasDecoder(captioner.step)
    out = []
    for start in range(0, len(features), SCORED_BATCH):
        rows = tf.constant(features[start : start + SCORED_BATCH].astype(np.float32))
        request = SearchRequest(
            images=len(rows),
            options=decoding,
            start=ids[datasets.START],
            end=ids[datasets.END],
            vocabulary_size=len(ids),
            banned=banned,
        )
        found = search(decoder.start(*captioner.begin(rows)), request)
        out += [captioner.vocabulary.detokenize(best[0].tokens) for best in found]
    return out


def _dev_scores(
    captioner: TrainedCaptioner,
    features: NDArray[np.float16],
    dev: datasets.CaptionedImages,
    options: TrainOptions,
    run: Path,
    say: Say,
) -> Scores:
    decoding = DecodingOptions(
        beam_size=options.beam_size, length_penalty=options.length_penalty, max_length=options.max_length
    )
    captions = caption_features(captioner, features, decoding)
    if warning := empty_warning(captions):
        say(warning)
    lines = (f"{file.name}\t{caption}\n" for file, caption in zip(dev.files, captions, strict=True))
    text = "".join(lines).encode()
    replace_file(run / "dev-captions.txt", lambda beside: beside.write_bytes(text))
    return score(captions, dev.references, f"{options.dev_split.name}; {decoding.label}")
