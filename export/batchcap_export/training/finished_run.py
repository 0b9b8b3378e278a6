"""A finished run folder as a captioner that can be exported."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from batchcap.bundle.manifest import Generation, Tokens
from batchcap.bundle.vocabulary import Vocabulary
from batchcap_export.data.words import END, PADDING, START, UNKNOWN
from batchcap_export.model.caption_model import CaptionModel
from batchcap_export.options.training import TrainOptions
from batchcap_export.training.backbones import load_backbone
from batchcap_export.training.recipes import Recipe, read_recipe
from batchcap_export.training.rounded import round_captioner
from batchcap_export.training.trained_captioner import TrainedCaptioner, build_decoder, parameters, preprocessing

BACKBONE_FILE = "backbone.weights.h5"


def load_run(run: Path) -> tuple[TrainedCaptioner, TrainOptions, Recipe]:
    """The trained captioner of a run folder.

    Raises:
        TrainingError: the folder is no finished run, or one of its files is damaged.
    """
    options, recipe = read_recipe(run)
    backbone = load_backbone(options.backbone, str(run / BACKBONE_FILE), options.size)
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
            start=vocabulary.id_of(START),
            end=vocabulary.id_of(END),
            unknown=vocabulary.id_of(UNKNOWN),
            padding=vocabulary.id_of(PADDING),
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
