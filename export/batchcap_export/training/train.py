"""``batchcap train``: from captioned images to a run folder with weights, vocabulary, recipe and dev scores."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

import keras
import tensorflow as tf

from batchcap.reporting import Report, Say, no_report
from batchcap_export.data.words import encode_captions
from batchcap_export.options.training import TrainOptions
from batchcap_export.proof.evaluate import Scores
from batchcap_export.system.replacing import replace as replace_file
from batchcap_export.system.replacing import write_json
from batchcap_export.training.backbones import Backbone, load_backbone
from batchcap_export.training.batches import Batches
from batchcap_export.training.dev_scores import dev_scores
from batchcap_export.training.features import cached_features
from batchcap_export.training.finished_run import BACKBONE_FILE
from batchcap_export.training.fitting import Stopping, fit_resumable
from batchcap_export.training.losses import MaskedCrossEntropy
from batchcap_export.training.recipes import claim
from batchcap_export.training.train_plan import check_training
from batchcap_export.training.trained_captioner import TrainedCaptioner, build_decoder, preprocessing


def train(options: TrainOptions, run: Path, report: Report, say: Say = no_report) -> Scores:
    """Train a captioner on a frozen backbone; a second call on the same folder goes on where the first one stopped.

    Args:
        run: folder for ``recipe.json``, ``vocabulary.txt``, ``backbone.weights.h5``, ``decoder.weights.h5``,
            ``history.json``, ``dev-captions.txt`` and the cached features.
        report: gets the progress of the features and of the epochs.
        say: gets what else a person should know.

    Raises:
        OptionError: no weights are named for the backbone, or some that it cannot have.
        DataError: data that does not fit together.
        TrainingError: a run folder of another recipe, or weights that cannot be loaded.
    """
    plan = check_training(options, run)
    learn, dev, vocabulary = plan.learn, plan.dev, plan.vocabulary
    if options.deterministic:
        tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(options.seed)
    # First the weights, which may be missing: only a training that can begin claims the folder.
    backbone = _frozen_backbone(options, run, say)
    claim(run / "recipe.json", {"options": plan.recipe.options, "data": plan.recipe.data})
    if not (run / BACKBONE_FILE).exists():
        replace_file(run / BACKBONE_FILE, backbone.model.save_weights)
    replace_file(run / "vocabulary.txt", vocabulary.save)
    features = cached_features(backbone, learn.files, options.views, options.seed, run / "train-features.npy", report)
    dev_features = cached_features(backbone, dev.files, 1, options.seed, run / "dev-features.npy", report)
    decoder = build_decoder(options, len(vocabulary), backbone.features)
    sequences = encode_captions(learn, vocabulary, options.max_length)
    dev_sequences = encode_captions(dev, vocabulary, options.max_length)
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
    scores = dev_scores(captioner, dev_features[:, 0], dev, options, run, say)
    tools = {name: version(name) for name in ("tensorflow", "keras", "numpy", "pillow")}
    write_json(run / "recipe.json", replace(plan.recipe, tools=tools, scores=asdict(scores)))
    return scores


def _frozen_backbone(options: TrainOptions, run: Path, say: Say) -> Backbone:
    """The backbone, kept beside the decoder: a random start too must be the same when the run is exported."""
    if (run / BACKBONE_FILE).exists():
        return load_backbone(options.backbone, str(run / BACKBONE_FILE), options.size)
    if options.weights == "imagenet":
        say(f"--weights imagenet: Keras downloads those of {options.backbone}, unless it has them already")
    return load_backbone(options.backbone, str(options.weights), options.size)


def _compile(decoder: keras.Model, options: TrainOptions, captions: int) -> None:
    steps = math.ceil(captions / options.batch_size) * options.epochs
    rate = keras.optimizers.schedules.CosineDecay(options.learning_rate, steps, alpha=options.final_rate)
    decoder.compile(
        optimizer=keras.optimizers.Adam(rate), loss=MaskedCrossEntropy(options.label_smoothing), jit_compile=False
    )
