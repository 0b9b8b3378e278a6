"""``batchcap train``: captioned photographs in; a run folder with weights, vocabulary, recipe and dev scores out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import keras
import msgspec
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from batchcap.bundle import Generation, Tokens
from batchcap.errors import ExportError
from batchcap.options import DecodingOptions
from batchcap.preprocess import Preprocess
from batchcap.vocabulary import Vocabulary
from batchcap_export import datasets
from batchcap_export.architectures import ARCHITECTURES
from batchcap_export.backbones import Backbone, load_backbone
from batchcap_export.evaluate import Scores, score
from batchcap_export.features import cached_features
from batchcap_export.fitting import Report, Stopping, fit_resumable
from batchcap_export.model import CaptionModel
from batchcap_export.rounding import round_captioner
from batchcap_export.runs import claim, digest, file_digest, write_json
from batchcap_export.runs import replace as replace_file
from batchcap_export.stepping import KerasDecoder, TrainedCaptioner, parameters

SCORED_BATCH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """Everything that decides what a trained captioner becomes."""

    images: Path
    """Folder of the pictures."""
    captions: Path
    """Captions in Flickr8k's token format."""
    train_split: Path
    """Names of the pictures to learn from."""
    dev_split: Path
    """Names of the pictures that stop the training and give the scores."""
    architecture: str = "attention-gru"
    backbone: str = "small"
    """``small``, or a network of keras.applications by name."""
    weights: str = "none"
    """The backbone's weights: ``imagenet``, ``none`` or a file."""
    size: int | None = None
    """Rows and columns of the input; None is the backbone's own."""
    min_count: int = 5
    """A word must occur this often to be learnt."""
    max_length: int = 20
    """Words of a caption; longer ones are cut."""
    units: int = 512
    dropout: tuple[float, float, float] = (0.3, 0.3, 0.5)
    """On word embeddings, regions and output."""
    tied: bool = False
    """One matrix for reading and for choosing words."""
    learned_state: bool = False
    """The decoder starts from a trained vector instead of zeros."""
    image_as: Literal["input", "state"] | None = None
    """How the picture enters show-and-tell's LSTM; None, here and in the next, is the architecture's own choice."""
    doubly_stochastic: float | None = None
    """Weight of show-attend-tell's wish to look at every region equally over the whole caption."""
    views: int = 1
    """Views of each training picture: the whole one, then crops of at least 0.6 of its area, half of them mirrored."""
    epochs: int = 12
    patience: int = 2
    """Epochs without a lower dev loss before training stops; the best weights are kept."""
    batch_size: int = 256
    """Captions a step."""
    learning_rate: float = 1e-3
    final_rate: float = 0.1
    """Adam's rate falls along a cosine to this share of ``learning_rate`` in the last epoch; 1 keeps it constant."""
    label_smoothing: float = 0.0
    """This share of the target is spread over the whole vocabulary; in the dev loss too, which stops the training."""
    seed: int = 1
    deterministic: bool = False
    """The same losses from the same seed, at the price of speed."""
    beam_size: int = 3
    """For the dev scores."""
    length_penalty: float = 0.7
    """For the dev scores."""

    def __post_init__(self) -> None:
        if self.architecture not in ARCHITECTURES:
            raise ExportError(f"--architecture {self.architecture}: not known.", f"Known: {', '.join(ARCHITECTURES)}.")
        for name in sorted({name for kind in ARCHITECTURES.values() for name in kind.OWN} - {*self._own()}):
            if getattr(self, name) not in (None, False):
                raise ExportError(
                    f"--{name.replace('_', '-')}: {self.architecture} has nothing of the kind.", "Leave it out."
                )
        for name in ("min_count", "max_length", "units", "views", "epochs", "patience", "batch_size"):
            if getattr(self, name) < 1:
                raise ExportError(f"--{name.replace('_', '-')} {getattr(self, name)}: must be at least 1.")
        if not all(0 <= rate < 1 for rate in (*self.dropout, self.label_smoothing)):
            raise ExportError("--dropout and --label-smoothing must be from 0 to below 1.")
        if self.doubly_stochastic is not None and self.doubly_stochastic < 0:
            raise ExportError(f"--doubly-stochastic {self.doubly_stochastic}: must be at least 0.")

    def _own(self) -> dict[str, Any]:
        """What was chosen of the options that only this architecture has."""
        chosen = {name: getattr(self, name) for name in ARCHITECTURES[self.architecture].OWN}
        return {name: value for name, value in chosen.items() if value is not None}

    def decoder(self, vocabulary_size: int) -> Any:
        """The decoder that is meant, without weights."""
        make = ARCHITECTURES[self.architecture]
        return make(vocabulary_size, self.units, tuple(self.dropout), **self._own(), name="decoder")


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a run folder says of itself: enough to build its networks again."""

    options: dict[str, Any]
    data: dict[str, str]
    """Digests of what was learnt from: pictures' names with their captions, the backbone's weights."""
    tools: dict[str, str] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)


def train(options: TrainOptions, run: Path, report: Report) -> Scores:
    """Train a captioner on a frozen backbone; a second call on the same folder goes on where the first one stopped.

    Args:
        run: folder for ``recipe.json``, ``vocabulary.txt``, ``backbone.weights.h5``, ``decoder.weights.h5``,
            ``history.json``, ``dev-captions.txt`` and the cached features.
        report: hears how far the features are.

    Raises:
        ExportError: data that does not fit together, or a run folder of another recipe.
    """
    if options.deterministic:
        tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(options.seed)
    captions = datasets.read_captions(options.captions)
    learn = datasets.read_split(options.images, captions, options.train_split)
    dev = datasets.read_split(options.images, captions, options.dev_split)
    recipe = Recipe(asdict(options), _data(options, learn, dev))
    claim(run / "recipe.json", {"options": recipe.options, "data": recipe.data})
    vocabulary = datasets.build_vocabulary(learn.references, options.min_count)
    backbone = _frozen_backbone(options, run)
    vocabulary.save(run / "vocabulary.txt")
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
    )
    replace_file(run / "decoder.weights.h5", decoder.save_weights)
    captioner = TrainedCaptioner(backbone, decoder, vocabulary, preprocessing(backbone))
    scores = _dev_scores(captioner, dev_features[:, 0], dev, options, run)
    tools = {name: version(name) for name in ("tensorflow", "keras", "numpy", "pillow")}
    write_json(run / "recipe.json", replace(recipe, tools=tools, scores=asdict(scores)))
    return scores


def build_decoder(options: TrainOptions, vocabulary_size: int, features: int) -> Any:
    """The decoder that ``options`` describe, with fresh weights."""
    decoder = options.decoder(vocabulary_size)
    decoder.build(((None, None, features), (None, None)))
    return decoder


def preprocessing(backbone: Backbone) -> Preprocess:
    """What captioners trained here are fed: the whole picture, antialiased, in whole levels."""
    return Preprocess(backbone.height, backbone.width, backbone.height, backbone.width)


def load_run(run: Path) -> tuple[TrainedCaptioner, TrainOptions, Recipe]:
    """The trained captioner of a run folder.

    Raises:
        ExportError: the folder is no finished run.
    """
    recipe_file = run / "recipe.json"
    if not recipe_file.is_file():
        raise ExportError(f"{run}: no run folder: recipe.json is missing.", "Make one: batchcap train --help.")
    if not (run / "decoder.weights.h5").is_file():
        raise ExportError(f"{run}: this training has not finished.", "Give the same batchcap train command again.")
    recipe = msgspec.json.decode(recipe_file.read_bytes(), type=Recipe)
    options = msgspec.convert(recipe.options, TrainOptions, dec_hook=lambda _, value: Path(value))
    backbone = load_backbone(options.backbone, str(run / "backbone.weights.h5"), options.size)
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


def _frozen_backbone(options: TrainOptions, run: Path) -> Backbone:
    """The backbone, kept beside the decoder: a random start too must be the same when the run is exported."""
    kept = run / "backbone.weights.h5"
    backbone = load_backbone(options.backbone, str(kept) if kept.exists() else options.weights, options.size)
    if not kept.exists():
        replace_file(kept, backbone.model.save_weights)
    return backbone


def _data(options: TrainOptions, learn: datasets.CaptionedImages, dev: datasets.CaptionedImages) -> dict[str, str]:
    """What the recipe says of the data: a split or a caption that changes makes another recipe."""
    out = {}
    for name, split in (("train", learn), ("dev", dev)):
        pairs = zip(split.files, split.references, strict=True)
        out[name] = digest(text for file, captions in pairs for text in (file.name, *captions))
    if options.weights not in ("none", "imagenet") and Path(options.weights).is_file():
        out["weights"] = file_digest(Path(options.weights))
    return out


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
    """Captions with a view of their picture each. ``epoch`` decides order and views; None takes each once, in order."""

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
    """The best caption of each picture from its features [N, R, F], by the runtime's search over the Keras decoder."""
    from batchcap.search import candidates_needed, search

    ids = {word: i for i, word in enumerate(captioner.vocabulary.words)}
    banned = [ids[word] for word in (datasets.PADDING, datasets.START, datasets.UNKNOWN)]
    decoder = KerasDecoder(captioner.step, candidates_needed(decoding, len(ids), banned))
    out = []
    for start in range(0, len(features), SCORED_BATCH):
        rows = tf.constant(features[start : start + SCORED_BATCH].astype(np.float32))
        found = search(
            decoder.start(*captioner.begin(rows)),
            len(rows),
            decoding,
            start=ids[datasets.START],
            end=ids[datasets.END],
            vocabulary_size=len(ids),
            banned=banned,
        )
        out += [captioner.vocabulary.detokenize(best[0].tokens) for best in found]
    return out


def _dev_scores(
    captioner: TrainedCaptioner,
    features: NDArray[np.float16],
    dev: datasets.CaptionedImages,
    options: TrainOptions,
    run: Path,
) -> Scores:
    decoding = DecodingOptions(
        beam_size=options.beam_size, length_penalty=options.length_penalty, max_length=options.max_length
    )
    captions = caption_features(captioner, features, decoding)
    lines = (f"{file.name}\t{caption}\n" for file, caption in zip(dev.files, captions, strict=True))
    (run / "dev-captions.txt").write_text("".join(lines), encoding="utf-8")
    return score(captions, dev.references, f"{options.dev_split.name}; {decoding.label}")
