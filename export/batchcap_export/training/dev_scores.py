"""The dev images captioned by the Keras decoder, and the scores of these captions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from batchcap.decoding.driver import search
from batchcap.decoding.request import SearchRequest
from batchcap.options.decoding import DecodingOptions
from batchcap.reporting import Say
from batchcap_export.data.splits import CaptionedImages
from batchcap_export.data.words import END, PADDING, START, UNKNOWN
from batchcap_export.options.training import TrainOptions
from batchcap_export.proof.evaluate import Scores, empty_warning, score
from batchcap_export.system.replacing import replace as replace_file
from batchcap_export.training.stepping import KerasDecoder
from batchcap_export.training.trained_captioner import TrainedCaptioner

SCORED_BATCH = 64


def caption_features(
    captioner: TrainedCaptioner, features: NDArray[np.float16], decoding: DecodingOptions
) -> list[str]:
    """The best caption of each image from its features [N, R, F], by the runtime's search over the Keras decoder."""
    ids = {word: i for i, word in enumerate(captioner.vocabulary.words)}
    banned = [ids[word] for word in (PADDING, START, UNKNOWN)]
    decoder = KerasDecoder(captioner.step)
    out = []
    for start in range(0, len(features), SCORED_BATCH):
        rows = tf.constant(features[start : start + SCORED_BATCH].astype(np.float32))
        request = SearchRequest(
            images=len(rows),
            options=decoding,
            start=ids[START],
            end=ids[END],
            vocabulary_size=len(ids),
            banned=banned,
        )
        found = search(decoder.start(*captioner.begin(rows)), request)
        out += [captioner.vocabulary.detokenize(best[0].tokens) for best in found]
    return out


def dev_scores(
    captioner: TrainedCaptioner,
    features: NDArray[np.float16],
    dev: CaptionedImages,
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
